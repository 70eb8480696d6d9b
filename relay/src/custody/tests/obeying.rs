//! What orders do to mail, and that they last.

use postrider_crds::queue::{Breakdown, Depth};

use super::*;
use crate::ports::simulated_disk::Survivors;

async fn rig() -> (SimulatedDisk, Arc<ManualClock>, Custody) {
    let (disk, clock) = (SimulatedDisk::new(Faults::default()), ManualClock::new());
    let custody = open(&disk, &clock);
    (disk, clock, custody)
}

async fn accept(custody: &Custody, number: u64, domain: &str) {
    let new = message(number, &[&format!("a@{domain}")]);
    let _ = custody.accept(new).await.unwrap();
}

async fn order(custody: &Custody, verb: Verb, scope: Scope) -> Obeyed {
    custody.order(command(verb, scope)).await.unwrap()
}

/// Messages that are given out now, delivered.
async fn leaving(custody: &Custody) -> Vec<MessageId> {
    let mut ids = Vec::new();
    while let Some(claim) = claim_now(custody).await {
        ids.push(claim.id);
        finish(custody, claim, RecipientResult::Delivered).await;
    }
    ids
}

async fn finish(custody: &Custody, claim: Claim, result: RecipientResult) {
    custody.attempt_started(&claim).await.unwrap();
    let settlement = Settlement {
        results: claim.recipients.iter().map(|r| (*r, result)).collect(),
        ..Settlement::default()
    };
    custody.settle(claim, settlement).await.unwrap();
}

/// Due, deferred, suspended, held.
fn states(custody: &Custody) -> [u64; 4] {
    let report = custody.report();
    [report.due, report.deferred, report.suspended, report.held]
}

