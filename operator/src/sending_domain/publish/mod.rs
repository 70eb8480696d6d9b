//! Puts the records of a SendingDomain into DNS where `spec.publish` asks for it, and takes them out
//! again: when they are no longer wanted, when the target changes, when the object goes.
//!
//! Flow: after a fresh look at DNS, [`sync`] compares what is wanted ([`wanted`]) with what has been
//! published (`status.published`) and seen, and hands the difference to external-dns ([`endpoint`])
//! or a name server ([`rfc2136`]). [`show`] puts the outcome into the status. [`farewell`] serves
//! objects that are being deleted.
//!
//! Guarantees: `Published` is True only for records that the look itself has found. At rest nobody
//! is asked and nothing is written. A deletion waits for the name server at most [`PATIENCE`], then
//! goes through and says which records it left; the annotation [`ABANDON_ANNOTATION`] ends the wait,
//! and so does the end of the pool and the TSIG Secret. Nothing is withdrawn before the domain's mail
//! has left the queues ([`super::closing`]).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};
use postrider_crds::{
    PublishedRecord, PublishedStatus, RecordState, RecordStatus, Rfc2136, SendingDomain,
    SendingDomainStatus,
    condition::{reasons, types},
};

use super::{observe::Observation, plan::Plan};
use crate::{
    Context, Error,
    conditions::{self, Fact, Status},
    events::{Notice, Severity},
    names::DOMAIN_MANAGER,
    refusal::Refusal,
    stores,
};

pub mod endpoint;
mod rfc2136;
pub mod server;
pub mod update;
pub mod wanted;

use endpoint::Applied;
use rfc2136::Trouble;

/// Keeps a SendingDomain until its records are out of DNS.
pub const FINALIZER: &str = "postrider.dev/withdraw-records";
/// Set to `true`, it lets a deletion leave records behind.
pub const ABANDON_ANNOTATION: &str = "postrider.dev/abandon-records";
/// How long a deletion waits for the name server, in seconds.
pub const PATIENCE: i64 = 3_600;
/// Wait between two attempts to withdraw.
const WITHDRAW_AGAIN: Duration = Duration::from_secs(15);
/// Records that a message names.
const NAMED: usize = 5;

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

struct Work<'a> {
    domain: &'a SendingDomain,
    observation: &'a Observation,
    plan: &'a Plan,
    wanted: &'a [PublishedRecord],
    ctx: &'a Context,
}

