//! The bytes of a segment around the payloads: its header, the record headers, and how records are
//! found again, also behind damage. `docs/spool.md` draws them.
//!
//! Promises: pure. What [`scan`] yields as a record has passed both checksums. A record is only
//! looked for behind the segment's marker, 48 random bits, so that no mail body can pose as one: who
//! fills a text of 50 MiB with guesses, and knows that just there the disk will fail, has one chance
//! in 60 million.

use std::ops::Range;

use super::{
    codec::{Reader, put_number},
    record::PADDING,
};

/// First bytes of every segment.
const MAGIC: [u8; 8] = *b"POSTRSEG";
/// Newest segment format this relay writes and reads.
pub(crate) const SEGMENT_VERSION: u16 = 4;
/// Oldest segment format this relay reads.
pub(crate) const OLDEST_VERSION: u16 = VERSION_3;
/// The format whose records have a header of fixed width.
const VERSION_3: u16 = 3;
/// Version of every payload this relay writes.
pub(crate) const PAYLOAD_VERSION: u8 = 4;
/// Bytes of a segment header.
pub(crate) const SEGMENT_HEADER: usize = 44;
/// Bytes of its first part, which every version has.
const SEGMENT_NAME: usize = 32;
/// Bytes of the marker a record starts with.
const MARK: usize = 6;
/// The same in version 3.
const MARK_3: usize = 8;
/// Bytes of a sum.
const SUM: usize = 4;
/// Bytes of a record header in version 3.
const RECORD_HEADER_3: usize = 24;
/// The longest header a record has had.
pub(crate) const LONGEST_HEADER: usize = RECORD_HEADER_3;
/// Largest payload: far above any message size limit, far below what a u32 counts.
pub(crate) const MAX_PAYLOAD: u64 = 256 << 20;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Format version.
    pub(crate) version: u16,
    /// Place in the order of segments.
    pub(crate) number: u64,
    /// Random bytes; every record of the segment starts with the first of them.
    pub(crate) marker: u64,
    /// The segment whose failed write is repeated in this one; 0 for none.
    pub(crate) repeats: u64,
    /// Whether orders may be in force that were given here or in older segments.
    pub(crate) orders: bool,
}

impl SegmentHeader {
    /// The header as stored.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, &MAGIC);
        put(&mut rest, &self.version.to_le_bytes());
        put(&mut rest, &u16::from(self.orders).to_le_bytes());
        put(&mut rest, &self.number.to_le_bytes());
        put(&mut rest, &self.marker.to_le_bytes());
        put_sum(&mut bytes, 0, SEGMENT_NAME);
        if let Some(repeats) = bytes.get_mut(SEGMENT_NAME..SEGMENT_HEADER - 4) {
            repeats.copy_from_slice(&self.repeats.to_le_bytes());
        }
        put_sum(&mut bytes, SEGMENT_NAME, SEGMENT_HEADER);
        bytes
    }

    /// How its records are framed.
    pub(crate) const fn framing(&self) -> Framing {
        Framing::new(self.version, self.marker)
    }

    /// The header of a segment's bytes; `None` when it is damaged or cut short.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let name = summed(bytes, 0, SEGMENT_NAME).filter(|name| name.starts_with(&MAGIC))?;
        let version = u16::from_le_bytes(name.get(8..10)?.try_into().ok()?);
        let repeats = match version {
            OLDEST_VERSION..=SEGMENT_VERSION => {
                read_u64(summed(bytes, SEGMENT_NAME, SEGMENT_HEADER)?, 0)?
            }
            _ => 0,
        };
        Some(Self {
            version,
            number: read_u64(name, 12)?,
            marker: read_u64(name, 20)?,
            repeats,
            orders: name.get(10..12)? != [0; 2],
        })
    }
}

/// Writes the sum of `bytes[from..to - 4]` to the four bytes behind them.
fn put_sum(bytes: &mut [u8], from: usize, to: usize) {
    let sum = crc32fast::hash(bytes.get(from..to - 4).unwrap_or_default());
    if let Some(end) = bytes.get_mut(to - 4..to) {
        end.copy_from_slice(&sum.to_le_bytes());
    }
}

