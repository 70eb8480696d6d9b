//! Depths and ages.

use std::collections::BTreeMap;

use postrider_crds::relay_config::QueueReport;

/// Depths and ages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Depths, and how long the longest waiting due message has been due.
    pub report: QueueReport,
    /// Seconds since the oldest deferred message was accepted.
    pub oldest_deferred_seconds: u64,
    /// Seconds since the oldest held message was accepted.
    pub oldest_held_seconds: u64,
}

/// How many of something there are, by second. As five days have 432,000 seconds, this is bounded
/// by a few MiB whatever the queue holds.
#[derive(Debug, Default)]
pub(super) struct Ages {
    seconds: BTreeMap<u32, u32>,
    count: u64,
}

impl Ages {
    pub(super) fn add(&mut self, second: u32) {
        *self.seconds.entry(second).or_default() += 1;
        self.count += 1;
    }

    pub(super) fn remove(&mut self, second: u32) {
        if let Some(count) = self.seconds.get_mut(&second) {
            self.count -= 1;
            *count -= 1;
            if *count == 0 {
                self.seconds.remove(&second);
            }
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Seconds from the oldest to `now`.
    pub(super) fn oldest(&self, now: u32) -> u64 {
        let first = self.seconds.first_key_value();
        first.map_or(0, |(second, _)| u64::from(now.saturating_sub(*second)))
    }
}
