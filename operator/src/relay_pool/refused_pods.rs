//! Pods that nobody makes: what the API server has told the controller of StatefulSets, which says so in
//! events about the StatefulSet and nowhere else.
//!
//! Flow: once pods of a pool have been missing for [`GRACE`], these events are read, now and then for as
//! long as a pod is missing. The status tells what the last of them says of the first
//! pod that is missing ([`super::status`]).
//!
//! Promises: nothing is read while every pod is there, and nothing is written here. [`judge`] is pure.
//!
//! Caveats: an event says what was, not what is. One that is older than [`LASTING`] says nothing any
//! more, since the controller tries again before that; what has been cured in between is told until it
//! does.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use postrider_crds::RelayPool;

use super::{
    event_readings::{Question, last},
    loaded::PoolKey,
    observe,
};
use crate::{Context, error::Asked, refusal::Refusal, stores};

/// How long a pod may be missing that is being made or replaced.
const GRACE: Duration = Duration::from_secs(5);
/// How long an event counts. The controller waits for up to 1,000 s between attempts.
const LASTING: SignedDuration = SignedDuration::from_mins(20);

/// Why pods of `pool` are not made, if that is known, and when to look again while some are missing.
pub(super) async fn look(ctx: &Context, pool: &RelayPool) -> (Option<Refusal>, Option<Duration>) {
    let key = observe::key(pool);
    let set = stores::get(&ctx.stores.stateful_sets, &key.namespace, &key.name);
    let missing = missing(ctx, pool, &key);
    let Some(uid) = set
        .and_then(|set| set.uid())
        .filter(|_| !missing.is_empty())
    else {
        ctx.refused_pods.over(&key);
        return (None, None);
    };
    let question = Question {
        about: &uid,
        fields: ",reason=FailedCreate",
        grace: GRACE,
    };
    let judged = |events: &[Event], now| judge(events, &missing, now);
    let (known, again) = ctx.refused_pods.ask(ctx, &key, &question, judged).await;
    (known, Some(again))
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

#[cfg(test)]
mod tests;
