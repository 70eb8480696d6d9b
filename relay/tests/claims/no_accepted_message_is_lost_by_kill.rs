//! Whatever was answered 250 before a kill -9 is delivered, bounced or still queued after it, and
//! what was recorded as delivered is not delivered again.

use postrider_crds::relay_config::Admission::{Hold, Send};

use crate::support::{Account, Client, Load, Relay, World, domain, effort, get, message};

/// Seed of the moments of the kills.
const SEED: u64 = 1;
/// Messages after which a relay is killed, at most: early, in full swing, and while earlier rounds
/// are still on their way.
const LATEST: usize = 70;
/// Messages of a site that a kill may repeat: eight in hand for each of four connections, one of them
/// under way and the others waiting or with a result that is being written.
const IN_HAND: usize = 4 * 8;
/// What a kill may repeat on the average: the attempts under way at three sites (two of recipients, one
/// of the sender) of four connections, since few results are being written at a time.
const UNDER_WAY: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn at_any_moment_of_a_load() {
    let world = World::new(vec![
        domain("example.com", Send),
        domain("held.example", Hold),
    ])
    .await;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut account = Account::default();
    let rounds = effort(8, 300);
    for round in 0..rounds {
        if random.u8(..5) == 0 {
            // Killed while it reads the spool.
            let starting = Relay::start(&world).await;
            account.life_ended(&world, starting.kill().await).await;
        }
        let relay = world.relay().await;
        let mut client = Client::login(&world, "ann").await;
        let text = message("ann@held.example", "kept");
        client.accepted("", &["a@receiver.example"], &text).await;
        let load = Load::start(&world, &format!("round-{round}")).await;
        let count = random.usize(1..LATEST);
        load.reaches(count).await;
        let events = relay.kill().await;
        let promised = load.ended().await;
        assert!(promised.len() >= count);
        account.promised(promised);
        account.life_ended(&world, events).await;
    }
    let _relay = world.relay().await;
    let report = world.drained().await;
    assert_eq!(report.queue.held, rounds);
    let figures = account.close(&world);
    let repeats = account.repeats(&world);
    let most = repeats.values().max().copied().unwrap_or(0);
    let commit = mean_commit(&world).await * 1000.0;
    eprintln!(
        "{rounds} kills, seed {SEED}: {figures:?}; at most {most} repeated at a site by a kill; a commit \
         took {commit:.1} ms"
    );
    assert!(most <= IN_HAND, "{repeats:?}");
    assert_eq!(repeats.values().sum::<usize>(), figures.duplicates);
    assert!(figures.bounced > 0 && figures.delivered > 0, "{figures:?}");
    assert!(
        figures.duplicates <= rounds as usize * UNDER_WAY,
        "{figures:?}"
    );
}

/// Seconds a write and its sync took, on the average of the last relay: a settlement waits for the
/// commit before its own and for its own, and that is the window.
async fn mean_commit(world: &World) -> f64 {
    let (_, metrics) = get(world.address, "/metrics").await.unwrap();
    let value = |name: &str| -> f64 {
        let mut lines = metrics.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    let (sum, count) = (
        value("postrider_spool_sync_seconds_sum "),
        value("postrider_spool_sync_seconds_count "),
    );
    assert!(count > 0.0);
    sum / count
}
