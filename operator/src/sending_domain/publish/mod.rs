//! Puts the records of a SendingDomain into DNS where `spec.publish` asks for it, and takes them out
//! again: when they are no longer wanted, when the target changes, when the object goes.
//!
//! Flow: after a fresh look at DNS, [`sync`] compares what is wanted ([`wanted`]) with what has been
//! published (`status.published`) and seen, and hands the difference to external-dns ([`endpoint`])
//! or a name server ([`rfc2136`]). [`show`] puts the outcome into the status. Of an object that is being
//! deleted, [`keep`] sees to it that what is published stays until its mail has left, and [`farewell()`]
//! takes it out.
//!
//! Guarantees: `Published` is True only for records that the look itself has found. At rest nobody
//! is asked and nothing is written. A deletion waits for the name server at most
//! [`farewell::PATIENCE`], then goes through and says which records it left; the annotation
//! [`ABANDON_ANNOTATION`] ends the wait, and so does the end of the pool and the TSIG Secret.
//! Nothing is withdrawn before the domain's mail has left the queues ([`super::closing`]).

use jiff::Timestamp;
use kube::ResourceExt as _;
use postrider_crds::{
    PublishedRecord, PublishedStatus, Rfc2136, SendingDomain,
    condition::{reasons, types},
};

use super::{observe::Observation, plan::Plan};
use crate::{
    Context, Error,
    conditions::{self, Fact, Status},
    events::{Notice, Severity},
    refusal::Refusal,
};

pub mod endpoint;
mod fact;
mod farewell;
mod handing;
mod rfc2136;
pub mod server;
pub mod update;
pub mod wanted;

pub use farewell::farewell;

use endpoint::Applied;
use fact::published;
use handing::Work;
use rfc2136::Trouble;

/// Keeps a SendingDomain until its records are out of DNS.
pub const FINALIZER: &str = "postrider.dev/withdraw-records";
/// Set to `true`, it lets a deletion leave records behind.
pub const ABANDON_ANNOTATION: &str = "postrider.dev/abandon-records";

/// What came of publishing.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The condition.
    pub fact: Fact,
    /// What has been put into DNS, or may have been.
    pub published: Option<PublishedStatus>,
}

/// Makes DNS hold what `plan` wants of it. `None`: nothing is asked for and nothing is there.
///
/// # Errors
///
/// When the API server does not answer. Trouble with the target is an outcome.
pub async fn sync(
    domain: &SendingDomain,
    observation: &Observation,
    plan: &Plan,
    ctx: &Context,
) -> Result<Option<Outcome>, Error> {
    let before = observation.previous.published.clone();
    if observation.spec.publish.is_none() && before.is_none() {
        return Ok(None);
    }
    let before = before.unwrap_or_default();
    let Some(wanted) = wanted::wanted(observation, &plan.status.records) else {
        let message =
            "nothing is changed while the RelayPool is not there or a key's Secret cannot be read";
        let fact = published(Status::Unknown, reasons::PENDING, message.to_owned());
        let published = observation.previous.published.clone();
        return Ok(Some(Outcome { fact, published }));
    };
    if let Some(trouble) = leave_former_target(domain, observation, &before, ctx).await? {
        let message = format!(
            "records published before cannot be withdrawn: {}; to leave them there, annotate the SendingDomain with {ABANDON_ANNOTATION}=true",
            trouble.message
        );
        let fact = published(Status::False, trouble.reason, message);
        let published = observation.previous.published.clone();
        return Ok(Some(Outcome { fact, published }));
    }
    let work = Work {
        domain,
        observation,
        plan,
        wanted: &wanted,
        ctx,
    };
    let Some(publish) = &observation.spec.publish else {
        return Ok(None);
    };
    match &publish.rfc2136 {
        Some(settings) => work.by_update(settings, &before).await.map(Some),
        None => work.by_endpoint().await.map(Some),
    }
}

