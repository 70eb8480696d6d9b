//! How urgent its sender says a message is (RFC 6710).

use std::{fmt, str::FromStr};

/// A message transfer priority, from -9 to 9; 0 where nothing was said (RFC 6710 §3, §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i8);

/// Why a text is no priority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no priority; give a whole number from -9 to 9")]
pub struct PriorityError(String);

impl Priority {
    /// The highest.
    pub const MAX: i8 = 9;

    /// The priority of this number; `None` when it is not from -9 to 9.
    #[must_use]
    pub fn new(number: i8) -> Option<Self> {
        (-Self::MAX..=Self::MAX)
            .contains(&number)
            .then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i8 {
        self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Priority {
    type Err = PriorityError;

    /// One digit, perhaps with a minus before it; 0 has none (RFC 6710 §7, `priority-value`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |text: &str| match text.as_bytes() {
            [digit @ b'0'..=b'9'] => i8::try_from(digit - b'0').ok(),
            _ => None,
        };
        let number = match text.strip_prefix('-') {
            Some(rest) => digit(rest).filter(|digit| *digit != 0).map(|digit| -digit),
            None => digit(text),
        };
        number
            .map(Self)
            .ok_or_else(|| PriorityError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints_and_nothing_else() {
        for number in -9..=9 {
            let priority = Priority::new(number).unwrap();
            assert_eq!(priority.to_string().parse(), Ok(priority));
            assert_eq!(priority.number(), number);
        }
        assert_eq!((Priority::new(10), Priority::new(-10)), (None, None));
        for text in [
            "", "-", "+1", "10", "-10", "-0", "00", "1 ", " 1", "1.0", "high", "--1",
        ] {
            assert!(text.parse::<Priority>().is_err(), "{text:?}");
        }
    }
}
