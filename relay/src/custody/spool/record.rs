//! What records say, and their bytes. `docs/spool.md` draws them.
//!
//! Promises: pure; [`decode`] of what was encoded gives the same back; bytes that are no record of
//! a known kind and version give an error, never a panic. Little-endian throughout.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    custody::{
        RecipientResult,
        state::{LegState, Progress, State},
    },
    mail::{Envelope, MessageId},
};

/// Version of every payload this relay writes.
pub(crate) const VERSION: u8 = 1;

/// One record. `home` is the segment that holds the message's own record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record<'a> {
    /// A message with its state: accepted, or moved here by compaction. Replaces an earlier one.
    Message(MessageRecord<'a>),
    /// An attempt is about to be made.
    Attempt {
        id: MessageId,
        home: u64,
        leg: u32,
        number: u32,
    },
    /// What became of recipients of a leg, and the notification that follows from it.
    Settled {
        id: MessageId,
        home: u64,
        leg: u32,
        /// Attempts of the leg so far: an attempt record that was lost is made good.
        attempts: u32,
        delay_warned: bool,
        results: Vec<(u32, RecipientResult)>,
        notification: Option<MessageRecord<'a>>,
    },
    /// The whole state, standing for every earlier record about the message but its own.
    State {
        id: MessageId,
        home: u64,
        state: State,
    },
    /// Nothing more is to be done for the message.
    Finished { id: MessageId, home: u64 },
}

/// A message as stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MessageRecord<'a> {
    pub(crate) id: MessageId,
    pub(crate) accepted: Timestamp,
    pub(crate) state: State,
    pub(crate) envelope: Envelope,
    /// Headers and body.
    pub(crate) body: &'a [u8],
    /// Where the body starts in the payload.
    pub(crate) body_start: usize,
}

/// A record ready to be written: `head` then `body`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) kind: u8,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Bytes,
    pub(crate) sum: u32,
}

/// Why a payload with a right checksum is still no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Written by a newer relay.
    #[error("record kind {kind} version {version} is not known")]
    Unknown { kind: u8, version: u8 },
    /// Not what its kind looks like.
    #[error("record of kind {kind} is malformed")]
    Malformed { kind: u8 },
}

const MESSAGE: u8 = 1;
const ATTEMPT: u8 = 2;
const SETTLED: u8 = 3;
const STATE: u8 = 4;
const FINISHED: u8 = 5;

impl Encoded {
    /// Bytes of the payload.
    pub(crate) fn payload_length(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn new(kind: u8, head: Vec<u8>, body: Bytes, body_sum: crc32fast::Hasher) -> Self {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head);
        sum.combine(&body_sum);
        Self {
            kind,
            head,
            body,
            sum: sum.finalize(),
        }
    }

    fn small(kind: u8, head: Vec<u8>) -> Self {
        Self::new(kind, head, Bytes::new(), crc32fast::Hasher::new())
    }
}

/// A message's fields, to be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageFields<'a> {
    pub(crate) id: MessageId,
    pub(crate) accepted: Timestamp,
    pub(crate) state: &'a State,
    pub(crate) envelope: &'a Envelope,
    pub(crate) body: &'a Bytes,
}

/// Encodes a message.
pub(crate) fn message(fields: &MessageFields<'_>) -> Encoded {
    let mut head = Vec::with_capacity(256);
    let body_sum = put_message(&mut head, fields);
    Encoded::new(MESSAGE, head, fields.body.clone(), body_sum)
}

/// Encodes that an attempt is about to be made.
pub(crate) fn attempt(id: MessageId, home: u64, leg: u32, number: u32) -> Encoded {
    let mut head = subject(id, home);
    head.extend(leg.to_le_bytes());
    head.extend(number.to_le_bytes());
    Encoded::small(ATTEMPT, head)
}

/// A settlement's fields, to be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SettledFields<'a> {
    pub(crate) id: MessageId,
    pub(crate) home: u64,
    pub(crate) leg: u32,
    pub(crate) attempts: u32,
    pub(crate) delay_warned: bool,
    pub(crate) results: &'a [(u32, RecipientResult)],
    pub(crate) notification: Option<MessageFields<'a>>,
}

/// Encodes what became of recipients of a leg.
pub(crate) fn settled(fields: &SettledFields<'_>) -> Encoded {
    let mut head = subject(fields.id, fields.home);
    head.extend(fields.leg.to_le_bytes());
    head.extend(fields.attempts.to_le_bytes());
    head.push(u8::from(fields.delay_warned));
    put_length(&mut head, fields.results.len());
    for (recipient, result) in fields.results {
        head.extend(recipient.to_le_bytes());
        match result {
            RecipientResult::Delivered => head.push(1),
            RecipientResult::Bounced => head.push(2),
            RecipientResult::Expired => head.push(3),
            RecipientResult::Suppressed => head.push(4),
            RecipientResult::Deferred { until } => {
                head.push(5);
                head.extend(until.as_microsecond().to_le_bytes());
            }
        }
    }
    let Some(notification) = &fields.notification else {
        head.push(0);
        return Encoded::small(SETTLED, head);
    };
    head.push(1);
    let body_sum = put_message(&mut head, notification);
    Encoded::new(SETTLED, head, notification.body.clone(), body_sum)
}

/// Encodes the whole state of a message.
pub(crate) fn state(id: MessageId, home: u64, state: &State) -> Encoded {
    let mut head = subject(id, home);
    put_state(&mut head, state);
    Encoded::small(STATE, head)
}

/// Encodes that a message is done.
pub(crate) fn finished(id: MessageId, home: u64) -> Encoded {
    Encoded::small(FINISHED, subject(id, home))
}

