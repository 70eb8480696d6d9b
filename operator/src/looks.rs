//! What DNS said of each object of a kind, until the next look is due.
//!
//! Promises: bounded by the number of objects seen since the last [`Looks::keep`] that found
//! half of the entries overdue; nothing here is ever stored, so an operator that starts looks at
//! everything anew.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Entries below which nothing is swept out.
const SWEEP_FROM: usize = 64;
/// An entry that nobody came back for within this time after it was due belongs to a deleted object.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);

/// Looks by UID: `I` is what a look `L` depends on besides DNS.
#[derive(Debug)]
pub struct Looks<I, L> {
    kept: Mutex<Kept<I, L>>,
}

#[derive(Debug)]
struct Kept<I, L> {
    entries: HashMap<String, Entry<I, L>>,
    /// Entries there were after the last sweep.
    swept: usize,
}

#[derive(Debug)]
struct Entry<I, L> {
    inputs: I,
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
        }
    }
}

impl<I: PartialEq, L: Clone> Looks<I, L> {
    /// The look kept for `uid` and when the next is due, in monotonic time; `None` when one is due
    /// or when what it depended on has changed.
    #[must_use]
    pub fn recall(&self, uid: &str, inputs: &I, now: Duration) -> Option<(L, Duration)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.entries.get(uid)?;
        (entry.inputs == *inputs && now < entry.due).then(|| (entry.look.clone(), entry.due))
    }

    /// Keeps `look` until `due`.
    pub fn keep(&self, uid: String, inputs: I, look: L, due: Duration) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.entries.len() >= SWEEP_FROM.max(2 * kept.swept) {
            kept.entries
                .retain(|_, entry| entry.due + FORGOTTEN_AFTER > due);
            kept.swept = kept.entries.len();
        }
        kept.entries.insert(uid, Entry { inputs, look, due });
    }
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
        assert!(looks.recall("u", &inputs, SECOND).is_none());
        looks.keep("u".into(), inputs.clone(), Look::default(), 5 * SECOND);
        assert_eq!(
            looks.recall("u", &inputs, 4 * SECOND).unwrap().1,
            5 * SECOND
        );
        assert!(looks.recall("u", &inputs, 5 * SECOND).is_none());
        let mut changed = observation.clone();
        changed.generation += 1;
        assert!(looks.recall("u", &changed.inputs(), SECOND).is_none());
        let mut changed = observation;
        changed.tsig = Some("another".into());
        assert!(looks.recall("u", &changed.inputs(), SECOND).is_none());
    }

    #[test]
    fn deleted_objects_are_swept_out() {
        let looks = Looks::default();
        for n in 0..10 * SWEEP_FROM {
            let due = SECOND * u32::try_from(n).unwrap() * 60;
            looks.keep(n.to_string(), fresh().inputs(), Look::default(), due);
        }
        assert!(looks.kept.lock().unwrap().entries.len() <= 3 * SWEEP_FROM);
    }
}
