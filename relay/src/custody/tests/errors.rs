//! The disk fails at any call, for a while or for good; it is full, read-only, or gone.

use std::io::ErrorKind;

use super::{
    driver::{Driver, LONG, Leave, live_on, script},
    ledger::Crash,
    *,
};
use crate::ports::simulated_disk::{Failure, Survivors};

/// No end.
const FOR_GOOD: u64 = u64::MAX / 2;

fn failing(from: u64, width: u64, failure: Failure) -> Faults {
    Faults {
        fail: Some((from..from + width, failure)),
        ..Faults::default()
    }
}

/// Calls of the script on a good disk.
async fn script_calls() -> u64 {
    let (disk, ledger) = (SimulatedDisk::new(Faults::default()), Arc::default());
    let driver = Driver::open(&disk, &ledger).unwrap();
    script(&driver).await;
    driver.custody.close().await;
    disk.calls()
}

/// Runs the script with `width` calls failing from each call on in turn, every `step`th; the disk
/// gets well, custody accepts again, and after a restart everything is there.
async fn fail_from_every(step: usize, width: u64, failure: Failure) {
    for call in (0..script_calls().await).step_by(step) {
        let context = format!("{failure:?} for {width} calls from {call}");
        let disk = SimulatedDisk::new(failing(call, width, failure));
        let ledger = Arc::default();
        match Driver::open(&disk, &ledger) {
            Ok(driver) => {
                script(&driver).await;
                disk.set_faults(Faults::default());
                // One probe later custody accepts again.
                sleep(Duration::from_secs(3)).await;
                driver.custody.accepting().unwrap();
                assert!(driver.accept(message(90, &["a@one.test"])).await);
                driver.custody.close().await;
            }
            Err(OpenError::Disk { .. }) => {}
            Err(other) => panic!("{context}: {other}"),
        }
        let survivors = match call % 3 {
            0 => Survivors::Synced,
            1 => Survivors::All,
            _ => Survivors::Chance(call),
        };
        let disk = disk.after_crash(survivors);
        let ledger = ledger.lock().unwrap().clone();
        let at = (Crash::PowerLost, LONG);
        let driver = Driver::reopen(&disk, &ledger, at, &context).await;
        if call.is_multiple_of(effort(5, 1)) {
            live_on(&disk, driver, Leave::nth(call / 3), &context).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_io_error_at_any_call_loses_nothing() {
    fail_from_every(effort(5, 1), 1, Failure::Error(ErrorKind::Other)).await;
}

#[tokio::test(start_paused = true)]
async fn one_short_write_at_any_call_loses_nothing() {
    fail_from_every(effort(5, 1), 1, Failure::Short).await;
}

#[tokio::test(start_paused = true)]
async fn io_errors_for_a_while_lose_nothing() {
    // A sync that fails, and the cut of what it left.
    fail_from_every(effort(3, 1), 2, Failure::Error(ErrorKind::Other)).await;
    fail_from_every(effort(9, 1), 3, Failure::Error(ErrorKind::Other)).await;
    fail_from_every(effort(11, 1), 12, Failure::Short).await;
}

#[tokio::test(start_paused = true)]
async fn no_space_for_a_while_loses_nothing() {
    fail_from_every(effort(9, 1), 5, Failure::Error(ErrorKind::StorageFull)).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_turns_read_only_takes_no_mail_and_loses_none() {
    fail_from_every(effort(9, 1), 8, Failure::ReadOnly).await;
}

/// A custody with two messages due, whose disk then fails for good.
async fn failed_for_good(failure: Failure) -> (SimulatedDisk, Driver, Claim) {
    let (disk, ledger) = (SimulatedDisk::new(Faults::default()), Arc::default());
    let driver = Driver::open(&disk, &ledger).unwrap();
    driver
        .accept_all((1..3).map(|number| message(number, &["a@one.test"])))
        .await;
    let (claim, _) = driver.claim().await.unwrap();
    disk.set_faults(failing(0, FOR_GOOD, failure));
    (disk, driver, claim)
}

async fn promises_nothing(driver: &Driver, claim: Claim) {
    for _ in 0..2 {
        let refused = driver.custody.accept(message(9, &["a@one.test"])).await;
        assert_eq!(refused.unwrap_err().reason(), "DiskError");
        let dialing = driver.custody.attempt_started(&claim).await;
        assert!(matches!(dialing, Err(StoreError::Disk(_))), "{dialing:?}");
        assert_eq!(
            driver.custody.accepting().unwrap_err().reason(),
            "DiskError"
        );
        sleep(Duration::from_secs(5)).await;
    }
    driver.custody.put_back(claim).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_works_again_is_used_again_however_much_there_is_to_do() {
    let failure = Failure::Error(ErrorKind::Other);
    let (disk, driver, claim) = failed_for_good(failure).await;
    let attempt = || driver.custody.attempt_started(&claim);
    attempt().await.unwrap_err();
    disk.set_faults(Faults::default());
    for _ in 0..20 {
        attempt().await.unwrap_err();
    }
    driver.clock.pass(1);
    // The first after that second may find it as it was.
    drop(attempt().await);
    attempt().await.unwrap();
    driver.custody.put_back(claim).await;
    driver.custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_new_waits_for_a_disk_that_does_not_answer() {
    let (disk, clock) = (SimulatedDisk::new(Faults::default()), ManualClock::new());
    let custody = open(&disk, &clock);
    let (reached, mut reaches) = tokio::sync::mpsc::unbounded_channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    disk.photograph(move |_| {
        // An error means that the test is over with it.
        let _ = reached.send(());
        let _ = released.recv();
    });
    let waiting = custody.clone();
    let waiting = tokio::spawn(async move { waiting.accept(message(1, &["a@one.test"])).await });
    reaches.recv().await.unwrap();
    clock.pass(9);
    let patient = custody.clone();
    let patient = tokio::spawn(async move { patient.accept(message(2, &["a@one.test"])).await });
    tokio::task::yield_now().await;
    clock.pass(1);
    let refused = custody.accept(message(3, &["a@one.test"])).await;
    assert_eq!(refused.unwrap_err().reason(), "SlowDisk");
    drop(release);
    for accepted in [waiting, patient] {
        let _ = accepted.await.unwrap().unwrap();
    }
    let _ = custody.accept(message(4, &["a@one.test"])).await.unwrap();
    custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn on_a_read_only_disk_nothing_is_accepted_or_dialed() {
    let (disk, driver, claim) = failed_for_good(Failure::ReadOnly).await;
    promises_nothing(&driver, claim).await;
    driver.custody.close().await;
    let refused = Custody::open(parts(&disk, &driver.clock)).unwrap_err();
    assert!(matches!(refused, OpenError::Disk { .. }), "{refused}");
    let disk = disk.after_crash(Survivors::Synced);
    let ledger = driver.ledger().clone();
    let at = (Crash::PowerLost, LONG);
    let driver = Driver::reopen(&disk, &ledger, at, "read-only").await;
    assert_eq!(driver.custody.report().due, 2);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_gone_promises_nothing_more() {
    let failure = Failure::Error(ErrorKind::NotConnected);
    let (_, driver, claim) = failed_for_good(failure).await;
    promises_nothing(&driver, claim).await;
}

#[tokio::test(start_paused = true)]
async fn below_the_free_space_mark_delivery_goes_on() {
    let (disk, ledger) = (SimulatedDisk::new(Faults::default()), Arc::default());
    let driver = Driver::open(&disk, &ledger).unwrap();
    assert!(driver.accept(message(1, &["a@one.test"])).await);
    disk.set_faults(Faults {
        capacity: Some(limits().free_space_mark),
        ..Faults::default()
    });
    let refused = driver.custody.accept(message(2, &["a@one.test"])).await;
    assert_eq!(refused.unwrap_err().reason(), "NoSpace");
    assert_eq!(driver.custody.accepting().unwrap_err().reason(), "NoSpace");
    assert!(driver.attempt(RecipientResult::Delivered).await);
    disk.set_faults(Faults::default());
    driver.custody.accepting().unwrap();
    assert!(driver.accept(message(2, &["a@one.test"])).await);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_fills_up_at_any_byte_loses_nothing() {
    let (disk, ledger) = (SimulatedDisk::new(Faults::default()), Arc::default());
    let driver = Driver::open(&disk, &ledger).unwrap();
    script(&driver).await;
    driver.custody.close().await;
    for capacity in (64..16_384).step_by(effort(449, 29)) {
        let disk = SimulatedDisk::new(Faults {
            capacity: Some(capacity),
            ..Faults::default()
        });
        let context = format!("{capacity} bytes");
        let ledger = Arc::default();
        let clock = ManualClock::new();
        let mut with = parts(&disk, &clock);
        // No mark: the writes themselves find the end.
        with.limits.free_space_mark = 0;
        let custody = Custody::open(with).unwrap();
        let driver = Driver::of(custody, clock, &ledger);
        script(&driver).await;
        driver.custody.close().await;
        let after = disk.after_crash(Survivors::Synced);
        let ledger = ledger.lock().unwrap().clone();
        let at = (Crash::PowerLost, LONG);
        let driver = Driver::reopen(&after, &ledger, at, &context).await;
        live_on(&after, driver, Leave::nth(capacity), &context).await;
    }
}
