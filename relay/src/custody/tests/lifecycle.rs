//! What custody does on a disk that works.

use super::*;
use crate::{mail::Priority, ports::simulated_disk::Survivors};

fn rig() -> (SimulatedDisk, Arc<ManualClock>) {
    (SimulatedDisk::new(Faults::default()), ManualClock::new())
}

fn all(claim: &Claim, result: RecipientResult) -> Settlement {
    Settlement {
        results: claim.recipients.iter().map(|r| (*r, result)).collect(),
        ..Settlement::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_brings_back_due_times_attempts_and_what_is_done() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let recipients = ["a@one.test", "b@one.test", "c@two.test"];
    let _ = custody.accept(message(1, &recipients)).await.unwrap();
    let claim = claim_now(&custody).await.unwrap();
    assert_eq!((claim.attempts, &claim.recipients[..]), (0, &[0, 1][..]));
    custody.attempt_started(&claim).await.unwrap();
    let until = start() + SignedDuration::from_secs(300);
    let settlement = Settlement {
        results: vec![
            (0, RecipientResult::Delivered),
            (1, RecipientResult::Deferred { until }),
        ],
        delay_warned: true,
        notification: None,
    };
    custody.settle(claim, settlement).await.unwrap();
    // Claimed and started, never settled: due again, the attempt counted.
    let claim = claim_now(&custody).await.unwrap();
    custody.attempt_started(&claim).await.unwrap();
    custody.close().await;
    drop(claim);

    let custody = open(&disk, &clock);
    let two = claim_now(&custody).await.unwrap();
    assert_eq!((two.domain.as_str(), two.attempts), ("two.test", 1));
    assert!(claim_now(&custody).await.is_none(), "not due yet");
    clock.advance(300);
    let one = claim_now(&custody).await.unwrap();
    assert_eq!((one.domain.as_str(), one.attempts), ("one.test", 1));
    assert_eq!((&one.recipients[..], one.delay_warned), (&[1][..], true));
    assert_eq!(one.body, body(1));
}

#[tokio::test(start_paused = true)]
async fn the_lock_has_one_owner() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let second = Custody::open(parts(&disk, &clock)).unwrap_err();
    assert!(matches!(second, OpenError::Locked), "{second}");
    custody.close().await;
    open(&disk, &clock).close().await;
}

/// Syncs of a new spool's whole life, when so many messages are handed over before its committer
/// first runs.
async fn syncs_of_a_life_with(messages: u64) -> usize {
    let (disk, clock) = rig();
    let mut with = parts(&disk, &clock);
    with.limits.segment_bytes = 1 << 20;
    let custody = Custody::open(with).unwrap();
    let accepts = (0..messages).map(|number| custody.accept(message(number, &["a@one.test"])));
    for done in futures::future::join_all(accepts).await {
        let _ = done.unwrap();
    }
    custody.close().await;
    disk.syncs()
}

