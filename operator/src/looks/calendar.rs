//! When DNS may be looked at: no more than so many looks fall into a second, however many domains
//! there are and however many of them change or miss records at a time.
//!
//! A look takes some five questions once all is well and some twenty while keys are on their way.
//! What finds its second full gets the next that is not; so looks that came together, as at a start,
//! are apart from then on.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Most looks of a second: 10,000 domains within two minutes of a start, and 60,000 of them each ten
/// minutes. A public resolver takes some thousand questions a second from one address.
const LOOKS_PER_SECOND: u32 = 100;

/// The looks to come. Times are monotonic.
#[derive(Debug, Default)]
pub struct Calendar(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    /// Looks booked, by second.
    booked: BTreeMap<u64, u32>,
    /// When those that have to wait may look, by UID.
    waiting: HashMap<String, Duration>,
    /// The second in which those that never came were last taken out.
    swept: u64,
}

/// Who has not come for its look so long after it might have belongs to a deleted object.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

impl Calendar {
    /// Books a look for the time `at`, or soon after.
    #[must_use]
    pub fn book(&self, at: Duration, now: Duration) -> Duration {
        self.pages().book(at, now)
    }

    /// How long the object `uid`, which has not booked, has to wait for its look; `None`: no longer.
    #[must_use]
    pub fn wait(&self, uid: &str, now: Duration) -> Option<Duration> {
        let mut pages = self.pages();
        let may = match pages.waiting.get(uid) {
            Some(may) => *may,
            None => pages.book(now, now),
        };
        match may.checked_sub(now).filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                pages.waiting.insert(uid.to_owned(), may);
                Some(wait)
            }
            None => {
                pages.waiting.remove(uid);
                None
            }
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn book(&mut self, at: Duration, now: Duration) -> Duration {
        if self.swept != now.as_secs() {
            self.swept = now.as_secs();
            self.booked = self.booked.split_off(&self.swept);
            self.waiting.retain(|_, may| *may + FORGOTTEN_AFTER > now);
        }
        let at = at.max(now);
        let mut second = at.as_secs();
        while self
            .booked
            .get(&second)
            .is_some_and(|looks| *looks >= LOOKS_PER_SECOND)
        {
            second += 1;
        }
        let looks = self.booked.entry(second).or_insert(0);
        let place = Duration::from_secs(1) * *looks / LOOKS_PER_SECOND;
        *looks += 1;
        if second == at.as_secs() {
            at
        } else {
            Duration::from_secs(second) + place
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_millis(1_000_500);

    #[test]
    fn a_thousand_at_once_are_spread_over_ten_seconds() {
        let calendar = Calendar::default();
        let waits: Vec<Option<Duration>> = (0..1_000)
            .map(|n| calendar.wait(&n.to_string(), NOW))
            .collect();
        let at_once = waits.iter().filter(|wait| wait.is_none()).count();
        assert_eq!(at_once, LOOKS_PER_SECOND as usize);
        let longest = waits.iter().flatten().max().unwrap();
        assert!((8..10).contains(&longest.as_secs()), "{longest:?}");
        let again: Vec<Option<Duration>> = (100..1_000)
            .map(|n| calendar.wait(&n.to_string(), NOW))
            .collect();
        assert_eq!(again, waits[100..], "asking again books nothing");
        let wait = waits[999].unwrap();
        assert_eq!(calendar.wait("999", NOW + wait), None);
    }

    #[test]
    fn a_free_second_is_given_as_it_is_asked_for() {
        let calendar = Calendar::default();
        let at = NOW + Duration::from_millis(600_321);
        assert_eq!(calendar.book(at, NOW), at);
        assert_eq!(calendar.book(Duration::ZERO, NOW), NOW, "never in the past");
    }

    #[test]
    fn who_never_comes_is_forgotten() {
        let calendar = Calendar::default();
        for n in 0..2 * LOOKS_PER_SECOND {
            let _ = calendar.wait(&n.to_string(), NOW);
        }
        assert_eq!(calendar.pages().waiting.len(), LOOKS_PER_SECOND as usize);
        let later = NOW + 2 * FORGOTTEN_AFTER;
        let _ = calendar.book(later, later);
        assert!(calendar.pages().waiting.is_empty());
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_its_share(wishes in proptest::collection::vec(0_u64..8, 1..2_000)) {
            let calendar = Calendar::default();
            let mut seconds: BTreeMap<u64, u32> = BTreeMap::new();
            for wish in wishes {
                let at = calendar.book(NOW + Duration::from_secs(wish), NOW);
                prop_assert!(at >= NOW + Duration::from_secs(wish));
                *seconds.entry(at.as_secs()).or_default() += 1;
            }
            prop_assert!(seconds.values().all(|looks| *looks <= LOOKS_PER_SECOND));
        }
    }
}
