//! When again: legs in the order in which they are due.
//!
//! Promises: pure; gives legs out in the order of their due times, those of one time in the order
//! of acceptance. Holds only legs that may be attempted; what is held back is not in it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::mail::MessageId;

/// One leg and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) due: Timestamp,
    pub(crate) id: MessageId,
    pub(crate) leg: u32,
}

/// The legs that wait.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// Due.
    ready: BTreeSet<Slot>,
    /// Not yet.
    waiting: BTreeSet<Slot>,
}

impl Schedule {
    /// Adds a leg; whether it is due is found out by [`Schedule::advance`].
    pub(crate) fn add(&mut self, slot: Slot) {
        self.waiting.insert(slot);
    }

    /// Takes a leg out, wherever it waits.
    pub(crate) fn remove(&mut self, slot: &Slot) {
        if !self.waiting.remove(slot) {
            self.ready.remove(slot);
        }
    }

    /// Moves what has become due to the ready ones and names it.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Vec<Slot> {
        let mut moved = Vec::new();
        while let Some(slot) = self.waiting.pop_first() {
            if slot.due > now {
                self.waiting.insert(slot);
                break;
            }
            self.ready.insert(slot);
            moved.push(slot);
        }
        moved
    }

    /// Takes the leg that has been due the longest.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        self.ready.pop_first()
    }

    /// Since when the longest waiting due leg is due.
    pub(crate) fn oldest_due(&self) -> Option<Timestamp> {
        self.ready.first().map(|slot| slot.due)
    }

    /// When the next leg that is not due yet will be.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.waiting.first().map(|slot| slot.due)
    }
}
