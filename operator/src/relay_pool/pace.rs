//! How hard a pool may push: how much it may write of its keyring, and when it may be looked at
//! again.
//!
//! A changed domain changes a shard of the keyring, an object of up to 1 MiB that the API server
//! stores whole and every kubelet fetches. One domain's change goes out at once; when thousands
//! change, as on the day they are declared, their changes go out together, [`RATE`] octets a second.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::loaded::PoolKey;

/// Octets of keyring that may be written at once: some large shards, or all of small ones.
const BURST: usize = 4 << 20;
/// Octets of keyring a second beyond that. All shards of 10,000 domains are some 25 MiB.
const RATE: usize = 1 << 20;
/// A look at a pool's thousands of domains is followed by so many times its length without one.
const REST: u32 = 9;
/// No rest is longer: a change is not to wait for it.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The pace of one pool.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Octets that may be written, at `at`; negative when a shard was larger than what was left.
    octets: i64,
    at: Duration,
    rest_until: Duration,
}

impl Pace {
    fn new(now: Duration) -> Self {
        Self {
            octets: whole(BURST),
            at: now,
            rest_until: Duration::ZERO,
        }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at);
        let more = passed.as_secs_f64() * RATE as f64;
        self.octets = (self.octets + more as i64).min(whole(BURST));
        self.at = now;
    }
}

/// The paces of all pools.
#[derive(Debug, Default)]
pub struct Paces(Mutex<HashMap<PoolKey, Pace>>);

impl Paces {
    fn with<T>(&self, pool: &PoolKey, now: Duration, act: impl FnOnce(&mut Pace) -> T) -> T {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(paces.entry(pool.clone()).or_insert_with(|| Pace::new(now)))
    }

    /// Octets of keyring that `pool` may write at the monotonic time `now`.
    #[must_use]
    pub fn allowance(&self, pool: &PoolKey, now: Duration) -> usize {
        self.with(pool, now, |pace| {
            pace.refill(now);
            usize::try_from(pace.octets).unwrap_or(0)
        })
    }

    /// Takes note that so many were written.
    pub fn wrote(&self, pool: &PoolKey, octets: usize, now: Duration) {
        self.with(pool, now, |pace| pace.octets -= whole(octets));
    }

    /// Takes note that a look at `pool`, from `started` to `now`, has ended.
    pub fn looked(&self, pool: &PoolKey, started: Duration, now: Duration) {
        let rest = (now.saturating_sub(started) * REST).min(LONGEST_REST);
        self.with(pool, now, |pace| pace.rest_until = now + rest);
    }

    /// How long until `pool` may be looked at again; `None`: now.
    #[must_use]
    pub fn rest(&self, pool: &PoolKey, now: Duration) -> Option<Duration> {
        let until = self.with(pool, now, |pace| pace.rest_until);
        until.checked_sub(now).filter(|rest| !rest.is_zero())
    }
}

fn whole(octets: usize) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pool(name: &str) -> PoolKey {
        PoolKey {
            namespace: "mail".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_burst_goes_out_at_once_and_the_rest_at_the_rate() {
        let (paces, a) = (Paces::default(), pool("a"));
        assert_eq!(paces.allowance(&a, SECOND), BURST);
        paces.wrote(&a, BURST + RATE, SECOND);
        assert_eq!(paces.allowance(&a, SECOND), 0);
        assert_eq!(paces.allowance(&a, 2 * SECOND), 0, "the debt comes first");
        assert_eq!(paces.allowance(&a, 3 * SECOND), RATE);
        assert_eq!(
            paces.allowance(&a, 1_000 * SECOND),
            BURST,
            "no more is saved up"
        );
        assert_eq!(
            paces.allowance(&pool("b"), SECOND),
            BURST,
            "each for itself"
        );
    }

    #[test]
    fn a_long_look_is_followed_by_a_longer_rest() {
        let (paces, a) = (Paces::default(), pool("a"));
        assert_eq!(paces.rest(&a, SECOND), None);
        let look = Duration::from_millis(50);
        paces.looked(&a, SECOND, SECOND + look);
        assert_eq!(paces.rest(&a, SECOND + look), Some(REST * look));
        assert_eq!(paces.rest(&a, SECOND + look + REST * look), None);
        paces.looked(&a, SECOND, 3 * SECOND);
        assert_eq!(paces.rest(&a, 3 * SECOND), Some(LONGEST_REST));
    }
}
