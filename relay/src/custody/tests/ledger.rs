//! The ledger: what clients and the remote side were told, and what a restart must find.
//!
//! An entry is made before custody is asked and again when it has answered, so that the ledger of
//! any moment says what must, may and must not be in custody after a crash at that moment. A
//! restart settles what was open: what it found is promised from then on, what it did not find
//! never comes back.

use std::collections::{BTreeMap, BTreeSet};

use postrider_crds::queue::Order;

use super::*;

/// A recipient: message number and index.
pub(super) type Key = (u64, usize);

/// What must be found of a recipient after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Offered and not answered: pending with its whole message, or not at all.
    Offered,
    /// Pending.
    Pending,
    /// A result was reported and not answered: pending still, or not.
    InDoubt,
    /// Has its result.
    Done,
}

/// How a crash leaves what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process ended, the machine stayed up.
    Killed,
    /// The machine lost what was not synced.
    PowerLost,
}

/// The account of all messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    fates: BTreeMap<Key, Fate>,
    /// Attempts that must be found, the least and the most.
    attempts: BTreeMap<Key, (u32, u32)>,
    /// Least attempts where no machine failed.
    written: BTreeMap<Key, u32>,
    /// A bounced recipient and its notification, which are in custody in turn.
    told: BTreeMap<Key, Key>,
    /// How often the remote took it.
    deliveries: BTreeMap<Key, u32>,
    /// Recipients whose delivery a crash has made doubtful: the window.
    repeatable: BTreeSet<Key>,
    /// Deliveries beyond the first.
    duplicates: u32,
    /// The leg of each recipient.
    legs: BTreeMap<Key, u32>,
    /// Orders that must be found.
    orders: Vec<Order>,
    /// What may be found instead: orders that were not answered.
    doubtful: Vec<Vec<Order>>,
    /// Counts the entries, so that ledgers can be told apart.
    pub(super) version: u64,
}

/// A leg that was given out.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub(super) number: u64,
    pub(super) recipients: Vec<usize>,
    attempts: u32,
}

/// What is about to be settled.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) results: Vec<(usize, RecipientResult)>,
    pub(super) told: Option<u64>,
}

impl Ledger {
    pub(super) fn offered(&mut self, message: &NewMessage) {
        self.version += 1;
        let number = number_of(message.id);
        let leg_of = state::Outline::of(&message.envelope).leg_of;
        for recipient in 0..message.envelope.recipients.len() {
            if !message.suppressed.contains(&recipient) {
                let leg = leg_of.get(recipient).copied().unwrap_or(0);
                self.legs.insert((number, recipient), leg);
                self.fates.insert((number, recipient), Fate::Offered);
                self.attempts.insert((number, recipient), (0, 0));
            }
        }
    }

    pub(super) fn accepted(&mut self, number: u64) {
        self.version += 1;
        self.turn(number, Fate::Pending);
    }

    /// Custody gave it out: only what is pending may come.
    pub(super) fn claimed(&mut self, claim: &Claim) -> Leg {
        let leg = Leg::of(claim);
        for key in leg.keys() {
            if let Some(bounced) = self.told.remove(&key) {
                // The settlement that was kept in memory has been recorded since.
                self.fates.insert(bounced, Fate::Done);
                self.fates.insert(key, Fate::Pending);
            }
            let fate = self.fates.get(&key);
            assert_eq!(fate, Some(&Fate::Pending), "{key:?} given out");
        }
        leg
    }

    pub(super) fn starting(&mut self, leg: &Leg) {
        self.version += 1;
        for key in leg.keys() {
            let (least, _) = self.attempts[&key];
            self.attempts.insert(key, (least, leg.attempts + 1));
        }
    }

    pub(super) fn started(&mut self, leg: &Leg) {
        self.version += 1;
        for key in leg.keys() {
            self.written.insert(key, leg.attempts + 1);
        }
    }

    /// The remote has answered; custody is about to be told.
    pub(super) fn settling(&mut self, leg: &Leg, report: &Report) {
        self.version += 1;
        for (recipient, result) in &report.results {
            let key = (leg.number, *recipient);
            if *result == RecipientResult::Delivered {
                self.delivered(key);
            }
            if !matches!(result, RecipientResult::Deferred { .. }) {
                self.fates.insert(key, Fate::InDoubt);
            }
            if let Some(told) = report.told {
                self.fates.insert((told, 0), Fate::InDoubt);
                self.attempts.insert((told, 0), (0, 0));
                self.legs.insert((told, 0), 0);
                self.told.insert((told, 0), key);
            }
        }
    }

    /// Custody has recorded it.
    pub(super) fn settled(&mut self, leg: &Leg, report: &Report) {
        self.version += 1;
        for key in leg.keys() {
            self.attempts
                .insert(key, (leg.attempts + 1, leg.attempts + 1));
        }
        for (recipient, result) in &report.results {
            if !matches!(result, RecipientResult::Deferred { .. }) {
                self.fates.insert((leg.number, *recipient), Fate::Done);
            }
        }
        if let Some(told) = report.told {
            self.told.remove(&(told, 0));
            self.fates.insert((told, 0), Fate::Pending);
        }
    }

