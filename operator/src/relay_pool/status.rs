//! Judges how a pool is doing: its status, by the rules of kstatus, and what to tell. Pure.
//!
//! Promises: Ready is True only when every wanted member accepts mail and runs the rendered
//! configuration. The depth of the queue is written at most once a minute. Messages change only
//! when facts do.

mod facts;
mod members;
mod notices;
mod queue;
mod spools;

use std::time::Duration;

use kube::ResourceExt as _;
use postrider_crds::{MemberState, RelayPoolStatus};

use self::facts::View;
pub(super) use self::members::{config_of, is_ready};
use super::{dns::Shown, loaded::Rendered, observe::Observation};
use crate::{
    conditions::{merge, with_progress},
    events::Notice,
    names,
    refusal::Refusal,
};

/// A status, what to tell, and when the depth of the queue may be written.
pub(super) struct Verdict {
    pub(super) status: RelayPoolStatus,
    pub(super) notices: Vec<Notice>,
    /// `Some`: the depth has changed and may be written after this long.
    pub(super) queue_in: Option<Duration>,
}

/// Judges `seen` in the light of what was just rendered, and of what has come of writing it.
pub(super) fn judge(
    seen: &Observation,
    too_large: &[String],
    rendered: &Rendered,
    refusal: Option<&Refusal>,
) -> Verdict {
    let replicas = seen.pool.spec.replicas;
    let before = seen.pool.status.clone().unwrap_or_default();
    let members = members::members(seen, rendered);
    let ready = members
        .iter()
        .filter(|m| m.state != MemberState::Starting)
        .count();
    let ready_replicas = i32::try_from(ready).unwrap_or(i32::MAX);
    let retained = spools::retained(seen, replicas);
    let view = View {
        seen,
        too_large,
        rendered,
        replicas,
        ready_replicas,
        members: &members,
    };

    let Shown { records, facts } = seen.look.shown(&seen.pool, &before, seen.now);
    let [ehlo, ptr] = facts;
    let facts = vec![
        view.available(),
        view.progressing(),
        view.config_applied(),
        spools::spools_retained(&retained),
        ehlo,
        ptr,
    ];
    let (ready, progress) = match refusal {
        Some(refusal) => (refusal.ready(), refusal.progress),
        None => view.ready(&facts),
    };
    let told = refusal.or(seen.hindered_pods.as_ref());
    let told = told.filter(|refusal| refusal.message == ready.message);
    let facts = with_progress([vec![ready], facts].concat(), progress);
    let generation = seen.pool.metadata.generation.unwrap_or(0);
    let conditions = merge(&before.conditions, &facts, generation, seen.now);
    let (queue, queue_in) = queue::queue(seen, &before);
    let mut notices = notices::notices(&before, &facts);
    let untold = told.filter(|refusal| !refusal.is_told(&before.conditions));
    notices.extend(untold.map(Refusal::notice));
    let status = RelayPoolStatus {
        observed_generation: Some(generation),
        conditions,
        replicas: i32::try_from(seen.pods.len()).unwrap_or(i32::MAX),
        ready_replicas,
        selector: selector(&seen.pool.name_any()),
        queue,
        members,
        retained_spools: retained,
        records,
    };
    Verdict {
        status,
        notices,
        queue_in,
    }
}

/// The selector of the pods as text, for the scale subresource.
fn selector(pool: &str) -> String {
    let labels = names::pool_selector(pool);
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}
