//! What an opening makes of the segments it finds: by index or record by record, in which order
//! they go, and what happens meanwhile.

use std::collections::BTreeMap;

use super::{
    driver::{Driver, script},
    orders::Orders,
    queue::Queue,
    spool::{
        Current, Place, Spool, Sync,
        record::{Encoded, Head, Record},
        segment_name,
    },
    state::State,
    *,
};
use crate::ports::simulated_disk::{Failure, Survivors};

/// A spool that was opened and wholly restored.
pub(super) struct Reopened {
    pub(super) spool: Spool,
    pub(super) queue: Queue,
}

pub(super) fn reopen(disk: &SimulatedDisk) -> Reopened {
    reopen_in(disk, 1 << 20)
}

/// With segments of so many bytes.
fn reopen_in(disk: &SimulatedDisk, segment_bytes: u64) -> Reopened {
    let (reopened, failures) = reopen_with(disk, segment_bytes, Faults::default());
    assert_eq!(failures, 0);
    reopened
}

/// The same of a disk that has these faults once the segments are found, and the steps that failed.
fn reopen_with(disk: &SimulatedDisk, segment_bytes: u64, faults: Faults) -> (Reopened, u32) {
    let random = Counting(AtomicU64::new(disk.outline()));
    let opened = Arc::new(disk.clone());
    let (mut spool, mut recovery) = Spool::open(opened, Arc::new(random), segment_bytes).unwrap();
    disk.set_faults(faults);
    let mut queue = Queue::new(Arc::new(|_| Admission::Send), 0);
    queue.begin_restore();
    let (mut damage, mut failures) = (Vec::new(), 0);
    while !recovery.is_done() {
        let mut on_queue = |apply: &mut dyn FnMut(&mut Queue)| apply(&mut queue);
        let stepped = recovery.step(&mut spool, &mut on_queue, &mut damage);
        failures += u32::from(stepped.is_err());
    }
    spool.end_restore();
    queue.end_restore(spool.orders(), start());
    (Reopened { spool, queue }, failures)
}

fn unreadable(number: u64) -> Faults {
    Faults {
        unreadable: Some(segment_name(number)),
        ..Faults::default()
    }
}

impl Reopened {
    /// Writes one segment of these records.
    fn segment(&mut self, records: Vec<Encoded>) -> Vec<Place> {
        let places = self.spool.append(&records, Sync::Now).unwrap();
        self.spool.seal().unwrap();
        places
    }

    /// Compacts and removes what there is to, and says how often that failed.
    fn maintain(&mut self) -> usize {
        let queue = &self.queue;
        let mut failures = 0;
        for _ in 0..20 {
            let mut current = |id| queue.current(id).map(Current::from);
            failures += usize::from(self.spool.compact(&mut current).is_err());
            self.spool.remove_dead().unwrap();
        }
        failures
    }
}

fn head(number: u64) -> Head {
    let envelope = Arc::new(envelope(&["a@one.test"]));
    Head {
        id: id(number),
        accepted: start(),
        state: State::new(&envelope, start(), &[]),
        envelope,
    }
}

fn accepted(number: u64) -> Encoded {
    Encoded::new(Record::Message(head(number)), body(number))
}

fn tried(number: u64, home: u64) -> Encoded {
    Encoded::of(Record::Attempt {
        id: id(number),
        home,
        leg: 0,
        number: 1,
    })
}

fn finished(number: u64, home: u64) -> Encoded {
    Encoded::of(Record::Finished {
        id: id(number),
        home,
    })
}

fn empty_disk() -> SimulatedDisk {
    SimulatedDisk::new(Faults::default())
}

/// Opens and removes what may go, twice, and says whether each message is there then.
fn after_two_openings(disk: &SimulatedDisk, numbers: [u64; 2]) -> [bool; 2] {
    for _ in 0..2 {
        reopen(disk).spool.remove_dead().unwrap();
    }
    let queue = reopen(disk).queue;
    numbers.map(|number| queue.contains(id(number)))
}

