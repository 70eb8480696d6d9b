//! Standing orders for members that join a pool.
//!
//! Each relay keeps the orders it was given with its queue, on its volume. One whose volume is new, or was
//! away while orders were given, does not know what the others know. Flow: while a volume says that it has
//! not been told, and its member answers, all members are asked for the orders in force; what the new one
//! lacks it is given, with who gave it and why, and the volume says so from then on.
//!
//! Guarantees: an order is handed on if it was given while the volume was not there, and to that volume
//! once, so that lifting it at one member is not undone by another. The volume counts as told only when
//! every member that runs has been asked. Orders about one message, and those that are carried out once,
//! are never handed on.
//!
//! Caveats: a new member accepts and sends mail in the seconds before it is told. An order that was lifted
//! while a volume was away is still in force there when it is back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http_body_util::Full;
use hyper::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Resource as _, ResourceExt as _};
use postrider_crds::{
    RelayPool,
    condition::reasons,
    queue::{Order, OrderAnswer, OrderRequest, QueueOverview, Scope, Verb, paths},
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

/// What the annotation says of a volume whose member has been told.
const TOLD: &str = "known";
/// Clocks differ by no more, and a member takes no longer to start: who gives an order to a member that is
/// starting is told that it was not reached.
const SLACK: SignedDuration = SignedDuration::from_mins(5);
/// Time between attempts to tell the members of a pool.
pub(super) const AGAIN: Duration = Duration::from_secs(10);

/// Since when a volume was not there to be told, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Absence {
    from: Option<Timestamp>,
    until: Timestamp,
}

/// A member that has not been told.
struct Newcomer {
    pod: Arc<Pod>,
    claim: Arc<PersistentVolumeClaim>,
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
            Ok(()) if !silent => mark(ctx, &newcomer.claim, TOLD).await,
            Ok(()) => {}
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
        mark(ctx, &claim, &ctx.now().to_string()).await;
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
    let said = claim.annotations().get(ORDERS_ANNOTATION);
    said.is_some_and(|said| said == TOLD)
}

fn newcomers(ctx: &Context, pool: &RelayPool) -> Vec<Newcomer> {
    let key = observe::key(pool);
    let mut untold = observe::of_pool(&ctx.stores.claims, &key);
    untold.retain(|claim| !is_told(claim));
    if untold.is_empty() {
        return Vec::new();
    }
    let pods = observe::of_pool(&ctx.stores.pods, &key);
    let state = ctx.loaded.state(&key);
    let newcomer = |claim: &Arc<PersistentVolumeClaim>| {
        let pod = pods.iter().find(|pod| claim_of(pod) == claim.name_any())?;
        // One that gives no report would not take orders either.
        state.report(&pod.name_any(), &pod.uid()?)?;
        Some(Newcomer {
            pod: pod.clone(),
            claim: claim.clone(),
            absence: absence(claim, pod)?,
        })
    };
    untold.iter().filter_map(newcomer).collect()
}

/// When the volume of `pod` was not there.
fn absence(claim: &PersistentVolumeClaim, pod: &Pod) -> Option<Absence> {
    let said = claim.annotations().get(ORDERS_ANNOTATION);
    let left: Option<Timestamp> = said.and_then(|said| said.parse().ok());
    let back = match left {
        Some(_) => &pod.metadata.creation_timestamp,
        None => &claim.metadata.creation_timestamp,
    };
    Some(Absence {
        from: left.and_then(|left| left.checked_sub(SLACK).ok()),
        until: back.as_ref()?.0.checked_add(SLACK).ok()?,
    })
}

