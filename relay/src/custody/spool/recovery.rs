//! Opening the spool and bringing back what is not done.
//!
//! Flow: opening looks at names and headers only. Then, a step at a time and while mail comes in
//! already, each segment's index is read, or the segment itself where it has no good one, and what
//! it says is applied to the queue, segment by segment in their order.
//!
//! Promises: a torn tail is cut off, and so is what is left there of an older segment whose room it
//! took, which has no mark of the segment; damage elsewhere is copied to `quarantine/` and reported, and
//! neither keeps the rest from being read. Nothing is removed that could not be put aside. A second
//! opening finds what the first one found.

use std::{
    collections::{BTreeMap, VecDeque, btree_map},
    io,
    ops::Range,
    sync::Arc,
};

use super::{
    LOCK, PAGE, Place, QUARANTINE, Segment, Spool,
    aside::TORN,
    format::{
        Framing, OLDEST_VERSION, PAYLOAD_VERSION, SEGMENT_HEADER, SEGMENT_VERSION, SegmentHeader,
        Stretch, framing_of_first_record, scan,
    },
    index::{Change, Index, Indexed},
    record::{self, INDEX},
    trailer,
    turnover::{MAX_SEGMENT, SPARE, segment_name, write_index},
};
use crate::{
    custody::{
        OpenError,
        queue::{Queue, Restored},
    },
    mail::MessageId,
    ports::{Disk, DiskFile, Random},
};

/// What is left to bring back.
pub(crate) struct Recovery {
    segments: VecDeque<u64>,
    /// Times the next one could not be read.
    failures: u32,
    reading: Option<Reading>,
}

/// A segment that is being applied.
struct Reading {
    number: u64,
    index: Index,
    changes: btree_map::IntoIter<MessageId, Change>,
    messages: btree_map::IntoIter<MessageId, Indexed>,
}

/// Runs what it is given on the queue, which is locked for as long.
pub(crate) type OnQueue<'a> = dyn FnMut(&mut dyn FnMut(&mut Queue)) + 'a;

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// What it is taken for.
    pub(crate) kind: DamageKind,
    /// The file it was copied to; `None` when that failed and the segment is kept instead.
    pub(crate) file: Option<String>,
}

/// What damage is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DamageKind {
    /// What a crash leaves of an unsynced write, and no alarm.
    Torn,
    /// Something that was readable once.
    Bad,
}

/// Entries of an index that one step applies: some 2 ms.
const STEP: usize = 2048;
/// Times a segment may fail to be read before it is left out.
const MAX_FAILURES: u32 = 5;

