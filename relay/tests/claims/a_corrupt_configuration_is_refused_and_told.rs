//! A document that cannot be used is refused by path and reason: what was in force stays so, and a
//! relay that never had one says why it is not ready.

use postrider_crds::relay_config::{Admission::Send, layout};
use tokio::net::TcpStream;

use crate::support::{Client, World, domain, get, message, within};

const CORRUPT: &str = "version: 1\nhostnam: x\n";

#[tokio::test]
async fn while_running() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let good = world.report().await;
    assert_eq!(
        (good.pod.as_str(), good.not_ready, good.refused.len()),
        ("default-1", None, 0)
    );
    world.write(layout::RELAY_CONFIG, CORRUPT);
    let event = relay.events.wait("config-refused", |_| true).await;
    assert_eq!(event["path"], layout::RELAY_CONFIG);
    assert!(
        event["error"].as_str().unwrap().contains("hostnam"),
        "{event}"
    );

    assert_eq!(get(world.address, "/readyz").await.unwrap().0, 200);
    let report = world.report().await;
    assert_eq!(report.refused[0].path, layout::RELAY_CONFIG);
    assert_eq!(report.documents, good.documents);
    let (_, metrics) = get(world.address, "/metrics").await.unwrap();
    assert!(
        metrics.contains("postrider_config_refused_total 1"),
        "{metrics}"
    );
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "still works");
    let id = client
        .accepted("ann@example.com", &["a@receiver.example"], &text)
        .await;
    relay.events.of("delivered", &id).await;

    world.write_relay_config();
    let report = world.report_where(|report| report.refused.is_empty()).await;
    assert_eq!(report.documents, good.documents);
}

#[tokio::test]
async fn from_the_start() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    world.write(&layout::keyring(7), "version: 1\ndomains: [{}]\n");
    let relay = crate::support::Relay::start(&world).await;
    let is_told = |status: u16, body: &str| status == 503 && body.contains("keyring/07.yaml");
    within("the reason", relay.readyz_says(is_told)).await;
    let report = world.report().await;
    assert!(report.not_ready.unwrap().contains("keyring/07.yaml"));
    assert_eq!(report.refused[0].path, "keyring/07.yaml");
    assert!(TcpStream::connect((world.address, 2587)).await.is_err());
    assert_eq!(get(world.address, "/healthz").await.unwrap().0, 200);

    world.write(&layout::keyring(7), "version: 1\ndomains: []\n");
    relay.ready().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "at last");
    client
        .accepted("ann@example.com", &["a@receiver.example"], &text)
        .await;
    world
        .sink
        .wait("the message", |m| m.data.contains("at last"))
        .await;
}
