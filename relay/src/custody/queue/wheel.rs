//! When again: a hierarchical timer wheel of whole seconds, shared by all legs.
//!
//! Promises: pure, `now` is passed in; never early, and late by less than a second plus what a
//! slice leaves for the next call. Adding, taking out, and expiring a slot cost the same however
//! many legs wait. A wall clock that jumps ahead expires all it passed; one that jumps back more
//! than [`TOLERANCE`] makes the wheel start anew from there.

use super::legs::{Legs, NONE};

/// 64 slots a level; a slot of a level is as long as the whole level below.
const BITS: u32 = 6;
const SLOTS: u32 = 1 << BITS;
/// Enough for 32 bits of seconds.
const LEVELS: u32 = 6;
/// The list of legs whose slot has come and that are to be looked at.
const EXPIRED: u32 = SLOTS * LEVELS;
/// The list of legs that wait for the spool to be restored.
const UNSCHEDULED: u32 = EXPIRED + 1;
/// Lists the wheel uses; others may use those from here on.
pub(super) const LISTS: u32 = UNSCHEDULED + 1;
/// Seconds the clock may go back without a new start. A leg added within them is late by as much.
const TOLERANCE: u32 = 2;

/// The wheel. Its lists are in [`Legs`].
#[derive(Debug, Default)]
pub(super) struct Wheel {
    now: u32,
    /// By level, which slots may have legs.
    occupied: [u64; LEVELS as usize],
}

impl Wheel {
    /// How far it has moved.
    pub(super) fn now(&self) -> u32 {
        self.now
    }

    /// Has a leg looked at when its time comes.
    pub(super) fn add(&mut self, legs: &mut Legs, leg: u32) {
        let due = legs.get(leg).map_or(0, |leg| leg.due);
        if due <= self.now {
            legs.push_back(EXPIRED, leg);
            return;
        }
        self.place(legs, leg, due);
    }

    /// Puts a leg in the slot of `due`, which is ahead.
    fn place(&mut self, legs: &mut Legs, leg: u32, due: u32) {
        // The highest group of bits in which it differs from now says how far off it is.
        let level = ((due ^ self.now).ilog2()) / BITS;
        let slot = (due >> (level * BITS)) & (SLOTS - 1);
        if let Some(occupied) = self.occupied.get_mut(level as usize) {
            *occupied |= 1 << slot;
        }
        legs.push_back(level * SLOTS + slot, leg);
    }

    /// Keeps a leg until [`Wheel::schedule_all`].
    pub(super) fn set_aside(legs: &mut Legs, leg: u32) {
        legs.push_back(UNSCHEDULED, leg);
    }

    /// From now on what was set aside is looked at.
    pub(super) fn schedule_all(legs: &mut Legs) {
        legs.splice(UNSCHEDULED, EXPIRED);
    }

    /// Moves to `now`; what has come is given out by [`Wheel::expired`].
    pub(super) fn advance(&mut self, legs: &mut Legs, now: u32) {
        if now.saturating_add(TOLERANCE) < self.now {
            for list in 0..EXPIRED {
                legs.splice(list, EXPIRED);
            }
            *self = Self {
                now,
                ..Self::default()
            };
            return;
        }
        while let Some((at, level, slot)) = self.next_slot().filter(|(at, ..)| *at <= now) {
            self.now = at;
            self.vacate(level, slot);
            legs.splice(level * SLOTS + slot, EXPIRED);
        }
        self.now = self.now.max(now);
    }

    /// A leg that is due as of `now`; puts those that only came closer where they belong, looking
    /// at `patience` legs at most.
    pub(super) fn expired(
        &mut self,
        legs: &mut Legs,
        now: u32,
        patience: &mut usize,
    ) -> Option<u32> {
        while *patience > 0 {
            *patience -= 1;
            let leg = legs.pop_front(EXPIRED)?;
            if legs.get(leg).is_some_and(|leg| leg.due <= now) {
                return Some(leg);
            }
            // The clock may stand behind the wheel, within the tolerance.
            let due = legs.get(leg).map_or(0, |leg| leg.due);
            self.place(legs, leg, due.max(self.now.saturating_add(1)));
        }
        None
    }

    /// When something is to be looked at again.
    pub(super) fn next(&mut self, legs: &Legs) -> Option<u32> {
        if legs.first(EXPIRED).is_some() {
            return Some(self.now);
        }
        loop {
            let (at, level, slot) = self.next_slot()?;
            if legs.first(level * SLOTS + slot).is_some() {
                return Some(at);
            }
            self.vacate(level, slot);
        }
    }

