//! Pods that nobody makes: what the API server has told the controller of StatefulSets, which says so in
//! events about the StatefulSet and nowhere else.
//!
//! Flow: once pods of a pool have been missing for [`GRACE`], these events are read, and again every
//! [`AGAIN`] for as long as a pod is missing. The status tells what the last of them says of the first
//! pod that is missing ([`super::status`]).
//!
//! Promises: nothing is read while every pod is there, and nothing is written here. [`judge`] is pure.
//!
//! Caveats: an event says what was, not what is. One that is older than [`LASTING`] says nothing any
//! more, since the controller tries again before that; what has been cured in between is told until it
//! does.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use postrider_crds::RelayPool;

use super::{loaded::PoolKey, observe};
use crate::{Context, error::Asked, refusal::Refusal, stores};

/// How long a pod may be missing that is being made or replaced.
const GRACE: Duration = Duration::from_secs(5);
/// How often events are read while pods are missing.
const AGAIN: Duration = Duration::from_secs(15);
/// How long an event counts. The controller waits for up to 1,000 s between attempts.
const LASTING: SignedDuration = SignedDuration::from_mins(20);
/// Events read at a time. One stands for all attempts that ended with the same words; they are kept for
/// an hour.
const MOST: u32 = 100;

/// What is known of the missing pods of each pool. Times are monotonic.
#[derive(Debug, Default)]
pub struct RefusedPods(Mutex<HashMap<PoolKey, Lack>>);

/// The missing pods of a pool.
#[derive(Clone, Debug)]
struct Lack {
    /// When the events are to be read.
    due: Duration,
    /// What they said.
    refusal: Option<Refusal>,
}

impl RefusedPods {
    /// What is known of `pool`, of which a pod is missing, and how long until the events are to be read.
    fn lack(&self, pool: &PoolKey, now: Duration) -> (Option<Refusal>, Duration) {
        let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lack = lacks.entry(pool.clone()).or_insert(Lack {
            due: now + GRACE,
            refusal: None,
        });
        (lack.refusal.clone(), lack.due.saturating_sub(now))
    }

    /// Takes note of what the events say, or, if they could not be read, that they are to be read later.
    fn read(&self, pool: &PoolKey, said: Option<&Option<Refusal>>, now: Duration) {
        let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lack) = lacks.get_mut(pool) {
            lack.due = now + AGAIN;
            if let Some(refusal) = said {
                lack.refusal.clone_from(refusal);
            }
        }
    }

    /// No pod of `pool` is missing.
    fn complete(&self, pool: &PoolKey) {
        let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lacks.remove(pool);
    }

    /// Forgets every pool that is not among `existing`.
    pub(super) fn retain(&self, existing: &[PoolKey]) {
        let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lacks.retain(|pool, _| existing.contains(pool));
    }
}

/// Why pods of `pool` are not made, if that is known, and when to look again while some are missing.
pub(super) async fn look(ctx: &Context, pool: &RelayPool) -> (Option<Refusal>, Option<Duration>) {
    let key = observe::key(pool);
    let set = stores::get(&ctx.stores.stateful_sets, &key.namespace, &key.name);
    let missing = missing(ctx, pool, &key);
    let Some(uid) = set
        .and_then(|set| set.uid())
        .filter(|_| !missing.is_empty())
    else {
        ctx.refused_pods.complete(&key);
        return (None, None);
    };
    let (known, wait) = ctx.refused_pods.lack(&key, ctx.clock.monotonic());
    if !wait.is_zero() {
        return (known, Some(wait));
    }
    let about = format!("regarding.uid={uid},reason=FailedCreate");
    let events = ctx.writer.list::<Event>(&key.namespace, &about, MOST).await;
    let said = match events {
        Ok(events) => Some(judge(&events, &missing, ctx.now())),
        Err(error) => {
            tracing::warn!(namespace = key.namespace, pool = key.name, %error, "events not read");
            None
        }
    };
    ctx.refused_pods
        .read(&key, said.as_ref(), ctx.clock.monotonic());
    (said.unwrap_or(known), Some(AGAIN))
}

/// Ordinals of the pods that `pool` should have and that do not exist.
fn missing(ctx: &Context, pool: &RelayPool, key: &PoolKey) -> Vec<String> {
    let pods = observe::of_pool(&ctx.stores.pods, key);
    let there: BTreeSet<String> = pods.iter().map(|pod| pod.name_any()).collect();
    let wanted = (0..pool.spec.replicas).map(|ordinal| format!("{}-{ordinal}", key.name));
    wanted.filter(|name| !there.contains(name)).collect()
}

/// What the last of `events` says of the first of the `missing` pods it speaks of.
fn judge(events: &[Event], missing: &[String], now: Timestamp) -> Option<Refusal> {
    let told = events.iter().filter_map(|event| {
        let (pod, why) = failure(event.note.as_deref()?)?;
        let at = last(event)?;
        (now.duration_since(at) <= LASTING).then_some((pod, at, why))
    });
    let told: Vec<_> = told.collect();
    missing.iter().find_map(|pod| {
        let of_pod = told.iter().filter(|(name, ..)| name == pod);
        let (_, _, why) = of_pod.max_by_key(|(_, at, why)| (*at, *why))?;
        let asked = Asked {
            verb: "create",
            kind: "Pod".into(),
            name: pod.clone(),
        };
        Refusal::told(&asked, why)
    })
}

/// The pod of which `note` says that it could not be created, and why. When a volume could not, the pod
/// could not either.
fn failure(note: &str) -> Option<(&str, &str)> {
    // "Create" or "create", by the version of Kubernetes; several alike have words before it.
    let (_, rest) = note.split_once("reate Pod ")?;
    let (pod, rest) = rest.split_once(" in StatefulSet ")?;
    let (_, why) = rest.split_once(" failed error: ")?;
    Some((pod, why))
}

/// When what `event` tells of was last seen.
fn last(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .map(|series| series.last_observed_time.0);
    let counted = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.or(counted).or(first)
}

#[cfg(test)]
mod tests;
