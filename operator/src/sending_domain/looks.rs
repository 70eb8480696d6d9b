//! What DNS said of each SendingDomain, until the next look is due.
//!
//! Promises: bounded by the number of SendingDomains seen since the last [`Looks::keep`] that found
//! half of the entries overdue; nothing here is ever stored, so an operator that starts looks at
//! everything anew.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::observe::{Inputs, Look};

/// Entries below which nothing is swept out.
const SWEEP_FROM: usize = 64;
/// An entry that nobody came back for within this time after it was due belongs to a deleted object.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);

/// Looks by UID.
#[derive(Debug, Default)]
pub struct Looks {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<String, Entry>,
    /// Entries there were after the last sweep.
    swept: usize,
}

#[derive(Debug)]
struct Entry {
    inputs: Inputs,
    look: Look,
    due: Duration,
}

impl Looks {
    /// The look kept for `uid` and when the next is due, in monotonic time; `None` when one is due
    /// or when what it depended on has changed.
    #[must_use]
    pub fn recall(&self, uid: &str, inputs: &Inputs, now: Duration) -> Option<(Look, Duration)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.entries.get(uid)?;
        (entry.inputs == *inputs && now < entry.due).then(|| (entry.look.clone(), entry.due))
    }

    /// Keeps `look` until `due`.
    pub fn keep(&self, uid: String, inputs: Inputs, look: Look, due: Duration) {
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
    use crate::sending_domain::plan::tests::fresh;

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
        let mut changed = observation;
        changed.generation += 1;
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
