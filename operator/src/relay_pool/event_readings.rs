//! Events about the objects of pools, read now and then while something is wrong: what the cluster's
//! controllers and kubelets say there and nowhere else.
//!
//! Promises: however often a pool is looked at, events about it are read after a grace and each
//! [`AGAIN`] from then on. Nothing is written here.
//!
//! Caveats: an event says what was, not what is; who reads one judges how long it counts.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;

use super::loaded::PoolKey;
use crate::{Context, refusal::Refusal};

/// How often events are read while something is wrong.
pub(super) const AGAIN: Duration = Duration::from_secs(15);
/// Events read at a time. One stands for all that had the same words; they are kept for an hour.
const MOST: u32 = 100;

/// What events have told of each pool. Times are monotonic.
#[derive(Debug, Default)]
pub struct Readings(Mutex<HashMap<PoolKey, Reading>>);

#[derive(Clone, Debug)]
struct Reading {
    /// The UID of the object they are about.
    about: String,
    /// When they are to be read.
    due: Duration,
    /// What they said.
    said: Option<Refusal>,
}

/// Which events are to be read.
pub(super) struct Question<'a> {
    /// The UID of the object they are about.
    pub(super) about: &'a str,
    /// More that they have to be, as a field selector.
    pub(super) fields: &'a str,
    /// How long after the question first came up.
    pub(super) grace: Duration,
}

impl Readings {
    /// What `judge` makes of the events that `question` is about, as they were last read, and how long
    /// until they are to be read again.
    pub(super) async fn ask(
        &self,
        ctx: &Context,
        pool: &PoolKey,
        question: &Question<'_>,
        judge: impl FnOnce(&[Event], Timestamp) -> Option<Refusal>,
    ) -> (Option<Refusal>, Duration) {
        let (known, wait) = self.known(pool, question, ctx.clock.monotonic());
        if !wait.is_zero() {
            return (known, wait);
        }
        let fields = format!("regarding.uid={}{}", question.about, question.fields);
        let events = ctx
            .writer
            .list::<Event>(&pool.namespace, &fields, MOST)
            .await;
        let said = match events {
            Ok(events) => Some(judge(&events, ctx.now())),
            Err(error) => {
                let PoolKey { namespace, name } = pool;
                tracing::warn!(namespace, pool = name, %error, "events not read");
                None
            }
        };
        self.read(pool, said.as_ref(), ctx.clock.monotonic());
        (said.unwrap_or(known), AGAIN)
    }

    /// What is known, and how long until events are to be read.
    fn known(
        &self,
        pool: &PoolKey,
        question: &Question<'_>,
        now: Duration,
    ) -> (Option<Refusal>, Duration) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Reading {
            about: question.about.to_owned(),
            due: now + question.grace,
            said: None,
        };
        let reading = readings.entry(pool.clone()).or_insert_with(fresh);
        if reading.about != question.about {
            *reading = fresh();
        }
        (reading.said.clone(), reading.due.saturating_sub(now))
    }

    /// Takes note of what the events say, or, if they could not be read, that they are to be read later.
    fn read(&self, pool: &PoolKey, said: Option<&Option<Refusal>>, now: Duration) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = readings.get_mut(pool) {
            reading.due = now + AGAIN;
            if let Some(said) = said {
                reading.said.clone_from(said);
            }
        }
    }

    /// Nothing is wrong with `pool` that events would tell of.
    pub(super) fn over(&self, pool: &PoolKey) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readings.remove(pool);
    }

    /// Forgets every pool that is not among `existing`.
    pub(super) fn retain(&self, existing: &[PoolKey]) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readings.retain(|pool, _| existing.contains(pool));
    }
}

/// When what `event` tells of was last seen.
pub(super) fn last(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .map(|series| series.last_observed_time.0);
    let counted = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.or(counted).or(first)
}

#[cfg(test)]
mod tests {
    use postrider_crds::condition::reasons;

    use super::*;
    use crate::conditions::Progress;

    fn refusal() -> Refusal {
        Refusal {
            reason: reasons::QUOTA_EXCEEDED,
            message: "no".into(),
            progress: Progress::Reconciling,
        }
    }

    #[test]
    fn events_are_read_after_a_while_and_now_and_then() {
        let (readings, shop) = (
            Readings::default(),
            PoolKey {
                namespace: "mail".into(),
                name: "shop".into(),
            },
        );
        let second = |n: u64| Duration::from_secs(n);
        let known = |about: &str, now| {
            let question = Question {
                about,
                fields: "",
                grace: second(5),
            };
            readings.known(&shop, &question, second(now))
        };
        assert_eq!(known("u", 100), (None, second(5)));
        assert_eq!(known("u", 103), (None, second(2)));
        assert_eq!(known("u", 105).1, Duration::ZERO);
        let said = Some(refusal());
        readings.read(&shop, Some(&said), second(106));
        assert_eq!(known("u", 106), (said.clone(), AGAIN));
        readings.read(&shop, None, second(121));
        assert_eq!(known("u", 121), (said, AGAIN), "not read");
        assert_eq!(known("v", 122), (None, second(5)), "about another");
        readings.over(&shop);
        assert_eq!(known("v", 125), (None, second(5)));
        readings.retain(&[]);
        assert_eq!(known("v", 200), (None, second(5)));
    }
}
