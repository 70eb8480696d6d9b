//! The spool: a log of segments that holds every accepted message and all that was recorded of it.
//!
//! Promises: what [`Spool::append`] returned `Ok` for with [`Sync::Now`] is on stable storage. A
//! segment takes no more records after a write or sync of it failed. A segment is removed only when
//! nothing in it is needed, and that removal is stable before another may depend on it. One process
//! owns the directory. Never: decides what a message needs next, or knows what time it is.
//!
//! Liveness: a segment holds *live* messages; it *refers* to older segments whose messages it has
//! records about, and *supersedes* older ones whose messages it holds in a newer copy. Only when
//! no message lives in it and none of the segments it refers to or supersedes is left may it go:
//! else a message that was done would come back with the older segment.

mod compaction;
pub(crate) mod format;
pub(crate) mod record;
mod recovery;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use bytes::Bytes;

pub(crate) use compaction::Current;
use format::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SEGMENT_VERSION, SegmentHeader};
use record::Encoded;
pub(crate) use recovery::{Damage, Restored};

use crate::ports::{Disk, DiskFile, DiskLock, Random};

/// Where corrupt bytes are put aside.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The lock file.
pub(crate) const LOCK: &str = "lock";

/// The open spool.
pub(crate) struct Spool {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    segment_bytes: u64,
    segments: BTreeMap<u64, Segment>,
    head: Option<Head>,
    next_number: u64,
    /// A head that failed, whose tail the next one may repeat.
    abandoned: Option<u64>,
    /// Bytes compaction may write: as many as were appended, up to [`CREDIT_SEGMENTS`] segments.
    credit: u64,
    _lock: Box<dyn DiskLock>,
}

/// What is known of a segment.
#[derive(Debug, Default)]
struct Segment {
    length: u64,
    /// Messages that live here.
    live: u64,
    /// Bytes of their records.
    live_bytes: u64,
    refers: BTreeSet<u64>,
    supersedes: BTreeSet<u64>,
    /// A write or sync of it failed: what lives here is to be moved soon.
    suspect: bool,
    /// Holds damage that could not be put aside, or a message that cannot be read: stays.
    pinned: bool,
    /// Holds damage that was put aside when the spool was opened.
    damaged: bool,
}

/// The segment that is written.
struct Head {
    number: u64,
    marker: u64,
    file: Box<dyn DiskFile>,
    length: u64,
    synced: u64,
}

/// Whether an append returns before or after the sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// On stable storage at return.
    Now,
    /// Written, so that the end of the process cannot lose it; on stable storage with the next
    /// synced append, at the end of the segment, or at close.
    Later,
}

/// Where an appended record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment.
    pub(crate) segment: u64,
    /// Offset of the body in it.
    pub(crate) body: u64,
    /// Bytes of the body.
    pub(crate) body_length: u32,
    /// Bytes of the whole record.
    pub(crate) weight: u64,
}

/// Why a body could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The disk failed.
    #[error("body cannot be read: {0}")]
    Disk(#[from] io::Error),
    /// The bytes are not those that were written.
    #[error("body of {length} bytes at {offset} of segment {segment:016x} is damaged")]
    Damaged {
        segment: u64,
        offset: u64,
        length: u32,
    },
}

/// Segments' worth of compaction that may be saved up.
const CREDIT_SEGMENTS: u64 = 4;
/// Segments' worth of dead bytes that are always tolerated.
const SLACK_SEGMENTS: u64 = 4;

impl Spool {
    /// Writes records to the head, beginning a new one where needed. On an error none of them
    /// counts, and the head is given up.
    pub(crate) fn append(&mut self, records: &[Encoded], sync: Sync) -> io::Result<Vec<Place>> {
        self.ensure_head()?;
        let Some(mut head) = self.head.take() else {
            return Err(io::Error::other("spool has no head segment"));
        };
        match write_records(&mut head, records, sync) {
            Ok(places) => {
                let written = places.iter().map(|place| place.weight).sum::<u64>();
                self.credit = (self.credit + written).min(CREDIT_SEGMENTS * self.segment_bytes);
                if let Some(segment) = self.segments.get_mut(&head.number) {
                    segment.length = head.length;
                }
                self.head = Some(head);
                Ok(places)
            }
            Err(error) => {
                self.abandon(&head);
                Err(error)
            }
        }
    }

    /// Makes sure that there is a head to append to: begins one, on stable storage with its name,
    /// when there is none or it is full. Working, it proves the disk works.
    pub(crate) fn ensure_head(&mut self) -> io::Result<()> {
        if self
            .head
            .as_ref()
            .is_some_and(|head| head.length >= self.segment_bytes)
        {
            self.sync()?;
            self.head = None;
        }
        if self.head.is_none() {
            self.head = Some(self.begin()?);
        }
        Ok(())
    }

