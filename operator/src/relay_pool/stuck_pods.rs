//! Pods that are there and cannot run: no node takes them, their volume is missing, their image cannot be
//! pulled, their container cannot be made, or it ends again and again.
//!
//! Flow: each time a pool is looked at, the status of its pods is read from the cache ([`scheduling`],
//! [`containers`]). What the cluster says in events alone ([`volumes`]) is read there, now and then, for
//! the first pod that gives cause. The status of the pool tells of the first pod, by ordinal, of which
//! something is known ([`super::status`]).
//!
//! Promises: nothing is told of a pod younger than [`GRACE`], which is on its way. The words of the
//! cluster are told without what differs each time they are said ([`words`]), and while a container ends
//! and is started again it is told all along: a status that tells of such a pod comes to rest. Nothing is
//! written here, and nothing is read past the cache while all pods run.
//!
//! Caveats: the cluster goes on trying all but an image name that is none, so nothing else counts as
//! stalled, however long it lasts.

mod containers;
mod scheduling;
mod volumes;
mod words;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodCondition};
use kube::ResourceExt as _;
use postrider_crds::RelayPool;

use self::volumes::Unsaid;
use super::{build::SPOOL, event_readings::Question, observe, status::is_ready};
use crate::{Context, conditions::Progress, refusal::Refusal};

/// How long a pod may take for its volume to be made, a node to be found and its image to be pulled.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// What is known of a pod that does not accept mail.
#[derive(Debug, PartialEq)]
enum Finding {
    /// Nothing is wrong; with how long until that may have become otherwise by time alone.
    Nothing(Option<Duration>),
    /// Its status tells what is wrong; with how long that lasts by time alone.
    Told(Refusal, Option<Duration>),
    /// Events may tell.
    Unsaid(Unsaid),
}

/// Why pods of `pool` do not run, if that is known, and when to look again by time alone.
pub(super) async fn look(ctx: &Context, pool: &RelayPool) -> (Option<Refusal>, Option<Duration>) {
    let key = observe::key(pool);
    let (pods, claims) = (&ctx.stores.pods, &ctx.stores.claims);
    let claims = observe::of_pool(claims, &key);
    let mut findings: Vec<Finding> = Vec::new();
    let pods = observe::of_pool(pods, &key);
    for ordinal in 0..pool.spec.replicas {
        let name = format!("{}-{ordinal}", key.name);
        let Some(pod) = pods.iter().find(|pod| pod.name_any() == name) else {
            continue;
        };
        let claim = format!("{SPOOL}-{name}");
        let claim = claims.iter().find(|other| other.name_any() == claim);
        findings.push(judge(pod, claim.map(AsRef::as_ref), ctx.now()));
    }
    match first(findings) {
        Finding::Nothing(wait) => {
            ctx.stuck_pods.over(&key);
            (None, wait)
        }
        Finding::Told(refusal, wait) => {
            ctx.stuck_pods.over(&key);
            (Some(refusal), wait)
        }
        Finding::Unsaid(unsaid) => {
            let question = Question {
                about: &unsaid.about,
                fields: "",
                grace: Duration::ZERO,
            };
            let judged = |events: &[_], now| unsaid.judge(events, now);
            let (said, again) = ctx.stuck_pods.ask(ctx, &key, &question, judged).await;
            (said, Some(again))
        }
    }
}

/// What is told of several pods: what the status of the first tells, or else what events may.
fn first(findings: Vec<Finding>) -> Finding {
    let mut unsaid = None;
    let mut soonest: Option<Duration> = None;
    for finding in findings {
        match finding {
            Finding::Told(..) => return finding,
            Finding::Unsaid(_) if unsaid.is_none() => unsaid = Some(finding),
            Finding::Unsaid(_) | Finding::Nothing(None) => {}
            Finding::Nothing(Some(wait)) => {
                soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
            }
        }
    }
    unsaid.unwrap_or(Finding::Nothing(soonest))
}

/// Judges `pod`, whose volume is `claim`.
fn judge(pod: &Pod, claim: Option<&PersistentVolumeClaim>, now: Timestamp) -> Finding {
    if is_ready(pod) || pod.metadata.deletion_timestamp.is_some() {
        return Finding::Nothing(None);
    }
    let made = pod.metadata.creation_timestamp.as_ref();
    let age = made.map_or(SignedDuration::MAX, |made| now.duration_since(made.0));
    if age < GRACE {
        // By a clock that is behind it may have been made in the future.
        let wait = (GRACE - age).min(GRACE);
        return Finding::Nothing(Some(wait.unsigned_abs()));
    }
    let scheduled = condition(pod, "PodScheduled");
    if scheduled.is_some_and(|scheduled| scheduled.status == "True") {
        if let Some((refusal, wait)) = containers::judge(pod, now) {
            return Finding::Told(refusal, wait);
        }
        return match containers::are_awaited(pod) {
            true => Unsaid::of_pod(pod).map_or(Finding::Nothing(None), Finding::Unsaid),
            false => Finding::Nothing(None),
        };
    }
    let refusal = scheduled.and_then(|scheduled| scheduling::judge(pod, scheduled));
    let unbound = claim.filter(|claim| !volumes::is_bound(claim));
    let about_volume = scheduled.is_none_or(scheduling::is_about_volume);
    match (unbound.filter(|_| about_volume), refusal) {
        (Some(claim), refusal) => {
            let unsaid = Unsaid::of_claim(pod, claim, refusal.is_some());
            unsaid.map_or(Finding::Nothing(None), Finding::Unsaid)
        }
        (None, Some(refusal)) => Finding::Told(refusal, None),
        (None, None) => Finding::Nothing(None),
    }
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// A pod that cannot run: what it cannot do, why in the cluster's words, if there are any, and what to do.
fn refusal(reason: &'static str, pod: &str, (cannot, why, remedy): (&str, &str, &str)) -> Refusal {
    let why = match why {
        "" => String::new(),
        why => format!(": {}", words::steady(why)),
    };
    Refusal {
        reason,
        message: format!("Pod {pod} {cannot}{why}; {remedy}"),
        progress: Progress::Reconciling,
    }
}

#[cfg(test)]
mod tests;
