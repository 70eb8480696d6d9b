//! Depths and ages, and which message counts as what.

use std::collections::BTreeMap;

use jiff::Timestamp;
use postrider_crds::relay_config::QueueReport;

use super::{Class, Holding, Queue, legs::Position, second};

/// Depths and ages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Depths, and how long the longest waiting due message has been due.
    pub report: QueueReport,
    /// Seconds since the oldest deferred message was accepted.
    pub oldest_deferred_seconds: u64,
    /// Seconds since the oldest suspended message was accepted.
    pub oldest_suspended_seconds: u64,
    /// Seconds since the oldest held message was accepted.
    pub oldest_held_seconds: u64,
}

impl Queue {
    /// Depths and ages.
    pub(crate) fn figures(&mut self, now: Timestamp) -> QueueFigures {
        self.advance(now);
        self.review();
        let now = second(now);
        QueueFigures {
            report: QueueReport {
                due: self.due,
                deferred: self.deferred.count(),
                suspended: self.suspended.count(),
                held: self.held.count(),
                oldest_due_seconds: self.ready.oldest(now),
            },
            oldest_deferred_seconds: self.deferred.oldest(now),
            oldest_suspended_seconds: self.suspended.oldest(now),
            oldest_held_seconds: self.held.oldest(now),
        }
    }

    /// Counts a message under the most urgent of its legs.
    pub(super) fn classify(&mut self, slot: u32) {
        let Some(message) = self.messages.get(slot) else {
            return;
        };
        let active = |key: &u32| {
            let leg = self.legs.get(*key);
            leg.is_some_and(|leg| matches!(leg.position, Position::Ready | Position::Claimed))
        };
        let any_active = match self.extras.get(message.extra) {
            Some(extra) if !extra.legs.is_empty() => extra.legs.iter().any(active),
            Some(_) | None => active(&message.leg),
        };
        let class = match message.holding {
            _ if any_active => Class::Due,
            Holding::Held => Class::Held,
            Holding::Free => self.class_at_rest(slot),
        };
        let (was, accepted) = (message.class, message.accepted);
        if class == was {
            return;
        }
        self.uncount(was, accepted);
        match class {
            Class::Due => self.due += 1,
            Class::Deferred => self.deferred.add(accepted),
            Class::Suspended => self.suspended.add(accepted),
            Class::Held => self.held.add(accepted),
        }
        if let Some(message) = self.messages.get_mut(slot) {
            message.class = class;
        }
    }

    pub(super) fn uncount(&mut self, class: Class, accepted: u32) {
        match class {
            Class::Due => self.due -= 1,
            Class::Deferred => self.deferred.remove(accepted),
            Class::Suspended => self.suspended.remove(accepted),
            Class::Held => self.held.remove(accepted),
        }
    }
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
