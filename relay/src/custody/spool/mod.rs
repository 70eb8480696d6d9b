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

mod aside;
mod codec;
mod compaction;
pub(crate) mod format;
pub(crate) mod index;
mod message;
pub(crate) mod record;
mod recovery;
mod tables;
mod trailer;
mod turnover;
mod version3;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use bytes::Bytes;

pub(crate) use aside::{Aside, forget_old_tails};
use compaction::Compaction;
pub(crate) use compaction::Current;
use format::Framing;
use index::Index;
use record::{Encoded, Head as MessageHead, Record};
pub(crate) use recovery::{Damage, DamageKind, Recovery, put_aside};
pub(crate) use turnover::segment_name;

use crate::{
    custody::orders::Orders,
    mail::MessageId,
    ports::{Disk, DiskFile, DiskLock, Random},
};

/// Where corrupt bytes are put aside.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The lock file.
pub(crate) const LOCK: &str = "lock";

/// The open spool.
pub(crate) struct Spool {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    segment_bytes: u64,
    /// Bytes that the disk writes at a time.
    page: u64,
    segments: BTreeMap<u64, Segment>,
    head: Option<Head>,
    next_number: u64,
    /// A head that failed, whose tail the next one may repeat; 0 for none.
    abandoned: u64,
    /// Whether there is a [`SPARE`].
    has_spare: bool,
    /// Bytes compaction may write: as many as were appended, up to [`CREDIT_SEGMENTS`] segments.
    credit: u64,
    compaction: Option<Compaction>,
    /// The orders in force and where they live.
    orders: Option<(Place, Arc<Orders>)>,
    /// Whether new segments say that orders may be in force.
    announces: bool,
    /// Whether a segment that was left out may hold the orders in force.
    hides_orders: bool,
    _lock: Box<dyn DiskLock>,
}

/// What is known of a segment.
#[derive(Debug, Default)]
struct Segment {
    length: u64,
    /// How its records are framed; `None` while its header is damaged and no record was found.
    framing: Option<Framing>,
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
    /// Could not be read when the spool was restored: what lives here is not known, so what others
    /// say of it stays.
    left_out: bool,
}

/// The segment that is written.
struct Head {
    number: u64,
    framing: Framing,
    file: Box<dyn DiskFile>,
    length: u64,
    synced: u64,
    /// Length of its file, which is more than its own while it has the room of an older one.
    room: u64,
    /// Whether its header says that orders may be in force.
    announces: bool,
    index: Index,
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
    /// Where in it the record starts.
    pub(crate) offset: u64,
    /// Bytes of the whole record.
    pub(crate) length: u32,
}

/// A message as it is read back.
#[derive(Debug)]
pub(crate) struct ReadBack {
    pub(crate) head: MessageHead,
    pub(crate) body: Bytes,
}

/// Why a message could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The disk failed.
    #[error("record cannot be read: {0}")]
    Disk(#[from] io::Error),
    /// The bytes are not those that were written.
    #[error("record of {} bytes at {} of segment {:016x} is damaged", .0.length, .0.offset, .0.segment)]
    Damaged(Place),
}

/// Segments' worth of compaction that may be saved up.
const CREDIT_SEGMENTS: u64 = 4;
/// Bytes that file systems write at a time.
const PAGE: u64 = 4096;
/// Padding is at most the share of what is synced that is one over this.
const PADDING_SHARE: u64 = 4;
/// Messages a segment may speak of before another is begun, so that an index takes some 6 MiB of
/// memory at most, also where a segment is nothing but short records.
const INDEXED: usize = 16_384;
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
        match write_records(&mut head, records, sync, self.page) {
            Ok(places) => {
                let written = places
                    .iter()
                    .map(|place| u64::from(place.length))
                    .sum::<u64>();
                self.credit = (self.credit + written).min(CREDIT_SEGMENTS * self.segment_bytes);
                if let Some(segment) = self.segments.get_mut(&head.number) {
                    segment.length = head.length;
                }
                self.head = Some(head);
                for (place, record) in places.iter().zip(records) {
                    if let Record::Orders(orders) = &record.record {
                        self.keep_orders(*place, Arc::clone(orders));
                    }
                }
                Ok(places)
            }
            Err(error) => {
                self.abandon(&head);
                Err(error)
            }
        }
    }

    /// A message lives at `place` from now on.
    pub(crate) fn hold(&mut self, place: &Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live += 1;
            segment.live_bytes += u64::from(place.length);
        }
    }

    /// The message at `place` is done or has moved.
    pub(crate) fn release(&mut self, place: &Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live = segment.live.saturating_sub(1);
            segment.live_bytes = segment.live_bytes.saturating_sub(place.length.into());
        }
    }

    /// Orders are about to be in force: the next record begins a segment that says so, if the head
    /// does not.
    pub(crate) fn announce_orders(&mut self) {
        self.announces = true;
    }

    /// Whether orders may be in force; what they are is known when the spool is restored.
    pub(crate) fn announces_orders(&self) -> bool {
        self.announces
    }

    /// The orders in force.
    pub(crate) fn orders(&self) -> Arc<Orders> {
        let orders = self.orders.as_ref();
        orders.map_or_else(Arc::default, |(_, orders)| Arc::clone(orders))
    }

    /// The table at `place` is in force, unless a newer one is. Its segment stays as long as it is,
    /// so that no older one comes back, even when it is empty.
    fn keep_orders(&mut self, place: Place, orders: Arc<Orders>) {
        if let Some((before, known)) = self.orders.take() {
            if known.revision > orders.revision {
                self.orders = Some((before, known));
                return;
            }
            self.release(&before);
        }
        self.hold(&place);
        self.orders = Some((place, orders));
    }

    /// All is restored: from now on segments say what is the case, unless that lies in a segment that
    /// was left out.
    pub(crate) fn end_restore(&mut self) {
        let known = self.orders.as_ref();
        let is_newer = |number| known.is_none_or(|(place, _)| number > place.segment);
        let mut segments = self.segments.iter();
        self.hides_orders = self.announces
            && segments.any(|(number, segment)| segment.left_out && is_newer(*number));
        if !self.hides_orders {
            self.announces = known.is_some_and(|(_, orders)| !orders.is_empty());
        }
    }

    /// Whether it is not known which orders are in force, since they may lie in a segment that was
    /// left out.
    pub(crate) fn hides_orders(&self) -> bool {
        self.hides_orders
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

    /// The same, of one that could not be read.
    fn leave_out(&mut self, number: u64) {
        self.pin(number);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.left_out = true;
        }
    }

    /// Segments there are, the head among them.
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }
}

