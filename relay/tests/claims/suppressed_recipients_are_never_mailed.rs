//! A suppressed recipient is accepted, told of in an event, and never mailed.

use postrider_crds::relay_config::{Admission::Send, layout};

use crate::support::{Client, World, domain, get, message};

const LIST: &str = "postrider-suppression 1\n\
    gone@receiver.example\t-\thard bounce\n\
    @never.example\t-\tasked us\n\
    old@receiver.example\t2020-01-01T00:00:00Z\tended\n";

#[tokio::test]
async fn alone_or_among_others() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    world.write(&layout::suppression("global", 0), LIST);
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "to some");
    let to = [
        "Gone@receiver.example",
        "\"g\\one\"@receiver.example",
        "old@receiver.example",
        "x@never.example",
    ];
    let some = client.accepted("ann@example.com", &to, &text).await;
    let all = message("ann@example.com", "to none");
    let none = client.accepted("ann@example.com", &to[..1], &all).await;

    let event = relay.events.of("suppressed", &none).await;
    assert_eq!(event["recipient"], "Gone@receiver.example");
    assert_eq!(event["reason"], "list global: hard bounce");
    relay.events.of("delivered", &some).await;
    let suppressed = |event: &&serde_json::Value| event["stage"] == "suppressed";
    assert_eq!(relay.events.all().iter().filter(suppressed).count(), 4);
    let (_, metrics) = get(world.address, "/metrics").await.unwrap();
    assert!(metrics.contains("result=\"suppressed\""), "{metrics}");
    let (code, _) = relay.terminate().await;
    assert_eq!(code, Some(0));

    // Nor are they after a restart.
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let last = message("ann@example.com", "last");
    let id = client
        .accepted("ann@example.com", &["a@receiver.example"], &last)
        .await;
    relay.events.of("delivered", &id).await;
    let received = world.sink.received();
    let recipients: Vec<_> = received.iter().flat_map(|m| m.recipients.clone()).collect();
    assert_eq!(recipients, ["old@receiver.example", "a@receiver.example"]);
}
