//! Opening the spool: reads every segment in order and brings back what is not done.
//!
//! Promises: a torn tail of the last segment is cut off, damage elsewhere is copied to
//! `quarantine/` and reported, and neither keeps the rest from being read. Nothing is removed that
//! could not be put aside. A second opening finds what the first one found.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    LOCK, Place, QUARANTINE, Segment, Spool,
    format::{
        RECORD_HEADER, SEGMENT_HEADER, SEGMENT_VERSION, SegmentHeader, Stretch,
        marker_of_first_record, scan,
    },
    record::{self, DecodeError, MessageRecord, Record},
    segment_name,
};
use crate::{
    custody::{OpenError, state::State},
    mail::{Envelope, MessageId},
    ports::{Disk, Random},
};

/// An opened spool and what it holds.
pub(crate) struct Opened {
    pub(crate) spool: Spool,
    /// Messages that are not done.
    pub(crate) messages: Vec<Restored>,
    /// What could not be read.
    pub(crate) damage: Vec<Damage>,
}

/// A message as it was before the restart.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) id: MessageId,
    pub(crate) accepted: Timestamp,
    pub(crate) state: State,
    pub(crate) envelope: Envelope,
    pub(crate) place: Place,
}

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Whether it is what a crash leaves of an unsynced write, and no alarm.
    pub(crate) torn: bool,
    /// The file it was copied to; `None` when that failed and the segment is kept instead.
    pub(crate) file: Option<String>,
}

impl Spool {
    /// Locks and reads the spool in `disk`.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        segment_bytes: u64,
    ) -> Result<Opened, OpenError> {
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
        let used = aside.iter().filter_map(|n| segment_number(n));
        let next_number = numbers.iter().copied().chain(used).max().unwrap_or(0) + 1;
        let mut reading = Reading {
            disk: disk.as_ref(),
            messages: HashMap::new(),
            homes: HashMap::new(),
            segments: BTreeMap::new(),
            damage: Vec::new(),
        };
        for number in &numbers {
            reading.segment(*number, Some(number) == numbers.last())?;
        }
        let (messages, damage) = (reading.messages, reading.damage);
        let mut spool = Self {
            segments: reading.segments,
            disk,
            random,
            segment_bytes,
            head: None,
            next_number,
            abandoned: None,
            credit: 0,
            _lock: lock,
        };
        for message in messages.values() {
            spool.hold(&message.place);
        }
        Ok(Opened {
            spool,
            messages: messages.into_values().collect(),
            damage,
        })
    }
}

struct Reading<'a> {
    disk: &'a dyn Disk,
    messages: HashMap<MessageId, Restored>,
    /// Where the newest copy of each message lies, done ones included.
    homes: HashMap<MessageId, u64>,
    segments: BTreeMap<u64, Segment>,
    damage: Vec<Damage>,
}

