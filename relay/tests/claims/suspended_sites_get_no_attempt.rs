//! A site that an operator suspends is not attempted, over a kill -9 too, until it is resumed.

use postrider_crds::relay_config::Admission::Send;
use serde_json::json;

use crate::support::{Client, Events, World, domain, message};

/// Attempts at the suspended domain.
fn attempts(events: &Events) -> usize {
    let all = events.all();
    let of_domain = |e: &&serde_json::Value| {
        e["stage"] == "attempt-started" && e["recipient_domain"] == "receiver.example"
    };
    all.iter().filter(of_domain).count()
}

#[tokio::test]
async fn until_it_is_resumed() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let site = "mx.receiver.example";
    world
        .order(json!({"verb": "suspend", "site": site, "reason": "INC-8"}))
        .await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "suspended");
    let to = ["a@receiver.example", "b@other.example"];
    let id = client.accepted("ann@example.com", &to, &text).await;
    let to_other = |e: &serde_json::Value| e["recipient"] == "b@other.example";
    relay.events.wait("delivered", to_other).await;
    world
        .report_where(|report| report.queue.suspended == 1)
        .await;
    let events = relay.kill().await;
    assert_eq!(attempts(&events), 0);

    let relay = world.relay().await;
    world
        .report_where(|report| report.queue.suspended == 1)
        .await;
    assert_eq!(attempts(&relay.events), 0);
    let resume = json!({"verb": "resume", "site": site, "reason": "over"});
    assert_eq!(world.order(resume).await.messages, 1);
    let delivered = relay.events.of("delivered", &id).await;
    assert_eq!(
        (&delivered["attempt"], attempts(&relay.events)),
        (&json!(1), 1)
    );
}
