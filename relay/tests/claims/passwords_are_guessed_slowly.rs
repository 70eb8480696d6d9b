//! A network whose logins failed too often waits for the next ones; others do not.

use futures::{FutureExt as _, future::join_all, future::select_all};
use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, PASSWORD, World, domain, message};

/// Attempts of a network that wait at a time.
const WAITING: usize = 16;

async fn clients(world: &World, number: usize) -> Vec<Client> {
    join_all((0..number).map(|_| Client::secured(world))).await
}

#[tokio::test]
async fn from_one_address_and_nobody_else_waits() {
    let mut world = World::new(vec![domain("example.com", Send)]).await;
    world.relay_config.limits.sessions = 100;
    world.write_relay_config();
    let relay = world.relay().await;
    // So many failures that the delay is the longest, half a minute.
    let mut guessing = clients(&world, 40).await;
    let replies = guessing
        .iter_mut()
        .map(|client| client.auth("ann", "wrong"));
    let replies = join_all(replies).await;
    let of = |code| {
        replies
            .iter()
            .filter(|reply| reply.starts_with(code))
            .count()
    };
    assert!(of("535 5.7.8 ") >= 10 + WAITING, "{replies:?}");
    assert_eq!(of("535 5.7.8 ") + of("454 4.7.0 "), 40, "{replies:?}");
    drop(guessing);

    // Of those that are right, as many wait as may, and one is told to try again.
    let mut waiting = clients(&world, WAITING + 1).await;
    let replies = waiting
        .iter_mut()
        .map(|client| client.auth("ann", PASSWORD).boxed_local());
    let (reply, _, others) = select_all(replies).await;
    assert!(reply.starts_with("454 4.7.0 "), "{reply}");

    let other = Client::connect_from(&world, world.address).await;
    let mut other = other.starttls().await;
    assert!(other.auth("ann", PASSWORD).await.starts_with("235 "));
    let text = message("ann@example.com", "not kept waiting");
    let to = ["a@receiver.example"];
    other.accepted("ann@example.com", &to, &text).await;
    let all = join_all(others);
    tokio::pin!(all);
    assert!((&mut all).now_or_never().is_none(), "they wait");

    // A stop waits for none of them.
    let ((code, _), replies) = tokio::join!(relay.terminate(), all);
    assert_eq!(code, Some(0));
    for reply in replies {
        assert!(reply.starts_with("454 4.7.0 "), "{reply}");
    }
}
