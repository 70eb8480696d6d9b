//! Mail that is accepted while no resolver answers is put off for that reason, and delivered once one
//! answers again.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, World, domain, message};

#[tokio::test]
async fn and_leaves_when_it_does() {
    let mut world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    world.name_server.stop().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "unresolved");
    let to = ["a@receiver.example"];
    let id = client.accepted("ann@example.com", &to, &text).await;
    let deferred = relay.events.of("deferred", &id).await;
    assert_eq!(deferred["class"], "dns");
    assert_eq!(deferred["recipient"], "a@receiver.example");
    assert_eq!(
        (&deferred["code"], &deferred["enhanced"]),
        (&451.into(), &"4.4.3".into())
    );
    assert!(
        deferred["reply"]
            .as_str()
            .unwrap()
            .contains("receiver.example")
    );
    assert!(deferred["host"].is_null(), "{deferred}");
    assert!(world.sink.received().is_empty());

    world.name_server.resume().await;
    let delivered = relay.events.of("delivered", &id).await;
    assert!(delivered["attempt"].as_u64() > Some(1), "{delivered}");
    let arrived = world.sink.received();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].recipients, to);
}