    /// These orders are in force once the order that is given is answered.
    pub(super) fn ordering(&mut self, orders: Vec<Order>) {
        self.version += 1;
        self.doubtful.push(orders);
    }

    /// It was answered.
    pub(super) fn ordered(&mut self) {
        self.version += 1;
        self.orders = self.doubtful.pop().expect("it was given");
        self.doubtful.clear();
    }

    /// Checks the orders a restart found, and settles which are in force.
    pub(super) fn check_orders(&mut self, found: &[Order], context: &str) {
        self.version += 1;
        let doubtful = std::mem::take(&mut self.doubtful);
        let known = found == self.orders || doubtful.iter().any(|orders| orders == found);
        assert!(
            known,
            "{context}: orders {found:?}, not {:?} nor {doubtful:?}",
            self.orders
        );
        self.orders = found.to_vec();
    }

    /// Recipients with their legs that are not in `found`.
    pub(super) fn others(&self, found: &BTreeMap<Key, u32>) -> Vec<(Key, u32)> {
        let legs = self
            .legs
            .iter()
            .filter(|(key, _)| !found.contains_key(*key));
        legs.map(|(key, leg)| (*key, *leg)).collect()
    }

    fn delivered(&mut self, key: Key) {
        let times = self.deliveries.entry(key).or_default();
        *times += 1;
        if *times > 1 {
            assert!(
                self.repeatable.remove(&key),
                "{key:?} delivered again outside the window"
            );
            self.duplicates += 1;
        }
    }

    fn turn(&mut self, number: u64, into: Fate) {
        for (_, fate) in self.fates.range_mut((number, 0)..(number + 1, 0)) {
            *fate = into;
        }
    }

    /// Checks what a restart found, attempts by recipient, and settles what was open.
    pub(super) fn check(&mut self, found: &BTreeMap<Key, u32>, crash: Crash, context: &str) {
        self.version += 1;
        for key in found.keys() {
            let known = self.fates.contains_key(key);
            assert!(known, "{context}: {key:?} invented");
        }
        for (bounced_note, bounced) in std::mem::take(&mut self.told) {
            let pair = (
                found.contains_key(&bounced),
                found.contains_key(&bounced_note),
            );
            assert!(pair.0 != pair.1, "{context}: {bounced:?} told {pair:?}");
        }
        let mut whole: BTreeMap<u64, bool> = BTreeMap::new();
        for (key, fate) in &mut self.fates {
            let there = found.contains_key(key);
            match fate {
                Fate::Pending => assert!(there, "{context}: {key:?} lost"),
                Fate::Done => assert!(!there, "{context}: {key:?} is back"),
                Fate::Offered => {
                    let first = *whole.entry(key.0).or_insert(there);
                    assert_eq!(first, there, "{context}: a part of {}", key.0);
                }
                Fate::InDoubt => {
                    if there && self.deliveries.contains_key(key) {
                        self.repeatable.insert(*key);
                    }
                }
            }
            *fate = if there { Fate::Pending } else { Fate::Done };
        }
        for (key, attempts) in found {
            let (mut least, most) = self.attempts[key];
            if let (Crash::Killed, Some(written)) = (crash, self.written.get(key)) {
                least = least.max(*written);
            }
            assert!(
                (least..=most).contains(attempts),
                "{context}: {attempts} attempts of {key:?}, not {least} to {most}"
            );
            self.attempts.insert(*key, (*attempts, *attempts));
            self.written.remove(key);
        }
    }

    /// Deliveries that were repeated.
    pub(super) const fn duplicates(&self) -> u32 {
        self.duplicates
    }

    /// Nothing is pending: every accepted recipient has had one result, and those that were
    /// delivered twice are counted.
    pub(super) fn assert_all_done(&self, context: &str) {
        for (key, fate) in &self.fates {
            assert!(
                matches!(fate, Fate::Done | Fate::InDoubt),
                "{context}: {key:?} is {fate:?} at the end"
            );
        }
    }
}

impl Leg {
    fn of(claim: &Claim) -> Self {
        Self {
            number: number_of(claim.id),
            recipients: claim.recipients.clone(),
            attempts: claim.attempts,
        }
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        self.recipients.iter().map(|r| (self.number, *r))
    }

    /// The same result for every recipient.
    pub(super) fn all(&self, result: RecipientResult) -> Report {
        Report {
            results: self.recipients.iter().map(|r| (*r, result)).collect(),
            told: None,
        }
    }
}

pub(super) fn number_of(id: MessageId) -> u64 {
    (id.to_u128() & u128::from(u64::MAX)) as u64
}
