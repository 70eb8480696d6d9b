//! The status of a resource whose objects are refused: what it was, and `Ready` that says so.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt as _, core::object::HasStatus};
use postrider_crds::{
    RelayPool, RelayPoolStatus, SendingDomain, SendingDomainStatus, SuppressionList,
    SuppressionListStatus,
    condition::{reasons, types},
};
use serde::Serialize;

use super::Refusal;
use crate::{
    Context, Error,
    apply::{Kind, Outcome},
    conditions::{self, Fact, Progress, Status},
    names::{DOMAIN_MANAGER, LIST_MANAGER, POOL_MANAGER},
    stores::KeptDomain,
};

/// A kind whose status the operator writes.
pub trait Judged:
    Kind + HasStatus<Status: Clone + Default + PartialEq + Serialize + Send + Sync>
{
    /// Its name.
    const KIND: &'static str;
    /// Who writes the status.
    const MANAGER: &'static str;
    /// The conditions it always has, besides `Ready`.
    const TYPES: &'static [&'static str];

    /// The conditions of `status`, and the generation it speaks of.
    fn parts(status: &mut Self::Status) -> (&mut Vec<Condition>, &mut Option<i64>);
}

/// A kind as its objects are cached and handed to reconciliations.
pub trait Cached: Resource<DynamicType = ()> + Clone + Send + Sync + 'static {
    /// The kind.
    type Of: Judged;
}

impl Cached for RelayPool {
    type Of = Self;
}

impl Cached for KeptDomain {
    type Of = SendingDomain;
}

impl Cached for SuppressionList {
    type Of = Self;
}

impl Judged for RelayPool {
    const KIND: &'static str = "RelayPool";
    const MANAGER: &'static str = POOL_MANAGER;
    const TYPES: &'static [&'static str] = &[
        types::AVAILABLE,
        types::PROGRESSING,
        types::CONFIG_APPLIED,
        types::SPOOLS_RETAINED,
        types::EHLO_VERIFIED,
        types::PTR_VERIFIED,
    ];

    fn parts(status: &mut RelayPoolStatus) -> (&mut Vec<Condition>, &mut Option<i64>) {
        (&mut status.conditions, &mut status.observed_generation)
    }
}

impl Judged for SendingDomain {
    const KIND: &'static str = "SendingDomain";
    const MANAGER: &'static str = DOMAIN_MANAGER;
    const TYPES: &'static [&'static str] = &[
        types::KEYS_READY,
        types::SPF_VERIFIED,
        types::DKIM_VERIFIED,
        types::DMARC_VERIFIED,
        types::RETURN_PATH_VERIFIED,
        types::PTR_VERIFIED,
        types::MTA_STS_VERIFIED,
        types::TLS_RPT_VERIFIED,
        types::ROTATING,
    ];

    fn parts(status: &mut SendingDomainStatus) -> (&mut Vec<Condition>, &mut Option<i64>) {
        (&mut status.conditions, &mut status.observed_generation)
    }
}

impl Judged for SuppressionList {
    const KIND: &'static str = "SuppressionList";
    const MANAGER: &'static str = LIST_MANAGER;
    const TYPES: &'static [&'static str] = &[types::DISTRIBUTED];

    fn parts(status: &mut SuppressionListStatus) -> (&mut Vec<Condition>, &mut Option<i64>) {
        (&mut status.conditions, &mut status.observed_generation)
    }
}

/// Writes into the status of `object` that it needs what is refused, and tells of it once. What else
/// the status says stays, as the API server has it now: more may have been written since `object` was
/// read.
///
/// # Errors
///
/// When the API server refuses or does not answer.
pub async fn tell<C: Cached>(ctx: &Context, object: &C, refusal: &Refusal) -> Result<(), Error> {
    told::<C::Of>(ctx, object, refusal).await
}

async fn told<K: Judged>(
    ctx: &Context,
    object: &impl Resource<DynamicType = ()>,
    refusal: &Refusal,
) -> Result<(), Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let live = ctx.writer.get::<K>(&namespace, &name).await?;
    let Some(live) = live.filter(|live| live.uid() == object.uid()) else {
        return Ok(());
    };
    let before = live.status().cloned().unwrap_or_default();
    let mut shown = before.clone();
    let (conditions, observed) = K::parts(&mut shown);
    let generation = object.meta().generation.unwrap_or_default();
    *observed = Some(generation);
    let known = conditions.clone();
    complete(conditions, K::TYPES, generation, ctx.now());
    refusal.show(conditions, &known, generation, ctx.now());
    ctx.metrics
        .show_conditions(K::KIND, &(namespace, name), conditions);
    let writer = &ctx.writer;
    let written = writer
        .status(K::MANAGER, &live, Some(&before), &shown)
        .await?;
    if written == Outcome::Written && !refusal.is_told(&known) {
        let reference = object.object_ref(&());
        ctx.events.publish(&refusal.notice(), &reference).await;
    }
    Ok(())
}

/// Adds what a status always has and this one has not yet.
fn complete(
    conditions: &mut Vec<Condition>,
    always: &[&'static str],
    generation: i64,
    now: Timestamp,
) {
    let missing = always.iter().filter(|type_| {
        conditions
            .iter()
            .all(|condition| condition.type_ != **type_)
    });
    let pending: Vec<Fact> = missing
        .map(|type_| {
            Fact::new(
                type_,
                Status::Unknown,
                reasons::PENDING,
                "not looked at yet",
            )
        })
        .collect();
    conditions.extend(conditions::merge(&[], &pending, generation, now));
}

impl Refusal {
    /// Puts it into `conditions`, in place of what they say of `Ready` and of progress. Transition times
    /// are those of `before`, the stored conditions, where the status is the same.
    pub fn show(
        &self,
        conditions: &mut Vec<Condition>,
        before: &[Condition],
        generation: i64,
        now: Timestamp,
    ) {
        let facts = conditions::with_progress(vec![self.ready()], self.progress);
        let other = match self.progress {
            Progress::Reconciling => types::STALLED,
            Progress::Stalled | Progress::Settled => types::RECONCILING,
        };
        conditions.retain(|condition| condition.type_ != other);
        for new in conditions::merge(before, &facts, generation, now) {
            let mut old = conditions.iter_mut();
            match old.find(|condition| condition.type_ == new.type_) {
                Some(old) => *old = new,
                None if new.type_ == types::READY => conditions.insert(0, new),
                None => conditions.push(new),
            }
        }
    }

    /// True when `conditions` tell of it, or of another with the same reason.
    #[must_use]
    pub fn is_told(&self, conditions: &[Condition]) -> bool {
        conditions::has(conditions, types::READY, Status::False, self.reason)
    }
}
