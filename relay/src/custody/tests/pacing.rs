//! Who waits for whose sync.

use super::*;
use crate::ports::simulated_disk::Survivors;

/// Longer than any test runs, in real time.
const EVER: Duration = Duration::from_secs(3600);

fn rig(result_wait: Duration) -> (SimulatedDisk, Arc<ManualClock>, Custody) {
    let (disk, clock) = (SimulatedDisk::new(Faults::default()), ManualClock::new());
    let mut with = parts(&disk, &clock);
    with.limits.segment_bytes = 1 << 20;
    with.limits.result_wait = result_wait;
    let custody = Custody::open(with).unwrap();
    (disk, clock, custody)
}

/// Message 1, accepted and attempted, on its way to be recorded as delivered.
async fn delivered(custody: &Custody) -> impl Future<Output = Result<(), StoreError>> + use<> {
    let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
    let claim = custody.next_due().await.unwrap();
    custody.attempt_started(&claim).await.unwrap();
    let custody = custody.clone();
    let settlement = Settlement {
        results: vec![(0, RecipientResult::Delivered)],
        ..Settlement::default()
    };
    async move { custody.settle(claim, settlement).await }
}

#[tokio::test(start_paused = true)]
async fn a_result_shares_the_sync_of_the_next_message() {
    let (disk, _, custody) = rig(EVER);
    let settled = tokio::spawn(delivered(&custody).await);
    // It is on its way once it has run.
    tokio::task::yield_now().await;
    let before = disk.syncs();
    let _ = custody.accept(message(2, &["a@two.test"])).await.unwrap();
    settled.await.unwrap().unwrap();
    assert_eq!(disk.syncs() - before, 1);
    assert_eq!(custody.report().due, 1);
    // The thread would wait for as long as a result may.
    custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_waits_is_not_in_force_and_holds_up_no_attempt() {
    let (disk, clock, custody) = rig(EVER);
    let _ = custody.accept(message(2, &["a@two.test"])).await.unwrap();
    let other = custody.next_due().await.unwrap();
    let settled = tokio::spawn(delivered(&custody).await);
    let before = disk.syncs();
    custody.attempt_started(&other).await.unwrap();
    assert_eq!(disk.syncs(), before, "neither was synced");
    assert!(!settled.is_finished());
    // The power fails: the attempt is made again.
    let after = disk.after_crash(Survivors::Synced);
    let again = Custody::open(parts(&after, &clock)).unwrap();
    for _ in 0..2 {
        assert!(again.next_due().await.is_some());
    }
    drop(other);
    custody.close().await;
    settled.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_result_waits_no_longer_than_it_may() {
    let (disk, _, custody) = rig(Duration::from_millis(1));
    let settled = delivered(&custody).await;
    let before = disk.syncs();
    settled.await.unwrap();
    assert_eq!(disk.syncs() - before, 1);
    assert_eq!(custody.report().due, 0);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_waited_long_enough_goes_with_whatever_comes() {
    let (disk, clock, custody) = rig(EVER);
    let _ = custody.accept(message(2, &["a@two.test"])).await.unwrap();
    let other = custody.next_due().await.unwrap();
    let settled = tokio::spawn(delivered(&custody).await);
    tokio::task::yield_now().await;
    // The committer has taken it aside.
    custody.attempt_started(&other).await.unwrap();
    let before = disk.calls();
    clock.pass(2 * EVER.as_secs());
    custody.attempt_started(&other).await.unwrap();
    settled.await.unwrap().unwrap();
    let calls = disk.calls() - before;
    drop(other);
    // The thread would wait for as long as a result may.
    custody.close().await;
    assert_eq!(
        calls, 3,
        "one write, its sync, and a look at the free space"
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_answers_the_results_that_wait() {
    let (disk, clock, custody) = rig(EVER);
    let settled = tokio::spawn(delivered(&custody).await);
    tokio::task::yield_now().await;
    custody.close().await;
    settled.await.unwrap().unwrap();
    drop(custody);
    let again = Custody::open(parts(&disk, &clock)).unwrap();
    assert!(claim_now(&again).await.is_none(), "it was recorded");
}

#[tokio::test(start_paused = true)]
async fn an_order_finds_in_force_the_result_before_it() {
    let (disk, clock, custody) = rig(EVER);
    let settled = tokio::spawn(delivered(&custody).await);
    tokio::task::yield_now().await;
    let before = disk.syncs();
    let hold = command(Verb::Hold, Scope::Message(id(1)));
    let refused = custody.order(hold).await;
    assert!(
        matches!(refused, Err(OrderError::UnknownMessage(_))),
        "it is done: {refused:?}"
    );
    settled.await.unwrap().unwrap();
    assert_eq!(disk.syncs() - before, 1);

    let settled = tokio::spawn(delivered(&custody).await);
    tokio::task::yield_now().await;
    let hold = command(Verb::Hold, at_domain("one.test"));
    let order = custody.order(hold).await.unwrap().order;
    // The power fails: both are there.
    let after = disk.after_crash(Survivors::Synced);
    let again = Custody::open(parts(&after, &clock)).unwrap();
    assert_eq!(again.orders(), Vec::from_iter(order));
    assert_eq!(
        again.report().suspended + again.report().held + again.report().due,
        0
    );
    settled.await.unwrap().unwrap();
    custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_takes_along_the_results_that_wait() {
    let (disk, clock, custody) = rig(EVER);
    let _ = custody.accept(message(2, &["a@two.test"])).await.unwrap();
    let claim = custody.next_due().await.unwrap();
    let until = start() + SignedDuration::from_hours(1);
    let deferred = Settlement {
        results: vec![(0, RecipientResult::Deferred { until })],
        ..Settlement::default()
    };
    let theirs = custody.clone();
    let put_off = tokio::spawn(async move { theirs.settle(claim, deferred).await });
    tokio::task::yield_now().await;
    clock.advance(1);
    let flush = command(Verb::Flush, at_domain("two.test"));
    let flush = custody.order(flush).await.unwrap().order.unwrap();
    put_off.await.unwrap().unwrap();

    let settled = tokio::spawn(delivered(&custody).await);
    tokio::task::yield_now().await;
    let before = disk.syncs();
    custody.flush(&flush).await.unwrap();
    settled.await.unwrap().unwrap();
    assert_eq!(disk.syncs() - before, 1);
    let again = claim_now(&custody).await.unwrap();
    assert_eq!(again.id, id(2), "the result before it was in force");
    drop(again);
    custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn so_many_results_do_not_wait() {
    let (_, _, custody) = rig(EVER);
    let numbers = 1..=600;
    let accepts = numbers.map(|number| custody.accept(message(number, &["a@one.test"])));
    for done in futures::future::join_all(accepts).await {
        let _ = done.unwrap();
    }
    let mut settled = Vec::new();
    while settled.len() < 600 {
        let site = Site::of_domain(&"one.test".parse().unwrap());
        let _ = custody.bind(&"one.test".parse().unwrap(), &site, 1000, Trust::Proven);
        let claim = custody.next_due().await.unwrap();
        let settlement = Settlement {
            results: vec![(0, RecipientResult::Delivered)],
            ..Settlement::default()
        };
        let custody = custody.clone();
        settled.push(tokio::spawn(async move {
            custody.settle(claim, settlement).await
        }));
    }
    // Those that came before there were so many; the rest wait for a message.
    let mut first = settled.into_iter();
    for _ in 0..500 {
        first.next().unwrap().await.unwrap().unwrap();
    }
    custody.close().await;
}
