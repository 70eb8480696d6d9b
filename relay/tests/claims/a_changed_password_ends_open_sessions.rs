//! A password that was changed logs nobody in any more, also where a session was logged in by it.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, PASSWORD, World, domain, message};

const TO: [&str; 1] = ["a@receiver.example"];
const MAIL: &str = "MAIL FROM:<ann@example.com>";

#[tokio::test]
async fn those_logged_in_by_it_and_no_other() {
    let mut shared = domain("example.com", Send);
    let mut bob = shared.senders[0].clone();
    bob.username = "bob".into();
    shared.senders.push(bob);
    let world = World::new(vec![shared]).await;
    let relay = world.relay().await;
    let mut ann = Client::login(&world, "ann").await;
    let mut bob = Client::login(&world, "bob").await;
    let text = message("ann@example.com", "before");
    ann.accepted("ann@example.com", &TO, &text).await;

    let before = world.report().await.documents;
    world.write_credentials(&[("ann", "changed"), ("bob", PASSWORD)]);
    world
        .report_where(|report| report.documents != before)
        .await;
    // What keeps a session open keeps it logged in no longer.
    assert!(ann.ask("NOOP").await.starts_with("250 "));
    let reply = ann.ask(MAIL).await;
    assert!(
        reply.starts_with("421 4.7.0 ") && reply.contains("\"ann\" has changed"),
        "{reply}"
    );
    assert_eq!(ann.reply().await, "");
    let event = relay.events.wait("rejected", |e| e["code"] == 421).await;
    assert_eq!(event["reason"], "authentication");
    assert_eq!(event["tenant"], "apps/ann");
    let text = message("bob@example.com", "goes on");
    bob.accepted("bob@example.com", &TO, &text).await;

    let mut ann = Client::secured(&world).await;
    assert!(ann.auth("ann", PASSWORD).await.starts_with("535 5.7.8 "));
    assert!(ann.auth("ann", "changed").await.starts_with("235 "));
    let text = message("ann@example.com", "after");
    ann.accepted("ann@example.com", &TO, &text).await;
}
