//! What an opening makes of the segments it finds: by index or record by record, in which order
//! they go, and what happens meanwhile.

use std::collections::BTreeMap;

use super::{
    driver::{Driver, script},
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
    let random = Counting(AtomicU64::new(disk.outline()));
    let disk = Arc::new(disk.clone());
    let (mut spool, mut recovery) = Spool::open(disk, Arc::new(random), segment_bytes).unwrap();
    let mut queue = Queue::new(Arc::new(|_| Admission::Send), 0);
    queue.begin_restore();
    let mut damage = Vec::new();
    while !recovery.is_done() {
        let mut on_queue = |apply: &mut dyn FnMut(&mut Queue)| apply(&mut queue);
        recovery
            .step(&mut spool, &mut on_queue, &mut damage)
            .unwrap();
    }
    queue.end_restore(spool.orders(), start());
    Reopened { spool, queue }
}

impl Reopened {
    /// Writes one segment of these records.
    fn segment(&mut self, records: Vec<Encoded>) -> Vec<Place> {
        let places = self.spool.append(&records, Sync::Now).unwrap();
        self.spool.seal().unwrap();
        places
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
    let mut current = |id| {
        let (place, state) = queue.current(id)?;
        Some(Current { place, state })
    };
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
