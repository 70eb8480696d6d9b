//! A SendingDomain that names another pool than before: the pool it has left sends what it has of
//! its mail.
//!
//! Flow: `status.pools` has the pool that a domain names from the first reconciliation on. When the
//! domain names another, the one it has left goes by that: it keeps the domain in its keyring, with
//! its keys, and closes it ([`super::queued`]). Once nothing of the domain is queued there, the
//! pool is taken off the status, which is what its keyring goes by again.
//!
//! Guarantees: a pool is noted before anything else is done about a domain that names it, and only
//! onto the object that was read, so none is missed however fast and often a domain moves. A key
//! counts as let go only when the pools left have let it go too ([`super::observe`]). Where a
//! domain moves back, the pool it comes back to takes its mail again.
//!
//! Caveats: a pool that is deleted takes what it has with it, as it does of a domain that names it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use postrider_crds::{
    MailPool, SendingDomain, SendingDomainStatus,
    condition::{reasons, types},
    relay_config::Admission,
};

use super::{
    observe::Observation,
    queued::{self, Verdict},
};
use crate::{
    Context, Error,
    conditions::{Fact, Status},
    events::{Notice, Severity},
    names::DOMAIN_MANAGER,
};

/// The action of events.
const ACTION: &str = "Move";

/// Whether the pool that a domain names exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existence {
    Exists,
    Missing,
}

/// The pools that `domain` has left and that may have mail of it, each with the time since when it takes
/// no more, if that is noted.
pub(super) fn left(domain: &SendingDomain) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
    let named = &domain.spec.pool_ref.name;
    let noted = domain.status.iter().flat_map(|status| &status.pools);
    let left = noted.filter(move |pool| pool.name != *named);
    left.map(|pool| (pool.name.as_str(), pool.left_at.as_ref().map(|at| at.0)))
}

/// What has become of the mail of `domain` in each of the pools that it has left.
pub(super) fn observe(domain: &SendingDomain, ctx: &Context) -> Vec<Verdict> {
    let now = ctx.steady_now();
    let left = left(domain);
    // Until it is noted, it was just now.
    left.map(|(pool, at)| queued::observe(domain, pool, at.or(Some(now)), ctx))
        .map(|facts| queued::judge(facts, now))
        .collect()
}

/// `pools` as they are to be noted of a domain that names `named`. One that does not exist has no mail.
fn noted(pools: &[MailPool], named: &str, exists: Existence, now: Timestamp) -> Vec<MailPool> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut noted: Vec<MailPool> = pools.to_vec();
    for pool in &mut noted {
        pool.left_at = match pool.name == named {
            true => None,
            false => pool.left_at.take().or(Some(Time(now))),
        };
    }
    if exists == Existence::Exists && !noted.iter().any(|pool| pool.name == named) {
        noted.push(MailPool {
            name: named.to_owned(),
            left_at: None,
        });
    }
    noted
}

/// Notes which pool `domain` names and which it has left, if that is not noted yet; tells whether the
/// object has changed.
pub(super) async fn note(
    domain: &SendingDomain,
    observation: &Observation,
    ctx: &Context,
) -> Result<bool, Error> {
    let previous = &observation.previous;
    let exists = match observation.pool {
        Some(_) => Existence::Exists,
        None => Existence::Missing,
    };
    let named = &observation.spec.pool_ref.name;
    let pools = noted(&previous.pools, named, exists, ctx.steady_now());
    if pools == previous.pools {
        return Ok(false);
    }
    let status = SendingDomainStatus {
        pools,
        ..previous.clone()
    };
    let writer = &ctx.writer;
    writer
        .status_as_read(DOMAIN_MANAGER, domain, &status)
        .await?;
    Ok(true)
}

/// The pools that stay noted.
pub(super) fn kept(observation: &Observation) -> Vec<MailPool> {
    let over = |pool: &MailPool| {
        let mut left = observation.left.iter();
        left.any(|verdict| matches!(verdict, Verdict::Over(end) if end.pool == pool.name))
    };
    let noted = observation.previous.pools.iter();
    noted.filter(|pool| !over(pool)).cloned().collect()
}

/// The condition of a domain that pools it has left have mail of, which is held, where it is, because of
/// `held`.
pub(super) fn moving(observation: &Observation, admission: Admission, held: &str) -> Option<Fact> {
    let waits = observation.left.iter().filter_map(Verdict::wait);
    let words = waits.map(|wait| {
        let (reason, what) = wait.words(&observation.spec.domain, admission, held);
        (reason, in_pool(&wait.pool, &what))
    });
    let (told, words): (Vec<_>, Vec<_>) = words.unzip();
    let reason = match told.contains(&reasons::QUEUE_NOT_EMPTY) {
        true => reasons::QUEUE_NOT_EMPTY,
        false => reasons::QUEUE_UNKNOWN,
    };
    let message = words.join("; ");
    (!words.is_empty()).then(|| Fact::new(types::MOVING, Status::True, reason, message))
}

/// `what` is waited for, told of a pool that a domain has left.
pub(super) fn in_pool(pool: &str, what: &str) -> String {
    format!("in RelayPool {pool}, which the domain has left: {what}")
}

/// Events: that a domain has begun to move, which `fact` says, and that a pool is done with it.
pub(super) fn notices(observation: &Observation, fact: Option<&Fact>) -> Vec<Notice> {
    let mut before = observation.previous.conditions.iter();
    let told = before.any(|condition| condition.type_ == types::MOVING);
    let begun = fact.filter(|_| !told).map(|fact| Notice {
        severity: Severity::Normal,
        reason: fact.reason,
        action: ACTION,
        note: fact.message.clone(),
    });
    let ends = observation.left.iter().filter_map(|verdict| match verdict {
        Verdict::Over(end) => end.notice(&observation.spec.domain, ACTION),
        Verdict::Waiting(_) => None,
    });
    begun.into_iter().chain(ends).collect()
}

#[cfg(test)]
mod tests;
