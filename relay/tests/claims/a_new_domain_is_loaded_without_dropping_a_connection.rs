//! A change of the mounted files reaches sessions that are open.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, World, domain, message};

#[tokio::test]
async fn for_the_session_that_waits_for_it() {
    let first = domain("example.com", Send);
    let world = World::new(vec![first.clone()]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@new.example", "from the new domain");
    let to = ["a@receiver.example"];
    let reply = client.submit("", &to, &text).await;
    assert!(
        reply.starts_with("550 5.7.1 ") && reply.contains("new.example"),
        "{reply}"
    );

    let before = world.report().await.documents;
    world.write_domains(vec![first, domain("new.example", Send)]);
    world
        .report_where(|report| report.documents != before)
        .await;
    let id = client.accepted("ann@new.example", &to, &text).await;
    relay.events.of("delivered", &id).await;
    let got = world.sink.wait("the message", |_| true).await;
    assert!(got.data.contains("d=new.example"), "{}", got.data);
}
