//! What an operator expires is given up and its senders are told once, a kill -9 right after the
//! answer or not; there is no notification for a null sender.

use postrider_crds::relay_config::Admission::Send;
use serde_json::json;

use crate::support::{Client, Events, Relay, World, domain, message};

/// A relay with two messages that wait an hour, the second of a null sender.
async fn waiting() -> (World, Relay) {
    let world = World::of_patience(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    for (from, to) in [
        ("ann@example.com", "grey-a@receiver.example"),
        ("", "grey-b@receiver.example"),
    ] {
        let text = message("ann@example.com", "grey");
        let id = client.accepted(from, &[to], &text).await;
        relay.events.of("deferred", &id).await;
    }
    (world, relay)
}

async fn expire(world: &World) {
    let order = json!({"verb": "expire", "tenant": "apps/ann", "reason": "INC-10"});
    assert_eq!(world.order(order).await.messages, 2);
}

/// The one notification, and nothing else, has arrived.
async fn told_once(world: &World) {
    world.drained().await;
    let received = world.sink.received();
    let [notice] = received.as_slice() else {
        panic!("{received:?}");
    };
    assert_eq!(notice.recipients, ["ann@example.com"]);
    for part in [
        "Final-Recipient: rfc822; grey-a@receiver.example",
        "Status: 5.4.7",
        "given up by order 1",
    ] {
        assert!(notice.data.contains(part), "{part} in {}", notice.data);
    }
}

fn expired(events: &Events) -> usize {
    let all = events.all();
    all.iter().filter(|e| e["stage"] == "expired").count()
}

#[tokio::test]
async fn once() {
    let (world, relay) = waiting().await;
    expire(&world).await;
    relay.events.wait("order-carried-out", |_| true).await;
    told_once(&world).await;
    assert_eq!(expired(&relay.events), 2);
}

#[tokio::test]
async fn over_a_kill() {
    let (world, relay) = waiting().await;
    expire(&world).await;
    let before = relay.kill().await;
    before.ended().await;
    let relay = world.relay().await;
    world
        .report_where(|report| report.queue.deferred == 0)
        .await;
    told_once(&world).await;
    assert!(world.queue().await.orders.is_empty());
    // The log of what was done in the moment of the kill may be lost.
    assert!(expired(&before) + expired(&relay.events) <= 2);
}