/// Gives `newcomer` what `overviews` have and it lacks.
async fn tell(
    ctx: &Context,
    pool: &RelayPool,
    newcomer: &Newcomer,
    overviews: &BTreeMap<String, QueueOverview>,
    door: &Door,
) -> Result<(), AskError> {
    let name = newcomer.pod.name_any();
    let Some(own) = overviews.get(&name) else {
        return Err(AskError::Silent);
    };
    let others = overviews.values().filter(|overview| overview.pod != name);
    let lacks = lacking(own, others, newcomer.absence, ctx.now());
    for order in &lacks {
        let body = serde_json::to_vec(&request(order))?;
        let post = Request::post(paths::ORDERS).body(Full::from(body))?;
        let answer = door.answer(address(&newcomer.pod), post).await?;
        let _: OrderAnswer = serde_json::from_slice(&answer)?;
    }
    if !lacks.is_empty() {
        let given: Vec<String> = lacks
            .iter()
            .map(|order| {
                format!(
                    "{} {} ({}: {})",
                    order.verb, order.scope, order.by, order.reason
                )
            })
            .collect();
        let notice = Notice {
            severity: Severity::Normal,
            reason: reasons::ORDERS_HANDED_ON,
            action: "Join",
            note: format!(
                "{name} has been given the standing orders: {}",
                given.join("; ")
            ),
        };
        ctx.events.publish(&notice, &pool.object_ref(&())).await;
    }
    Ok(())
}

/// The standing orders of `others` that `own` lacks because they were given in its `absence`, as they were
/// given. Of several about the same the last counts.
fn lacking<'a>(
    own: &QueueOverview,
    others: impl Iterator<Item = &'a QueueOverview>,
    absence: Absence,
    now: Timestamp,
) -> Vec<&'a Order> {
    let mut last: BTreeMap<(Verb, &Scope), &Order> = BTreeMap::new();
    for order in others.flat_map(|overview| &overview.orders) {
        let in_absence = absence.from.is_none_or(|from| from < order.given);
        let missed = in_absence && order.given <= absence.until;
        let known = own
            .orders
            .iter()
            .any(|o| (o.verb, &o.scope) == (order.verb, &order.scope));
        if missed && !known && stands(order, now) {
            let slot = last.entry((order.verb, &order.scope)).or_insert(order);
            if slot.given < order.given {
                *slot = order;
            }
        }
    }
    let mut orders: Vec<&Order> = last.into_values().collect();
    orders.sort_by_key(|order| order.given);
    orders
}

/// Whether `order` is about mail to come.
fn stands(order: &Order, now: Timestamp) -> bool {
    let lasts = match order.verb {
        Verb::Hold | Verb::Suspend => true,
        Verb::Release | Verb::Resume | Verb::Flush | Verb::Expire => false,
    };
    let wide = match order.scope {
        Scope::Domain(_) | Scope::Site(_) | Scope::Tenant(_) => true,
        Scope::Message(_) => false,
    };
    lasts && wide && order.until.is_none_or(|until| until > now)
}

fn request(order: &Order) -> OrderRequest {
    let mut request = OrderRequest {
        verb: order.verb.to_string(),
        reason: order.reason.clone(),
        by: Some(order.by.clone()),
        until: order.until.map(|until| until.to_string()),
        ..OrderRequest::default()
    };
    match &order.scope {
        Scope::Message(id) => request.message = Some(id.to_string()),
        Scope::Domain(domain) => request.domain = Some(domain.to_string()),
        Scope::Site(site) => request.site = Some(site.to_string()),
        Scope::Tenant(tenant) => request.tenant = Some(tenant.clone()),
    }
    request
}

async fn overview(pod: &Pod, door: &Door) -> Result<QueueOverview, AskError> {
    let get = Request::get(paths::QUEUE).body(Full::default())?;
    let overview: QueueOverview = serde_json::from_slice(&door.answer(address(pod), get).await?)?;
    match overview.pod == pod.name_any() {
        true => Ok(overview),
        false => Err(AskError::OtherPod(overview.pod)),
    }
}

