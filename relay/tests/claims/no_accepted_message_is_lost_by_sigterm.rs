//! SIGTERM under load ends the relay in good order: 421 to clients, exit code 0, nothing lost.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, Load, World, all_arrive, domain, message};

#[tokio::test(flavor = "multi_thread")]
async fn under_load() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let load = Load::start(&world, "term").await;
    load.reaches(30).await;
    let (code, _) = relay.terminate().await;
    assert_eq!(code, Some(0));
    let accepted = load.ended().await;
    let _relay = world.relay().await;
    all_arrive(&world, &accepted).await;
    world
        .report_where(|report| report.queue.due + report.queue.deferred == 0)
        .await;
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
