//! Mail of a domain on hold is accepted and kept, over a restart too, and leaves once the
//! configuration lets it.

use postrider_crds::relay_config::Admission::{Hold, Reject, Send};

use crate::support::{Client, World, domain, message};

#[tokio::test]
async fn after_a_change_of_the_configuration() {
    let held = domain("held.example", Hold);
    let open = domain("example.com", Send);
    let world = World::new(vec![held.clone(), open.clone()]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let to = ["a@receiver.example"];
    let text = message("ann@held.example", "on hold");
    let id = client.accepted("ann@held.example", &to, &text).await;
    relay.events.of("held", &id).await;
    let other = message("ann@example.com", "not on hold");
    let other = client.accepted("ann@example.com", &to, &other).await;
    relay.events.of("delivered", &other).await;
    assert_eq!(world.sink.received().len(), 1);
    relay.terminate().await;

    let relay = world.relay().await;
    let mut released = held;
    released.admission = Send;
    world.write_domains(vec![released, open]);
    relay.events.of("released", &id).await;
    relay.events.of("delivered", &id).await;
    world
        .sink
        .wait("the held message", |m| m.data.contains("Subject: on hold"))
        .await;
}

#[tokio::test]
async fn and_mail_of_a_domain_that_rejects_is_refused_for_now() {
    let world = World::new(vec![domain("closed.example", Reject)]).await;
    let _relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@closed.example", "no");
    let reply = client
        .submit("ann@closed.example", &["a@receiver.example"], &text)
        .await;
    assert!(reply.starts_with("450 4.7.1 "), "{reply}");
    assert!(reply.contains("DKIM record is missing"), "{reply}");
}
