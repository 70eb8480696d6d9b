//! The small pieces payloads are made of.
//!
//! Promises: pure; reading never goes past the end and never panics. Numbers take as many bytes as
//! they need: seven bits each, the lowest first, the top bit set in all but the last (LEB128).

use std::ops::Range;

use jiff::Timestamp;

use crate::{
    custody::state::{LegState, Progress, State},
    mail::{MessageId, Priority},
};

/// Most bytes a number takes.
const MAX_NUMBER: u32 = 10;

pub(super) fn put_number(bytes: &mut Vec<u8>, number: impl Into<u64>) {
    let mut rest = number.into();
    while rest >= 0x80 {
        bytes.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
}

/// A number that may be negative: near 0 either way, it is short.
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put_number(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

pub(super) fn put_length(bytes: &mut Vec<u8>, length: usize) {
    put_number(bytes, length as u64);
}

pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend(text.as_bytes());
}

pub(super) fn put_id(bytes: &mut Vec<u8>, id: MessageId) {
    bytes.extend(id.to_u128().to_le_bytes());
}

pub(super) fn put_priority(bytes: &mut Vec<u8>, priority: Priority) {
    put_signed(bytes, priority.number().into());
}

/// A time of the message, in microseconds since the millisecond that its id names.
pub(super) fn put_time(bytes: &mut Vec<u8>, id: MessageId, time: Timestamp) {
    put_signed(bytes, time.as_microsecond() - epoch(id));
}

pub(super) fn put_state(bytes: &mut Vec<u8>, id: MessageId, state: &State) {
    put_length(bytes, state.legs.len());
    for leg in &state.legs {
        put_flagged(bytes, leg.attempts, leg.delay_warned);
        put_time(bytes, id, leg.due);
    }
    put_length(bytes, state.recipients.len());
    bytes.extend(state.recipients.iter().map(|progress| number_of(*progress)));
}

/// A number and a flag in one.
pub(super) fn put_flagged(bytes: &mut Vec<u8>, number: u32, flag: bool) {
    put_number(bytes, u64::from(number) << 1 | u64::from(flag));
}

/// Ids hold 48 bits of milliseconds, which as microseconds are far within what is counted here.
fn epoch(id: MessageId) -> i64 {
    i64::try_from(id.millis()).unwrap_or(0) * 1000
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

/// What [`number_of`] stored.
pub(super) fn progress_of(number: u8) -> Option<Progress> {
    match number {
        0 => Some(Progress::Pending),
        1 => Some(Progress::Delivered),
        2 => Some(Progress::Bounced),
        3 => Some(Progress::Expired),
        4 => Some(Progress::Suppressed),
        _ => None,
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

    /// How far it has come.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn skip(&mut self, length: usize) -> Option<Range<usize>> {
        let range = self.at..self.at.checked_add(length)?;
        self.payload.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Range<usize> {
        let range = self.at..self.payload.len();
        self.at = range.end;
        range
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let range = self.skip(length)?;
        self.payload.get(range)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..MAX_NUMBER {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * place);
            if shifted >> (7 * place) != bits {
                return None;
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A number of 32 bits.
    pub(super) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(super) fn flagged(&mut self) -> Option<(u32, bool)> {
        let number = self.number()?;
        Some((u32::try_from(number >> 1).ok()?, number & 1 == 1))
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        str::from_utf8(self.take(length)?).ok()
    }

    pub(super) fn time(&mut self, id: MessageId) -> Option<Timestamp> {
        let micros = epoch(id).checked_add(self.signed()?)?;
        Timestamp::from_microsecond(micros).ok()
    }

    pub(super) fn priority(&mut self) -> Option<Priority> {
        Priority::new(i8::try_from(self.signed()?).ok()?)
    }

    pub(super) fn id(&mut self) -> Option<MessageId> {
        self.array()
            .map(u128::from_le_bytes)
            .map(MessageId::from_u128)
    }

    pub(super) fn progress(&mut self) -> Option<Progress> {
        progress_of(self.u8()?)
    }

    /// A counted list; what the count promises is not believed before it is read.
    pub(super) fn list<T>(&mut self, read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.length()?;
        self.list_of(count, read)
    }

    /// The same, its count known.
    pub(super) fn list_of<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut list = Vec::with_capacity(count.min(4096));
        for _ in 0..count {
            list.push(read(self)?);
        }
        Some(list)
    }

    pub(super) fn state(&mut self, id: MessageId) -> Option<State> {
        let legs = self.list(|reader| {
            let (attempts, delay_warned) = reader.flagged()?;
            Some(LegState {
                attempts,
                delay_warned,
                due: reader.time(id)?,
            })
        })?;
        let recipients = self.list(Self::progress)?;
        Some(State { legs, recipients })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_take_the_bytes_they_need() {
        for (number, length) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (u64::MAX, 10)] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(bytes.len(), length, "{number}");
        }
        let too_large = [[0xff; 9].as_slice(), &[0x02]].concat();
        assert_eq!(Reader::new(&too_large).number(), None);
        assert_eq!(Reader::new(&[0x80; 11]).number(), None);
        assert_eq!(Reader::new(&[0x80]).number(), None);
    }

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, signed: i64, near in -200..200_i64, flag: bool) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            put_signed(&mut bytes, signed);
            put_signed(&mut bytes, near);
            put_flagged(&mut bytes, 7, flag);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert_eq!(reader.signed(), Some(signed));
            prop_assert_eq!(reader.signed(), Some(near));
            prop_assert_eq!(reader.flagged(), Some((7, flag)));
            prop_assert!(reader.is_at_end());
        }
    }
}