#[test]
fn a_copy_stays_as_long_as_what_it_was_copied_from() {
    let disk = empty_disk();
    let mut writing = reopen(&disk);
    // The first lives on in segment 1, and segment 2 has a record about it.
    writing.segment(vec![accepted(1)]);
    writing.segment(vec![tried(1, 1), accepted(2)]);
    // The second was moved from 2 to 3, but a crash undid the removal of 2; then it was done.
    let moved = Record::Moved {
        from: 2,
        message: head(2),
    };
    writing.segment(vec![Encoded::new(moved, body(2))]);
    writing.segment(vec![finished(2, 3)]);
    drop(writing);
    assert_eq!(after_two_openings(&disk, [1, 2]), [true, false]);
}

#[test]
fn large_batches_fill_their_pages_and_small_ones_do_not() {
    let disk = empty_disk();
    let mut writing = reopen(&disk);
    let length = || disk.bytes(&segment_name(1)).len();
    writing.spool.append(&[accepted(0)], Sync::Now).unwrap();
    assert_eq!(length(), 434);
    let batch: Vec<_> = (1..60).map(accepted).collect();
    for _ in 0..2 {
        writing.spool.append(&batch, Sync::Now).unwrap();
        assert_eq!(length() % 4096, 0);
    }
    writing.spool.append(&[tried(1, 1)], Sync::Later).unwrap();
    assert_eq!(length() % 4096, 31);
    drop(writing);
    // Once record by record, once by index.
    for _ in 0..2 {
        let queue = reopen(&disk).queue;
        assert_eq!(queue.len(), 60);
        assert_eq!(queue.current(id(1)).unwrap().1.legs[0].attempts, 1);
    }
    assert_eq!(disk.list("quarantine").unwrap(), [""; 0]);
}

#[test]
fn a_record_stays_as_long_as_what_it_is_about() {
    let disk = empty_disk();
    let mut writing = reopen(&disk);
    writing.segment(vec![accepted(1), accepted(2)]);
    writing.segment(vec![finished(2, 1)]);
    drop(writing);
    assert_eq!(after_two_openings(&disk, [1, 2]), [true, false]);
}

#[test]
fn what_is_dead_goes_with_the_oldest_of_it() {
    let disk = empty_disk();
    let mut writing = reopen(&disk);
    // The first lives on, and each segment has a record about a message of the one before it.
    writing.segment(vec![accepted(1), accepted(2)]);
    for number in 2..20 {
        writing.segment(vec![finished(number, number - 1), accepted(number + 1)]);
    }
    drop(writing);
    let Reopened { mut spool, queue } = reopen_in(&disk, 500);
    spool.remove_dead().unwrap();
    assert_eq!(spool.segment_count(), 19);
    let mut current = |id| queue.current(id).map(Current::from);
    spool.compact(&mut current).unwrap();
    spool.remove_dead().unwrap();
    assert_eq!(spool.segment_count(), 3, "the first, the last and the head");
    drop(spool);
    let queue = reopen(&disk).queue;
    let there = (1..22).filter(|number| queue.contains(id(*number)));
    assert_eq!(there.collect::<Vec<_>>(), [1, 20]);
}

#[test]
fn what_a_failed_write_left_behind_stays_done() {
    let disk = empty_disk();
    let mut writing = reopen(&disk);
    writing.spool.append(&[accepted(1)], Sync::Now).unwrap();
    // The write of the second fails at its sync, and it cannot be cut off either.
    let calls = disk.calls();
    disk.set_faults(Faults {
        fail: Some((
            calls + 1..calls + 4,
            Failure::Error(std::io::ErrorKind::Other),
        )),
        ..Faults::default()
    });
    writing.spool.append(&[accepted(2)], Sync::Now).unwrap_err();
    disk.set_faults(Faults::default());
    writing.segment(vec![accepted(2), finished(2, 2)]);
    drop(writing);
    assert_eq!(after_two_openings(&disk, [1, 2]), [true, false]);
}

