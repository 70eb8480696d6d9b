//! The port through which the operator learns the time.
//!
//! Promises: nothing else in the crate reads a clock. Wall time is for what is stored or compared
//! with certificates; monotonic time is for what is waited for.

use std::time::Duration;

use jiff::Timestamp;

/// Wall and monotonic time.
pub trait Clock: Send + Sync {
    /// Wall time.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment in this process; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Wall time that does not jump: what it was at one moment, and the monotonic time since.
///
/// Waits that outlive the process are measured by it. A clock that is set in between neither ends
/// nor prolongs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteadyTime {
    start: Timestamp,
    started: Duration,
}

impl SteadyTime {
    /// It is `wall` at the monotonic time `monotonic`.
    #[must_use]
    pub const fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self {
            start: wall,
            started: monotonic,
        }
    }

    /// The time to start from: the API server's where it tells, which stamps every object and which
    /// all operators share, else the `machine`'s.
    #[must_use]
    pub fn best(server: Option<Timestamp>, machine: Timestamp) -> Timestamp {
        server.unwrap_or(machine)
    }

    /// The time at `monotonic`.
    #[must_use]
    pub fn at(&self, monotonic: Duration) -> Timestamp {
        let passed = monotonic.saturating_sub(self.started);
        self.start.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the Clock port's implementation"
    )]
    pub fn new() -> Self {
        Self {
            started: tokio::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the Clock port's implementation"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_follows_the_monotonic_clock_alone() {
        let wrong: Timestamp = "1970-01-01T00:00:07Z".parse().unwrap();
        let right: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let start = SteadyTime::best(Some(right), wrong);
        assert_eq!(start, right);
        assert_eq!(SteadyTime::best(None, wrong), wrong);
        let steady = SteadyTime::new(start, Duration::from_secs(100));
        for (monotonic, passed) in [(100, "00:00:00"), (161, "00:01:01"), (99, "00:00:00")] {
            let at = steady.at(Duration::from_secs(monotonic));
            assert_eq!(at.to_string(), format!("2026-12-01T{passed}Z"));
        }
    }
}
