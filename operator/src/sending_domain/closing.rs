//! The end of a SendingDomain: it stays until its mail has left the queues of its pool, and of the pools
//! that it has left.
//!
//! Flow: [`FINALIZER`] holds every SendingDomain that a pool serves. Once it is being deleted, the
//! keyrings close it ([`super::queued`]). When nothing of it is queued any more, [`step`] takes the
//! finalizer off; only then are published records withdrawn ([`super::publish::farewell`]), and the keys
//! go with the object.
//!
//! Guarantees: the wait for a pool ends as [`super::queued`] promises, for all of them at once by
//! [`ABANDON_ANNOTATION`].

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};
use postrider_crds::{
    SendingDomain,
    condition::{reasons, types},
    relay_config::Admission,
};

use super::{
    moving,
    observe::Observation,
    plan, publish,
    queued::{self, ABANDON_ANNOTATION, End, Verdict, Wait},
};
use crate::{
    Context, Error,
    conditions::{Fact, Status},
    events::{Notice, Severity},
};

/// Keeps a SendingDomain until its mail has left the queues.
pub const FINALIZER: &str = "postrider.dev/deliver-queued";

/// `Ready` of a SendingDomain whose deletion waits for `waits`, in place of `ready`, which tells why mail
/// is held where it is not sent.
pub(super) fn ready(
    waits: &[Wait],
    observation: &Observation,
    admission: Admission,
    ready: &Fact,
) -> Fact {
    let (domain, named) = (&observation.spec.domain, &observation.spec.pool_ref.name);
    let words = waits.iter().map(|wait| {
        let (reason, what) = wait.words(domain, admission, &ready.message);
        match wait.pool == *named {
            true => (reason, what),
            false => (reason, moving::in_pool(&wait.pool, &what)),
        }
    });
    let (reasons, words): (Vec<_>, Vec<_>) = words.unzip();
    let reason = match reasons.contains(&reasons::QUEUE_NOT_EMPTY) {
        true => reasons::QUEUE_NOT_EMPTY,
        false => reasons::QUEUE_UNKNOWN,
    };
    let until = waits.iter().map(|wait| wait.until).max();
    let message = format!(
        "being deleted: {}; it goes by {} at the latest; to leave the mail behind, held, annotate the SendingDomain with {ABANDON_ANNOTATION}=true",
        words.join("; "),
        until.unwrap_or(Timestamp::MIN),
    );
    Fact::new(types::READY, Status::False, reason, message)
}

/// The event for `ready`, when it differs in more than numbers from the `Ready` stored.
pub(super) fn notice(observation: &Observation, ready: &Fact) -> Option<Notice> {
    let mut before = observation.previous.conditions.iter();
    let told = before.any(|c| c.type_ == types::READY && c.reason == ready.reason);
    (!told).then(|| Notice {
        severity: Severity::Normal,
        reason: ready.reason,
        action: "Close",
        note: ready.message.clone(),
    })
}

/// What the deletion of a SendingDomain has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is not being deleted.
    Staying,
    /// Its mail is waited for in these pools, of which there is at least one.
    Waiting(Vec<Wait>),
    /// Its mail has just been waited for: the object has changed.
    Left,
    /// Its mail is not waited for.
    Leaving,
}

/// Goes on with the deletion of `domain`, if it is being deleted.
pub(super) async fn step(domain: &SendingDomain, ctx: &Context) -> Result<Step, Error> {
    if domain.metadata.deletion_timestamp.is_none() {
        return Ok(Step::Staying);
    }
    if !holds(domain) {
        return Ok(Step::Leaving);
    }
    let (waits, ends) = judged(domain, ctx);
    if !waits.is_empty() {
        return Ok(Step::Waiting(waits));
    }
    let others = domain.finalizers().iter().filter(|f| *f != FINALIZER);
    let others: Vec<_> = others.cloned().collect();
    match ctx.writer.finalizers(domain, &others).await {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    let notices = ends
        .iter()
        .filter_map(|end| end.notice(&domain.spec.domain, "Close"));
    for notice in plan::joined(notices.collect()) {
        ctx.events.publish(&notice, &domain.object_ref(&())).await;
    }
    Ok(Step::Left)
}

/// What is waited for in the pools of `domain`, which is being deleted, and what is not.
fn judged(domain: &SendingDomain, ctx: &Context) -> (Vec<Wait>, Vec<End>) {
    let deleted = domain.metadata.deletion_timestamp.as_ref();
    let deleted = deleted.map(|time| time.0);
    let named = queued::observe(domain, &domain.spec.pool_ref.name, deleted, ctx);
    let left = moving::left(domain);
    let left = left.map(|(pool, at)| queued::observe(domain, pool, at.or(deleted), ctx));
    let (mut waits, mut ends) = (Vec::new(), Vec::new());
    for facts in std::iter::once(named).chain(left) {
        match queued::judge(facts, ctx.steady_now()) {
            Verdict::Waiting(wait) => waits.push(wait),
            Verdict::Over(end) => ends.push(end),
        }
    }
    (waits, ends)
}

/// Puts the finalizer onto `domain`, when a pool may take its mail or have some and it has it not
/// yet, with that of [`publish`] where records will be put into a zone; tells whether the object
/// has changed.
pub(super) async fn hold(
    domain: &SendingDomain,
    observation: &Observation,
    ctx: &Context,
) -> Result<bool, Error> {
    let served = observation.pool.is_some() && observation.rival.is_none();
    let may_have_mail = served || observation.waits_for_mail();
    if !may_have_mail || holds(domain) || domain.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let mut finalizers = domain.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    // What publishing will need goes with it: a write for each of thousands of domains less.
    let updates = observation.spec.publish.as_ref();
    let updates = updates.is_some_and(|publish| publish.rfc2136.is_some());
    if updates && !finalizers.iter().any(|f| f == publish::FINALIZER) {
        finalizers.push(publish::FINALIZER.to_owned());
    }
    ctx.writer.finalizers(domain, &finalizers).await?;
    Ok(true)
}

fn holds(domain: &SendingDomain) -> bool {
    domain.finalizers().iter().any(|f| f == FINALIZER)
}

#[cfg(test)]
mod tests;
