//! SIGTERM under load ends the relay in good order: 421 to clients, exit code 0, nothing lost.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Account, Client, Load, World, domain, message};

/// Times it is stopped.
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn under_load() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let mut account = Account::default();
    for round in 0..ROUNDS {
        let relay = world.relay().await;
        let load = Load::start(&world, &format!("term-{round}")).await;
        load.reaches(10 + 20 * round).await;
        let (code, events) = relay.terminate().await;
        assert_eq!(code, Some(0));
        account.promised(load.ended().await);
        account.life_ended(&world, events).await;
    }
    let _relay = world.relay().await;
    world.drained().await;
    let figures = account.close(&world);
    assert_eq!(figures.duplicates, 0, "{figures:?}");
}

#[tokio::test]
async fn in_the_middle_of_a_text() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut idle = Client::login(&world, "ann").await;
    let mut busy = Client::login(&world, "ann").await;
    busy.ask("MAIL FROM:<ann@example.com>").await;
    busy.ask("RCPT TO:<a@receiver.example>").await;
    assert!(busy.ask("DATA").await.starts_with("354 "));
    let text = message("ann@example.com", "finished");
    let stopping = tokio::spawn(relay.terminate());
    assert!(idle.reply().await.starts_with("421 4.3.2 "));
    busy.send(format!("{text}.\r\n").as_bytes()).await;
    assert!(busy.reply().await.starts_with("250 2.0.0 queued as "));
    assert!(busy.reply().await.starts_with("421 4.3.2 "));
    assert_eq!(stopping.await.unwrap().0, Some(0));
    let _relay = world.relay().await;
    world
        .sink
        .wait("the message", |m| m.data.contains("Subject: finished"))
        .await;
}
