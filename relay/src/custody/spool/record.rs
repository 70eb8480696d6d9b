//! What records say, and their bytes. `docs/spool.md` draws them.
//!
//! Promises: pure; [`decode`] of what was encoded gives the same back; bytes that are no record of
//! a known kind and version give an error, never a panic.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    codec::{Reader, put_flagged, put_id, put_length, put_number, put_state, put_time},
    format::PAYLOAD_VERSION,
    message::{message, put_message},
    tables::{orders, put_orders},
    version3,
};
use crate::{
    custody::{RecipientResult, orders::Orders, state::State},
    mail::{Envelope, MessageId},
};

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

pub(super) const MESSAGE: u8 = 1;
pub(super) const ATTEMPT: u8 = 2;
pub(super) const SETTLED: u8 = 3;
pub(super) const STATE: u8 = 4;
pub(super) const FINISHED: u8 = 5;
pub(super) const MOVED: u8 = 6;
/// What the segment holds: see [`super::index`].
pub(crate) const INDEX: u8 = 7;
/// Where the index is: see [`super::index`].
pub(crate) const TRAILER: u8 = 8;
pub(super) const ORDERS: u8 = 9;
/// Fills a page: see [`super::Spool`].
pub(crate) const PADDING: u8 = 10;

/// Whether records of the kind say nothing that the others do not.
pub(super) const fn is_about_nothing(kind: u8) -> bool {
    matches!(kind, INDEX | TRAILER | PADDING)
}

impl Encoded {
    /// Bytes of the payload.
    pub(crate) fn payload_length(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// A record with a body, which may be empty.
    pub(crate) fn new(record: Record, body: Bytes) -> Self {
        let mut head = Vec::with_capacity(160);
        let kind = put(&mut head, &record);
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

/// Appends all of a record but the body, which is the end of it. Its kind.
fn put(head: &mut Vec<u8>, record: &Record) -> u8 {
    if let Some((id, home)) = record.subject() {
        put_id(head, id);
        put_number(head, home);
    }
    match record {
        Record::Message(message) => {
            put_message(head, message);
            MESSAGE
        }
        Record::Attempt { leg, number, .. } => {
            put_number(head, *leg);
            put_number(head, *number);
            ATTEMPT
        }
        Record::Settled {
            id,
            leg,
            attempts,
            delay_warned,
            results,
            notification,
            ..
        } => {
            put_number(head, *leg);
            put_flagged(head, *attempts, *delay_warned);
            put_results(head, *id, results);
            if let Some(notification) = notification {
                put_message(head, notification);
            }
            SETTLED
        }
        Record::State { id, state, .. } => {
            put_state(head, *id, state);
            STATE
        }
        Record::Finished { .. } => FINISHED,
        Record::Moved { from, message } => {
            put_number(head, *from);
            put_message(head, message);
            MOVED
        }
        Record::Orders(orders) => {
            put_orders(head, orders);
            ORDERS
        }
    }
}

/// Bits of a result that are not the number of its recipient.
const RESULT_BITS: u32 = 3;

fn put_results(head: &mut Vec<u8>, id: MessageId, results: &[(u32, RecipientResult)]) {
    put_length(head, results.len());
    for (recipient, result) in results {
        let number = match result {
            RecipientResult::Delivered => 1,
            RecipientResult::Bounced => 2,
            RecipientResult::Expired => 3,
            RecipientResult::Suppressed => 4,
            RecipientResult::Deferred { .. } => 5,
        };
        put_number(head, u64::from(*recipient) << RESULT_BITS | number);
        if let RecipientResult::Deferred { until } = result {
            put_time(head, id, *until);
        }
    }
}

/// Reads a payload: the record, and where in the payload its body lies.
pub(crate) fn decode(
    kind: u8,
    version: u8,
    payload: &[u8],
) -> Result<(Record, Range<usize>), DecodeError> {
    let is_known = matches!(kind, MESSAGE..=MOVED | ORDERS);
    let record = match version {
        PAYLOAD_VERSION if is_known => {
            let mut reader = Reader::new(payload);
            let record = record(kind, &mut reader);
            record.filter(|_| reader.is_at_end())
        }
        version3::VERSION if is_known => version3::decode(kind, payload),
        _ => return Err(DecodeError::Unknown { kind, version }),
    };
    record.ok_or(DecodeError::Malformed { kind })
}

fn record(kind: u8, reader: &mut Reader<'_>) -> Option<(Record, Range<usize>)> {
    match kind {
        MESSAGE => message(reader).map(|(head, body)| (Record::Message(head), body)),
        MOVED => {
            let from = reader.number()?;
            let (message, body) = message(reader)?;
            Some((Record::Moved { from, message }, body))
        }
        SETTLED => settled(reader),
        ORDERS => orders(reader).map(|orders| (Record::Orders(orders), 0..0)),
        _ => small(kind, reader).map(|record| (record, 0..0)),
    }
}

fn settled(reader: &mut Reader<'_>) -> Option<(Record, Range<usize>)> {
    let (id, home) = (reader.id()?, reader.number()?);
    let leg = reader.small()?;
    let (attempts, delay_warned) = reader.flagged()?;
    let results = reader.list(|reader| result(id, reader))?;
    let (notification, body) = match reader.is_at_end() {
        true => (None, 0..0),
        false => message(reader).map(|(head, body)| (Some(head), body))?,
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
    let (id, home) = (reader.id()?, reader.number()?);
    Some(match kind {
        ATTEMPT => Record::Attempt {
            id,
            home,
            leg: reader.small()?,
            number: reader.small()?,
        },
        STATE => Record::State {
            id,
            home,
            state: reader.state(id)?,
        },
        _ => Record::Finished { id, home },
    })
}

fn result(id: MessageId, reader: &mut Reader<'_>) -> Option<(u32, RecipientResult)> {
    let number = reader.number()?;
    let result = match number & ((1 << RESULT_BITS) - 1) {
        1 => RecipientResult::Delivered,
        2 => RecipientResult::Bounced,
        3 => RecipientResult::Expired,
        4 => RecipientResult::Suppressed,
        5 => RecipientResult::Deferred {
            until: reader.time(id)?,
        },
        _ => return None,
    };
    Some((u32::try_from(number >> RESULT_BITS).ok()?, result))
}
