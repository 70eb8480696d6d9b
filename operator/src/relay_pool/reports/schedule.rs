//! How often relays are asked: the sooner again, the fresher what they have to load; seldom at rest.
//!
//! Promises: a pod that was never asked is due; none is asked twice within [`QUICKEST`], nor those of
//! a large pool more than [`ASKS_PER_SECOND`] times together, but each at least every [`UNSETTLED`]
//! while something is under way. Times are monotonic and passed in.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use crate::relay_pool::loaded::{PoolKey, PoolState};

/// The shortest time between two questions to a pod. A relay looks for changes once a second, so half
/// of that hardly adds to what a change takes.
const QUICKEST: Duration = Duration::from_millis(500);
/// The longest while something is under way.
const UNSETTLED: Duration = Duration::from_secs(3);
/// How often a pod is asked at rest.
const SETTLED: Duration = Duration::from_secs(30);
/// The part of the time that something has been under way after which it is asked again.
const PART: u32 = 4;
/// Questions a second to the pods of a pool: each is a TLS handshake with certificates of both sides,
/// some milliseconds of CPU in all.
const ASKS_PER_SECOND: u32 = 20;

/// When each pod is to be asked.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// When each pod was last asked, by UID.
    asked: HashMap<String, Duration>,
    /// The same of those that have come since [`Self::begin`].
    present: HashMap<String, Duration>,
    /// What is under way in each pool, and since when.
    under_way: HashMap<PoolKey, (Awaited, Duration)>,
}

/// What the relays of a pool are not known to have loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    /// The same for as long as the same relays have to load the same.
    outline: u64,
    relays: u32,
}

impl Awaited {
    /// What there is to load of `state`, and by how many.
    pub(super) fn of(state: &PoolState) -> Self {
        let (mut outline, rendered) = (DefaultHasher::new(), &state.rendered);
        (&rendered.documents, &rendered.certificates).hash(&mut outline);
        rendered.members.hash(&mut outline);
        Self {
            outline: outline.finish(),
            relays: u32::try_from(rendered.members.len()).unwrap_or(u32::MAX),
        }
    }
}

impl Schedule {
    /// Begins a round over the pods of `pools`.
    pub(super) fn begin(&mut self, pools: &[PoolKey]) {
        self.under_way.retain(|pool, _| pools.contains(pool));
    }

    /// How often each pod of `pool` is asked; `awaited`: what is under way there, if anything is.
    pub(super) fn period(
        &mut self,
        pool: &PoolKey,
        awaited: Option<Awaited>,
        now: Duration,
    ) -> Duration {
        let Some(awaited) = awaited else {
            self.under_way.remove(pool);
            return SETTLED;
        };
        let fresh = (awaited, now);
        let known = self.under_way.entry(pool.clone()).or_insert(fresh);
        if known.0 != awaited {
            *known = fresh;
        }
        let quickest = Duration::from_secs(1) * awaited.relays / ASKS_PER_SECOND;
        let quickest = quickest.clamp(QUICKEST, UNSETTLED);
        (now.saturating_sub(known.1) / PART).clamp(quickest, UNSETTLED)
    }

    /// Whether the pod `uid`, which is asked every `period`, is to be asked now, and then takes note
    /// that it is.
    pub(super) fn is_due(&mut self, uid: &str, period: Duration, now: Duration) -> bool {
        let last = self.asked.get(uid).copied();
        let waits = last.filter(|last| now.saturating_sub(*last) < period);
        self.present.insert(uid.to_owned(), waits.unwrap_or(now));
        waits.is_none()
    }

    /// Ends the round: pods that did not come are forgotten.
    pub(super) fn end(&mut self) {
        self.asked = std::mem::take(&mut self.present);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);

    fn pool() -> PoolKey {
        PoolKey {
            namespace: "mail".into(),
            name: "default".into(),
        }
    }

    fn awaited(outline: u64, relays: u32) -> Awaited {
        Awaited { outline, relays }
    }

    /// The milliseconds at which a pod is asked in the first `until` while `under_way` tells of each
    /// moment what is under way.
    fn asked(until: Duration, under_way: impl Fn(Duration) -> Option<Awaited>) -> Vec<u128> {
        let (mut schedule, pool) = (Schedule::default(), pool());
        let ticks = std::iter::successors(Some(Duration::ZERO), |at| Some(*at + TICK));
        let due = ticks.take_while(|at| *at < until).filter(|at| {
            schedule.begin(std::slice::from_ref(&pool));
            let period = schedule.period(&pool, under_way(*at), *at);
            let due = schedule.is_due("u", period, *at);
            schedule.end();
            due
        });
        due.map(|at| at.as_millis()).collect()
    }

    #[test]
    fn the_fresher_a_change_the_sooner_it_is_asked_again() {
        let times = asked(Duration::from_secs(20), |_| Some(awaited(1, 3)));
        assert_eq!(times[..5], [0, 500, 1_000, 1_500, 2_000]);
        let gaps: Vec<u128> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.is_sorted(), "{gaps:?}");
        assert_eq!(gaps.last(), Some(&3_000));
    }

    #[test]
    fn at_rest_it_is_asked_seldom_and_at_once_when_something_changes() {
        let changes = Duration::from_secs(31);
        let times = asked(Duration::from_secs(32), |at| {
            (at >= changes).then(|| awaited(1, 3))
        });
        assert_eq!(times, [0, 30_000, 31_000, 31_500]);
    }

    #[test]
    fn a_change_after_another_begins_anew() {
        let second = |at: Duration| u64::from(at >= Duration::from_secs(20));
        let times = asked(Duration::from_secs(22), |at| Some(awaited(second(at), 3)));
        let from = times.partition_point(|at| *at < 20_000);
        assert_eq!(times[from..], [20_000, 20_500, 21_000, 21_500]);
    }

    #[test]
    fn many_relays_are_asked_less_often_but_not_less_than_every_three_seconds() {
        let mut schedule = Schedule::default();
        let mut period = |relays| schedule.period(&pool(), Some(awaited(1, relays)), TICK);
        assert_eq!(period(10), QUICKEST);
        assert_eq!(period(40), Duration::from_secs(2));
        assert_eq!(period(1_000), UNSETTLED);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut schedule = Schedule::default();
        schedule.begin(&[pool()]);
        let period = schedule.period(&pool(), Some(awaited(1, 1)), TICK);
        assert!(schedule.is_due("u", period, TICK));
        schedule.end();
        schedule.begin(&[]);
        schedule.end();
        assert!(schedule.asked.is_empty() && schedule.under_way.is_empty());
    }
}
