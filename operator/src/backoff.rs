//! How long to wait before a failed reconciliation is tried again.
//!
//! Promises: between 1 second and 5 minutes, doubling with each failure in a row, with full jitter
//! so that many failing objects do not come back together. Forgets an object once it succeeds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The wait after the first failure is at most this.
const FIRST: Duration = Duration::from_secs(2);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(300);
/// No wait is shorter.
const SHORTEST: Duration = Duration::from_secs(1);

/// Failures in a row, by the object's UID.
#[derive(Debug)]
pub struct Backoff {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: HashMap<String, u32>,
    random: fastrand::Rng,
}

impl Backoff {
    /// Without failures; jitter comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                failures: HashMap::new(),
                random: fastrand::Rng::with_seed(seed),
            }),
        }
    }

    /// Counts a failure of the object `uid` and says how long to wait.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        let doublings = (*count - 1).min(16);
        let ceiling = FIRST.saturating_mul(1 << doublings).min(LONGEST);
        ceiling.mul_f64(state.random.f64()).max(SHORTEST)
    }

    /// Forgets the failures of the object `uid`.
    pub fn succeeded(&self, uid: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_bounds_and_start_over() {
        let backoff = Backoff::new(7);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.failed("a")).collect();
        assert!(waits.iter().all(|w| (SHORTEST..=LONGEST).contains(w)));
        assert!(waits[0] <= FIRST);
        assert!(waits.iter().any(|w| *w > Duration::from_secs(200)));
        assert!(backoff.failed("b") <= FIRST);
        backoff.succeeded("a");
        assert!(backoff.failed("a") <= FIRST);
    }

    #[test]
    fn jitter_differs_between_objects() {
        let backoff = Backoff::new(7);
        for _ in 0..10 {
            backoff.failed("a");
            backoff.failed("b");
        }
        assert_ne!(backoff.failed("a"), backoff.failed("b"));
    }
}
