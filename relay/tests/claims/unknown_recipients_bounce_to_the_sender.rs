//! A recipient that is refused for good is reported to the sender, once, by a DSN (RFC 3464).

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, World, domain, message};

#[tokio::test]
async fn by_a_notification_with_a_null_sender() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "to nobody");
    let to = ["unknown@receiver.example", "known@receiver.example"];
    let id = client.accepted("ann@example.com", &to, &text).await;
    let bounced = relay.events.of("bounced", &id).await;
    assert_eq!(bounced["recipient"], "unknown@receiver.example");
    assert_eq!(bounced["class"], "invalid-recipient");
    let notice = world
        .sink
        .wait("the notification", |m| m.from.is_empty())
        .await;
    assert_eq!(notice.recipients, ["ann@example.com"]);
    for part in [
        "multipart/report",
        "Final-Recipient: rfc822; unknown@receiver.example",
        "Status: 5.1.1",
        "no such user",
    ] {
        assert!(notice.data.contains(part), "{part} in {}", notice.data);
    }
    assert!(!notice.data.contains("Final-Recipient: rfc822; known@"));
    let is_ours = |m: &crate::support::Received| m.recipients == ["known@receiver.example"];
    world
        .sink
        .wait("the good recipient's message", is_ours)
        .await;
}

#[tokio::test]
async fn but_never_to_a_null_sender() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "null");
    let id = client
        .accepted("", &["unknown@receiver.example"], &text)
        .await;
    relay.events.of("bounced", &id).await;
    // What comes after proves that nothing else is on its way.
    let after = message("ann@example.com", "after");
    let id = client
        .accepted("", &["known@receiver.example"], &after)
        .await;
    relay.events.of("delivered", &id).await;
    let (code, events) = relay.terminate().await;
    assert_eq!(code, Some(0));
    assert!(
        events
            .all()
            .iter()
            .all(|event| event["stage"] != "notified")
    );
    assert_eq!(world.sink.received().len(), 1);
}