/// The message whose record was read from `place`, checked.
pub(crate) fn read_back(
    bytes: Vec<u8>,
    place: &Place,
    id: MessageId,
) -> Result<ReadBack, ReadError> {
    let message = format::only_record(&bytes).and_then(|found| {
        let bytes = Bytes::from(bytes);
        let payload = bytes.slice(found.payload);
        let (record, body) = record::decode(found.kind, found.version, &payload).ok()?;
        let head = record.into_message().filter(|head| head.id == id)?;
        Some(ReadBack {
            head,
            body: payload.slice(body),
        })
    });
    message.ok_or(ReadError::Damaged(*place))
}

/// Fills `bytes` with a record, whatever it is.
pub(crate) fn read_record(
    disk: &dyn Disk,
    place: &Place,
    bytes: &mut [u8],
) -> Result<(), ReadError> {
    let file = disk.open(&segment_name(place.segment))?;
    match file.read_at(place.offset, bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(ReadError::Damaged(*place))
        }
        other => Ok(other?),
    }
}

fn length_of(payload: usize) -> io::Result<u32> {
    u32::try_from(payload).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}

/// What fills the page in which a synced write ends, so that the next one does not write that page
/// again. Nothing where that is more than a share of what is synced, for it takes room.
fn padding(head: &Head, end: u64, page: u64) -> Vec<u8> {
    let room = end.next_multiple_of(page.max(1)) - end;
    match room * PADDING_SHARE <= end - head.synced {
        true => head.framing.padding(usize::try_from(room).unwrap_or(0)),
        false => Vec::new(),
    }
}

fn write_records(
    head: &mut Head,
    records: &[Encoded],
    sync: Sync,
    page: u64,
) -> io::Result<Vec<Place>> {
    let mut headers = Vec::with_capacity(records.len() * 16);
    let mut ranges = Vec::with_capacity(records.len());
    let mut places = Vec::with_capacity(records.len());
    let mut end = head.length;
    for record in records {
        let from = headers.len();
        let length = length_of(record.payload_length())?;
        head.framing
            .put_header(&mut headers, record.kind, length, record.sum);
        ranges.push(from..headers.len());
        let length = length_of(headers.len() - from + record.payload_length())?;
        places.push(Place {
            segment: head.number,
            offset: end,
            length,
        });
        end += u64::from(length);
    }
    let mut parts: Vec<&[u8]> = Vec::with_capacity(records.len() * 3);
    for (header, record) in ranges.into_iter().zip(records) {
        parts.extend([headers.get(header).unwrap_or_default(), &record.head]);
        if !record.body.is_empty() {
            parts.push(&record.body);
        }
    }
    let padding = match sync {
        Sync::Now => padding(head, end, page),
        Sync::Later => Vec::new(),
    };
    parts.push(&padding);
    head.file.write_at(head.length, &parts)?;
    end += padding.len() as u64;
    head.length = end;
    if sync == Sync::Now {
        head.file.sync_data()?;
        head.synced = end;
    }
    for (place, record) in places.iter().zip(records) {
        let offset = u32::try_from(place.offset)
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        head.index.add(&record.record, offset, place.length);
    }
    Ok(places)
}
