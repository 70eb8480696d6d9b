//! What records say, and their bytes. `docs/spool.md` draws them.
//!
//! Promises: pure; [`decode`] of what was encoded gives the same back; bytes that are no record of
//! a known kind and version give an error, never a panic. Little-endian throughout.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

use super::codec::{Reader, put_length, put_state};
use crate::{
    custody::{
        RecipientResult,
        orders::Orders,
        state::{Outline, State},
    },
    mail::{Envelope, MessageId},
};

/// Version of every payload this relay writes.
pub(crate) const VERSION: u8 = 3;
/// Oldest version that is read: payloads of it that are no index are the same.
const OLDEST_VERSION: u8 = 2;

/// One record. `home` is the segment that holds the message's own record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// A message that was accepted, with its state. Replaces an earlier one.
    Message(Head),
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
        notification: Option<Head>,
    },
    /// The whole state, standing for every earlier record about the message but its own.
    State {
        id: MessageId,
        home: u64,
        state: State,
    },
    /// Nothing more is to be done for the message.
    Finished { id: MessageId, home: u64 },
    /// A message with its state, moved here by compaction from another segment.
    Moved { from: u64, message: Head },
    /// Every order in force, in the place of all that were before.
    Orders(Arc<Orders>),
}

/// A message without its body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) id: MessageId,
    pub(crate) accepted: Timestamp,
    pub(crate) state: State,
    pub(crate) envelope: Arc<Envelope>,
}

/// A record ready to be written: `head` then `body`.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) record: Record,
    pub(crate) kind: u8,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Bytes,
    pub(crate) sum: u32,
}

/// Why a payload with a right checksum is still no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Written by a newer relay, in a segment that says it is not.
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
const MOVED: u8 = 6;
/// What the segment holds: see [`super::index`].
pub(crate) const INDEX: u8 = 7;
/// Where the index is: see [`super::index`].
pub(crate) const TRAILER: u8 = 8;
const ORDERS: u8 = 9;

impl Encoded {
    /// Bytes of the payload.
    pub(crate) fn payload_length(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// A record with a body, which may be empty.
    pub(crate) fn new(record: Record, body: Bytes) -> Self {
        let mut head = Vec::with_capacity(320);
        let kind = put(&mut head, &record, &body);
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head);
        sum.update(&body);
        Self {
            record,
            kind,
            head,
            body,
            sum: sum.finalize(),
        }
    }

    /// A record about a message.
    pub(crate) fn of(record: Record) -> Self {
        Self::new(record, Bytes::new())
    }
}

impl Record {
    /// The message the record brings, if it does.
    pub(crate) fn message(&self) -> Option<&Head> {
        match self {
            Self::Message(message)
            | Self::Moved { message, .. }
            | Self::Settled {
                notification: Some(message),
                ..
            } => Some(message),
            Self::Settled { .. }
            | Self::Attempt { .. }
            | Self::State { .. }
            | Self::Finished { .. }
            | Self::Orders(_) => None,
        }
    }

    /// The same, taken out.
    pub(crate) fn into_message(self) -> Option<Head> {
        match self {
            Self::Message(message)
            | Self::Moved { message, .. }
            | Self::Settled {
                notification: Some(message),
                ..
            } => Some(message),
            Self::Settled { .. }
            | Self::Attempt { .. }
            | Self::State { .. }
            | Self::Finished { .. }
            | Self::Orders(_) => None,
        }
    }

    /// The message it is about and that message's segment, where it is not the one it brings.
    pub(crate) fn subject(&self) -> Option<(MessageId, u64)> {
        match self {
            Self::Attempt { id, home, .. }
            | Self::Settled { id, home, .. }
            | Self::State { id, home, .. }
            | Self::Finished { id, home } => Some((*id, *home)),
            Self::Message(_) | Self::Moved { .. } | Self::Orders(_) => None,
        }
    }
}

fn put(head: &mut Vec<u8>, record: &Record, body: &Bytes) -> u8 {
    if let Some((id, home)) = record.subject() {
        head.extend(id.to_u128().to_le_bytes());
        head.extend(home.to_le_bytes());
    }
    match record {
        Record::Message(message) => {
            put_message(head, message, body);
            MESSAGE
        }
        Record::Attempt { leg, number, .. } => {
            head.extend(leg.to_le_bytes());
            head.extend(number.to_le_bytes());
            ATTEMPT
        }
        Record::Settled {
            leg,
            attempts,
            delay_warned,
            results,
            notification,
            ..
        } => {
            head.extend(leg.to_le_bytes());
            head.extend(attempts.to_le_bytes());
            head.push(u8::from(*delay_warned));
            put_results(head, results);
            head.push(u8::from(notification.is_some()));
            if let Some(notification) = notification {
                put_message(head, notification, body);
            }
            SETTLED
        }
        Record::State { state, .. } => {
            put_state(head, state);
            STATE
        }
        Record::Finished { .. } => FINISHED,
        Record::Moved { from, message } => {
            head.extend(from.to_le_bytes());
            put_message(head, message, body);
            MOVED
        }
        Record::Orders(orders) => {
            put_orders(head, orders);
            ORDERS
        }
    }
}

