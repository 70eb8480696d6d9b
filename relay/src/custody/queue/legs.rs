//! Legs, and the lists they are threaded on.
//!
//! Promises: pure; a leg is on one list at most, and leaves it in constant time wherever it stands.
//! The links are part of the leg, so a list costs nothing per leg.

use super::chunks::Chunks;

/// No leg, no list.
pub(super) const NONE: u32 = u32::MAX;
/// Marks a link that points at the list instead of at a leg: the leg stands at an end of it.
const END: u32 = 1 << 31;

/// The pending recipients of one message at one domain: 32 bytes.
#[derive(Debug)]
pub(super) struct Leg {
    /// Its message.
    pub(super) message: u32,
    /// Its number in the message.
    pub(super) number: u32,
    /// Its recipient domain.
    pub(super) lane: u32,
    /// Not to be tried before, in whole seconds since 1970.
    pub(super) due: u32,
    /// Attempts started.
    pub(super) attempts: u32,
    previous: u32,
    next: u32,
    /// What it counts for once it is claimed, in KiB.
    pub(super) cost: u16,
    pub(super) position: Position,
    /// Whether the sender was told that it is late.
    pub(super) delay_warned: bool,
}

/// What a leg waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// For its message to be released.
    Idle,
    /// For its time.
    Waiting,
    /// To be claimed.
    Ready,
    /// For the claimer.
    Claimed,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

/// All legs.
#[derive(Debug, Default)]
pub(super) struct Legs {
    legs: Chunks<Leg>,
    lists: Vec<List>,
}

/// First and last leg.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

const EMPTY: List = List {
    head: NONE,
    tail: NONE,
};

impl Leg {
    /// A leg on no list.
    pub(super) const fn new(message: u32, number: u32, lane: u32) -> Self {
        Self {
            message,
            number,
            lane,
            due: 0,
            attempts: 0,
            previous: NONE,
            next: NONE,
            cost: 0,
            position: Position::Idle,
            delay_warned: false,
        }
    }
}

impl Legs {
    pub(super) fn insert(&mut self, leg: Leg) -> u32 {
        self.legs.insert(leg)
    }

    pub(super) fn get(&self, leg: u32) -> Option<&Leg> {
        self.legs.get(leg)
    }

    pub(super) fn get_mut(&mut self, leg: u32) -> Option<&mut Leg> {
        self.legs.get_mut(leg)
    }

    /// Takes a leg off its list and away.
    pub(super) fn remove(&mut self, leg: u32) -> Option<Leg> {
        self.unlink(leg);
        self.legs.remove(leg)
    }

    /// Makes sure that lists up to `list` exist.
    pub(super) fn ensure_list(&mut self, list: u32) {
        if self.lists.len() <= list as usize {
            self.lists.resize(list as usize + 1, EMPTY);
        }
    }

    pub(super) fn first(&self, list: u32) -> Option<u32> {
        let head = self.lists.get(list as usize)?.head;
        (head != NONE).then_some(head)
    }

    pub(super) fn push_back(&mut self, list: u32, leg: u32) {
        let tail = self.list(list).tail;
        let previous = if tail == NONE { END | list } else { tail };
        self.link(leg, previous, END | list);
    }

    pub(super) fn push(&mut self, list: u32, leg: u32, end: End) {
        match end {
            End::Back => self.push_back(list, leg),
            End::Front => {
                let head = self.list(list).head;
                let next = if head == NONE { END | list } else { head };
                self.link(leg, END | list, next);
            }
        }
    }

    pub(super) fn pop_front(&mut self, list: u32) -> Option<u32> {
        let leg = self.first(list)?;
        self.unlink(leg);
        Some(leg)
    }

    /// Takes a leg off the list it is on, if any.
    pub(super) fn unlink(&mut self, leg: u32) {
        let Some(entry) = self.legs.get_mut(leg) else {
            return;
        };
        let (previous, next) = (entry.previous, entry.next);
        if previous == NONE {
            return;
        }
        (entry.previous, entry.next) = (NONE, NONE);
        self.set_next(previous, next);
        self.set_previous(next, previous);
    }

    /// Appends all of one list to another.
    pub(super) fn splice(&mut self, from: u32, to: u32) {
        let List { head, tail } = std::mem::replace(self.list(from), EMPTY);
        if head == NONE {
            return;
        }
        let last = self.list(to).tail;
        let previous = if last == NONE { END | to } else { last };
        self.set_next(previous, head);
        self.set_previous(head, previous);
        self.set_next(tail, END | to);
        self.list(to).tail = tail;
    }

    fn link(&mut self, leg: u32, previous: u32, next: u32) {
        if let Some(entry) = self.legs.get_mut(leg) {
            debug_assert_eq!(entry.previous, NONE, "a leg is on one list at most");
            (entry.previous, entry.next) = (previous, next);
            self.set_next(previous, leg);
            self.set_previous(next, leg);
        }
    }

    /// What follows `at`, a leg or the front of a list, is `to`, a leg or the end of the list.
    fn set_next(&mut self, at: u32, to: u32) {
        if at & END != 0 {
            self.list(at & !END).head = if to & END == 0 { to } else { NONE };
        } else if let Some(leg) = self.legs.get_mut(at) {
            leg.next = to;
        }
    }

    fn set_previous(&mut self, at: u32, to: u32) {
        if at & END != 0 {
            self.list(at & !END).tail = if to & END == 0 { to } else { NONE };
        } else if let Some(leg) = self.legs.get_mut(at) {
            leg.previous = to;
        }
    }

    fn list(&mut self, list: u32) -> &mut List {
        self.ensure_list(list);
        self.lists
            .get_mut(list as usize)
            .expect("the list was made just now")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::chunks::size_of_entry, *};

    fn of(legs: &Legs, list: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = legs.first(list).unwrap_or(END);
        while at & END == 0 {
            found.push(at);
            at = legs.get(at).unwrap().next;
        }
        found
    }

    proptest! {
        #[test]
        fn lists_are_what_vectors_are(steps in prop::collection::vec((0..5_u8, 0..12_u32, 0..3_u32), 1..80)) {
            let mut legs = Legs::default();
            for _ in 0..12 {
                legs.insert(Leg::new(0, 0, 0));
            }
            let mut model = vec![Vec::new(); 3];
            for (step, leg, list) in steps {
                let free = model.iter().all(|l: &Vec<u32>| !l.contains(&leg));
                match step {
                    0 if free => { legs.push_back(list, leg); model[list as usize].push(leg); }
                    1 if free => { legs.push(list, leg, End::Front); model[list as usize].insert(0, leg); }
                    2 => { legs.unlink(leg); for l in &mut model { l.retain(|x| *x != leg); } }
                    3 => {
                        let popped = legs.pop_front(list);
                        let l = &mut model[list as usize];
                        prop_assert_eq!(popped, (!l.is_empty()).then(|| l.remove(0)));
                    }
                    4 => {
                        let to = (list + 1) % 3;
                        legs.splice(list, to);
                        let moved = std::mem::take(&mut model[list as usize]);
                        model[to as usize].extend(moved);
                    }
                    _ => {}
                }
                for list in 0..3 {
                    prop_assert_eq!(&of(&legs, list), &model[list as usize]);
                }
            }
        }
    }

    #[test]
    fn a_leg_takes_32_bytes() {
        assert_eq!(size_of::<Leg>(), 32);
        assert_eq!(size_of_entry::<Leg>(), 32);
    }
}