/// `bytes[from..to - 4]`, if the four bytes behind them are their sum.
fn summed(bytes: &[u8], from: usize, to: usize) -> Option<&[u8]> {
    let part = bytes.get(from..to - 4)?;
    (read_u32(bytes, to - 4)? == crc32fast::hash(part)).then_some(part)
}

/// How the records of a segment are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framing {
    version: u16,
    marker: u64,
}

/// An intact record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Kind of record.
    pub(crate) kind: u8,
    /// Version of its payload.
    pub(crate) version: u8,
    /// Where all of it lies.
    pub(crate) whole: Range<usize>,
    /// Where its payload does.
    pub(crate) payload: Range<usize>,
}

impl Framing {
    /// That of a segment of this version and marker.
    pub(crate) const fn new(version: u16, marker: u64) -> Self {
        Self { version, marker }
    }

    /// What every record begins with.
    fn mark(&self) -> [u8; MARK_3] {
        self.marker.to_le_bytes()
    }

    const fn mark_length(&self) -> usize {
        if self.version == VERSION_3 {
            MARK_3
        } else {
            MARK
        }
    }

    /// Whether what records begin with stands anywhere in `bytes`.
    pub(crate) fn occurs_in(&self, bytes: &[u8]) -> bool {
        let mark = self.mark();
        let mark = mark.get(..self.mark_length()).unwrap_or_default();
        memchr::memmem::find(bytes, mark).is_some()
    }

    /// Appends the header of a record.
    pub(crate) fn put_header(&self, bytes: &mut Vec<u8>, kind: u8, length: u32, payload_sum: u32) {
        let start = bytes.len();
        let mark = self.mark();
        bytes.extend(mark.iter().take(self.mark_length()));
        if self.version == VERSION_3 {
            bytes.extend(length.to_le_bytes());
            bytes.extend([kind, PAYLOAD_VERSION, 0, 0]);
            bytes.extend(payload_sum.to_le_bytes());
            let sum = crc32fast::hash(bytes.get(start..).unwrap_or_default());
            bytes.extend(sum.to_le_bytes());
            return;
        }
        let at = bytes.len();
        bytes.extend([0; SUM]);
        bytes.push(kind);
        put_number(bytes, length);
        let said = bytes.get(at + SUM..).unwrap_or_default();
        let sum = record_sum(&mark, said, payload_sum);
        if let Some(place) = bytes.get_mut(at..at + SUM) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
    }

    /// Bytes of the header of a record with so long a payload.
    pub(crate) fn header_length(&self, length: u32) -> usize {
        let mut bytes = Vec::new();
        self.put_header(&mut bytes, 0, length, 0);
        bytes.len()
    }

    /// A record without meaning of exactly so many bytes; empty where there is none of that size.
    pub(crate) fn padding(&self, bytes: usize) -> Vec<u8> {
        let header = u32::try_from(bytes).map_or(0, |whole| self.header_length(whole));
        // A shorter payload may have a shorter length.
        let sized = |payload: &usize| {
            let length = u32::try_from(*payload).ok();
            length.is_some_and(|length| self.header_length(length) + payload == bytes)
        };
        let candidates = [
            bytes.checked_sub(header),
            bytes.checked_sub(header.saturating_sub(1)),
        ];
        let Some(payload) = candidates.into_iter().flatten().find(sized) else {
            return Vec::new();
        };
        let zeros = vec![0; payload];
        let mut record = Vec::with_capacity(bytes);
        let length = u32::try_from(payload).unwrap_or(0);
        self.put_header(&mut record, PADDING, length, crc32fast::hash(&zeros));
        record.extend(zeros);
        record
    }

    /// The one record that `bytes` is.
    pub(crate) fn only_record(&self, bytes: &[u8]) -> Option<Found> {
        let found = self.record_at(bytes, 0)?;
        (found.whole.end == bytes.len()).then_some(found)
    }

    /// The intact record at `position`.
    fn record_at(&self, bytes: &[u8], position: usize) -> Option<Found> {
        let rest = bytes.get(position..)?;
        // The marker first: it rules most bytes out without a sum.
        let mark = self.mark();
        if !rest.starts_with(mark.get(..self.mark_length())?) {
            return None;
        }
        match self.version {
            VERSION_3 => record_3_at(bytes, position),
            _ => record_4_at(bytes, position, &mark),
        }
    }
}

