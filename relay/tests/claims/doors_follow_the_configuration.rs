//! A port that changes is opened, the old one closed, and sessions that are open go on.

use postrider_crds::relay_config::Admission::Send;
use tokio::net::TcpStream;

use crate::support::{Client, World, domain, message, within};

#[tokio::test]
async fn and_sessions_go_on() {
    let mut world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    world.relay_config.listeners.submission = Some(2588);
    world.write_relay_config();
    within("the new door", async {
        while TcpStream::connect((world.address, 2588)).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within("the old door's end", async {
        while TcpStream::connect((world.address, 2587)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let text = message("ann@example.com", "still here");
    let id = client.accepted("", &["a@receiver.example"], &text).await;
    relay.events.of("delivered", &id).await;
}
