//! Spans of time as users write them: `90s`, `1h30m`, `90d`.
//!
//! Promises: whole seconds, never negative, printed in one canonical form that parses back to the
//! same value. Units are `d` (24 hours), `h`, `m`, `s`, largest first, each at most once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A span of whole seconds, written like `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(u64);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "duration {value:?} is not understood; write whole numbers with d, h, m, s, largest first, such as \"1h30m\""
)]
pub struct DurationError {
    value: String,
}

/// Units and their length in seconds, in the order they may appear.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl Duration {
    /// A span of `seconds`.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Length in seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// The same span for the standard library.
    #[must_use]
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        parse(value).map(Self).ok_or_else(|| DurationError {
            value: value.to_owned(),
        })
    }
}

impl TryFrom<String> for Duration {
    type Error = DurationError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in UNITS {
            let count = rest / length;
            rest %= length;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<u64> {
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, tail) = rest.split_at(end);
        let unit = tail.chars().next()?;
        let (_, length) = units.by_ref().find(|(name, _)| *name == unit)?;
        let count: u64 = digits.parse().ok()?;
        total = total.checked_add(count.checked_mul(*length)?)?;
        rest = tail.get(unit.len_utf8()..)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_units_in_order() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("5m", 300),
            ("1h30m", 5_400),
            ("90d", 7_776_000),
        ] {
            assert_eq!(
                text.parse::<Duration>().unwrap().as_secs(),
                seconds,
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "5m1h",
            "1.5h",
            "5 m",
            "5m5m",
            "99999999999999999999d",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_parses(seconds in 0_u64..10_000_000_000) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(duration.to_string().parse::<Duration>().unwrap(), duration);
        }
    }
}
