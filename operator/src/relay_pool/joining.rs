//! Standing orders for members that join a pool.
//!
//! Each relay keeps the orders it was given with its queue, on its volume. One whose volume is new, or was
//! away while orders were given, does not know what the others know. Flow: while a volume says that it has
//! not been told, and its member answers, all members are asked for the orders in force; what the new one
//! lacks it is given, with who gave it and why, and the volume says so from then on.
//!
//! Guarantees: an order is handed on if it was given while the volume was not there, and to that volume
//! once, so that lifting it at one member is not undone by another. The volume counts as told only when
//! every member that runs has been asked; until then it says which orders its member has or has been
//! given ([`memo`]). Orders about one message, and those that are carried out once, are never handed on.
//!
//! Caveats: a new member accepts and sends mail in the seconds before it is told. An order that was lifted
//! while a volume was away is still in force there when it is back. An operator that ends after it has
//! given an order and before the volume says so gives it again if it was lifted in between.

mod memo;
mod standing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http_body_util::Full;
use hyper::Request;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Resource as _, ResourceExt as _};
use postrider_crds::{
    RelayPool,
    condition::reasons,
    queue::{Order, OrderAnswer, QueueOverview, paths},
};

use self::{
    memo::{Memo, Untold},
    standing::{Absence, missed, request},
};
use super::{
    build::SPOOL,
    observe,
    reports::{AskError, Door, PARALLEL},
};
use crate::{
    Context,
    events::{Notice, Severity},
    names::ORDERS_ANNOTATION,
};

/// Time between attempts to tell the members of a pool.
pub(super) const AGAIN: Duration = Duration::from_secs(10);

/// A member that has not been told.
struct Newcomer {
    pod: Arc<Pod>,
    claim: Arc<PersistentVolumeClaim>,
    untold: Untold,
    absence: Absence,
}

/// Tells those members of `pool` that have not been told; `door` leads to each.
pub(super) async fn hand_on(ctx: &Context, pool: &RelayPool, door: &Door) {
    let newcomers = newcomers(ctx, pool);
    let pods = observe::of_pool(&ctx.stores.pods, &observe::key(pool));
    let running: Vec<_> = pods.iter().filter(|pod| address(pod).is_some()).collect();
    // All at once: reports of every pool wait meanwhile, and a silent member takes seconds.
    let asked: Vec<_> = running.iter().map(|pod| overview(pod, door)).collect();
    let answers: Vec<_> = stream::iter(asked).buffered(PARALLEL).collect().await;
    let mut overviews = BTreeMap::new();
    let mut silent = false;
    for (pod, answer) in running.iter().zip(answers) {
        match answer {
            Ok(overview) => {
                overviews.insert(overview.pod.clone(), overview);
            }
            Err(error) => {
                tracing::debug!(pod = pod.name_any(), %error, "relay not asked for its orders");
                silent = true;
            }
        }
    }
    for newcomer in newcomers {
        match tell(ctx, pool, &newcomer, &overviews, door).await {
            Ok(_) if !silent => mark(ctx, &newcomer.claim, &Memo::Told).await,
            Ok(untold) if untold == newcomer.untold => {}
            Ok(untold) => mark(ctx, &newcomer.claim, &Memo::Untold(untold)).await,
            Err(error) => {
                let pod = newcomer.pod.name_any();
                tracing::warn!(pod, %error, "relay not told of standing orders");
            }
        }
    }
}

/// Notes on the volumes of former members of `pool` since when they have been away.
pub(super) async fn note_absent(ctx: &Context, pool: &RelayPool) {
    for claim in leavers(ctx, pool) {
        mark(ctx, &claim, &Memo::Untold(Untold::since(ctx.now()))).await;
    }
}

/// Whether [`hand_on`] or [`note_absent`] has something to do for `pool`.
pub(super) fn is_due(ctx: &Context, pool: &RelayPool) -> bool {
    !newcomers(ctx, pool).is_empty() || !leavers(ctx, pool).is_empty()
}

/// Volumes whose members have been told, and have gone since.
fn leavers(ctx: &Context, pool: &RelayPool) -> Vec<Arc<PersistentVolumeClaim>> {
    let key = observe::key(pool);
    let mut claims = observe::of_pool(&ctx.stores.claims, &key);
    claims.retain(|claim| {
        let former = ordinal(claim, &key.name).is_some_and(|n| n >= pool.spec.replicas);
        former && is_told(claim)
    });
    if !claims.is_empty() {
        let pods = observe::of_pool(&ctx.stores.pods, &key);
        claims.retain(|claim| pods.iter().all(|pod| claim_of(pod) != claim.name_any()));
    }
    claims
}

