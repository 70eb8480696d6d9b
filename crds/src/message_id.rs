//! The name a message has from acceptance to its last event.
//!
//! Promises: 128 bits, the first 48 the milliseconds of acceptance, so ids sort by time; printed
//! as 26 lower-case characters of Crockford's base 32, safe in file names, local parts and labels.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A message's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId(u128);

/// Why a text is no message id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message id {0:?} is not 26 characters of 0-9 and a-z without i, l, o, u")]
pub struct MessageIdError(String);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of the printed form: 128 bits, 5 at a time, rounded up.
const LENGTH: usize = 26;

impl MessageId {
    /// An id of the given time and 80 random bits (the upper 48 bits of `random` are not used).
    #[must_use]
    pub fn new(accepted: Timestamp, random: u128) -> Self {
        let millis = u128::try_from(accepted.as_millisecond()).unwrap_or(0) & 0xffff_ffff_ffff;
        Self((millis << 80) | (random & ((1 << 80) - 1)))
    }

    /// Milliseconds since 1970 at which the message was taken.
    #[must_use]
    pub const fn millis(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// The id as a number, as it is stored.
    #[must_use]
    pub const fn to_u128(self) -> u128 {
        self.0
    }

    /// The id with this number.
    #[must_use]
    pub const fn from_u128(value: u128) -> Self {
        Self(value)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; LENGTH];
        let mut rest = self.0;
        for character in text.iter_mut().rev() {
            *character = ALPHABET.get((rest & 31) as usize).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        f.write_str(str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MessageIdError(text.to_owned());
        if text.len() != LENGTH {
            return Err(error());
        }
        let mut value: u128 = 0;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|c| *c == byte).ok_or_else(error)?;
            // The first character carries 3 bits only.
            value = value.checked_mul(32).ok_or_else(error)? | digit as u128;
        }
        Ok(Self(value))
    }
}

impl TryFrom<String> for MessageId {
    type Error = MessageIdError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let early = MessageId::new("2026-01-01T00:00:00Z".parse().unwrap(), u128::MAX);
        let late = MessageId::new("2026-01-01T00:00:00.001Z".parse().unwrap(), 0);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.millis() + 1, late.millis());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "abc",
            "zzzzzzzzzzzzzzzzzzzzzzzzzz",
            "0123456789abcdefghijklmnop",
        ] {
            assert!(text.parse::<MessageId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_parses(value: u128) {
            let id = MessageId::from_u128(value);
            prop_assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        }
    }
}