/// Appends a table of orders, counted, as JSON.
pub(super) fn put_orders(bytes: &mut Vec<u8>, orders: &Orders) {
    let json = serde_json::to_vec(orders)
        .expect("orders are numbers, strings and times, all of which JSON can hold");
    put_length(bytes, json.len());
    bytes.extend(json);
}

/// Reads what [`put_orders`] wrote.
pub(super) fn orders(reader: &mut Reader<'_>) -> Option<Arc<Orders>> {
    let length = reader.u32()?;
    let orders = serde_json::from_slice(reader.take(length as usize)?).ok()?;
    Some(Arc::new(orders))
}

fn put_results(head: &mut Vec<u8>, results: &[(u32, RecipientResult)]) {
    put_length(head, results.len());
    for (recipient, result) in results {
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
}

/// Appends all of a message but its body.
fn put_message(head: &mut Vec<u8>, message: &Head, body: &Bytes) {
    head.extend(message.id.to_u128().to_le_bytes());
    head.extend(message.accepted.as_microsecond().to_le_bytes());
    put_state(head, &message.state);
    let at = head.len();
    put_length(head, 0);
    serde_json::to_writer(&mut *head, &*message.envelope)
        .expect("an envelope is strings, lists and enums, all of which JSON can hold");
    let length = u32::try_from(head.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(place) = head.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    put_length(head, body.len());
}

/// Reads a payload: the record, and where in the payload its body lies.
pub(crate) fn decode(
    kind: u8,
    version: u8,
    payload: &[u8],
) -> Result<(Record, Range<usize>), DecodeError> {
    let is_known = match kind {
        MESSAGE..=MOVED => (OLDEST_VERSION..=VERSION).contains(&version),
        ORDERS => version == VERSION,
        _ => false,
    };
    if !is_known {
        return Err(DecodeError::Unknown { kind, version });
    }
    let mut reader = Reader::new(payload);
    let record = match kind {
        MESSAGE => message(&mut reader).map(|(head, body)| (Record::Message(head), body)),
        MOVED => moved(&mut reader),
        SETTLED => settled(&mut reader),
        ORDERS => orders(&mut reader).map(|orders| (Record::Orders(orders), 0..0)),
        _ => small(kind, &mut reader).map(|record| (record, 0..0)),
    };
    record
        .filter(|_| reader.is_at_end())
        .ok_or(DecodeError::Malformed { kind })
}

fn message(reader: &mut Reader<'_>) -> Option<(Head, Range<usize>)> {
    let id = reader.id()?;
    let accepted = reader.time()?;
    let state = reader.state()?;
    let length = reader.u32()?;
    let envelope: Envelope = serde_json::from_slice(reader.take(length as usize)?).ok()?;
    let length = reader.u32()?;
    let body = reader.skip(length as usize)?;
    let legs = Outline::of(&envelope).legs.len();
    let head = Head {
        id,
        accepted,
        state,
        envelope: Arc::new(envelope),
    };
    let fits = head.state.fits(head.envelope.recipients.len(), legs);
    fits.then_some((head, body))
}

fn moved(reader: &mut Reader<'_>) -> Option<(Record, Range<usize>)> {
    let from = reader.u64()?;
    let (message, body) = message(reader)?;
    Some((Record::Moved { from, message }, body))
}

fn settled(reader: &mut Reader<'_>) -> Option<(Record, Range<usize>)> {
    let (id, home) = (reader.id()?, reader.u64()?);
    let leg = reader.u32()?;
    let attempts = reader.u32()?;
    let delay_warned = reader.flag()?;
    let count = reader.u32()?;
    let mut results = Vec::new();
    for _ in 0..count {
        results.push((reader.u32()?, result(reader)?));
    }
    let (notification, body) = match reader.flag()? {
        true => message(reader).map(|(head, body)| (Some(head), body))?,
        false => (None, 0..0),
    };
    let record = Record::Settled {
        id,
        home,
        leg,
        attempts,
        delay_warned,
        results,
        notification,
    };
    Some((record, body))
}

fn small(kind: u8, reader: &mut Reader<'_>) -> Option<Record> {
    let (id, home) = (reader.id()?, reader.u64()?);
    Some(match kind {
        ATTEMPT => Record::Attempt {
            id,
            home,
            leg: reader.u32()?,
            number: reader.u32()?,
        },
        STATE => Record::State {
            id,
            home,
            state: reader.state()?,
        },
        _ => Record::Finished { id, home },
    })
}

fn result(reader: &mut Reader<'_>) -> Option<RecipientResult> {
    match reader.u8()? {
        1 => Some(RecipientResult::Delivered),
        2 => Some(RecipientResult::Bounced),
        3 => Some(RecipientResult::Expired),
        4 => Some(RecipientResult::Suppressed),
        5 => Some(RecipientResult::Deferred {
            until: reader.time()?,
        }),
        _ => None,
    }
}
