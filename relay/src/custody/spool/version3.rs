//! Payloads of version 3, which are read and not written any more: numbers of fixed width,
//! little-endian, envelopes and orders as JSON.
//!
//! Promises: pure; bytes that are no payload of that version give `None`, never a panic.

use std::{ops::Range, sync::Arc};

use jiff::Timestamp;

use super::{
    codec::Reader,
    message,
    record::{ATTEMPT, Head, MESSAGE, MOVED, ORDERS, Record, SETTLED, STATE},
};
use crate::{
    custody::{
        RecipientResult,
        state::{LegState, State},
    },
    mail::{Envelope, MessageId},
};

/// The version.
pub(super) const VERSION: u8 = 3;

/// Reads a payload of a kind that holds a record, and where in it the body lies.
pub(super) fn decode(kind: u8, payload: &[u8]) -> Option<(Record, Range<usize>)> {
    let mut reader = Reader::new(payload);
    let record = match kind {
        MESSAGE => message(&mut reader).map(|(head, body)| (Record::Message(head), body)),
        MOVED => moved(&mut reader),
        SETTLED => settled(&mut reader),
        ORDERS => {
            let length = u32(&mut reader)? as usize;
            let orders = serde_json::from_slice(reader.take(length)?).ok()?;
            Some((Record::Orders(Arc::new(orders)), 0..0))
        }
        _ => small(kind, &mut reader).map(|record| (record, 0..0)),
    };
    record.filter(|_| reader.is_at_end())
}

fn u32(reader: &mut Reader<'_>) -> Option<u32> {
    reader.array().map(u32::from_le_bytes)
}

fn u64(reader: &mut Reader<'_>) -> Option<u64> {
    reader.array().map(u64::from_le_bytes)
}

fn time(reader: &mut Reader<'_>) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::from_le_bytes(reader.array()?)).ok()
}

fn list<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = u32(reader)? as usize;
    reader.list_of(count, read)
}

fn state(reader: &mut Reader<'_>) -> Option<State> {
    let legs = list(reader, |reader| {
        Some(LegState {
            attempts: u32(reader)?,
            delay_warned: reader.flag()?,
            due: time(reader)?,
        })
    })?;
    let recipients = list(reader, Reader::progress)?;
    Some(State { legs, recipients })
}

fn message(reader: &mut Reader<'_>) -> Option<(Head, Range<usize>)> {
    let id = reader.id()?;
    let accepted = time(reader)?;
    let state = state(reader)?;
    let length = u32(reader)? as usize;
    let envelope: Envelope = serde_json::from_slice(reader.take(length)?).ok()?;
    let length = u32(reader)? as usize;
    let body = reader.skip(length)?;
    let head = message::head(id, accepted, state, envelope)?;
    Some((head, body))
}

fn moved(reader: &mut Reader<'_>) -> Option<(Record, Range<usize>)> {
    let from = u64(reader)?;
    let (message, body) = message(reader)?;
    Some((Record::Moved { from, message }, body))
}

fn settled(reader: &mut Reader<'_>) -> Option<(Record, Range<usize>)> {
    let (id, home) = subject(reader)?;
    let leg = u32(reader)?;
    let attempts = u32(reader)?;
    let delay_warned = reader.flag()?;
    let results = list(reader, |reader| Some((u32(reader)?, result(reader)?)))?;
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
    let (id, home) = subject(reader)?;
    Some(match kind {
        ATTEMPT => Record::Attempt {
            id,
            home,
            leg: u32(reader)?,
            number: u32(reader)?,
        },
        STATE => Record::State {
            id,
            home,
            state: state(reader)?,
        },
        _ => Record::Finished { id, home },
    })
}

fn subject(reader: &mut Reader<'_>) -> Option<(MessageId, u64)> {
    Some((reader.id()?, u64(reader)?))
}

fn result(reader: &mut Reader<'_>) -> Option<RecipientResult> {
    match reader.u8()? {
        1 => Some(RecipientResult::Delivered),
        2 => Some(RecipientResult::Bounced),
        3 => Some(RecipientResult::Expired),
        4 => Some(RecipientResult::Suppressed),
        5 => Some(RecipientResult::Deferred {
            until: time(reader)?,
        }),
        _ => None,
    }
}