impl Reading<'_> {
    fn segment(&mut self, number: u64, is_last: bool) -> Result<(), OpenError> {
        let name = segment_name(number);
        let bytes = load(self.disk, number).map_err(|e| failed(&name, e))?;
        if bytes.len() <= SEGMENT_HEADER {
            // Begun but never written to: its header is stable before its first record is written.
            return self
                .disk
                .remove(&name)
                .and_then(|()| self.disk.sync_directory(""))
                .map_err(|e| failed(&name, e));
        }
        let Some(marker) = self.marker(number, &bytes)? else {
            return self.set_aside_whole(number, bytes.len());
        };
        let segment = Segment {
            length: bytes.len() as u64,
            ..Segment::default()
        };
        self.segments.insert(number, segment);
        if SegmentHeader::decode(&bytes).is_none() {
            self.quarantine(number, &bytes, 0..SEGMENT_HEADER, Torn::No);
        }
        for stretch in scan(&bytes, marker) {
            match stretch {
                Stretch::Record { header, payload } => {
                    let start = payload.start;
                    let payload = bytes.get(payload).unwrap_or_default();
                    match record::decode(header.kind, header.version, payload) {
                        Ok(record) => self.record(number, start, payload.len(), record),
                        Err(DecodeError::Unknown { version, .. }) => {
                            return Err(newer(number, u16::from(version), record::VERSION.into()));
                        }
                        Err(DecodeError::Malformed { .. }) => {
                            let range = start - RECORD_HEADER..start + payload.len();
                            self.quarantine(number, &bytes, range, Torn::No);
                        }
                    }
                }
                Stretch::Damaged(range) => self.quarantine(number, &bytes, range, Torn::No),
                Stretch::Torn(range) if is_last => {
                    let from = range.start as u64;
                    self.quarantine(number, &bytes, range, Torn::Yes);
                    self.cut(number, from).map_err(|e| failed(&name, e))?;
                }
                Stretch::Torn(range) => self.quarantine(number, &bytes, range, Torn::No),
            }
        }
        Ok(())
    }

    /// The marker of a segment; `None` when there is no telling.
    fn marker(&self, number: u64, bytes: &[u8]) -> Result<Option<u64>, OpenError> {
        match SegmentHeader::decode(bytes) {
            Some(header) if header.version > SEGMENT_VERSION => {
                Err(newer(number, header.version, SEGMENT_VERSION))
            }
            Some(header) => Ok(Some(header.marker)),
            None => Ok(marker_of_first_record(bytes)),
        }
    }

    fn record(&mut self, number: u64, start: usize, length: usize, record: Record<'_>) {
        match record {
            Record::Message(message) => self.message(number, start, length, message),
            Record::Attempt {
                id,
                home,
                leg,
                number: attempt,
            } => {
                self.refer(number, home);
                if let Some(message) = self.messages.get_mut(&id) {
                    message.state.start_attempt(leg, attempt);
                }
            }
            Record::Settled {
                id,
                home,
                leg,
                attempts,
                delay_warned,
                results,
                notification,
            } => {
                self.refer(number, home);
                if let Some(message) = self.messages.get_mut(&id) {
                    message.state.start_attempt(leg, attempts);
                    message.state.settle(leg, &results, delay_warned);
                }
                self.drop_finished(id);
                if let Some(notification) = notification {
                    self.message(number, start, length, notification);
                }
            }
            Record::State { id, home, state } => {
                self.refer(number, home);
                if let Some(message) = self.messages.get_mut(&id)
                    && state.fits(&message.envelope)
                {
                    message.state = state;
                }
                self.drop_finished(id);
            }
            Record::Finished { id, home } => {
                self.refer(number, home);
                self.messages.remove(&id);
            }
        }
    }

    fn message(&mut self, number: u64, start: usize, length: usize, found: MessageRecord<'_>) {
        let id = found.id;
        if let Some(home) = self.homes.insert(id, number)
            && home != number
            && let Some(segment) = self.segments.get_mut(&number)
        {
            segment.supersedes.insert(home);
        }
        let restored = Restored {
            id,
            accepted: found.accepted,
            state: found.state,
            envelope: found.envelope,
            place: Place {
                segment: number,
                body: (start + found.body_start) as u64,
                body_length: u32::try_from(found.body.len()).unwrap_or(u32::MAX),
                weight: (RECORD_HEADER + length) as u64,
            },
        };
        self.messages.insert(id, restored);
        self.drop_finished(id);
    }

    fn drop_finished(&mut self, id: MessageId) {
        if self
            .messages
            .get(&id)
            .is_some_and(|message| message.state.is_finished())
        {
            self.messages.remove(&id);
        }
    }

    fn refer(&mut self, number: u64, home: u64) {
        if number != home
            && let Some(segment) = self.segments.get_mut(&number)
        {
            segment.refers.insert(home);
        }
    }

    /// Copies damage aside. Where that fails the segment is kept instead.
    fn quarantine(&mut self, number: u64, bytes: &[u8], range: std::ops::Range<usize>, torn: Torn) {
        let (offset, length) = (range.start as u64, range.len() as u64);
        let suffix = match torn {
            Torn::Yes => "torn",
            Torn::No => "bad",
        };
        let file = format!("{QUARANTINE}/{number:016x}-{offset}-{length}.{suffix}");
        let copied = put_aside(self.disk, &file, bytes.get(range).unwrap_or_default());
        if let Err(error) = &copied {
            tracing::error!(segment = number, offset, length, %error, "damage could not be put aside");
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.pinned |= copied.is_err();
            segment.damaged |= matches!(torn, Torn::No);
        }
        self.damage.push(Damage {
            segment: number,
            offset,
            length,
            torn: matches!(torn, Torn::Yes),
            file: copied.is_ok().then_some(file),
        });
    }

    /// Moves a segment of which nothing can be read into the quarantine.
    fn set_aside_whole(&mut self, number: u64, length: usize) -> Result<(), OpenError> {
        let name = segment_name(number);
        let file = format!("{QUARANTINE}/{name}");
        self.disk
            .rename(&name, &file)
            .and_then(|()| self.disk.sync_directory(QUARANTINE))
            .and_then(|()| self.disk.sync_directory(""))
            .map_err(|e| failed(&name, e))?;
        self.damage.push(Damage {
            segment: number,
            offset: 0,
            length: length as u64,
            torn: false,
            file: Some(file),
        });
        Ok(())
    }

    fn cut(&mut self, number: u64, length: u64) -> io::Result<()> {
        let file = self.disk.open(&segment_name(number))?;
        file.truncate(length)?;
        file.sync_data()?;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.length = length;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Torn {
    Yes,
    No,
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
fn put_aside(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
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

fn newer(number: u64, version: u16, supported: u16) -> OpenError {
    OpenError::NewerFormat {
        segment: segment_name(number),
        version,
        supported,
    }
}
