//! Mail that an operator holds is accepted and kept, over a kill -9 too, and leaves when it is
//! released; who held it and why is told.

use postrider_crds::{queue::Verb, relay_config::Admission::Send};
use serde_json::json;

use crate::support::{Client, World, domain, get, message};

#[tokio::test]
async fn over_a_kill() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let hold =
        json!({"verb": "hold", "domain": "receiver.example", "by": "ann", "reason": "INC-7"});
    let held = world.order(hold).await;
    assert_eq!(held.messages, 0);
    let told = relay.events.wait("ordered", |_| true).await;
    for (field, value) in [
        ("verb", "hold"),
        ("recipient_domain", "receiver.example"),
        ("by", "ann"),
        ("client", "operator.example"),
        ("reason", "INC-7"),
    ] {
        assert_eq!(told[field], value, "{told}");
    }
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "kept");
    let to = ["a@receiver.example"];
    let id = client.accepted("ann@example.com", &to, &text).await;
    let other = message("ann@example.com", "not kept");
    let to = ["a@other.example"];
    let other = client.accepted("ann@example.com", &to, &other).await;
    relay.events.of("delivered", &other).await;
    relay.kill().await;

    let relay = world.relay().await;
    let queue = world.queue().await;
    assert_eq!((queue.queue.held, queue.domains.top[0].held), (1, 1));
    assert_eq!(queue.orders, [held.order.unwrap()]);
    let (_, metrics) = get(world.address, "/metrics").await.unwrap();
    assert!(metrics.contains("postrider_queue_messages{state=\"held\"} 1\n"));
    let release = json!({"verb": "release", "domain": "receiver.example", "reason": "over"});
    let released = world.order(release).await;
    assert_eq!((released.messages, released.ended[0].verb), (1, Verb::Hold));
    relay.events.of("delivered", &id).await;
    let ended = relay.events.wait("order-ended", |_| true).await;
    assert_eq!(
        (&ended["reason"], &ended["by"]),
        (&json!("over"), &json!("operator.example"))
    );
    let (_, events) = relay.terminate().await;
    let attempts = events.all();
    let attempts = attempts.iter().filter(|e| e["stage"] == "attempt-started");
    assert_eq!(attempts.count(), 1);
    assert_eq!(world.sink.received().len(), 2);
}

#[tokio::test]
async fn one_message_by_its_name() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    world
        .order(json!({"verb": "hold", "tenant": "apps/ann", "reason": "INC-7"}))
        .await;
    let mut client = Client::login(&world, "ann").await;
    let mut ids = Vec::new();
    for subject in ["first", "second"] {
        let text = message("ann@example.com", subject);
        let to = ["a@receiver.example"];
        ids.push(client.accepted("ann@example.com", &to, &text).await);
    }
    let release = json!({"verb": "release", "message": ids[1], "reason": "looked at"});
    assert_eq!(world.order(release).await.messages, 1);
    relay.events.of("delivered", &ids[1]).await;
    assert_eq!(world.report().await.queue.held, 1);
    assert_eq!(world.sink.received().len(), 1);
}
