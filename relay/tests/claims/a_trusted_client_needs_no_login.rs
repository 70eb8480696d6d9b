//! A client at a listed loopback address sends as its username without AUTH and without TLS; one
//! at another address does not.

use postrider_crds::relay_config::{Admission::Send, TrustedClient};

use crate::support::{Client, World, domain, message};

const TO: [&str; 1] = ["a@receiver.example"];

#[tokio::test]
async fn it_may_what_its_username_may() {
    let mut world = World::new(vec![domain("example.com", Send)]).await;
    world.relay_config.trusted_clients = vec![TrustedClient {
        address: world.address,
        username: "ann".into(),
    }];
    world.write_relay_config();
    let relay = world.relay().await;
    let mut client = Client::connect_from(&world, world.address).await;
    client.ask("EHLO client.example").await;
    let text = message("ann@example.com", "trusted.");
    let id = client.accepted("ann@example.com", &TO, &text).await;
    relay.events.of("delivered", &id).await;
    let trusted = |m: &crate::support::Received| m.data.contains("Subject: trusted.");
    let received = world.sink.wait("the message", trusted).await;
    assert!(
        received.data.contains(" with ESMTP id "),
        "{}",
        received.data
    );
    // It may hand on what others wrote, which says nothing of its own mail.
    let urgent = format!("MT-Priority: 9\r\n{text}");
    let reply = client.submit("ann@example.com", &TO, &urgent).await;
    let id = reply.strip_prefix("250 2.3.6 0 is the priority given; queued as ");
    let id = id.unwrap_or_else(|| panic!("{reply}"));
    let accepted = relay.events.of("accepted", id).await;
    assert_eq!(accepted.get("priority"), Some(&serde_json::json!(0)));
    let text = message("ann@example.org", "other");
    let reply = client.submit("ann@example.com", &TO, &text).await;
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");

    let mut stranger = Client::connect(&world).await;
    stranger.ask("EHLO client.example").await;
    let reply = stranger.ask("MAIL FROM:<ann@example.com>").await;
    assert!(reply.starts_with("530 5.7.0 "), "{reply}");
}