/// The sum of a record: of its marker, its kind and length, and the sum of its payload.
fn record_sum(mark: &[u8; MARK_3], said: &[u8], payload_sum: u32) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(mark.get(..MARK).unwrap_or_default());
    sum.update(said);
    sum.update(&payload_sum.to_le_bytes());
    sum.finalize()
}

fn record_4_at(bytes: &[u8], position: usize, mark: &[u8; MARK_3]) -> Option<Found> {
    let mut reader = Reader::new(bytes.get(position..)?);
    reader.skip(MARK)?;
    let sum = u32::from_le_bytes(reader.array()?);
    let from = position + reader.position();
    let kind = reader.u8()?;
    let length = u64::from(reader.small()?);
    let start = position + reader.position();
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    let payload = bytes.get(start..end)?;
    let said = bytes.get(from..start)?;
    let is_intact = record_sum(mark, said, crc32fast::hash(payload)) == sum;
    is_intact.then_some(Found {
        kind,
        version: PAYLOAD_VERSION,
        whole: position..end,
        payload: start..end,
    })
}

fn record_3_at(bytes: &[u8], position: usize) -> Option<Found> {
    let start = position.checked_add(RECORD_HEADER_3)?;
    let header = summed(bytes.get(position..start)?, 0, RECORD_HEADER_3)?;
    let end = start.checked_add(read_u32(header, 8)? as usize)?;
    let payload = bytes.get(start..end)?;
    (crc32fast::hash(payload) == read_u32(header, 16)?).then_some(Found {
        kind: *header.get(12)?,
        version: *header.get(13)?,
        whole: position..end,
        payload: start..end,
    })
}

/// A stretch of a segment behind its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// An intact record.
    Record(Found),
    /// Damaged bytes with an intact record somewhere behind them.
    Damaged(Range<usize>),
    /// Damaged bytes up to the end: what a crash leaves of writes that were not synced.
    Torn(Range<usize>),
}

/// All of a segment's bytes behind the header, in order and without gaps.
pub(crate) fn scan(bytes: &[u8], framing: Framing) -> Vec<Stretch> {
    scan_from(bytes, SEGMENT_HEADER, framing)
}

/// All of a part of a segment from `position` on.
pub(crate) fn scan_from(bytes: &[u8], mut position: usize, framing: Framing) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    while position < bytes.len() {
        if let Some(found) = framing.record_at(bytes, position) {
            position = found.whole.end;
            stretches.push(Stretch::Record(found));
            continue;
        }
        let Some(next) = next_record(bytes, position + 1, framing) else {
            stretches.push(Stretch::Torn(position..bytes.len()));
            break;
        };
        stretches.push(Stretch::Damaged(position..next));
        position = next;
    }
    stretches
}

/// The framing of a segment whose header is damaged, taken from its first record.
pub(crate) fn framing_of_first_record(bytes: &[u8]) -> Option<Framing> {
    framings_at(bytes, SEGMENT_HEADER)
        .find(|framing| framing.record_at(bytes, SEGMENT_HEADER).is_some())
}

/// The one record that `bytes` is, of whatever segment.
pub(crate) fn only_record(bytes: &[u8]) -> Option<Found> {
    framings_at(bytes, 0).find_map(|framing| framing.only_record(bytes))
}

/// The framings a record at `position` could have.
fn framings_at(bytes: &[u8], position: usize) -> impl Iterator<Item = Framing> {
    let marker = read_u64(bytes, position);
    let versions = (OLDEST_VERSION..=SEGMENT_VERSION).rev();
    versions.filter_map(move |version| Some(Framing::new(version, marker?)))
}

/// Where the next intact record starts.
fn next_record(bytes: &[u8], mut from: usize, framing: Framing) -> Option<usize> {
    let mark = framing.mark();
    let mark = mark.get(..framing.mark_length())?;
    loop {
        let found = from + memchr::memmem::find(bytes.get(from..)?, mark)?;
        if framing.record_at(bytes, found).is_some() {
            return Some(found);
        }
        from = found + 1;
    }
}

fn put(rest: &mut &mut [u8], value: &[u8]) {
    let (head, tail) = std::mem::take(rest).split_at_mut(value.len());
    head.copy_from_slice(value);
    *rest = tail;
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
