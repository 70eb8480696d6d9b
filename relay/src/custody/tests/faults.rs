//! Crash at every call; failure of every call; full disk; damage.

use std::io::ErrorKind;

use super::{
    account::{Account, workload},
    *,
};

/// Calls of the workload on a good disk.
async fn workload_calls() -> u64 {
    let (disk, clock) = (SimulatedDisk::new(Faults::default(), 1), ManualClock::new());
    let custody = open(&disk, &clock);
    let mut account = Account::default();
    workload(&custody, &clock, &mut account, || true).await;
    custody.close().await;
    assert!(account.recipients.len() > 25, "the workload does its work");
    disk.calls()
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_loses_nothing_that_was_acknowledged() {
    let calls = workload_calls().await;
    for call in 0..calls {
        for seed in 0..3 {
            let faults = Faults {
                crash_at: Some(call),
                ..Faults::default()
            };
            let (disk, clock) = (
                SimulatedDisk::new(faults, call * 31 + seed),
                ManualClock::new(),
            );
            let mut account = Account::default();
            if let Ok(custody) = Custody::open(parts(&disk, &clock)) {
                let alive = || !disk.has_crashed();
                workload(&custody, &clock, &mut account, alive).await;
            }
            clock.advance(100_000);
            let context = format!("crash at call {call} of {calls}, seed {seed}");
            let disk = disk.restart();
            let custody = open(&disk, &clock);
            account.check(&custody, &context).await;
            custody.close().await;
            // What the first opening settled, the second finds.
            clock.advance(100_000);
            let disk = disk.restart();
            let custody = open(&disk, &clock);
            account.check(&custody, &format!("{context}, again")).await;
            custody.close().await;
        }
    }
}

async fn fail_calls(kind: ErrorKind, width: u64) {
    let calls = workload_calls().await;
    for call in 0..calls {
        let faults = Faults {
            fail: Some((call..call + width, kind)),
            ..Faults::default()
        };
        let (disk, clock) = (SimulatedDisk::new(faults, call + 7), ManualClock::new());
        let mut account = Account::default();
        let context = format!("{kind:?} for {width} at call {call}");
        match Custody::open(parts(&disk, &clock)) {
            Ok(custody) => {
                workload(&custody, &clock, &mut account, || true).await;
                disk.set_faults(Faults::default());
                // One probe later custody accepts again.
                sleep(Duration::from_secs(3)).await;
                custody.accepting().unwrap();
                account.accept(&custody, message(40, &["a@one.test"])).await;
                custody.close().await;
            }
            Err(OpenError::Disk { .. }) => {}
            Err(other) => panic!("{context}: {other}"),
        }
        clock.advance(100_000);
        let disk = disk.restart();
        let custody = open(&disk, &clock);
        account.check(&custody, &context).await;
        custody.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_io_error_anywhere_loses_nothing() {
    fail_calls(ErrorKind::Other, 1).await;
}

#[tokio::test(start_paused = true)]
async fn lasting_io_errors_lose_nothing() {
    fail_calls(ErrorKind::Other, 12).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_anywhere_loses_nothing() {
    fail_calls(ErrorKind::StorageFull, 5).await;
}

#[tokio::test(start_paused = true)]
async fn below_the_free_space_mark_delivery_goes_on() {
    let (disk, clock) = (SimulatedDisk::new(Faults::default(), 1), ManualClock::new());
    let custody = open(&disk, &clock);
    let mut account = Account::default();
    assert!(account.accept(&custody, message(1, &["a@one.test"])).await);
    disk.set_faults(Faults {
        capacity: Some(limits().free_space_mark),
        ..Faults::default()
    });
    let refused = custody
        .accept(message(2, &["a@one.test"]))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "NoSpace");
    assert_eq!(custody.accepting().unwrap_err().reason(), "NoSpace");
    assert!(
        account
            .attempt(&custody, RecipientResult::Delivered, None)
            .await
    );
    disk.set_faults(Faults::default());
    custody.accepting().unwrap();
    assert!(account.accept(&custody, message(2, &["a@one.test"])).await);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_put_aside_and_the_rest_is_read() {
    let (disk, clock) = (SimulatedDisk::new(Faults::default(), 1), ManualClock::new());
    let custody = open(&disk, &clock);
    for number in 1..=3 {
        let _ = custody
            .accept(message(number, &["a@one.test"]))
            .await
            .unwrap();
    }
    custody.close().await;
    let name = spool::segment_name(1);
    let bytes = disk.bytes(&name);
    let second = bytes.windows(10).position(|w| w == b"Subject: 2").unwrap();
    disk.damage(&name, second, 1);
    for _ in 0..2 {
        let parts = parts(&disk, &clock);
        let telemetry = Arc::clone(&parts.telemetry);
        let custody = Custody::open(parts).unwrap();
        clock.advance(100);
        let ids: Vec<_> = all_due(&custody).await.iter().map(|c| c.id).collect();
        assert_eq!(ids, [id(1), id(3)]);
        let text = telemetry.render(&custody.figures());
        assert!(
            text.contains("postrider_spool_quarantined_total 1"),
            "{text}"
        );
        custody.close().await;
    }
    let aside = disk.list("quarantine").unwrap();
    assert_eq!(aside.len(), 1, "{aside:?}");
    let kept = disk.bytes(&format!("quarantine/{}", aside[0]));
    assert!(kept.windows(4).any(|w| w == b"xxxx"));
}

#[tokio::test(start_paused = true)]
async fn a_body_damaged_while_open_is_taken_out_and_its_segment_kept() {
    let (disk, clock) = (SimulatedDisk::new(Faults::default(), 1), ManualClock::new());
    let mut with = parts(&disk, &clock);
    with.limits.hot_bytes = 0;
    let custody = Custody::open(with).unwrap();
    for number in 1..=2 {
        let _ = custody
            .accept(message(number, &["a@one.test"]))
            .await
            .unwrap();
    }
    let name = spool::segment_name(1);
    let bytes = disk.bytes(&name);
    let first = bytes.windows(10).position(|w| w == b"Subject: 1").unwrap();
    disk.damage(&name, first, 3);
    let claim = claim_now(&custody).await.unwrap();
    assert_eq!(claim.id, id(2));
    let done = Settlement {
        results: vec![(0, RecipientResult::Delivered)],
        ..Settlement::default()
    };
    custody.settle(claim, done).await.unwrap();
    assert_eq!(custody.report(), QueueReport::default());
    custody.close().await;
    let custody = open(&disk, &clock);
    assert_eq!(disk.list("quarantine").unwrap().len(), 1);
    custody.close().await;
}
