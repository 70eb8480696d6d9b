//! The end of what was published: taken out of DNS before the SendingDomain goes, or left there and told.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};
use postrider_crds::{
    SendingDomain, SendingDomainStatus,
    condition::{reasons, types},
};

use super::{
    ABANDON_ANNOTATION, FINALIZER, abandoned,
    fact::{named, published},
    rfc2136::Trouble,
    withdraw,
};
use crate::{
    Context, Error,
    conditions::{self, Status},
    events::{Notice, Severity},
    names::DOMAIN_MANAGER,
    stores,
};

/// How long a deletion waits for the name server, in seconds.
pub(super) const PATIENCE: i64 = 3_600;
/// Wait between two attempts to withdraw.
const WITHDRAW_AGAIN: Duration = Duration::from_secs(15);

/// Serves a SendingDomain that is being deleted: takes its records out of DNS, then lets it go.
///
/// # Errors
///
/// When the API server does not answer.
pub async fn farewell(domain: &SendingDomain, ctx: &Context) -> Result<Action, Error> {
    if !domain.finalizers().iter().any(|f| f == FINALIZER) {
        return Ok(Action::await_change());
    }
    let status = domain.status.clone().unwrap_or_default();
    let published = status.published.clone().unwrap_or_default();
    let result = match &published.rfc2136 {
        Some(settings) => withdraw(domain, settings, &published.records, ctx).await,
        None => Ok(()),
    };
    let reference = domain.object_ref(&());
    match result {
        Ok(()) if published.records.is_empty() => {}
        Ok(()) => {
            let note = format!("{} records are out of DNS", published.records.len());
            tell(
                Severity::Normal,
                reasons::RECORDS_WITHDRAWN,
                note,
                &reference,
                ctx,
            )
            .await;
        }
        Err(trouble) if gives_up(domain, ctx.now()) || is_deserted(domain, &trouble, ctx) => {
            let left = named(published.records.iter());
            let note = format!(
                "left in DNS, remove them by hand: {left}; {}",
                trouble.message
            );
            tell(
                Severity::Warning,
                reasons::RECORDS_LEFT,
                note,
                &reference,
                ctx,
            )
            .await;
        }
        Err(trouble) => {
            wait(domain, status, trouble, ctx).await?;
            return Ok(Action::requeue(WITHDRAW_AGAIN));
        }
    }
    let finalizers = domain.finalizers().iter().filter(|f| *f != FINALIZER);
    let finalizers: Vec<_> = finalizers.cloned().collect();
    match ctx.writer.finalizers(domain, &finalizers).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(Action::await_change()),
    }
}

/// Whether the deletion goes through with records left behind.
pub(super) fn gives_up(domain: &SendingDomain, now: Timestamp) -> bool {
    let since = domain
        .metadata
        .deletion_timestamp
        .as_ref()
        .map(|time| time.0);
    let waited = since.map_or(0, |since| now.as_second() - since.as_second());
    abandoned(domain) || waited >= PATIENCE
}

/// Whether the Secret that is missing went together with the pool, as when a namespace is deleted:
/// then nobody is going to bring it back.
fn is_deserted(domain: &SendingDomain, trouble: &Trouble, ctx: &Context) -> bool {
    let namespace = domain.namespace().unwrap_or_default();
    let pool = stores::get(&ctx.stores.pools, &namespace, &domain.spec.pool_ref.name);
    trouble.reason == reasons::REFERENCE_NOT_FOUND && pool.is_none()
}

/// Says in the status what the deletion waits for, and how to end the wait.
async fn wait(
    domain: &SendingDomain,
    mut status: SendingDomainStatus,
    trouble: Trouble,
    ctx: &Context,
) -> Result<(), Error> {
    let message = format!(
        "the deletion waits up to an hour for published records to be withdrawn: {}; to leave them there now, annotate the SendingDomain with {ABANDON_ANNOTATION}=true",
        trouble.message
    );
    let fact = published(Status::False, trouble.reason, message);
    let generation = domain.metadata.generation.unwrap_or_default();
    let shown = conditions::merge(&status.conditions, &[fact], generation, ctx.now());
    status
        .conditions
        .retain(|condition| condition.type_ != types::PUBLISHED);
    status.conditions.extend(shown);
    let current = domain.status.as_ref();
    ctx.writer
        .status(DOMAIN_MANAGER, domain, current, &status)
        .await?;
    Ok(())
}

async fn tell(
    severity: Severity,
    reason: &'static str,
    note: String,
    reference: &ObjectReference,
    ctx: &Context,
) {
    let notice = Notice {
        severity,
        reason,
        action: "Withdraw",
        note,
    };
    ctx.events.publish(&notice, reference).await;
}