impl Spool {
    /// Locks the spool in `disk`, and finds its segments.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        segment_bytes: u64,
    ) -> Result<(Self, Recovery), OpenError> {
        let lock = disk.lock(LOCK).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => failed("locking", source),
        })?;
        disk.create_folder(QUARANTINE)
            .and_then(|()| disk.sync_directory(""))
            .map_err(|e| failed("making the quarantine folder", e))?;
        let names = disk.list("").map_err(|e| failed("listing", e))?;
        let aside = disk.list(QUARANTINE).map_err(|e| failed("listing", e))?;
        let numbers: Vec<u64> = names.iter().filter_map(|n| segment_number(n)).collect();
        if let Some(number) = numbers.iter().find(|number| **number > MAX_SEGMENT) {
            let source = io::Error::other("no relay gives such a number; move the file away");
            return Err(failed(&segment_name(*number), source));
        }
        let used = aside.iter().filter_map(|n| number_aside(n));
        let next_number = numbers.iter().copied().chain(used).max().unwrap_or(0) + 1;
        let mut segments = BTreeMap::new();
        let mut announces = BTreeMap::new();
        for number in numbers {
            if let Some((segment, orders)) = look_at(disk.as_ref(), number)? {
                segments.insert(number, segment);
                announces.insert(number, orders);
            }
        }
        let recovery = Recovery {
            segments: segments.keys().copied().collect(),
            failures: 0,
            reading: None,
        };
        let spool = Self {
            segments,
            disk,
            random,
            segment_bytes: segment_bytes.min(MAX_SEGMENT_BYTES),
            page: PAGE.min(segment_bytes / 4),
            head: None,
            next_number,
            abandoned: 0,
            has_spare: names.iter().any(|name| name == SPARE),
            credit: 0,
            compaction: None,
            orders: None,
            announces: announces.last_entry().is_some_and(|last| *last.get()),
            hides_orders: false,
            _lock: lock,
        };
        Ok((spool, recovery))
    }

    /// The index of a segment: as stored, or made from its records. `None` when nothing of it can
    /// be read and it was put aside.
    fn index(&mut self, number: u64, damage: &mut Vec<Damage>) -> io::Result<Option<Index>> {
        let file = self.disk.open(&segment_name(number))?;
        if let Some(index) = stored_index(file.as_ref(), number)? {
            return Ok(Some(index));
        }
        let bytes = load(self.disk.as_ref(), number)?;
        let header = SegmentHeader::decode(&bytes);
        let framing = header.map(|header| header.framing());
        let Some(framing) = framing.or_else(|| framing_of_first_record(&bytes)) else {
            self.put_segment_aside(number, bytes.len(), damage)?;
            return Ok(None);
        };
        let found = damage.len();
        let mut index = Index::new(number, header.map_or(0, |header| header.repeats));
        if header.is_none() {
            damage.push(self.quarantine(number, &bytes, 0..SEGMENT_HEADER, DamageKind::Bad));
        }
        let mut length = bytes.len() as u64;
        let mut keeps_tail = false;
        for stretch in scan(&bytes, framing) {
            match stretch {
                Stretch::Record(found) if record::is_about_nothing(found.kind) => {}
                Stretch::Record(found) => {
                    let whole = found.whole;
                    let payload = bytes.get(found.payload).unwrap_or_default();
                    match record::decode(found.kind, found.version, payload) {
                        Ok((record, _)) => {
                            let offset = u32::try_from(whole.start).map_err(io::Error::other)?;
                            let length = u32::try_from(whole.len()).map_err(io::Error::other)?;
                            index.add(&record, offset, length);
                        }
                        Err(_) => {
                            damage.push(self.quarantine(number, &bytes, whole, DamageKind::Bad));
                        }
                    }
                }
                Stretch::Damaged(range) => {
                    damage.push(self.quarantine(number, &bytes, range, DamageKind::Bad));
                }
                Stretch::Torn(range) => {
                    length = range.start as u64;
                    let tail = bytes.get(range.clone()).unwrap_or_default();
                    if framing.occurs_in(tail) {
                        let torn = self.quarantine(number, &bytes, range, DamageKind::Torn);
                        keeps_tail = torn.file.is_none();
                        damage.push(torn);
                    }
                    if !keeps_tail {
                        cut_off(file.as_ref(), length)?;
                    }
                }
            }
        }
        let is_bad = |damage: &Damage| damage.kind == DamageKind::Bad;
        if !keeps_tail && !damage.iter().skip(found).any(is_bad) {
            length = index_later(file.as_ref(), length, framing, &index);
        }
        self.learn(number, length, framing);
        Ok(Some(index))
    }

    fn learn(&mut self, number: u64, length: u64, framing: Framing) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.length = length;
            segment.framing = Some(framing);
        }
    }

    /// Copies damage aside. Where that fails the segment is kept instead.
    fn quarantine(
        &mut self,
        number: u64,
        bytes: &[u8],
        range: Range<usize>,
        kind: DamageKind,
    ) -> Damage {
        let (offset, length) = (range.start as u64, range.len() as u64);
        let suffix = match kind {
            DamageKind::Torn => TORN,
            DamageKind::Bad => "bad",
        };
        let file = format!("{QUARANTINE}/{number:016x}-{offset}-{length}.{suffix}");
        let part = bytes.get(range).unwrap_or_default();
        let copied = put_aside(self.disk.as_ref(), &file, part);
        if let Err(error) = &copied {
            tracing::error!(segment = number, offset, length, %error, "damage could not be put aside");
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.pinned |= copied.is_err();
            segment.damaged |= kind == DamageKind::Bad;
        }
        Damage {
            segment: number,
            offset,
            length,
            kind,
            file: copied.is_ok().then_some(file),
        }
    }

    /// Moves a segment of which nothing can be read into the quarantine.
    fn put_segment_aside(
        &mut self,
        number: u64,
        length: usize,
        damage: &mut Vec<Damage>,
    ) -> io::Result<()> {
        let name = segment_name(number);
        let file = format!("{QUARANTINE}/{name}");
        self.disk
            .rename(&name, &file)
            .and_then(|()| self.disk.sync_directory(QUARANTINE))
            .and_then(|()| self.disk.sync_directory(""))?;
        self.segments.remove(&number);
        damage.push(Damage {
            segment: number,
            offset: 0,
            length: length as u64,
            kind: DamageKind::Bad,
            file: Some(file),
        });
        Ok(())
    }
}