/// Takes everything out of a target that `spec.publish` no longer names.
async fn leave_former_target(
    domain: &SendingDomain,
    observation: &Observation,
    before: &PublishedStatus,
    ctx: &Context,
) -> Result<Option<Trouble>, Error> {
    let publish = observation.spec.publish.as_ref();
    if before.dns_endpoint.is_some() && publish.is_none_or(|p| p.dns_endpoint.is_none()) {
        // Not installed any more, or somebody else's by now: nothing of ours is left.
        let applied = endpoint::apply(domain, &[], ctx).await?;
        if let Applied::Refused(Refusal { message, .. }) = applied
            && !abandoned(domain)
        {
            let reason = reasons::PUBLISHER_REFUSED;
            return Ok(Some(Trouble { reason, message }));
        }
    }
    let Some(former) = &before.rfc2136 else {
        return Ok(None);
    };
    let same = publish
        .and_then(|p| p.rfc2136.as_ref())
        .is_some_and(|now| same_target(now, former));
    if same || abandoned(domain) {
        return Ok(None);
    }
    Ok(withdraw(domain, former, &before.records, ctx).await.err())
}

fn same_target(a: &Rfc2136, b: &Rfc2136) -> bool {
    (&a.server, &a.zone) == (&b.server, &b.zone)
}

fn abandoned(domain: &SendingDomain) -> bool {
    domain
        .annotations()
        .get(ABANDON_ANNOTATION)
        .is_some_and(|value| value == "true")
}

async fn withdraw(
    domain: &SendingDomain,
    settings: &Rfc2136,
    records: &[PublishedRecord],
    ctx: &Context,
) -> Result<(), Trouble> {
    if records.is_empty() {
        return Ok(());
    }
    let server = rfc2136::open(domain, settings, ctx).await?;
    rfc2136::take_out(&server, records, ctx).await
}

/// Puts `outcome` into the status and the events of `plan`.
pub fn show(plan: &mut Plan, observation: &Observation, outcome: Option<Outcome>, now: Timestamp) {
    let Some(Outcome { fact, published }) = outcome else {
        plan.status.published = None;
        return;
    };
    let previous = &observation.previous.conditions;
    if !conditions::has(previous, types::PUBLISHED, fact.status, fact.reason) {
        let severity = match fact.status {
            Status::True => Some(Severity::Normal),
            Status::False => Some(Severity::Warning),
            Status::Unknown => None,
        };
        plan.notices.extend(severity.map(|severity| Notice {
            severity,
            reason: fact.reason,
            action: "Publish",
            note: fact.message.clone(),
        }));
    }
    let condition = conditions::merge(previous, &[fact], observation.generation, now);
    plan.status.conditions.extend(condition);
    plan.status.published = published;
}

/// Keeps what has been published of a domain that is being deleted and whose mail is on its way. A
/// DNSEndpoint that is gone, by hand or, as a deletion in the foreground has it, before its owner,
/// is made again as it was: external-dns would take out what the mail is verified by.
///
/// # Errors
///
/// When the API server does not answer.
pub async fn keep(
    domain: &SendingDomain,
    observation: &Observation,
    plan: &mut Plan,
    ctx: &Context,
) -> Result<(), Error> {
    let handed = observation.previous.published.as_ref();
    let Some(handed) = handed.filter(|handed| handed.dns_endpoint.is_some()) else {
        show_again(plan, observation);
        return Ok(());
    };
    let work = Work {
        domain,
        observation,
        plan,
        wanted: &handed.records,
        ctx,
    };
    let outcome = work.by_endpoint().await?;
    show(plan, observation, Some(outcome), ctx.now());
    Ok(())
}

/// Puts into the status of `plan` what was there before: nothing has been looked at anew.
pub fn show_again(plan: &mut Plan, observation: &Observation) {
    let before = observation.previous.conditions.iter();
    let published = before.filter(|condition| condition.type_ == types::PUBLISHED);
    plan.status.conditions.extend(published.cloned());
    plan.status
        .published
        .clone_from(&observation.previous.published);
}

#[cfg(test)]
mod tests;