    /// The slot that comes first, and when.
    fn next_slot(&self) -> Option<(u32, u32, u32)> {
        (0..LEVELS)
            .zip(&self.occupied)
            .find_map(|(level, occupied)| {
                let shift = level * BITS;
                let position = (self.now >> shift) & (SLOTS - 1);
                let ahead = occupied & u64::MAX.checked_shl(position + 1).unwrap_or(0);
                if ahead == 0 {
                    return None;
                }
                let slot = ahead.trailing_zeros();
                let above = u32::MAX.checked_shl(shift + BITS).unwrap_or(0);
                Some(((self.now & above) | (slot << shift), level, slot))
            })
    }

    fn vacate(&mut self, level: u32, slot: u32) {
        if let Some(occupied) = self.occupied.get_mut(level as usize) {
            *occupied &= !(1 << slot);
        }
    }
}

const _: () = assert!(LISTS < NONE >> 1, "lists are named by 31 bits");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{super::legs::Leg, *};

    fn due_now(wheel: &mut Wheel, legs: &mut Legs, now: u32) -> Vec<u32> {
        wheel.advance(legs, now);
        let mut patience = usize::MAX;
        let mut found = Vec::new();
        while let Some(leg) = wheel.expired(legs, now, &mut patience) {
            found.push(leg);
        }
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn the_wheel_does_what_a_sorted_list_does(
            start in 0..4_000_000_000_u32,
            steps in prop::collection::vec(
                (0..4_u8, prop_oneof![0..70_u32, 0..5000_u32, 0..20_000_000_u32]), 1..60),
        ) {
            let (mut wheel, mut legs) = (Wheel::default(), Legs::default());
            let (mut now, mut model) = (start, BTreeMap::new());
            wheel.advance(&mut legs, now);
            for (step, amount) in steps {
                match step {
                    0 | 1 => {
                        let leg = legs.insert(Leg::new(0, 0, 0));
                        let due = now.saturating_add(amount);
                        legs.get_mut(leg).unwrap().due = due;
                        wheel.add(&mut legs, leg);
                        model.insert(leg, due);
                    }
                    2 => now = now.saturating_add(amount),
                    _ => {
                        // Far enough back to start anew.
                        now = now.saturating_sub(amount + TOLERANCE + 1);
                        wheel.advance(&mut legs, now);
                    }
                }
                let next = wheel.next(&legs);
                let first = model.values().min().copied();
                prop_assert_eq!(next.is_some(), first.is_some());
                prop_assert!(next <= first.map(|first| first.max(now)) || next <= first);
                let found = due_now(&mut wheel, &mut legs, now);
                let expected: Vec<u32> =
                    model.iter().filter(|(_, due)| **due <= now).map(|(leg, _)| *leg).collect();
                prop_assert_eq!(&found, &expected);
                for leg in found {
                    model.remove(&leg);
                    legs.remove(leg);
                }
            }
        }
    }

    #[test]
    fn a_small_step_back_makes_nothing_early() {
        let (mut wheel, mut legs) = (Wheel::default(), Legs::default());
        wheel.advance(&mut legs, 100);
        let leg = legs.insert(Leg::new(0, 0, 0));
        legs.get_mut(leg).unwrap().due = 100;
        wheel.add(&mut legs, leg);
        assert!(due_now(&mut wheel, &mut legs, 99).is_empty());
        assert_eq!(due_now(&mut wheel, &mut legs, 101), [leg]);
    }

    #[test]
    fn a_slice_leaves_the_rest_for_the_next_call() {
        let (mut wheel, mut legs) = (Wheel::default(), Legs::default());
        for _ in 0..10 {
            let leg = legs.insert(Leg::new(0, 0, 0));
            Wheel::set_aside(&mut legs, leg);
        }
        assert_eq!(wheel.next(&legs), None);
        Wheel::schedule_all(&mut legs);
        let mut patience = 4;
        let mut found = 0;
        while wheel.expired(&mut legs, 5, &mut patience).is_some() {
            found += 1;
        }
        assert_eq!((found, wheel.next(&legs)), (4, Some(0)));
        assert_eq!(due_now(&mut wheel, &mut legs, 5).len(), 6);
    }
}