impl Recovery {
    /// Whether all is brought back.
    pub(crate) fn is_done(&self) -> bool {
        self.reading.is_none() && self.segments.is_empty()
    }

    /// Segments that are left.
    pub(crate) fn left(&self) -> usize {
        self.segments.len() + usize::from(self.reading.is_some())
    }

    /// Reads the next segment's index, or applies a part of the one that was read. `queue` is not
    /// held while the disk is read.
    ///
    /// A segment that fails to be read again and again is left out and kept: then mail of it waits
    /// for the next opening, and mail that is done there may be sent again.
    pub(crate) fn step(
        &mut self,
        spool: &mut Spool,
        queue: &mut OnQueue<'_>,
        damage: &mut Vec<Damage>,
    ) -> io::Result<()> {
        if let Some(reading) = &mut self.reading {
            queue(&mut |queue| reading.apply(spool, queue));
            if reading.changes.len() == 0 && reading.messages.len() == 0 {
                self.reading = None;
            }
            return Ok(());
        }
        let Some(number) = self.segments.front().copied() else {
            return Ok(());
        };
        let found = damage.len();
        match spool.index(number, damage) {
            Ok(index) => {
                self.segments.pop_front();
                self.failures = 0;
                self.reading = index.map(|index| Reading::of(spool, number, index));
                Ok(())
            }
            Err(error) if self.failures + 1 >= MAX_FAILURES => {
                tracing::error!(segment = number, %error, "segment cannot be read and is left out");
                spool.leave_out(number);
                self.segments.pop_front();
                self.failures = 0;
                damage.push(Damage {
                    segment: number,
                    offset: 0,
                    length: 0,
                    kind: DamageKind::Bad,
                    file: None,
                });
                Ok(())
            }
            Err(error) => {
                self.failures += 1;
                // The next try finds it again.
                damage.truncate(found);
                Err(error)
            }
        }
    }
}

impl Reading {
    fn of(spool: &mut Spool, number: u64, mut index: Index) -> Self {
        if let Some(segment) = spool.segments.get_mut(&number) {
            segment.refers.clone_from(&index.refers);
            segment.supersedes.clone_from(&index.supersedes);
        }
        if let Some(table) = index.orders.take() {
            let place = Place {
                segment: number,
                offset: table.offset.into(),
                length: table.length,
            };
            spool.keep_orders(place, table.orders);
        }
        Self {
            number,
            changes: std::mem::take(&mut index.changes).into_iter(),
            messages: std::mem::take(&mut index.messages).into_iter(),
            index,
        }
    }

    fn apply(&mut self, spool: &mut Spool, queue: &mut Queue) {
        for _ in 0..STEP {
            if let Some((id, change)) = self.changes.next() {
                self.change(spool, queue, id, &change);
            } else if let Some((id, message)) = self.messages.next() {
                self.message(spool, queue, id, &message);
            } else {
                return;
            }
        }
    }

    fn change(&self, spool: &mut Spool, queue: &mut Queue, id: MessageId, change: &Change) {
        // What was accepted since the opening is not what an old segment speaks of.
        let current = queue.current(id);
        let Some((_, state)) = current.filter(|(place, _)| place.segment < self.number) else {
            return;
        };
        let done = match change.apply(state) {
            Some(state) => queue.restate(id, &state),
            None => queue.remove(id),
        };
        if let Some(place) = done {
            spool.release(&place);
        }
    }

    fn message(&self, spool: &mut Spool, queue: &mut Queue, id: MessageId, message: &Indexed) {
        if queue
            .place(id)
            .is_some_and(|place| place.segment > self.number)
        {
            return;
        }
        let place = Place {
            segment: self.number,
            offset: message.offset.into(),
            length: message.length,
        };
        let Some(outline) = self.index.outline(message) else {
            return;
        };
        let restored = Restored {
            accepted: message.accepted,
            outline,
            state: &message.state,
            place,
        };
        let older = queue.restore(id, restored);
        if let Some(older) = older {
            spool.release(&older);
        }
        spool.hold(&place);
    }
}