async fn mark(ctx: &Context, claim: &PersistentVolumeClaim, value: &str) {
    let marked = ctx.writer.annotate(claim, ORDERS_ANNOTATION, value).await;
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
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn overview(pod: &str, orders: Value) -> QueueOverview {
        QueueOverview {
            pod: pod.into(),
            orders: serde_json::from_value(orders).unwrap(),
            ..QueueOverview::default()
        }
    }

    fn order(verb: &str, scope: (&str, &str), given: i64) -> Value {
        json!({"number": 1, "verb": verb, scope.0: scope.1, "by": "ann", "client": "c",
            "reason": "INC-7", "given": at(given)})
    }

    const NEW: Absence = Absence {
        from: None,
        until: Timestamp::MAX,
    };

    fn handed(own: Value, others: &[Value], absence: Absence) -> Vec<String> {
        let own = overview("p-9", own);
        let others: Vec<_> = others.iter().map(|o| overview("p-0", o.clone())).collect();
        let orders = lacking(&own, others.iter(), absence, at(1_000));
        let told = orders.iter().map(|o| format!("{} {}", o.verb, o.scope));
        told.collect()
    }

    #[test]
    fn what_stands_for_mail_to_come_is_handed_on_in_its_order() {
        let id = "01kg3v40000000000000000000";
        let mut over = order("suspend", ("domain", "over.test"), 50);
        over["until"] = json!(at(1_000));
        let mut until = order("suspend", ("site", "mx.slow.test"), 40);
        until["until"] = json!(at(1_001));
        let given = json!([
            order("hold", ("tenant", "shop/app"), 60),
            order("hold", ("message", id), 61),
            order("release", ("message", id), 62),
            order("flush", ("domain", "one.test"), 63),
            order("expire", ("tenant", "shop/app"), 64),
            until,
            over,
        ]);
        let wanted = ["suspend site mx.slow.test", "hold tenant shop/app"];
        assert_eq!(handed(json!([]), std::slice::from_ref(&given), NEW), wanted);
        assert_eq!(handed(given.clone(), &[given], NEW), [""; 0]);
    }

    #[test]
    fn only_what_was_given_in_the_absence_and_the_last_of_several() {
        let both = |given| json!([order("hold", ("domain", "a.test"), given)]);
        let absence = Absence {
            from: Some(at(100)),
            until: at(200),
        };
        for (given, handed_on) in [(100, false), (101, true), (200, true), (201, false)] {
            assert_eq!(
                handed(json!([]), &[both(given)], absence).len(),
                usize::from(handed_on)
            );
        }
        let (own, others) = (overview("p-9", json!([])), [10, 30, 20].map(both));
        let others = others.map(|orders| overview("p-0", orders));
        let last = lacking(&own, others.iter(), NEW, at(1_000));
        assert_eq!(last.iter().map(|o| o.given).collect::<Vec<_>>(), [at(30)]);
    }

    #[test]
    fn what_is_asked_for_is_the_order_as_it_was_given() {
        for scope in [
            ("domain", "a.test"),
            ("site", "mx.a.test"),
            ("tenant", "shop/app"),
        ] {
            let mut given = order("suspend", scope, 10);
            given["until"] = json!(at(2_000));
            let order: Order = serde_json::from_value(given).unwrap();
            let command = request(&order).check("operator").unwrap();
            assert_eq!((command.verb, &command.scope), (order.verb, &order.scope));
            assert_eq!((command.by, command.reason), (order.by, order.reason));
            assert_eq!(command.until, order.until);
        }
    }

    #[test]
    fn a_volume_says_since_when_it_was_away() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p-2",
            "creationTimestamp": at(50_000)}}))
        .unwrap();
        let claim = |said: Option<&str>| -> PersistentVolumeClaim {
            let annotations = said.map(|said| json!({ORDERS_ANNOTATION: said}));
            serde_json::from_value(json!({"metadata": {"name": "spool-p-2",
                "creationTimestamp": at(10_000), "annotations": annotations}}))
            .unwrap()
        };
        let (left, away) = (at(20_000).to_string(), at(20_000 - 300));
        for (said, from, until) in [
            (None, None, 10_300),
            (Some("nonsense"), None, 10_300),
            (Some(left.as_str()), Some(away), 50_300),
        ] {
            let found = absence(&claim(said), &pod);
            assert_eq!(
                found,
                Some(Absence {
                    from,
                    until: at(until)
                }),
                "{said:?}"
            );
        }
        assert_eq!(claim_of(&pod), claim(None).name_any());
        assert_eq!(ordinal(&claim(None), "p"), Some(2));
        assert_eq!(ordinal(&claim(None), "q"), None);
    }
}
