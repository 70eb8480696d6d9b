//! When to try again.

use jiff::{SignedDuration, Timestamp};
use postrider_crds::relay_config::Retry;

use crate::ports::Random;

/// How far the wait strays to either side, so that mail deferred together does not come back
/// together.
const JITTER: f64 = 0.25;

/// The time of the next attempt after `attempts` of them, the last of which ended `now`:
/// `initial * 2^(attempts - 1)`, at most `maximum`, a quarter more or less.
#[must_use]
pub fn next_attempt(retry: Retry, attempts: u32, now: Timestamp, random: &dyn Random) -> Timestamp {
    let initial = retry.initial.as_secs().max(1);
    let doubled = 1_u64
        .checked_shl(attempts.saturating_sub(1))
        .unwrap_or(u64::MAX);
    let wait = initial
        .saturating_mul(doubled)
        .min(retry.maximum.as_secs().max(1));
    let factor = 1.0 - JITTER + 2.0 * JITTER * random.fraction();
    let wait = SignedDuration::try_from_secs_f64(wait as f64 * factor)
        .unwrap_or(SignedDuration::from_secs(1));
    now.saturating_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fixed(u64);
    impl Random for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    fn wait(attempts: u32, random: u64) -> f64 {
        let retry = Retry {
            initial: "1m".parse().unwrap(),
            maximum: "4h".parse().unwrap(),
        };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let next = next_attempt(retry, attempts, now, &Fixed(random));
        next.duration_since(now).as_secs_f64()
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let half = u64::MAX / 2;
        for (attempts, seconds) in [
            (1, 60.0),
            (2, 120.0),
            (3, 240.0),
            (9, 14400.0),
            (1000, 14400.0),
        ] {
            assert!((wait(attempts, half) - seconds).abs() < 0.01, "{attempts}");
        }
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_quarter(attempts in 1_u32..200, random: u64) {
            let middle = wait(attempts, u64::MAX / 2);
            let ratio = wait(attempts, random) / middle;
            prop_assert!((0.7499..=1.2501).contains(&ratio), "{ratio}");
        }
    }
}