/// Reads a payload.
pub(crate) fn decode(kind: u8, version: u8, payload: &[u8]) -> Result<Record<'_>, DecodeError> {
    if version != VERSION || !(MESSAGE..=FINISHED).contains(&kind) {
        return Err(DecodeError::Unknown { kind, version });
    }
    let mut reader = Reader { payload, at: 0 };
    let record = match kind {
        MESSAGE => reader.message().map(Record::Message),
        ATTEMPT => reader.attempt(),
        SETTLED => reader.settled(),
        STATE => reader.state_record(),
        _ => reader
            .subject()
            .map(|(id, home)| Record::Finished { id, home }),
    };
    record
        .filter(|_| reader.at == payload.len())
        .ok_or(DecodeError::Malformed { kind })
}

fn subject(id: MessageId, home: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(48);
    head.extend(id.to_u128().to_le_bytes());
    head.extend(home.to_le_bytes());
    head
}

/// Appends all of a message but its body, and returns the body's sum.
fn put_message(head: &mut Vec<u8>, fields: &MessageFields<'_>) -> crc32fast::Hasher {
    head.extend(fields.id.to_u128().to_le_bytes());
    head.extend(fields.accepted.as_microsecond().to_le_bytes());
    put_state(head, fields.state);
    let envelope = serde_json::to_vec(fields.envelope)
        .expect("an envelope is strings, lists and enums, all of which JSON can hold");
    put_length(head, envelope.len());
    head.extend(envelope);
    let mut sum = crc32fast::Hasher::new();
    sum.update(fields.body);
    put_length(head, fields.body.len());
    head.extend(sum.clone().finalize().to_le_bytes());
    sum
}

fn put_state(head: &mut Vec<u8>, state: &State) {
    put_length(head, state.legs.len());
    for leg in &state.legs {
        head.extend(leg.attempts.to_le_bytes());
        head.push(u8::from(leg.delay_warned));
        head.extend(leg.due.as_microsecond().to_le_bytes());
    }
    put_length(head, state.recipients.len());
    head.extend(state.recipients.iter().map(|progress| match progress {
        Progress::Pending => 0_u8,
        Progress::Delivered => 1,
        Progress::Bounced => 2,
        Progress::Expired => 3,
        Progress::Suppressed => 4,
    }));
}

/// Lengths fit: custody refuses what exceeds [`super::format::MAX_PAYLOAD`] before it is encoded.
fn put_length(head: &mut Vec<u8>, length: usize) {
    head.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.payload.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn time(&mut self) -> Option<Timestamp> {
        Timestamp::from_microsecond(i64::from_le_bytes(self.array()?)).ok()
    }

    fn id(&mut self) -> Option<MessageId> {
        Some(MessageId::from_u128(u128::from_le_bytes(self.array()?)))
    }

    fn subject(&mut self) -> Option<(MessageId, u64)> {
        Some((self.id()?, u64::from_le_bytes(self.array()?)))
    }

    fn message(&mut self) -> Option<MessageRecord<'a>> {
        let id = self.id()?;
        let accepted = self.time()?;
        let state = self.state()?;
        let length = self.u32()?;
        let envelope: Envelope = serde_json::from_slice(self.take(length as usize)?).ok()?;
        let length = self.u32()?;
        // The record's own sum covers the body too; this one serves reading the body alone.
        self.u32()?;
        let body_start = self.at;
        let body = self.take(length as usize)?;
        state.fits(&envelope).then_some(MessageRecord {
            id,
            accepted,
            state,
            envelope,
            body,
            body_start,
        })
    }

    fn attempt(&mut self) -> Option<Record<'a>> {
        let (id, home) = self.subject()?;
        Some(Record::Attempt {
            id,
            home,
            leg: self.u32()?,
            number: self.u32()?,
        })
    }

    fn settled(&mut self) -> Option<Record<'a>> {
        let (id, home) = self.subject()?;
        let leg = self.u32()?;
        let attempts = self.u32()?;
        let delay_warned = self.flag()?;
        let count = self.u32()?;
        let mut results = Vec::new();
        for _ in 0..count {
            results.push((self.u32()?, self.result()?));
        }
        let notification = match self.flag()? {
            true => Some(self.message()?),
            false => None,
        };
        Some(Record::Settled {
            id,
            home,
            leg,
            attempts,
            delay_warned,
            results,
            notification,
        })
    }

    fn result(&mut self) -> Option<RecipientResult> {
        match self.array()? {
            [1] => Some(RecipientResult::Delivered),
            [2] => Some(RecipientResult::Bounced),
            [3] => Some(RecipientResult::Expired),
            [4] => Some(RecipientResult::Suppressed),
            [5] => Some(RecipientResult::Deferred {
                until: self.time()?,
            }),
            _ => None,
        }
    }

    fn state_record(&mut self) -> Option<Record<'a>> {
        let (id, home) = self.subject()?;
        Some(Record::State {
            id,
            home,
            state: self.state()?,
        })
    }

    fn state(&mut self) -> Option<State> {
        let count = self.u32()?;
        let mut legs = Vec::new();
        for _ in 0..count {
            legs.push(LegState {
                attempts: self.u32()?,
                delay_warned: self.flag()?,
                due: self.time()?,
            });
        }
        let count = self.u32()?;
        let recipients = self.take(count as usize)?.iter().map(|byte| match byte {
            0 => Some(Progress::Pending),
            1 => Some(Progress::Delivered),
            2 => Some(Progress::Bounced),
            3 => Some(Progress::Expired),
            4 => Some(Progress::Suppressed),
            _ => None,
        });
        Some(State {
            legs,
            recipients: recipients.collect::<Option<_>>()?,
        })
    }
}