#[tokio::test(start_paused = true)]
async fn what_is_held_waits_and_keeps_ageing_and_is_released() {
    let (_, clock, custody) = rig().await;
    accept(&custody, 1, "one.test").await;
    accept(&custody, 2, "two.test").await;
    clock.advance(1);
    order(&custody, Verb::Hold, at_domain("one.test")).await;
    accept(&custody, 3, "one.test").await;
    assert_eq!(states(&custody), [1, 0, 0, 2]);
    assert_eq!(leaving(&custody).await, [id(2)]);
    clock.advance(49);
    assert_eq!(custody.figures().oldest_held_seconds, 50);
    assert_eq!(custody.report().oldest_due_seconds, 0);
    // Old enough, it is found where it is.
    let before = start() + SignedDuration::from_secs(1);
    let due = custody.next_overdue(before, &mut 0).unwrap();
    let claim = custody.load(due).await.unwrap();
    assert_eq!(claim.id, id(1));
    custody.put_back(claim).await;
    assert_eq!(states(&custody), [0, 0, 0, 2]);
    order(&custody, Verb::Release, at_domain("one.test")).await;
    assert_eq!(leaving(&custody).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_held_and_released_by_its_name() {
    let (_, clock, custody) = rig().await;
    for number in 1..4 {
        accept(&custody, number, "one.test").await;
    }
    clock.advance(1);
    order(&custody, Verb::Hold, Scope::Message(id(1))).await;
    assert_eq!(leaving(&custody).await, [id(2), id(3)]);
    accept(&custody, 4, "one.test").await;
    let tenant = Scope::Tenant("apps/legacy".into());
    order(&custody, Verb::Hold, tenant.clone()).await;
    let ended = order(&custody, Verb::Release, Scope::Message(id(1)))
        .await
        .ended;
    assert_eq!(ended.len(), 1);
    assert_eq!(leaving(&custody).await, [id(1)]);
    assert_eq!(states(&custody), [0, 0, 0, 1]);
    let gone = custody
        .order(command(Verb::Hold, Scope::Message(id(1))))
        .await;
    assert!(
        matches!(gone, Err(OrderError::UnknownMessage(_))),
        "{gone:?}"
    );
    order(&custody, Verb::Release, tenant).await;
    assert_eq!(leaving(&custody).await, [id(4)]);
}

#[tokio::test(start_paused = true)]
async fn a_suspension_ends_by_itself_or_by_a_resume() {
    let (_, clock, custody) = rig().await;
    accept(&custody, 1, "one.test").await;
    let until = start() + SignedDuration::from_secs(60);
    let command = Command {
        until: Some(until),
        ..command(Verb::Suspend, at_domain("one.test"))
    };
    custody.order(command).await.unwrap();
    assert_eq!(states(&custody), [0, 0, 1, 0]);
    assert!(leaving(&custody).await.is_empty());
    clock.advance(60);
    assert_eq!(leaving(&custody).await, [id(1)]);
    accept(&custody, 2, "one.test").await;
    order(&custody, Verb::Suspend, at_domain("one.test")).await;
    assert!(leaving(&custody).await.is_empty());
    order(&custody, Verb::Resume, at_domain("one.test")).await;
    assert_eq!(leaving(&custody).await, [id(2)]);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_recorded_after_an_order_that_forbids_it() {
    let (_, _, custody) = rig().await;
    accept(&custody, 1, "one.test").await;
    accept(&custody, 2, "one.test").await;
    let claim = claim_now(&custody).await.unwrap();
    let under_way = claim_now(&custody).await.unwrap();
    custody.attempt_started(&under_way).await.unwrap();
    order(&custody, Verb::Suspend, at_domain("one.test")).await;
    let refused = custody.attempt_started(&claim).await;
    assert!(matches!(refused, Err(StoreError::Kept(_))), "{refused:?}");
    custody.put_back(claim).await;
    // What is under way is finished, and tried again only when that is allowed.
    let until = start() + SignedDuration::from_secs(1);
    let settlement = Settlement {
        results: vec![(0, RecipientResult::Deferred { until })],
        ..Settlement::default()
    };
    custody.settle(under_way, settlement).await.unwrap();
    assert_eq!(states(&custody), [0, 0, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_site_is_known_once_a_domain_of_it_was_routed() {
    let (_, _, custody) = rig().await;
    accept(&custody, 1, "one.test").await;
    accept(&custody, 2, "one.test").await;
    let site = Site::of_hosts(["mx1.test", "mx2.test"]);
    let named = Scope::Site("mx2.test".parse().unwrap());
    assert_eq!(custody.unrouted(), ["one.test".parse().unwrap()]);
    order(&custody, Verb::Hold, named.clone()).await;
    // Given out to be routed, and not attempted.
    let claim = claim_now(&custody).await.unwrap();
    let _ = custody.bind(&claim.domain, &site, 10, Trust::Proven);
    let refused = custody.attempt_started(&claim).await;
    assert!(matches!(refused, Err(StoreError::Kept(_))), "{refused:?}");
    custody.put_back(claim).await;
    assert!(claim_now(&custody).await.is_none());
    assert_eq!(states(&custody), [0, 0, 0, 2]);
    assert!(custody.unrouted().is_empty());
    order(&custody, Verb::Release, named).await;
    assert_eq!(leaving(&custody).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_flushed_is_due_at_once_and_after_a_power_failure() {
    let (disk, clock, custody) = rig().await;
    let until = start() + SignedDuration::from_hours(9);
    for number in 1..4 {
        let domain = ["one.test", "two.test"][usize::from(number == 3)];
        accept(&custody, number, domain).await;
    }
    for claim in all_due(&custody).await {
        finish(&custody, claim, RecipientResult::Deferred { until }).await;
    }
    clock.advance(10);
    order(&custody, Verb::Hold, Scope::Message(id(2))).await;
    let flush = order(&custody, Verb::Flush, at_domain("one.test"))
        .await
        .order
        .unwrap();
    assert_eq!(custody.count_about(&flush).await, 2);
    assert_eq!(custody.next_order().await, Some(flush.clone()));
    custody.flush(&flush).await.unwrap();
    custody.carried_out(flush.number).await.unwrap();
    assert_eq!(states(&custody), [1, 1, 0, 1]);
    let disk = disk.after_crash(Survivors::Synced);
    let custody = open(&disk, &clock);
    let claim = claim_now(&custody).await.unwrap();
    assert_eq!((claim.id, claim.attempts), (id(1), 1));
    assert!(claim_now(&custody).await.is_none());
    // Held, it was flushed all the same.
    order(&custody, Verb::Release, Scope::Message(id(2))).await;
    assert_eq!(claim_now(&custody).await.unwrap().id, id(2));
}

#[tokio::test(start_paused = true)]
async fn what_is_to_expire_is_found_wherever_it_is() {
    let (disk, clock, custody) = rig().await;
    for number in 1..6 {
        accept(&custody, number, "one.test").await;
    }
    let claimed = claim_now(&custody).await.unwrap();
    let deferred = claim_now(&custody).await.unwrap();
    let until = start() + SignedDuration::from_hours(9);
    finish(&custody, deferred, RecipientResult::Deferred { until }).await;
    clock.advance(10);
    order(&custody, Verb::Hold, Scope::Message(id(5))).await;
    let expire = order(&custody, Verb::Expire, Scope::Tenant("apps/legacy".into())).await;
    let expire = expire.order.unwrap();
    let mut later = message(6, &["a@one.test"]);
    later.id = MessageId::new(clock.wall(), 6);
    let _ = custody.accept(later).await.unwrap();
    // Begun, and begun again after a crash.
    let due = custody.next_ordered(&expire, &mut 0).unwrap();
    drop(custody.load(due).await.unwrap());
    let custody = open(&disk.after_crash(Survivors::Synced), &clock);
    drop(claimed);
    assert_eq!(custody.next_order().await, Some(expire.clone()));
    let (mut from, mut found) = (0, Vec::new());
    while let Some(due) = custody.next_ordered(&expire, &mut from) {
        let claim = custody.load(due).await.unwrap();
        found.push(claim.id);
        let settlement = Settlement {
            results: vec![(0, RecipientResult::Expired)],
            ..Settlement::default()
        };
        custody.settle(claim, settlement).await.unwrap();
    }
    found.sort_unstable();
    assert_eq!(found, (1..6).map(id).collect::<Vec<_>>());
    custody.carried_out(expire.number).await.unwrap();
    assert_eq!(states(&custody), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn orders_outlive_the_segments_they_were_given_in() {
    let (disk, clock, custody) = rig().await;
    for domain in ["one.test", "two.test", "three.test"] {
        order(&custody, Verb::Hold, at_domain(domain)).await;
    }
    order(&custody, Verb::Release, at_domain("two.test")).await;
    let first = disk.list("").unwrap();
    let held = come_and_go(&custody, 0..200).await;
    let left = disk.list("").unwrap();
    let moved = first.iter().filter(|name| name.ends_with(".seg"));
    let stayed: Vec<_> = moved.filter(|name| left.contains(name)).collect();
    assert!(stayed.is_empty(), "{stayed:?} of {first:?}");
    let orders = custody.orders();
    custody.close().await;
    for _ in 0..3 {
        let custody = open(&disk.after_crash(Survivors::Synced), &clock);
        assert_eq!((custody.orders(), orders.len()), (orders.clone(), 2));
        assert_eq!(states(&custody), [0, 0, 0, held]);
        custody.close().await;
    }
    // Those that have ended do not come back either.
    let custody = open(&disk, &clock);
    for domain in ["one.test", "three.test"] {
        order(&custody, Verb::Release, at_domain(domain)).await;
    }
    leaving(&custody).await;
    come_and_go(&custody, 200..300).await;
    custody.close().await;
    assert!(open(&disk, &clock).orders().is_empty());
}

/// Messages that come and go, some for a domain that may be held among them. How many of those.
async fn come_and_go(custody: &Custody, numbers: std::ops::Range<u64>) -> u64 {
    let mut held = 0;
    for number in numbers {
        let is_held = number.is_multiple_of(5);
        held += u64::from(is_held);
        let domain = ["four.test", "one.test"][usize::from(is_held)];
        accept(custody, number, domain).await;
        leaving(custody).await;
    }
    held
}

#[tokio::test(start_paused = true)]
async fn new_mail_waits_for_the_orders_while_the_spool_is_restored() {
    let (disk, clock, custody) = rig().await;
    order(&custody, Verb::Hold, at_domain("one.test")).await;
    for number in 0..20 {
        accept(&custody, number, "two.test").await;
    }
    custody.close().await;
    let slow = SlowClock::new(&clock);
    let custody = Custody::open(Parts {
        clock: Arc::new(slow),
        ..parts(&disk, &clock)
    })
    .unwrap();
    assert!(custody.restoring() > 0, "it is not done at once");
    let refused = custody.order(command(Verb::Hold, at_domain("three.test")));
    let early = tokio::spawn({
        let custody = custody.clone();
        async move { custody.next_ready().await.map(|due| due.taken.id) }
    });
    accept(&custody, 50, "one.test").await;
    let refused = refused.await;
    let first = early.await.unwrap().unwrap();
    assert_ne!(first, id(50), "it is held");
    assert!(
        matches!(refused, Err(OrderError::Restoring)) || custody.orders().len() == 2,
        "{refused:?}"
    );
    assert_eq!(custody.report().held, 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_written_is_not_in_force() {
    let (disk, _, custody) = rig().await;
    accept(&custody, 1, "one.test").await;
    let calls = disk.calls();
    disk.set_faults(Faults {
        fail: Some((
            calls..calls + 1000,
            crate::ports::simulated_disk::Failure::ReadOnly,
        )),
        ..Faults::default()
    });
    let refused = custody
        .order(command(Verb::Hold, at_domain("one.test")))
        .await;
    assert!(matches!(refused, Err(OrderError::Disk(_))), "{refused:?}");
    assert!(custody.orders().is_empty());
    disk.set_faults(Faults::default());
    sleep(Duration::from_secs(3)).await;
    assert_eq!(leaving(&custody).await, [id(1)]);
}

#[tokio::test(start_paused = true)]
async fn the_overview_counts_by_site_domain_and_tenant() {
    let (_, clock, custody) = rig().await;
    let both = message(1, &["a@one.test", "b@two.test"]);
    let _ = custody.accept(both).await.unwrap();
    accept(&custody, 2, "two.test").await;
    clock.advance(5);
    order(&custody, Verb::Hold, at_domain("two.test")).await;
    let claim = claim_now(&custody).await.unwrap();
    let site = Site::of_hosts(["mx.test"]);
    let _ = custody.bind(&claim.domain, &site, 10, Trust::Proven);
    let overview = custody.overview().await;
    assert_eq!(overview.orders.len(), 1);
    let depths = |breakdown: &Breakdown| -> Vec<(String, [u64; 2])> {
        let depth = |depth: &Depth| (depth.name.clone(), [depth.due, depth.held]);
        breakdown.top.iter().map(depth).collect()
    };
    assert_eq!(
        depths(&overview.domains),
        [("two.test".into(), [0, 2]), ("one.test".into(), [1, 0])]
    );
    assert_eq!(
        depths(&overview.sites),
        [(String::new(), [0, 2]), ("mx.test".into(), [1, 0])]
    );
    assert_eq!(depths(&overview.tenants), [("apps/legacy".into(), [1, 1])]);
    assert_eq!(overview.tenants.top[0].oldest_seconds, 5);
}

#[tokio::test(start_paused = true)]
async fn whose_sender_was_told_of_a_delay_is_known_after_a_power_failure() {
    let (disk, clock, custody) = rig().await;
    let until = start() + SignedDuration::from_hours(9);
    for number in 1..4 {
        accept(&custody, number, "one.test").await;
    }
    for _ in 0..2 {
        let claim = claim_now(&custody).await.unwrap();
        finish(&custody, claim, RecipientResult::Deferred { until }).await;
    }
    order(&custody, Verb::Hold, at_domain("one.test")).await;
    assert_eq!(states(&custody), [0, 0, 0, 3]);
    clock.advance(10);
    assert!(custody.next_late(start(), &mut 0).is_none());
    let now = start() + SignedDuration::from_secs(10);
    let mut from = 0;
    for number in 1..3 {
        let due = custody.next_late(now, &mut from).unwrap();
        let claim = custody.load(due).await.unwrap();
        assert_eq!((claim.id, claim.delay_warned), (id(number), false));
        assert!(custody.is_kept(&claim));
        let told = Settlement {
            delay_warned: true,
            ..Settlement::default()
        };
        custody.settle(claim, told).await.unwrap();
    }
    assert_eq!(states(&custody), [0, 0, 0, 3]);
    let custody = open(&disk.after_crash(Survivors::Synced), &clock);
    assert_eq!(states(&custody), [0, 0, 0, 3]);
    let due = custody.next_late(now, &mut 0).unwrap();
    let claim = custody.load(due).await.unwrap();
    assert_eq!(claim.id, id(3));
    custody.put_back(claim).await;
    // Nothing else has changed: what was put off still is.
    order(&custody, Verb::Release, at_domain("one.test")).await;
    let claim = claim_now(&custody).await.unwrap();
    assert_eq!((claim.id, states(&custody)), (id(3), [1, 2, 0, 0]));
}
