//! A receiver that says "later" gets the message again, and only those recipients it put off.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, World, domain, message};

#[tokio::test]
async fn until_it_is_taken() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let to = ["grey@receiver.example", "plain@receiver.example"];
    let text = message("ann@example.com", "grey");
    let id = client.accepted("ann@example.com", &to, &text).await;
    let deferred = relay.events.of("deferred", &id).await;
    assert_eq!(deferred["recipient"], "grey@receiver.example");
    assert_eq!(deferred["class"], "greylisted");
    assert_eq!(deferred["code"], 451);
    let arrived = |recipient: &'static str| {
        world
            .sink
            .wait(recipient, move |m| m.recipients == [recipient])
    };
    arrived("plain@receiver.example").await;
    arrived("grey@receiver.example").await;
    let is_grey = |e: &serde_json::Value| e["recipient"] == "grey@receiver.example";
    let delivered = relay.events.wait("delivered", is_grey).await;
    assert_eq!(delivered["attempt"], 2);
    assert_eq!(world.sink.received().len(), 2);
}