/// Longest segment there may be, with room for the batch that makes it full.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// The segment that something in the quarantine is from: what has the name of another is not written
/// over it.
fn number_aside(name: &str) -> Option<u64> {
    u64::from_str_radix(name.get(..16)?, 16).ok()
}

/// Looks at a segment's header, and whether orders may be in force as of it. `None` when it has no
/// records and was removed.
fn look_at(disk: &dyn Disk, number: u64) -> Result<Option<(Segment, bool)>, OpenError> {
    let name = segment_name(number);
    let file = disk.open(&name).map_err(|e| failed(&name, e))?;
    let length = file.length().map_err(|e| failed(&name, e))?;
    if length <= SEGMENT_HEADER as u64 {
        // Begun but never written to: its header is stable before its first record is written.
        return disk
            .remove(&name)
            .and_then(|()| disk.sync_directory(""))
            .map(|()| None)
            .map_err(|e| failed(&name, e));
    }
    let mut bytes = [0; SEGMENT_HEADER];
    file.read_at(0, &mut bytes).map_err(|e| failed(&name, e))?;
    let header = SegmentHeader::decode(&bytes);
    match header.map(|header| header.version) {
        Some(version) if version > SEGMENT_VERSION => Err(OpenError::NewerFormat {
            segment: name,
            version,
            supported: SEGMENT_VERSION,
        }),
        Some(version) if version < OLDEST_VERSION => Err(OpenError::OlderFormat {
            segment: name,
            version,
            supported: OLDEST_VERSION,
        }),
        Some(_) | None => {
            let segment = Segment {
                length,
                framing: header.map(|header| header.framing()),
                ..Segment::default()
            };
            // Where the header cannot be read there may be.
            Ok(Some((segment, header.is_none_or(|header| header.orders))))
        }
    }
}

/// Cuts a file off behind `length` bytes, on stable storage.
fn cut_off(file: &dyn DiskFile, length: u64) -> io::Result<()> {
    file.truncate(length)?;
    file.sync_data()
}

/// Writes the index of a segment that was not sealed, so that the next opening need not read it
/// whole. It is no harm when that fails. The segment's length then.
fn index_later(file: &dyn DiskFile, length: u64, framing: Framing, index: &Index) -> u64 {
    match write_index(file, (length, length), framing, index) {
        Ok(length) => length,
        Err(error) => {
            tracing::warn!(%error, "segment could not be given an index");
            // What it left is torn, and the next opening cuts it off if this does not.
            let _ = cut_off(file, length);
            length
        }
    }
}

/// The index at the end of a segment, if it has a good one.
fn stored_index(file: &dyn DiskFile, number: u64) -> io::Result<Option<Index>> {
    let mut header = [0; SEGMENT_HEADER];
    file.read_at(0, &mut header)?;
    let Some(header) = SegmentHeader::decode(&header).filter(|h| h.number == number) else {
        return Ok(None);
    };
    let framing = header.framing();
    let length = file.length()?;
    let mut end = vec![0; trailer::length(framing)];
    let Some(index_end) = length.checked_sub(end.len() as u64) else {
        return Ok(None);
    };
    file.read_at(index_end, &mut end)?;
    let Some((at, size)) = trailer::read(&end, framing) else {
        return Ok(None);
    };
    let whole = size as usize + framing.header_length(size);
    if at.checked_add(whole as u64) != Some(index_end) {
        return Ok(None);
    }
    let mut bytes = vec![0; whole];
    file.read_at(at, &mut bytes)?;
    let index = framing
        .only_record(&bytes)
        .filter(|found| found.kind == INDEX && found.version == PAYLOAD_VERSION)
        .and_then(|found| Index::decode(number, bytes.get(found.payload)?));
    Ok(index)
}

/// All bytes of a segment.
pub(super) fn load(disk: &dyn Disk, number: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(&segment_name(number))?;
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A stable copy under `name`. One that exists already has the same place in the same segment, so
/// it is the same.
pub(crate) fn put_aside(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = match disk.create(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(name)?,
        other => other?,
    };
    file.write_at(0, &[bytes])?;
    file.sync_data()?;
    disk.sync_directory(QUARANTINE)
}

fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

fn failed(doing: &str, source: io::Error) -> OpenError {
    OpenError::Disk {
        doing: doing.to_owned(),
        source,
    }
}
