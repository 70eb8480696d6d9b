//! Rings: members in the order in which they have their turns.
//!
//! Promises: pure; joining, passing the turn on, and leaving from wherever a member stands take
//! constant time. A member is a number that is in one ring of its [`Links`] at most.

use super::super::legs::NONE;

/// Who stands beside whom, by member.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

/// A ring. It is used with the same [`Links`] always.
#[derive(Debug)]
pub(super) struct Ring {
    first: u32,
}

impl Default for Ring {
    fn default() -> Self {
        Self { first: NONE }
    }
}

impl Ring {
    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// A member joins, behind all others.
    pub(super) fn join(&mut self, links: &mut Links, member: u32) {
        links.ensure(member);
        debug_assert_eq!(
            links.get(member).next,
            NONE,
            "a member is in one ring at most"
        );
        if self.first == NONE {
            self.first = member;
            links.tie(member, member);
            return;
        }
        let last = links.get(self.first).previous;
        links.tie(last, member);
        links.tie(member, self.first);
    }

    /// A member leaves.
    pub(super) fn leave(&mut self, links: &mut Links, member: u32) {
        let Link { previous, next } = links.get(member);
        debug_assert_ne!(next, NONE, "who leaves has joined");
        if next == NONE {
            return;
        }
        links.tie(previous, next);
        if self.first == member {
            self.first = if next == member { NONE } else { next };
        }
        links.set(member, UNTIED);
    }

    /// The first goes behind all others.
    pub(super) fn pass(&mut self, links: &Links) {
        if self.first != NONE {
            self.first = links.get(self.first).next;
        }
    }

    /// All members, the first one first.
    pub(super) fn members<'a>(&self, links: &'a Links) -> impl Iterator<Item = u32> + use<'a> {
        let first = self.first();
        std::iter::successors(first, move |member| {
            let next = links.get(*member).next;
            (Some(next) != first).then_some(next)
        })
    }
}

impl Links {
    fn ensure(&mut self, member: u32) {
        if self.0.len() <= member as usize {
            self.0.resize(member as usize + 1, UNTIED);
        }
    }

    fn get(&self, member: u32) -> Link {
        self.0.get(member as usize).copied().unwrap_or(UNTIED)
    }

    fn set(&mut self, member: u32, link: Link) {
        if let Some(known) = self.0.get_mut(member as usize) {
            *known = link;
        }
    }

    /// Lets one follow the other.
    fn tie(&mut self, before: u32, after: u32) {
        if let Some(link) = self.0.get_mut(before as usize) {
            link.next = after;
        }
        if let Some(link) = self.0.get_mut(after as usize) {
            link.previous = before;
        }
    }
}

const UNTIED: Link = Link {
    previous: NONE,
    next: NONE,
};

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rings_are_what_queues_are(
            steps in prop::collection::vec((0..4_u8, 0..10_u32, 0..3_usize), 1..100),
        ) {
            let mut links = Links::default();
            let mut rings = [(); 3].map(|()| Ring::default());
            let mut model = [(); 3].map(|()| VecDeque::new());
            for (step, member, at) in steps {
                let found = model.iter().position(|queue| queue.contains(&member));
                match (step, found) {
                    (0 | 1, None) => {
                        rings[at].join(&mut links, member);
                        model[at].push_back(member);
                    }
                    (2, Some(at)) => {
                        rings[at].leave(&mut links, member);
                        model[at].retain(|other| *other != member);
                    }
                    (3, _) => {
                        rings[at].pass(&links);
                        if !model[at].is_empty() {
                            model[at].rotate_left(1);
                        }
                    }
                    _ => {}
                }
                for (ring, queue) in rings.iter().zip(&model) {
                    prop_assert_eq!(ring.first(), queue.front().copied());
                    prop_assert_eq!(ring.is_empty(), queue.is_empty());
                    let members: VecDeque<u32> = ring.members(&links).collect();
                    prop_assert_eq!(&members, queue);
                }
            }
        }
    }
}
