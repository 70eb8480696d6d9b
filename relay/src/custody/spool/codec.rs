//! The small pieces payloads are made of.
//!
//! Promises: pure; reading never goes past the end and never panics. Little-endian throughout.

use std::ops::Range;

use jiff::Timestamp;

use crate::{
    custody::state::{LegState, Progress, State},
    mail::MessageId,
};

/// Lengths fit: custody refuses what exceeds [`super::format::MAX_PAYLOAD`] before it is encoded.
pub(super) fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

pub(super) fn put_state(bytes: &mut Vec<u8>, state: &State) {
    put_length(bytes, state.legs.len());
    for leg in &state.legs {
        bytes.extend(leg.attempts.to_le_bytes());
        bytes.push(u8::from(leg.delay_warned));
        bytes.extend(leg.due.as_microsecond().to_le_bytes());
    }
    put_length(bytes, state.recipients.len());
    bytes.extend(state.recipients.iter().map(|progress| number_of(*progress)));
}

/// How progress is stored.
pub(super) fn number_of(progress: Progress) -> u8 {
    match progress {
        Progress::Pending => 0,
        Progress::Delivered => 1,
        Progress::Bounced => 2,
        Progress::Expired => 3,
        Progress::Suppressed => 4,
    }
}

/// Reads a payload from its start.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.payload.len()
    }

    pub(super) fn skip(&mut self, length: usize) -> Option<Range<usize>> {
        let range = self.at..self.at.checked_add(length)?;
        self.payload.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let range = self.skip(length)?;
        self.payload.get(range)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn time(&mut self) -> Option<Timestamp> {
        Timestamp::from_microsecond(i64::from_le_bytes(self.array()?)).ok()
    }

    pub(super) fn id(&mut self) -> Option<MessageId> {
        self.array()
            .map(u128::from_le_bytes)
            .map(MessageId::from_u128)
    }

    pub(super) fn progress(&mut self) -> Option<Progress> {
        match self.u8()? {
            0 => Some(Progress::Pending),
            1 => Some(Progress::Delivered),
            2 => Some(Progress::Bounced),
            3 => Some(Progress::Expired),
            4 => Some(Progress::Suppressed),
            _ => None,
        }
    }

    /// A counted list; what the count promises is not believed before it is read.
    pub(super) fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()? as usize;
        let mut list = Vec::with_capacity(count.min(4096));
        for _ in 0..count {
            list.push(read(self)?);
        }
        Some(list)
    }

    pub(super) fn state(&mut self) -> Option<State> {
        let legs = self.list(|reader| {
            Some(LegState {
                attempts: reader.u32()?,
                delay_warned: reader.flag()?,
                due: reader.time()?,
            })
        })?;
        let recipients = self.list(Self::progress)?;
        Some(State { legs, recipients })
    }
}
