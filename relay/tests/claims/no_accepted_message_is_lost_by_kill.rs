//! Whatever was answered 250 before a kill -9 is delivered, bounced or still queued after it.

use postrider_crds::relay_config::Admission::{Hold, Send};

use crate::support::{Client, Load, World, all_arrive, domain, message};

/// Accepted messages after which the process is killed, one round each: early, in full swing, and
/// while earlier rounds are still on their way.
const ROUNDS: [usize; 3] = [3, 60, 25];

#[tokio::test(flavor = "multi_thread")]
async fn at_any_moment_of_a_load() {
    let world = World::new(vec![
        domain("example.com", Send),
        domain("held.example", Hold),
    ])
    .await;
    let mut accepted = Vec::new();
    let mut held = Vec::new();
    for (round, count) in ROUNDS.into_iter().enumerate() {
        let relay = world.relay().await;
        let mut client = Client::login(&world, "ann").await;
        let text = message("ann@held.example", "kept");
        held.push(client.accepted("", &["a@receiver.example"], &text).await);
        let load = Load::start(&world, &format!("round-{round}")).await;
        load.reaches(count).await;
        relay.kill().await;
        let done = load.ended().await;
        assert!(done.len() >= count);
        accepted.extend(done);
    }
    let _relay = world.relay().await;
    all_arrive(&world, &accepted).await;
    let report = world
        .report_where(|report| report.queue.due + report.queue.deferred == 0)
        .await;
    assert_eq!(report.queue.held, held.len() as u64);
}