fn is_told(claim: &PersistentVolumeClaim) -> bool {
    Memo::of(claim) == Memo::Told
}

fn newcomers(ctx: &Context, pool: &RelayPool) -> Vec<Newcomer> {
    let key = observe::key(pool);
    let claims = observe::of_pool(&ctx.stores.claims, &key).into_iter();
    let untold = claims.filter_map(|claim| match Memo::of(&claim) {
        Memo::Told => None,
        Memo::Untold(untold) => Some((claim, untold)),
    });
    let untold: Vec<_> = untold.collect();
    if untold.is_empty() {
        return Vec::new();
    }
    let pods = observe::of_pool(&ctx.stores.pods, &key);
    let state = ctx.loaded.state(&key);
    let newcomer = |(claim, untold): (Arc<PersistentVolumeClaim>, Untold)| {
        let pod = pods.iter().find(|pod| claim_of(pod) == claim.name_any())?;
        // One that gives no report would not take orders either.
        state.report(&pod.name_any(), &pod.uid()?)?;
        Some(Newcomer {
            pod: pod.clone(),
            absence: Absence::of(untold.away(), &claim, pod)?,
            claim,
            untold,
        })
    };
    untold.into_iter().filter_map(newcomer).collect()
}

/// Gives `newcomer` what `overviews` have and it lacks; what its volume is to say then.
async fn tell(
    ctx: &Context,
    pool: &RelayPool,
    newcomer: &Newcomer,
    overviews: &BTreeMap<String, QueueOverview>,
    door: &Door,
) -> Result<Untold, AskError> {
    let name = newcomer.pod.name_any();
    let Some(own) = overviews.get(&name) else {
        return Err(AskError::Silent);
    };
    let others = overviews.values().filter(|overview| overview.pod != name);
    let missed = missed(others, newcomer.absence, ctx.now());
    let mut lacks = missed.clone();
    lacks.retain(|order| !newcomer.untold.has(order) && !standing::knows(own, order));
    for order in &lacks {
        let body = serde_json::to_vec(&request(order))?;
        let post = Request::post(paths::ORDERS).body(Full::from(body))?;
        let answer = door.answer(address(&newcomer.pod), post).await?;
        let _: OrderAnswer = serde_json::from_slice(&answer)?;
    }
    if !lacks.is_empty() {
        let notice = notice(&name, &lacks);
        ctx.events.publish(&notice, &pool.object_ref(&())).await;
    }
    Ok(newcomer.untold.with(&missed))
}

fn notice(pod: &str, given: &[&Order]) -> Notice {
    let given = given.iter().map(|order| {
        let Order {
            verb, scope, by, ..
        } = order;
        format!("{verb} {scope} ({by}: {})", order.reason)
    });
    let given: Vec<String> = given.collect();
    Notice {
        severity: Severity::Normal,
        reason: reasons::ORDERS_HANDED_ON,
        action: "Join",
        note: format!(
            "{pod} has been given the standing orders: {}",
            given.join("; ")
        ),
    }
}

async fn overview(pod: &Pod, door: &Door) -> Result<QueueOverview, AskError> {
    let get = Request::get(paths::QUEUE).body(Full::default())?;
    let overview: QueueOverview = serde_json::from_slice(&door.answer(address(pod), get).await?)?;
    match overview.pod == pod.name_any() {
        true => Ok(overview),
        false => Err(AskError::OtherPod(overview.pod)),
    }
}

async fn mark(ctx: &Context, claim: &PersistentVolumeClaim, memo: &Memo) {
    let memo = memo.to_string();
    let marked = ctx.writer.annotate(claim, ORDERS_ANNOTATION, &memo).await;
    match marked {
        Err(error) if !error.is_not_found() => {
            tracing::warn!(claim = claim.name_any(), %error, "volume not marked");
        }
        Ok(_) | Err(_) => {}
    }
}

/// Where `pod` is.
pub(super) fn address(pod: &Pod) -> Option<std::net::IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn claim_of(pod: &Pod) -> String {
    format!("{SPOOL}-{}", pod.name_any())
}

fn ordinal(claim: &PersistentVolumeClaim, pool: &str) -> Option<i32> {
    let name = claim.name_any();
    name.strip_prefix(&format!("{SPOOL}-{pool}-"))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_and_volumes_belong_together_by_name() {
        let named = |name: &str| json!({"metadata": {"name": name}});
        let pod: Pod = serde_json::from_value(named("p-2")).unwrap();
        let claim: PersistentVolumeClaim = serde_json::from_value(named("spool-p-2")).unwrap();
        assert_eq!(claim_of(&pod), claim.name_any());
        assert_eq!(ordinal(&claim, "p"), Some(2));
        assert_eq!(ordinal(&claim, "q"), None);
    }
}
