//! What DNS said of each object of a kind, until the next look is due.
//!
//! Promises: bounded by the number of objects seen since the last [`Looks::keep`] that found
//! half of the entries overdue; nothing here is ever stored, so an operator that starts looks at
//! everything anew.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    marker::PhantomData,
    sync::{Mutex, PoisonError},
    time::Duration,
};

mod calendar;

pub use calendar::Calendar;

/// Entries below which nothing is swept out.
const SWEEP_FROM: usize = 64;
/// An entry that nobody came back for within this time after it was due belongs to a deleted object.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);

/// Looks by UID: `I` is what a look `L` depends on besides DNS.
#[derive(Debug)]
pub struct Looks<I, L> {
    kept: Mutex<Kept<L>>,
    inputs: PhantomData<fn(I)>,
}

#[derive(Debug)]
struct Kept<L> {
    /// Boxed: a table of thousands is up to half empty.
    entries: HashMap<Box<str>, Box<Entry<L>>>,
    /// Entries there were after the last sweep.
    swept: usize,
}

#[derive(Debug)]
struct Entry<L> {
    /// A hash: what a look depended on is compared and never read.
    inputs: u64,
    look: L,
    due: Duration,
}

impl<I, L> Default for Looks<I, L> {
    fn default() -> Self {
        Self {
            kept: Mutex::new(Kept {
                entries: HashMap::new(),
                swept: 0,
            }),
            inputs: PhantomData,
        }
    }
}

/// What is known of an object's last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled<L> {
    /// It is good until the next is due, in monotonic time.
    Good(L, Duration),
    /// The next is due, as it was told.
    Due,
    /// There was none, or what it depended on has changed since.
    Unknown,
}

impl<I: Hash, L: Clone> Looks<I, L> {
    /// What is known of the last look for `uid`, which now depends on `inputs`.
    #[must_use]
    pub fn recall(&self, uid: &str, inputs: &I, now: Duration) -> Recalled<L> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.entries.get(uid) {
            Some(entry) if entry.inputs != hash(inputs) => Recalled::Unknown,
            Some(entry) if now < entry.due => Recalled::Good(entry.look.clone(), entry.due),
            Some(_) => Recalled::Due,
            None => Recalled::Unknown,
        }
    }

    /// The last look for `uid`, good or not any more.
    #[must_use]
    pub fn last(&self, uid: &str) -> Option<L> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.get(uid).map(|entry| entry.look.clone())
    }

    /// Keeps `look` until `due`.
    pub fn keep(&self, uid: String, inputs: &I, look: L, due: Duration) {
        let inputs = hash(inputs);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.entries.len() >= SWEEP_FROM.max(2 * kept.swept) {
            kept.entries
                .retain(|_, entry| entry.due + FORGOTTEN_AFTER > due);
            kept.swept = kept.entries.len();
        }
        let entry = Box::new(Entry { inputs, look, due });
        kept.entries.insert(uid.into(), entry);
    }
}

fn hash(inputs: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    inputs.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sending_domain::{observe::Look, plan::tests::fresh};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_look_is_good_until_it_is_due_or_its_inputs_change() {
        let looks = Looks::default();
        let observation = fresh();
        let inputs = observation.inputs();
        assert_eq!(looks.recall("u", &inputs, SECOND), Recalled::Unknown);
        looks.keep("u".into(), &inputs, Look::default(), 5 * SECOND);
        let good = Recalled::Good(Look::default(), 5 * SECOND);
        assert_eq!(looks.recall("u", &inputs, 4 * SECOND), good);
        assert_eq!(looks.recall("u", &inputs, 5 * SECOND), Recalled::Due);
        assert_eq!(looks.last("u"), Some(Look::default()));
        assert_eq!(looks.last("v"), None);
        let mut changed = observation.clone();
        changed.generation += 1;
        let recalled = looks.recall("u", &changed.inputs(), SECOND);
        assert_eq!(recalled, Recalled::Unknown);
        let mut changed = observation;
        changed.tsig = Some("another".into());
        let recalled = looks.recall("u", &changed.inputs(), SECOND);
        assert_eq!(recalled, Recalled::Unknown);
    }

    #[test]
    fn deleted_objects_are_swept_out() {
        let looks = Looks::default();
        for n in 0..10 * SWEEP_FROM {
            let due = SECOND * u32::try_from(n).unwrap() * 60;
            looks.keep(n.to_string(), &fresh().inputs(), Look::default(), due);
        }
        assert!(looks.kept.lock().unwrap().entries.len() <= 3 * SWEEP_FROM);
    }
}