#[tokio::test(start_paused = true)]
async fn what_waits_together_is_synced_once() {
    let alone = syncs_of_a_life_with(1).await;
    assert_eq!(syncs_of_a_life_with(40).await, alone);
    assert!(syncs_of_a_life_with(0).await < alone);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_written_but_syncs_nothing() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
    let claim = claim_now(&custody).await.unwrap();
    let before = disk.syncs();
    custody.attempt_started(&claim).await.unwrap();
    assert_eq!(disk.syncs(), before);
    custody.put_back(claim).await;
    let claim = claim_now(&custody).await.unwrap();
    assert_eq!(claim.attempts, 1);
    let done = all(&claim, RecipientResult::Delivered);
    custody.settle(claim, done).await.unwrap();
    assert_eq!(disk.syncs(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_memory_is_not_read_back() {
    for (hot_bytes, is_read) in [(limits().hot_bytes, false), (0, true)] {
        let (disk, clock) = rig();
        let mut with = parts(&disk, &clock);
        with.limits.hot_bytes = hot_bytes;
        let custody = Custody::open(with).unwrap();
        let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
        let before = disk.calls();
        let claim = claim_now(&custody).await.unwrap();
        assert_eq!(claim.body, body(1));
        assert_eq!(disk.calls() > before, is_read);
    }
}

#[tokio::test(start_paused = true)]
async fn held_mail_waits_and_is_released() {
    let (disk, clock) = rig();
    let mut with = parts(&disk, &clock);
    with.admission = Arc::new(|_| Admission::Hold);
    let custody = Custody::open(with).unwrap();
    let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
    clock.advance(50);
    assert!(claim_now(&custody).await.is_none());
    assert_eq!(custody.report().held, 1);
    assert_eq!(custody.figures().oldest_held_seconds, 50);
    custody.apply_admission(Arc::new(|_| Admission::Send));
    let claim = claim_now(&custody).await.unwrap();
    custody.apply_admission(Arc::new(|_| Admission::Reject));
    let until = start() + SignedDuration::from_secs(60);
    let later = all(&claim, RecipientResult::Deferred { until });
    custody.settle(claim, later).await.unwrap();
    clock.advance(100);
    assert!(claim_now(&custody).await.is_none());
    assert_eq!((custody.report().held, custody.report().due), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn held_mail_is_found_when_it_is_too_old_over_a_restart_too() {
    let (disk, clock) = rig();
    let held = || {
        let mut with = parts(&disk, &clock);
        with.admission = Arc::new(|_| Admission::Hold);
        Custody::open(with).unwrap()
    };
    let custody = held();
    for number in 1..4 {
        let new = message(number, &["a@one.test"]);
        let _ = custody.accept(new).await.unwrap();
    }
    clock.advance(3600);
    let before = start() + SignedDuration::from_secs(1);
    assert!(custody.next_overdue(start(), &mut 0).is_none());
    let due = custody.next_overdue(before, &mut 0).unwrap();
    let first = custody.load(due).await.unwrap();
    let (one, done) = (first.id, all(&first, RecipientResult::Expired));
    custody.settle(first, done).await.unwrap();
    // One that is put back is held again.
    let due = custody.next_overdue(before, &mut 0).unwrap();
    let second = custody.load(due).await.unwrap();
    custody.put_back(second).await;
    assert!(claim_now(&custody).await.is_none());
    custody.close().await;

    let custody = held();
    assert_eq!(custody.report().held, 2);
    let (mut from, mut found) = (0, vec![one]);
    while let Some(due) = custody.next_overdue(before, &mut from) {
        let claim = custody.load(due).await.unwrap();
        found.push(claim.id);
        let done = all(&claim, RecipientResult::Expired);
        custody.settle(claim, done).await.unwrap();
    }
    found.sort_unstable();
    assert_eq!(found, [id(1), id(2), id(3)]);
    assert_eq!((custody.report().held, custody.report().due), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_deferred_message_does_not_pin_what_is_dead() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let until = start() + SignedDuration::from_secs(9000);
    for number in 0..200 {
        let _ = custody
            .accept(message(number, &["a@one.test"]))
            .await
            .unwrap();
        let claim = claim_now(&custody).await.unwrap();
        let result = match number % 20 {
            0 => RecipientResult::Deferred { until },
            _ => RecipientResult::Delivered,
        };
        let settlement = all(&claim, result);
        custody.settle(claim, settlement).await.unwrap();
    }
    let segments = disk.list("").unwrap().len();
    assert!(
        segments <= 14,
        "10 live messages of 0.6 kB in {segments} files"
    );
    custody.close().await;
    let custody = open(&disk.after_crash(Survivors::Synced), &clock);
    clock.advance(9000);
    let mut ids: Vec<_> = all_due(&custody).await.iter().map(|c| c.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..10).map(|n| id(n * 20)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn bad_envelopes_and_known_ids_are_refused() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let refused = custody.accept(message(1, &[])).await.unwrap_err();
    assert_eq!(refused.reason(), "BadEnvelope");
    let mut bad = message(1, &["a@one.test"]);
    bad.suppressed = vec![1];
    assert_eq!(
        custody.accept(bad).await.unwrap_err().reason(),
        "BadEnvelope"
    );
    let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
    let twice = custody
        .accept(message(1, &["a@one.test"]))
        .await
        .unwrap_err();
    assert_eq!(twice.reason(), "KnownId");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_takes_no_more_until_something_is_done() {
    let (disk, clock) = rig();
    let mut with = parts(&disk, &clock);
    with.limits.messages = 2;
    let custody = Custody::open(with).unwrap();
    for number in 0..2 {
        let new = message(number, &["a@one.test"]);
        let _ = custody.accept(new).await.unwrap();
    }
    assert_eq!(custody.accepting().unwrap_err().reason(), "QueueFull");
    let third = || message(2, &["a@one.test"]);
    let refused = custody.accept(third()).await.unwrap_err();
    assert_eq!(refused.reason(), "QueueFull");
    let claim = claim_now(&custody).await.unwrap();
    let done = all(&claim, RecipientResult::Delivered);
    custody.settle(claim, done).await.unwrap();
    let _ = custody.accept(third()).await.unwrap();
    custody.close().await;
    let custody = open(&disk, &clock);
    assert_eq!(custody.report().due, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_found_wherever_it_waits() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    for number in 0..3 {
        let new = message(number, &["a@one.test"]);
        let _ = custody.accept(new).await.unwrap();
    }
    // One is deferred, one claimed, one is ready at a site that is full.
    let claim = claim_now(&custody).await.unwrap();
    let until = start() + SignedDuration::from_hours(5);
    let later = all(&claim, RecipientResult::Deferred { until });
    let deferred = claim.id;
    custody.settle(claim, later).await.unwrap();
    let claimed = claim_now(&custody).await.unwrap();
    let site = Site::of_domain(&claimed.domain);
    let room = custody.bind(&claimed.domain, &site, 1, Trust::Suspect);
    assert_eq!(room, Room::Granted);
    assert!(claim_now(&custody).await.is_none());
    clock.advance(3600);
    let mut from = 0;
    let none = custody.next_overdue(start(), &mut from);
    assert!(none.is_none(), "{none:?}");
    let before = start() + SignedDuration::from_secs(1);
    let (mut from, mut found) = (0, Vec::new());
    while let Some(due) = custody.next_overdue(before, &mut from) {
        let claim = custody.load(due).await.unwrap();
        found.push(claim.id);
        let done = all(&claim, RecipientResult::Expired);
        custody.settle(claim, done).await.unwrap();
    }
    found.push(claimed.id);
    found.sort_unstable();
    assert_eq!(found, [id(0), id(1), id(2)]);
    assert!(found.contains(&deferred));
}

#[tokio::test(start_paused = true)]
async fn a_site_has_what_it_may_and_suspects_leave_room() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    for number in 0..6 {
        let domain = ["a@one.test", "a@two.test"][usize::from(number > 2)];
        let new = message(number, &[domain]);
        let _ = custody.accept(new).await.unwrap();
    }
    let first = claim_now(&custody).await.unwrap();
    let second = claim_now(&custody).await.unwrap();
    assert_ne!(first.domain, second.domain, "lanes take turns");
    // Both domains are one site's, which may have one.
    let site = Site::of_domain(&first.domain);
    let bind = |claim: &Claim, limit, trust| custody.bind(&claim.domain, &site, limit, trust);
    assert_eq!(bind(&first, 1, Trust::Suspect), Room::Granted);
    assert_eq!(bind(&second, 1, Trust::Suspect), Room::Full);
    let put_back = second.id;
    custody.put_back(second).await;
    assert!(claim_now(&custody).await.is_none());
    // It took mail: five more.
    assert_eq!(bind(&first, 6, Trust::Proven), Room::Granted);
    let ids: Vec<_> = all_due(&custody).await.iter().map(|c| c.id).collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.contains(&put_back));
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_and_wakes_who_waits() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let waiter = tokio::spawn({
        let custody = custody.clone();
        async move { custody.next_due().await.is_none() }
    });
    tokio::task::yield_now().await;
    custody.close().await;
    assert!(waiter.await.unwrap());
    let refused = custody
        .accept(message(1, &["a@one.test"]))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "Closing");
    assert_eq!(custody.accepting().unwrap_err().reason(), "Closing");
    custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_claim_is_due_again_a_minute_later() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
    drop(claim_now(&custody).await.unwrap());
    assert!(claim_now(&custody).await.is_none());
    clock.advance(60);
    assert_eq!(claim_now(&custody).await.unwrap().attempts, 0);
}

#[tokio::test]
async fn the_real_disk_does_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let disk = || Arc::new(crate::ports::SystemDisk::open(folder.path()).unwrap());
    let clock = ManualClock::new();
    let simulated = SimulatedDisk::new(Faults::default());
    let on_real = || Parts {
        disk: disk(),
        limits: Limits {
            free_space_mark: 0,
            ..limits()
        },
        ..parts(&simulated, &clock)
    };
    let custody = Custody::open(on_real()).unwrap();
    let locked = Custody::open(on_real()).unwrap_err();
    assert!(matches!(locked, OpenError::Locked), "{locked}");
    for number in 0..40 {
        let _ = custody
            .accept(message(number, &["a@one.test"]))
            .await
            .unwrap();
        if number != 5 {
            let claim = custody.next_due().await.unwrap();
            let done = all(&claim, RecipientResult::Delivered);
            custody.settle(claim, done).await.unwrap();
        }
    }
    custody.close().await;
    let custody = Custody::open(on_real()).unwrap();
    assert_eq!(custody.report().due, 1);
    let claim = custody.next_due().await.unwrap();
    // One behind from the fifth on, so the last is left.
    assert_eq!((claim.id, claim.body.clone()), (id(39), body(39)));
    drop(claim);
    custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_changes_when_and_never_whether() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
    let until = start() + SignedDuration::from_secs(300);
    let claim = claim_now(&custody).await.unwrap();
    let later = all(&claim, RecipientResult::Deferred { until });
    custody.settle(claim, later).await.unwrap();
    clock.advance(-86_400);
    // Dated by the clock of the moment, and due at once all the same.
    let mut second = message(2, &["a@one.test"]);
    second.accepted = clock.wall();
    let _ = custody.accept(second).await.unwrap();
    let claim = claim_now(&custody).await.unwrap();
    assert_eq!(claim.id, id(2));
    let done = all(&claim, RecipientResult::Delivered);
    custody.settle(claim, done).await.unwrap();
    assert!(claim_now(&custody).await.is_none(), "as late as the jump");
    custody.close().await;
    let custody = open(&disk.after_crash(Survivors::Synced), &clock);
    assert_eq!(custody.report().deferred, 1);
    clock.advance(365 * 86_400);
    let claim = claim_now(&custody).await.unwrap();
    assert_eq!((claim.id, claim.recipients.len()), (id(1), 1));
}

#[tokio::test(start_paused = true)]
async fn what_remains_of_a_domain_is_counted_from_its_arrival_to_its_end() {
    let (disk, clock) = rig();
    let custody = open(&disk, &clock);
    let (domain, other): (DomainName, DomainName) = (
        "example.com".parse().unwrap(),
        "example.org".parse().unwrap(),
    );
    let remaining = || {
        let counts = custody.remaining([domain.clone(), other.clone()]).unwrap();
        (counts[&domain], counts[&other])
    };
    assert_eq!(remaining(), (0, 0));
    let arriving = custody.arriving(&domain);
    let again = custody.arriving(&domain);
    assert_eq!(remaining(), (2, 0));
    drop(again);
    let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
    assert_eq!(remaining(), (2, 0), "rather twice than not at all");
    drop(arriving);
    assert_eq!(remaining(), (1, 0));
    let mut foreign = message(2, &["a@one.test", "b@two.test"]);
    foreign.envelope.tenant = "apps/other".into();
    let _ = custody.accept(foreign).await.unwrap();
    let mut own = message(3, &["a@one.test"]);
    own.envelope.domain = None;
    let _ = custody.accept(own).await.unwrap();
    assert_eq!(remaining(), (2, 0), "of all tenants, and no notifications");
    for claim in all_due(&custody).await {
        let settlement = all(&claim, RecipientResult::Delivered);
        custody.settle(claim, settlement).await.unwrap();
    }
    assert_eq!(remaining(), (0, 0));
    custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn priorities_outlive_restarts_by_index_and_by_record() {
    let (disk, clock) = (SimulatedDisk::new(Faults::default()), ManualClock::new());
    let custody = open(&disk, &clock);
    for (number, priority) in [(1, 0), (2, -4), (3, 9), (4, 0)] {
        let mut new = message(number, &["a@one.test"]);
        new.envelope.priority = Priority::new(priority);
        let _ = custody.accept(new).await.unwrap();
    }
    custody.close().await;
    let expected = [(id(3), 9), (id(1), 0), (id(4), 0), (id(2), -4)];
    for by_index in [true, false] {
        if !by_index {
            for name in disk.list("").unwrap() {
                let length = disk.bytes(&name).len();
                disk.damage(&name, length - 1, 1);
            }
        }
        let custody = open(&disk, &clock);
        let claims = all_due(&custody).await;
        let found: Vec<_> = claims
            .iter()
            .map(|claim| (claim.id, claim.envelope.priority.unwrap().number()))
            .collect();
        assert_eq!(found, expected, "{by_index}");
        for claim in claims {
            custody.put_back(claim).await;
        }
        custody.close().await;
    }
}
