//! Who has which message: sets of numbers, and the sink's record of what came when.

use std::time::{Duration, Instant};

/// A set of message numbers from some number on.
#[derive(Debug, Clone)]
pub struct NumberSet {
    first: u64,
    words: Vec<u64>,
    count: u64,
}

impl NumberSet {
    /// An empty set for numbers from `first` on.
    pub fn from(first: u64) -> Self {
        Self {
            first,
            words: Vec::new(),
            count: 0,
        }
    }

    /// Adds a number.
    pub fn insert(&mut self, number: u64) {
        let Some((word, bit)) = self.place(number) else {
            return;
        };
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            self.count += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: u64) -> bool {
        self.place(number)
            .and_then(|(word, bit)| Some(self.words.get(word)? & bit != 0))
            .unwrap_or(false)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let bits = 0..u64::from(u64::BITS);
        let all = (self.first..).step_by(u64::BITS as usize).zip(&self.words);
        all.flat_map(move |(first, word)| {
            let set = bits.clone().filter(move |bit| word >> bit & 1 == 1);
            set.map(move |bit| first + bit)
        })
    }

    fn place(&self, number: u64) -> Option<(usize, u64)> {
        let offset = number.checked_sub(self.first)?;
        let word = usize::try_from(offset / u64::from(u64::BITS)).ok()?;
        Some((word, 1 << (offset % u64::from(u64::BITS))))
    }
}

/// What has arrived at a sink since it was last cleared.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// When the count began.
    pub began: Instant,
    /// When the last message came that had not come before.
    pub last: Instant,
    /// Numbers of the messages that came.
    pub delivered: NumberSet,
    /// Messages that came again.
    pub duplicates: u64,
    /// Notifications to the sender: mail with a null reverse-path (RFC 5321 §4.5.5).
    pub notifications: u64,
    /// Recipients answered 4xx.
    pub deferred: u64,
    /// Octets of message text.
    pub octets: u64,
    /// Messages of which a first attempt was made and turned away.
    attempted: NumberSet,
}

impl Ledger {
    /// An empty one for messages with numbers from `first` on.
    pub(super) fn new(first: u64, now: Instant) -> Self {
        Self {
            began: now,
            last: now,
            delivered: NumberSet::from(first),
            duplicates: 0,
            notifications: 0,
            deferred: 0,
            octets: 0,
            attempted: NumberSet::from(first),
        }
    }

    /// Notes a message.
    pub(super) fn arrived(&mut self, number: u64, now: Instant) {
        if self.delivered.contains(number) {
            self.duplicates += 1;
        } else {
            self.delivered.insert(number);
            self.last = now;
        }
    }

    /// Notes an attempt; says whether it is the first of that message.
    pub(super) fn attempted(&mut self, number: u64) -> bool {
        let first = !self.attempted.contains(number);
        self.attempted.insert(number);
        first
    }

    /// Time from `start` to the last arrival.
    pub fn took(&self, start: Instant) -> Duration {
        self.last.saturating_duration_since(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_set_counts_each_number_once() {
        let mut set = NumberSet::from(100);
        for number in [100, 163, 164, 100, 1000, 5] {
            set.insert(number);
        }
        assert_eq!(set.len(), 4);
        assert_eq!(set.iter().collect::<Vec<_>>(), [100, 163, 164, 1000]);
        assert!(set.contains(1000) && !set.contains(5) && !set.contains(101));
    }

    #[test]
    fn what_comes_again_is_a_duplicate() {
        let start = clock::now();
        let mut ledger = Ledger::new(0, start);
        let later = start + Duration::from_secs(1);
        ledger.arrived(7, later);
        ledger.arrived(7, later + Duration::from_secs(1));
        assert_eq!((ledger.delivered.len(), ledger.duplicates), (1, 1));
        assert_eq!(ledger.took(start), Duration::from_secs(1));
    }
}
