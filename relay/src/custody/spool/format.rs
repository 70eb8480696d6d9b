//! The bytes of a segment around the payloads: its header, the record headers, and how records are
//! found again, also behind damage. `docs/spool.md` draws them.
//!
//! Promises: pure. What [`scan`] yields as a record has passed both checksums. A record is only
//! looked for behind the segment's marker, 64 random bits, so that no mail body can pose as one.

use std::ops::Range;

/// First bytes of every segment.
const MAGIC: [u8; 8] = *b"POSTRSEG";
/// Newest segment format this relay writes and reads.
pub(crate) const SEGMENT_VERSION: u16 = 3;
/// Oldest segment format this relay reads.
pub(crate) const OLDEST_VERSION: u16 = 2;
/// Bytes of a segment header.
pub(crate) const SEGMENT_HEADER: usize = 44;
/// Bytes of its first part, which every version has.
const SEGMENT_NAME: usize = 32;
/// Bytes of a record header.
pub(crate) const RECORD_HEADER: usize = 24;
/// Largest payload: far above any message size limit, far below what a u32 counts.
pub(crate) const MAX_PAYLOAD: u64 = 256 << 20;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Format version.
    pub(crate) version: u16,
    /// Place in the order of segments.
    pub(crate) number: u64,
    /// Random bytes every record of the segment starts with.
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

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Bytes of the payload.
    pub(crate) length: u32,
    /// Kind of record.
    pub(crate) kind: u8,
    /// Version of that kind's payload.
    pub(crate) version: u8,
    /// CRC-32 of the payload.
    pub(crate) payload_sum: u32,
}

impl RecordHeader {
    /// The header as stored in a segment with this marker.
    pub(crate) fn encode(&self, marker: u64) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, &marker.to_le_bytes());
        put(&mut rest, &self.length.to_le_bytes());
        put(&mut rest, &[self.kind, self.version, 0, 0]);
        put(&mut rest, &self.payload_sum.to_le_bytes());
        put_sum(&mut bytes, 0, RECORD_HEADER);
        bytes
    }

    /// The header at the start of `bytes`; `None` when there is none that is intact.
    fn decode(bytes: &[u8], marker: u64) -> Option<Self> {
        // The marker first: it rules most bytes out without a sum.
        let is_marked = read_u64(bytes, 0)? == marker;
        let body = is_marked.then(|| summed(bytes, 0, RECORD_HEADER))??;
        Some(Self {
            length: read_u32(body, 8)?,
            kind: *body.get(12)?,
            version: *body.get(13)?,
            payload_sum: read_u32(body, 16)?,
        })
    }
}

/// A stretch of a segment behind its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// An intact record.
    Record {
        /// What its header says.
        header: RecordHeader,
        /// Where its payload lies in the segment.
        payload: Range<usize>,
    },
    /// Damaged bytes with an intact record somewhere behind them.
    Damaged(Range<usize>),
    /// Damaged bytes up to the end: what a crash leaves of writes that were not synced.
    Torn(Range<usize>),
}

/// All of a segment's bytes behind the header, in order and without gaps.
pub(crate) fn scan(bytes: &[u8], marker: u64) -> Vec<Stretch> {
    scan_from(bytes, SEGMENT_HEADER, marker)
}

/// All of a part of a segment from `position` on.
pub(crate) fn scan_from(bytes: &[u8], mut position: usize, marker: u64) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    while position < bytes.len() {
        if let Some((header, payload)) = record_at(bytes, position, marker) {
            position = payload.end;
            stretches.push(Stretch::Record { header, payload });
            continue;
        }
        let Some(next) = next_record(bytes, position + 1, marker) else {
            stretches.push(Stretch::Torn(position..bytes.len()));
            break;
        };
        stretches.push(Stretch::Damaged(position..next));
        position = next;
    }
    stretches
}

/// The marker of a segment whose header is damaged, taken from its first record.
pub(crate) fn marker_of_first_record(bytes: &[u8]) -> Option<u64> {
    let marker = read_u64(bytes, SEGMENT_HEADER)?;
    record_at(bytes, SEGMENT_HEADER, marker).map(|_| marker)
}

/// The one record that `bytes` is, of whatever segment.
pub(crate) fn only_record(bytes: &[u8]) -> Option<(RecordHeader, Range<usize>)> {
    let found = record_at(bytes, 0, read_u64(bytes, 0)?)?;
    (found.1.end == bytes.len()).then_some(found)
}

fn record_at(bytes: &[u8], position: usize, marker: u64) -> Option<(RecordHeader, Range<usize>)> {
    let header = RecordHeader::decode(bytes.get(position..)?, marker)?;
    let start = position + RECORD_HEADER;
    let range = start..start.checked_add(header.length as usize)?;
    let payload = bytes.get(range.clone())?;
    (crc32fast::hash(payload) == header.payload_sum).then_some((header, range))
}

/// Where the next intact record starts.
fn next_record(bytes: &[u8], mut from: usize, marker: u64) -> Option<usize> {
    let pattern = marker.to_le_bytes();
    loop {
        let rest = bytes.get(from..)?;
        let found = from + rest.windows(pattern.len()).position(|w| w == pattern)?;
        if record_at(bytes, found, marker).is_some() {
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