/// Segments that are mostly dead, all of which wait for the first, in which one message lives.
fn waiting_for_the_first() -> SimulatedDisk {
    let disk = empty_disk();
    let mut writing = reopen(&disk);
    writing.segment(vec![accepted(1)]);
    writing.segment(vec![tried(1, 1), accepted(2)]);
    for number in 2..8 {
        writing.segment(vec![finished(number, number), accepted(number + 1)]);
    }
    writing.segment(vec![finished(8, 8)]);
    disk
}

/// Whether the first message is there at an opening, and how often it was tried.
fn attempts_of_the_first(disk: &SimulatedDisk) -> Option<u32> {
    let (_, state) = reopen(disk).queue.current(id(1))?;
    Some(state.legs[0].attempts)
}

#[test]
fn what_is_said_of_a_segment_that_was_left_out_stays() {
    let disk = waiting_for_the_first();
    let (mut without, failures) = reopen_with(&disk, 100, unreadable(1));
    assert_eq!(failures, 4, "and the fifth time it is left out");
    assert_eq!(without.queue.len(), 0);
    assert_eq!(without.maintain(), 0);
    assert!(without.spool.segment_count() < 8, "the others go");
    disk.set_faults(Faults::default());
    drop(without);
    assert_eq!(attempts_of_the_first(&disk), Some(1));
}

#[test]
fn a_segment_that_cannot_be_read_is_left_alone_and_others_are_not() {
    let disk = waiting_for_the_first();
    let mut reopened = reopen_in(&disk, 100);
    disk.set_faults(unreadable(2));
    assert_eq!(reopened.maintain(), 5);
    disk.set_faults(Faults::default());
    let second = disk.list("").unwrap().contains(&segment_name(2));
    assert!(second && reopened.spool.segment_count() < 8);
    drop(reopened);
    assert_eq!(attempts_of_the_first(&disk), Some(1));
}

#[test]
fn no_more_is_written_for_compaction_than_was_appended() {
    let disk = empty_disk();
    let mut writing = reopen(&disk);
    // One of two lives in each segment.
    for number in (0..20).step_by(2) {
        writing.segment(vec![accepted(number), accepted(number + 1)]);
    }
    for number in (0..20).step_by(2) {
        writing.segment(vec![finished(number, 1 + number / 2)]);
    }
    drop(writing);
    let mut reopened = reopen_in(&disk, 100);
    let Reopened { spool, queue } = &mut reopened;
    let mut moved = |spool: &mut Spool| {
        let mut count = 0;
        for _ in 0..40 {
            let mut current = |id| queue.current(id).map(Current::from);
            let moved = spool.compact(&mut current).unwrap();
            count += moved.len();
            for message in moved {
                queue.relocate(message.id, message.to);
            }
        }
        count
    };
    assert_eq!(moved(spool), 0, "nothing was appended yet");
    spool.append(&[accepted(50)], Sync::Now).unwrap();
    assert_eq!(moved(spool), 1, "it is as long as what was");
}

#[test]
fn orders_that_may_lie_in_a_segment_left_out_are_not_replaced() {
    let table = || {
        let hold = command(Verb::Hold, at_domain("one.test"));
        let orders = Orders::default().obey(hold, start(), |_| true).unwrap();
        Encoded::of(Record::Orders(Arc::new(orders.0)))
    };
    for (table_is_in, is_hidden) in [(1, true), (2, false)] {
        let disk = empty_disk();
        let mut writing = reopen(&disk);
        writing.spool.announce_orders();
        for number in 1..4 {
            let table = (number == table_is_in).then(table);
            writing.segment(table.into_iter().chain([accepted(number)]).collect());
        }
        drop(writing);
        let (without, _) = reopen_with(&disk, 1 << 20, unreadable(1));
        assert_eq!(without.spool.hides_orders(), is_hidden);
        assert!(without.spool.announces_orders());
        disk.set_faults(Faults::default());
        drop(without);
        assert!(!reopen(&disk).spool.orders().is_empty());
    }
}