impl Work<'_> {
    async fn by_endpoint(&self) -> Result<Outcome, Error> {
        let name = endpoint::name(self.domain);
        let applied = endpoint::apply(self.domain, self.wanted, self.ctx).await?;
        let (reason, message) = match applied {
            Applied::Done => {
                let place = format!("DNSEndpoint {name}");
                let fact = seen(&self.plan.status.records, self.wanted, &place);
                let now_published = PublishedStatus {
                    dns_endpoint: Some(name),
                    rfc2136: None,
                    records: self.wanted.to_vec(),
                };
                return Ok(Outcome { fact, published: Some(now_published) });
            }
            Applied::NotInstalled => (
                reasons::PUBLISHER_NOT_INSTALLED,
                "the cluster has no kind DNSEndpoint; install external-dns with its CRD, or take spec.publish.dnsEndpoint out".to_owned(),
            ),
            Applied::Refused(refusal) => (reasons::PUBLISHER_REFUSED, refusal.message),
            Applied::Foreign => (
                reasons::RECORD_CONFLICT,
                format!("DNSEndpoint {name} is not ours; delete or rename it"),
            ),
        };
        let fact = published(Status::False, reason, message);
        let published = self.observation.previous.published.clone();
        Ok(Outcome { fact, published })
    }

    async fn by_update(
        &self,
        settings: &Rfc2136,
        before: &PublishedStatus,
    ) -> Result<Outcome, Error> {
        // What a former target held has been taken out of it.
        let former = before.rfc2136.as_ref();
        let before = match former.is_some_and(|former| same_target(former, settings)) {
            true => before.records.as_slice(),
            false => &[],
        };
        let (own, outside) = self.divided(settings, before);
        let unwanted = before
            .iter()
            .filter(|old| !has(&own, old))
            .cloned()
            .collect();
        let work = Zone {
            settings,
            own,
            outside,
            unwanted,
        };
        let records = &self.plan.status.records;
        let is_there = |record| before.contains(record) && is_verified(records, record);
        if work.unwanted.is_empty() && work.own.iter().all(is_there) {
            return Ok(Outcome {
                fact: work.seen(records),
                published: Some(work.published()),
            });
        }
        match rfc2136::open(self.domain, settings, self.ctx).await {
            Ok(server) => self.hand_over(&server, &work).await,
            Err(trouble) => Ok(Outcome {
                fact: published(Status::False, trouble.reason, trouble.message),
                published: self.observation.previous.published.clone(),
            }),
        }
    }

    async fn hand_over(&self, server: &server::Server, work: &Zone<'_>) -> Result<Outcome, Error> {
        let mut noted = work.published();
        noted.records.extend(work.unwanted.iter().cloned());
        self.note(&noted).await?;
        let put = rfc2136::put(server, &work.own, &work.unwanted, self.ctx).await;
        if let Some(trouble) = put.trouble {
            return Ok(Outcome {
                fact: published(Status::False, trouble.reason, trouble.message),
                published: Some(noted),
            });
        }
        let fact = match put.conflicts.split_first() {
            Some((first, [])) => published(Status::False, reasons::RECORD_CONFLICT, first.clone()),
            Some((first, more)) => {
                let message = format!("{first} (and {} more)", more.len());
                published(Status::False, reasons::RECORD_CONFLICT, message)
            }
            None => work.seen(&self.plan.status.records),
        };
        Ok(Outcome {
            fact,
            published: Some(work.published()),
        })
    }

    /// What is ours to publish, and what is not in the zone. A record that does its duty already
    /// although we have not published it is somebody else's.
    fn divided(
        &self,
        settings: &Rfc2136,
        before: &[PublishedRecord],
    ) -> (Vec<PublishedRecord>, Vec<PublishedRecord>) {
        let zone = format!(".{}", settings.zone);
        let inside = |record: &PublishedRecord| {
            record.name == settings.zone.as_str() || record.name.ends_with(&zone)
        };
        let (own, outside): (Vec<_>, Vec<_>) = self.wanted.iter().cloned().partition(inside);
        let records = &self.plan.status.records;
        let theirs =
            |record: &PublishedRecord| is_verified(records, record) && !has(before, record);
        (
            own.into_iter().filter(|record| !theirs(record)).collect(),
            outside,
        )
    }

    /// Writes down what may be in DNS from now on, before it is, and what keeps the object until it
    /// has been taken out.
    async fn note(&self, published: &PublishedStatus) -> Result<(), Error> {
        if !self.domain.finalizers().iter().any(|f| f == FINALIZER) {
            let mut finalizers = self.domain.finalizers().to_vec();
            finalizers.push(FINALIZER.to_owned());
            self.ctx.writer.finalizers(self.domain, &finalizers).await?;
        }
        let previous = &self.observation.previous;
        if previous.published.as_ref() == Some(published) {
            return Ok(());
        }
        let current = self.domain.status.as_ref();
        let noted = SendingDomainStatus {
            published: Some(published.clone()),
            ..previous.clone()
        };
        let writer = &self.ctx.writer;
        writer
            .status(DOMAIN_MANAGER, self.domain, current, &noted)
            .await?;
        Ok(())
    }
}

