//! One tenant's ready legs at one gate, by priority.
//!
//! Strategy: the highest priority first; those of one priority take turns by lane. Of each
//! [`SHARE`] claims given while legs of several priorities wait, one goes to a lower priority than
//! the highest, and these take turns at it. So of `n` priorities in use each has one claim of
//! `SHARE * (n - 1)` at least, and with all 19 one of 144.
//!
//! Promises: pure; what a claim costs grows with the number of priorities in use, of which there are
//! 19, not with what waits.

use std::cmp::Reverse;

use super::{
    Stand,
    rings::{Links, Ring},
};
use crate::mail::Priority;

/// Of so many claims one is given to a lower priority.
const SHARE: u8 = 8;

/// The line of a tenant at a gate.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) tenant: u32,
    pub(super) gate: u32,
    pub(super) stand: Stand,
    /// Claims given to the highest priority while a lower one waited.
    passed_over: u8,
    /// Highest priority first; none is empty.
    ranks: Vec<Rank>,
    /// The lower priority that had its turn last.
    last_lower: Option<Priority>,
}

/// Flows of one priority.
#[derive(Debug)]
struct Rank {
    priority: Priority,
    flows: Ring,
}

impl Line {
    /// A line without flows.
    pub(super) const fn new(tenant: u32, gate: u32, stand: Stand) -> Self {
        Self {
            tenant,
            gate,
            stand,
            passed_over: 0,
            ranks: Vec::new(),
            last_lower: None,
        }
    }

    /// Whether there is none in it.
    pub(super) fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// A flow joins, behind the others of its priority.
    pub(super) fn join(&mut self, links: &mut Links, priority: Priority, flow: u32) {
        let at = self.find(priority).unwrap_or_else(|at| {
            let flows = Ring::default();
            // Most lines have one priority only.
            self.ranks.reserve_exact(1);
            self.ranks.insert(at, Rank { priority, flows });
            at
        });
        if let Some(rank) = self.ranks.get_mut(at) {
            rank.flows.join(links, flow);
        }
    }

    /// A flow leaves.
    pub(super) fn leave(&mut self, links: &mut Links, priority: Priority, flow: u32) {
        let Ok(at) = self.find(priority) else {
            return;
        };
        if let Some(rank) = self.ranks.get_mut(at) {
            rank.flows.leave(links, flow);
            if rank.flows.is_empty() {
                self.ranks.remove(at);
            }
        }
    }

    /// The flow whose turn it is.
    pub(super) fn next(&self) -> Option<u32> {
        self.ranks.get(self.turn())?.flows.first()
    }

    /// The flow whose turn it was gave a leg away, and goes behind those of its priority.
    pub(super) fn gave(&mut self, links: &Links) {
        let turn = self.turn();
        let several = self.ranks.len() > 1;
        let Some(rank) = self.ranks.get_mut(turn) else {
            return;
        };
        rank.flows.pass(links);
        if turn > 0 {
            self.last_lower = Some(rank.priority);
            self.passed_over = 0;
        } else if several {
            self.passed_over = (self.passed_over + 1).min(SHARE - 1);
        } else {
            self.passed_over = 0;
        }
    }

    /// Which of the ranks has its turn.
    fn turn(&self) -> usize {
        if self.ranks.len() < 2 || self.passed_over < SHARE - 1 {
            return 0;
        }
        let lower = self.ranks.iter().enumerate().skip(1);
        let mut behind_last =
            lower.filter(|(_, rank)| self.last_lower.is_none_or(|last| rank.priority < last));
        behind_last.next().map_or(1, |(at, _)| at)
    }

    fn find(&self, priority: Priority) -> Result<usize, usize> {
        self.ranks
            .binary_search_by_key(&Reverse(priority), |rank| Reverse(rank.priority))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn priority(value: i8) -> Priority {
        Priority::new(value).unwrap()
    }

    /// Takes so many turns; the flows that had them.
    fn take(line: &mut Line, links: &Links, turns: usize) -> Vec<u32> {
        let turn = |_| {
            let flow = line.next().unwrap();
            line.gave(links);
            flow
        };
        (0..turns).map(turn).collect()
    }

    #[test]
    fn the_highest_goes_first_and_one_of_eight_is_a_lower_one() {
        let (mut line, mut links) = (Line::new(0, 0, Stand::Called), Links::default());
        line.join(&mut links, priority(0), 10);
        assert_eq!(take(&mut line, &links, 20), [10; 20]);
        line.join(&mut links, priority(9), 19);
        line.join(&mut links, priority(-9), 1);
        let first = [19, 19, 19, 19, 19, 19, 19, 10];
        let second = [19, 19, 19, 19, 19, 19, 19, 1];
        assert_eq!(take(&mut line, &links, 8), first);
        assert_eq!(take(&mut line, &links, 8), second);
        assert_eq!(take(&mut line, &links, 8), first);
        line.leave(&mut links, priority(9), 19);
        assert_eq!(take(&mut line, &links, 8), [10, 10, 10, 10, 10, 10, 10, 1]);
        line.leave(&mut links, priority(0), 10);
        line.leave(&mut links, priority(-9), 1);
        assert_eq!(line.next(), None);
    }

    proptest! {
        #[test]
        fn none_waits_longer_than_its_share(
            flows in prop::collection::vec((-9..=9_i8, 1..4_usize), 1..20),
            before in prop::collection::vec((-9..=9_i8, 0..30_usize), 0..10),
        ) {
            let (mut line, mut links) = (Line::new(0, 0, Stand::Called), Links::default());
            // Whatever was before.
            for (value, turns) in before {
                line.join(&mut links, priority(value), 1000);
                take(&mut line, &links, turns);
                line.leave(&mut links, priority(value), 1000);
            }
            let mut priorities = BTreeMap::new();
            for (number, (value, count)) in (0..).zip(&flows) {
                for flow in 0..*count as u32 {
                    line.join(&mut links, priority(*value), number * 10 + flow);
                    *priorities.entry(*value).or_insert(0_usize) += 1;
                }
            }
            let lower = priorities.len() - 1;
            let longest = usize::from(SHARE) * lower.max(1);
            let turns = take(&mut line, &links, longest * 4);
            let value_of = |flow: &u32| flows[(*flow / 10) as usize].0;
            for (value, count) in &priorities {
                let in_each = turns.chunks(longest);
                for chunk in in_each {
                    prop_assert!(chunk.iter().any(|flow| value_of(flow) == *value), "{value}");
                }
                // Those of one priority take turns.
                let of_it: Vec<_> = turns.iter().filter(|flow| value_of(flow) == *value).collect();
                for (flow, again) in of_it.iter().zip(of_it.iter().skip(*count)) {
                    prop_assert_eq!(flow, again);
                }
            }
            let highest = *priorities.keys().last().unwrap();
            let given = turns.iter().filter(|flow| value_of(flow) == highest).count();
            prop_assert!(given * 8 >= turns.len() * 7 - 8, "{given} of {}", turns.len());
        }
    }
}