#[test]
fn a_torn_tail_that_cannot_be_put_aside_is_not_cut_off() {
    let disk = empty_disk();
    let mut writing = reopen(&disk);
    writing.spool.append(&[accepted(1)], Sync::Now).unwrap();
    writing.spool.append(&[accepted(2)], Sync::Now).unwrap();
    drop(writing);
    let name = segment_name(1);
    let whole = disk.bytes(&name).len();
    let file = disk.open(&name).unwrap();
    file.truncate(whole as u64 - 10).unwrap();
    file.sync_data().unwrap();
    let torn = disk.bytes(&name);
    let unwritable = Faults {
        unwritable: Some("quarantine/"),
        ..Faults::default()
    };
    for _ in 0..2 {
        let (mut kept, _) = reopen_with(&disk, 1 << 20, unwritable.clone());
        assert_eq!(kept.queue.len(), 1);
        kept.maintain();
        assert_eq!(disk.bytes(&name), torn);
        disk.set_faults(Faults::default());
    }
    assert_eq!(reopen(&disk).queue.len(), 1);
    assert_ne!(disk.bytes(&name), torn);
    assert_eq!(disk.list("quarantine").unwrap().len(), 1);
}

#[test]
fn a_segment_has_no_number_that_something_put_aside_has() {
    let disk = empty_disk();
    drop(reopen(&disk));
    for name in [
        "0000000000000007-44-10.bad",
        "0000000000000005.seg",
        "notes",
    ] {
        disk.create(&format!("quarantine/{name}")).unwrap();
    }
    let places = reopen(&disk).segment(vec![accepted(1)]);
    assert_eq!(places[0].segment, 8);
}

#[test]
fn a_file_with_a_number_that_no_segment_has_is_refused_by_name() {
    let disk = empty_disk();
    drop(reopen(&disk));
    disk.create("ffffffffffffffff.seg").unwrap();
    let random = Arc::new(Counting(AtomicU64::new(0)));
    let refused = Spool::open(Arc::new(disk), random, 100).err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("ffffffffffffffff.seg") && text.contains("move the file away"));
}

type Found = BTreeMap<MessageId, (Place, State)>;

fn found(disk: &SimulatedDisk) -> Found {
    let queue = reopen(disk).queue;
    let numbers = (0..64).map(id);
    let current = |id| queue.current(id).map(|current| (id, current));
    numbers.filter_map(current).collect()
}

#[tokio::test(start_paused = true)]
async fn an_index_says_what_the_records_say() {
    let disk = empty_disk();
    let driver = Driver::open(&disk, &Arc::default()).unwrap();
    script(&driver).await;
    driver.custody.close().await;
    let by_index = found(&disk);
    assert!(by_index.len() > 2, "{by_index:?}");
    let before = disk.calls();
    let _ = found(&disk);
    let with_index = disk.calls() - before;
    for name in disk.list("").unwrap() {
        let length = disk.bytes(&name).len();
        disk.damage(&name, length - 1, 1);
    }
    let before = disk.calls();
    assert_eq!(found(&disk), by_index);
    assert!(disk.calls() - before > with_index, "it was read whole");
    // It was given an index.
    assert_eq!(found(&disk), by_index);
}

#[tokio::test(start_paused = true)]
async fn a_segment_is_left_out_after_seconds_not_after_batches() {
    let (disk, clock) = (empty_disk(), ManualClock::new());
    let custody = open(&disk, &clock);
    let _ = custody.accept(message(1, &["a@one.test"])).await.unwrap();
    custody.close().await;
    let hurried = HurriedClock::new(&clock);
    let custody = Custody::open(Parts {
        clock: Arc::new(hurried),
        ..parts(&disk, &clock)
    })
    .unwrap();
    disk.set_faults(unreadable(1));
    for number in 2..20 {
        let _ = custody
            .accept(message(number, &["a@one.test"]))
            .await
            .unwrap();
    }
    assert_eq!(custody.restoring(), 1);
    disk.set_faults(Faults::default());
    assert_eq!(all_due(&custody).await.len(), 19);
    custody.close().await;
}