/// What there is to do in a zone.
struct Zone<'a> {
    settings: &'a Rfc2136,
    /// Records to have there.
    own: Vec<PublishedRecord>,
    /// Records that would be wanted and are not in the zone.
    outside: Vec<PublishedRecord>,
    /// Records to take out.
    unwanted: Vec<PublishedRecord>,
}

impl Zone<'_> {
    fn published(&self) -> PublishedStatus {
        PublishedStatus {
            dns_endpoint: None,
            rfc2136: Some(self.settings.clone()),
            records: self.own.clone(),
        }
    }

    fn seen(&self, records: &[RecordStatus]) -> Fact {
        let fact = seen(records, &self.own, &format!("zone {}", self.settings.zone));
        with_outside(fact, records, &self.outside, self.settings)
    }
}

/// Whether `records` hold one of the type and name of `record`.
fn has(records: &[PublishedRecord], record: &PublishedRecord) -> bool {
    records
        .iter()
        .any(|other| (other.r#type, &other.name) == (record.r#type, &record.name))
}

fn is_verified(records: &[RecordStatus], record: &PublishedRecord) -> bool {
    records.iter().any(|status| {
        status.state == RecordState::Verified
            && (status.r#type, &status.name) == (record.r#type, &record.name)
    })
}

fn published(status: Status, reason: &'static str, message: String) -> Fact {
    Fact::new(types::PUBLISHED, status, reason, message)
}

/// Whether what was handed to `place` has been found by the look. Records of keys whose Secrets are
/// gone are not looked at any more.
fn seen(records: &[RecordStatus], handed: &[PublishedRecord], place: &str) -> Fact {
    let is_looked_at = |record: &PublishedRecord| {
        let mut known = records.iter();
        known.any(|status| (status.r#type, &status.name) == (record.r#type, &record.name))
    };
    let open: Vec<_> = handed
        .iter()
        .filter(|record| is_looked_at(record) && !is_verified(records, record))
        .collect();
    if open.is_empty() {
        let message = format!("{} records are in DNS by {place}", handed.len());
        return published(Status::True, reasons::PUBLISHED, message);
    }
    let message = format!(
        "handed to {place} and not seen in DNS yet: {}",
        named(open.into_iter())
    );
    published(Status::Unknown, reasons::WAITING_FOR_DNS, message)
}

/// `fact`, unless records that nobody publishes are missing.
fn with_outside(
    fact: Fact,
    records: &[RecordStatus],
    outside: &[PublishedRecord],
    settings: &Rfc2136,
) -> Fact {
    let missing = outside
        .iter()
        .filter(|record| !is_verified(records, record));
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return fact;
    }
    let message = format!(
        "not in the zone {}: {}; publish by hand, or correct spec.publish.rfc2136.zone",
        settings.zone,
        named(missing.into_iter())
    );
    published(Status::False, reasons::OUTSIDE_ZONE, message)
}

fn named<'a>(records: impl ExactSizeIterator<Item = &'a PublishedRecord>) -> String {
    let more = records.len().saturating_sub(NAMED);
    let names: Vec<_> = records
        .take(NAMED)
        .map(|r| format!("{:?} {}", r.r#type, r.name))
        .collect();
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
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

/// Puts into the status of `plan` what was there before: nothing has been looked at anew.
pub fn show_again(plan: &mut Plan, observation: &Observation) {
    let before = observation.previous.conditions.iter();
    let published = before.filter(|condition| condition.type_ == types::PUBLISHED);
    plan.status.conditions.extend(published.cloned());
    plan.status
        .published
        .clone_from(&observation.previous.published);
}

/// Serves a SendingDomain that is being deleted: takes its records out of DNS, then lets it go.
///
/// # Errors
///
/// When the API server does not answer.
pub async fn farewell(domain: &SendingDomain, ctx: &Context) -> Result<Action, Error> {
    if !domain
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == FINALIZER)
    {
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
fn gives_up(domain: &SendingDomain, now: Timestamp) -> bool {
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

#[cfg(test)]
mod tests;