    /// Syncs what was appended with [`Sync::Later`].
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let Some(mut head) = self.head.take() else {
            return Ok(());
        };
        if head.synced < head.length {
            if let Err(error) = head.file.sync_data() {
                self.abandon(&head);
                return Err(error);
            }
            head.synced = head.length;
        }
        self.head = Some(head);
        Ok(())
    }

    /// A message lives at `place` from now on.
    pub(crate) fn hold(&mut self, place: &Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live += 1;
            segment.live_bytes += place.weight;
        }
    }

    /// The message at `place` is done or has moved.
    pub(crate) fn release(&mut self, place: &Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live = segment.live.saturating_sub(1);
            segment.live_bytes = segment.live_bytes.saturating_sub(place.weight);
        }
    }

    /// Segment `from` holds a record about a message that lives in `home`.
    pub(crate) fn refer(&mut self, from: u64, home: u64) {
        if from != home
            && let Some(segment) = self.segments.get_mut(&from)
        {
            segment.refers.insert(home);
        }
    }

    /// Never removes this segment while the spool is open.
    pub(crate) fn pin(&mut self, number: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.pinned = true;
        }
    }

    /// Removes segments in which nothing is needed. Each removal is stable before one that depends
    /// on it is made.
    pub(crate) fn remove_dead(&mut self) -> io::Result<()> {
        while let Some(number) = self.removable() {
            match self.disk.remove(&segment_name(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.disk.sync_directory("")?,
            }
            self.segments.remove(&number);
        }
        Ok(())
    }

    /// Segments there are, the head among them.
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    fn removable(&self) -> Option<u64> {
        let gone = |others: &BTreeSet<u64>| !others.iter().any(|n| self.segments.contains_key(n));
        self.sealed()
            .find(|(_, segment)| {
                segment.live == 0
                    && !segment.pinned
                    && gone(&segment.refers)
                    && gone(&segment.supersedes)
            })
            .map(|(number, _)| number)
    }

    /// All segments but the head.
    fn sealed(&self) -> impl Iterator<Item = (u64, &Segment)> {
        let head = self.head.as_ref().map(|head| head.number);
        self.segments
            .iter()
            .map(|(number, segment)| (*number, segment))
            .filter(move |(number, _)| Some(*number) != head)
    }

    /// Begins a segment: header and name are stable before the first record is written.
    fn begin(&mut self) -> io::Result<Head> {
        let header = SegmentHeader {
            version: SEGMENT_VERSION,
            number: self.next_number,
            marker: self.random.next_u64(),
        };
        let name = segment_name(header.number);
        let file = self.disk.create(&name)?;
        let begun = file
            .write_at(0, &[&header.encode()])
            .and_then(|()| file.sync_data())
            .and_then(|()| self.disk.sync_directory(""));
        self.next_number += 1;
        if let Err(error) = begun {
            // Holds no record; what cannot be removed now is removed at the next opening.
            drop(file);
            let _ = self.disk.remove(&name);
            return Err(error);
        }
        let length = SEGMENT_HEADER as u64;
        let segment = Segment {
            length,
            supersedes: self.abandoned.take().into_iter().collect(),
            ..Segment::default()
        };
        self.segments.insert(header.number, segment);
        Ok(Head {
            number: header.number,
            marker: header.marker,
            file,
            length,
            synced: length,
        })
    }

    /// Gives up a head whose write or sync failed. What was synced before stays; the rest was never
    /// acknowledged and is cut off if the disk lets us.
    fn abandon(&mut self, head: &Head) {
        let cut = head
            .file
            .truncate(head.synced)
            .and_then(|()| head.file.sync_data());
        if let Err(error) = cut {
            tracing::warn!(segment = head.number, %error, "unsynced tail could not be cut off");
        }
        if let Some(segment) = self.segments.get_mut(&head.number) {
            segment.length = head.synced;
            segment.suspect = true;
        }
        self.abandoned = Some(head.number);
    }
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// Reads a body back and checks it.
pub(crate) fn read_body(disk: &dyn Disk, place: &Place) -> Result<Bytes, ReadError> {
    let damaged = || ReadError::Damaged {
        segment: place.segment,
        offset: place.body,
        length: place.body_length,
    };
    let file = disk.open(&segment_name(place.segment))?;
    let mut bytes = vec![0; SUM_LENGTH + place.body_length as usize];
    match file.read_at(place.body - SUM_LENGTH as u64, &mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
        other => other?,
    }
    // The sum of the body stands in front of it.
    let mut sum = Bytes::from(bytes);
    let body = sum.split_off(SUM_LENGTH);
    if sum != crc32fast::hash(&body).to_le_bytes().as_slice() {
        return Err(damaged());
    }
    Ok(body)
}

/// Bytes of the sum in front of a body.
const SUM_LENGTH: usize = 4;

fn write_records(head: &mut Head, records: &[Encoded], sync: Sync) -> io::Result<Vec<Place>> {
    let mut headers = Vec::with_capacity(records.len());
    let mut places = Vec::with_capacity(records.len());
    let mut end = head.length;
    for record in records {
        let length = u32::try_from(record.payload_length())
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let header = RecordHeader {
            length,
            kind: record.kind,
            version: record::VERSION,
            payload_sum: record.sum,
        };
        headers.push(header.encode(head.marker));
        let weight = RECORD_HEADER as u64 + u64::from(length);
        places.push(Place {
            segment: head.number,
            body: end + RECORD_HEADER as u64 + record.head.len() as u64,
            body_length: u32::try_from(record.body.len()).unwrap_or(u32::MAX),
            weight,
        });
        end += weight;
    }
    let mut parts: Vec<&[u8]> = Vec::with_capacity(records.len() * 3);
    for (header, record) in headers.iter().zip(records) {
        parts.extend([header.as_slice(), &record.head, &record.body]);
    }
    head.file.write_at(head.length, &parts)?;
    head.length = end;
    if sync == Sync::Now {
        head.file.sync_data()?;
        head.synced = end;
    }
    Ok(places)
}