#[tokio::test(start_paused = true)]
async fn mail_comes_in_and_goes_out_while_the_rest_is_restored() {
    let (disk, clock) = (empty_disk(), ManualClock::new());
    let custody = open(&disk, &clock);
    for number in 0..20 {
        let new = message(number, &["a@one.test"]);
        let _ = custody.accept(new).await.unwrap();
    }
    custody.close().await;
    let slow = SlowClock::new(&clock);
    let custody = Custody::open(Parts {
        clock: Arc::new(slow),
        ..parts(&disk, &clock)
    })
    .unwrap();
    assert!(custody.restoring() > 0, "it is not done at once");
    let domain: DomainName = "example.com".parse().unwrap();
    let remaining = || custody.remaining([domain.clone()]);
    assert_eq!(remaining(), None, "nobody knows yet");
    // Known to be of the old ones, or not yet: nothing of them is given out.
    assert_eq!(custody.report().due, 0);
    let new = message(50, &["a@one.test"]);
    let _ = custody.accept(new).await.unwrap();
    let mut ids: Vec<_> = all_due(&custody).await.iter().map(|c| c.id).collect();
    ids.sort_unstable();
    let expected: Vec<_> = (0..20).chain([50]).map(id).collect();
    assert_eq!(ids, expected);
    assert_eq!(custody.restoring(), 0);
    assert_eq!(remaining().unwrap()[&domain], 21);
    custody.close().await;
}

/// A spool whose first segment was full and is done, so that its room is to spare; its length.
fn with_spare(disk: &SimulatedDisk) -> (Reopened, usize) {
    let mut writing = reopen_in(disk, 2000);
    writing.segment((1..8).map(accepted).collect());
    writing.spool.remove_dead().unwrap();
    assert_eq!(disk.list("").unwrap(), ["spare"]);
    (writing, disk.bytes("spare").len())
}

#[test]
fn a_segment_takes_the_room_of_one_that_is_done_and_brings_nothing_back() {
    for is_sealed in [false, true] {
        let disk = empty_disk();
        let (mut writing, room) = with_spare(&disk);
        writing.spool.append(&[accepted(8)], Sync::Now).unwrap();
        assert_eq!(disk.list("").unwrap(), [segment_name(2)]);
        assert_eq!(disk.bytes(&segment_name(2)).len(), room);
        if is_sealed {
            writing.spool.seal().unwrap();
            assert!(disk.bytes(&segment_name(2)).len() < room);
        }
        drop(writing);
        let queue = reopen(&disk).queue;
        assert!((1..8).all(|number| !queue.contains(id(number))));
        assert!(queue.contains(id(8)));
        assert!(disk.bytes(&segment_name(2)).len() < room, "left as it was");
        assert!(disk.list("quarantine").unwrap().is_empty());
    }
}

#[test]
fn a_spare_outlives_a_restart() {
    let disk = empty_disk();
    drop(with_spare(&disk));
    let mut writing = reopen_in(&disk, 2000);
    writing.spool.append(&[accepted(8)], Sync::Now).unwrap();
    assert_eq!(disk.list("").unwrap(), [segment_name(1)]);
    assert!(
        reopen_in(&disk.after_crash(Survivors::Synced), 2000)
            .queue
            .contains(id(8))
    );
}

#[test]
fn a_damaged_header_brings_nothing_back_from_the_room_it_took() {
    let disk = empty_disk();
    let (mut writing, _) = with_spare(&disk);
    writing.spool.ensure_head().unwrap();
    drop(writing);
    disk.damage(&segment_name(2), 9, 1);
    let queue = reopen(&disk).queue;
    assert!((1..8).all(|number| !queue.contains(id(number))));
}
