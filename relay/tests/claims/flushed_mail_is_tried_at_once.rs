//! What waits for its next attempt is tried at once when an operator flushes it, a kill -9 right
//! after the answer or not.

use postrider_crds::relay_config::Admission::Send;
use serde_json::json;

use crate::support::{Client, Relay, World, domain, message};

/// A relay with a message that waits an hour.
async fn waiting() -> (World, Relay, String) {
    let world = World::of_patience(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "grey");
    let to = ["grey@receiver.example"];
    let id = client.accepted("ann@example.com", &to, &text).await;
    relay.events.of("deferred", &id).await;
    world
        .report_where(|report| report.queue.deferred == 1)
        .await;
    (world, relay, id)
}

#[tokio::test]
async fn by_its_site() {
    let (world, relay, id) = waiting().await;
    let flush = json!({"verb": "flush", "site": "mx.receiver.example", "reason": "INC-9"});
    assert_eq!(world.order(flush).await.messages, 1);
    assert_eq!(relay.events.of("delivered", &id).await["attempt"], 2);
    let done = relay.events.wait("order-carried-out", |_| true).await;
    assert_eq!(done["verb"], "flush");
}

#[tokio::test]
async fn over_a_kill() {
    let (world, relay, id) = waiting().await;
    let flush = json!({"verb": "flush", "site": "mx.receiver.example", "reason": "INC-9"});
    world.order(flush).await;
    let before = relay.kill().await;
    before.ended().await;
    let relay = world.relay().await;
    if !before.all().iter().any(|e| e["stage"] == "delivered") {
        // It may have been tried in the moment of the kill, and is tried again then.
        relay.events.of("delivered", &id).await;
    }
    world.drained().await;
    assert!(world.queue().await.orders.is_empty());
}
