//! Reconciles one pool: certificates, then observe, plan, and writing what differs.
//!
//! Order: documents before the pods that mount them; the nudge to the kubelet only once the caches
//! show that every document is stored, so that what it fetches is the new one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource as _, ResourceExt as _,
    runtime::{controller::Action, reflector::Store},
};
use postrider_crds::RelayPool;

use super::{
    QueueWritten, certificates, dns, kept_keys, keyring,
    loaded::{News, PoolKey},
    observe::{self, Observation},
    plan::{self, Plan, Withdrawal},
    refused_pods, reverse, stuck_pods,
};
use crate::{
    Context, Error,
    apply::{Kind, Outcome},
    names::{CONFIG_ANNOTATION, POOL_MANAGER},
    queues::Trigger,
    refusal::Refusal,
    stores::{self, Term},
};

/// Makes the world match `pool`.
pub(super) fn reconcile(
    pool: Arc<RelayPool>,
    ctx: Arc<Context>,
) -> BoxFuture<'static, Result<Action, Error>> {
    Box::pin(async move {
        let key = observe::key(&pool);
        if pool.metadata.deletion_timestamp.is_some() {
            ctx.start.pool_tried(&key);
            return Ok(Action::await_change());
        }
        if let Some(rest) = ctx.paces.rest(&key, ctx.clock.monotonic()) {
            return Ok(Action::requeue(rest));
        }
        let rendered = render(&ctx, pool).await;
        ctx.start.pool_tried(&key);
        let (seen, mut plan, look_in) = rendered?;
        let mut written = write_children(&ctx, &seen, &plan).await;
        if let Ok(Outcome::Unchanged) = written {
            written = nudge(&ctx, &seen, &plan).await;
        }
        // The status tells what is, also when what should be could not be written.
        if let Some(refusal) = written.as_ref().err().and_then(Error::refusal) {
            plan = plan.refused(&seen, &refusal);
        }
        write_status(&ctx, &seen, &plan).await?;
        written?;
        Ok(Action::requeue(plan.look_again.min(look_in)))
    })
}

/// Observes, plans, and takes note of what is rendered. The last of what it returns is how long
/// until DNS is to be asked again, or pods are to be looked at that are missing or do not run.
async fn render(
    ctx: &Context,
    pool: Arc<RelayPool>,
) -> Result<(Observation, Plan, Duration), Error> {
    let certificates = certificates::ensure(ctx, &pool, ctx.now()).await?;
    reverse::tell(ctx, &pool).await;
    let (look, look_due) = dns::look_when_due(ctx, &pool).await;
    let (hindered_pods, pods_in) = hindered_pods(ctx, &pool).await;
    let in_force = kept_keys::in_force(ctx, &pool).await?;
    let started = ctx.clock.monotonic();
    let seen = observe::observe(ctx, pool, (certificates, look, hindered_pods), &in_force);
    let plan = plan::plan(&seen);
    let key = observe::key(&seen.pool);
    ctx.paces.looked(&key, started, ctx.clock.monotonic());
    let news = ctx.loaded.set_rendered(&key, plan.rendered.clone());
    // Those who are woken now may be more than their queue holds, which nobody reads before this.
    ctx.start.pool_tried(&key);
    wake_dependants(ctx, &seen.pool, &news).await;
    let look_in = look_due.saturating_sub(ctx.clock.monotonic());
    let look_in = pods_in.map_or(look_in, |pods_in| pods_in.min(look_in));
    Ok((seen, plan, look_in))
}

/// Why pods of `pool` are not made, or else do not run, and when to look again.
async fn hindered_pods(ctx: &Context, pool: &RelayPool) -> (Option<Refusal>, Option<Duration>) {
    let (refused, refused_in) = refused_pods::look(ctx, pool).await;
    let (stuck, stuck_in) = stuck_pods::look(ctx, pool).await;
    let soonest = [refused_in, stuck_in].into_iter().flatten().min();
    (refused.or(stuck), soonest)
}

/// Wakes those domains and lists of `pool` that `news` is about: what its relays have to load, or
/// have loaded, has changed.
pub(super) async fn wake_dependants(ctx: &Context, pool: &RelayPool, news: &News) {
    let PoolKey { namespace, name } = observe::key(pool);
    if *news == News::Documents(BTreeSet::new()) {
        return;
    }
    for domain in ctx.stores.domains_with(&namespace, &Term::Pool(name)) {
        if news.concerns_domain(&domain.spec.domain) {
            let trigger = Trigger::Domain(namespace.clone(), domain.name_any());
            ctx.queues.send(trigger).await;
        }
    }
    let lists = pool.spec.suppression_lists.iter();
    for list in lists.filter(|list| news.concerns_list(&list.name)) {
        let trigger = Trigger::List(namespace.clone(), list.name.clone());
        ctx.queues.send(trigger).await;
    }
}

/// Writes every object that differs; tells whether a document was among them. One that cannot be
/// written does not keep the others from it; the first error is given back.
async fn write_children(ctx: &Context, seen: &Observation, plan: &Plan) -> Result<Outcome, Error> {
    let namespace = observe::key(&seen.pool).namespace;
    let (stores, children) = (&ctx.stores, &plan.children);
    let mut documents = Tally::default();
    documents.note(write(ctx, &stores.config_maps, &namespace, &children.config_map).await);
    let shards = children.keyrings.iter();
    for (shard, secret) in shards.zip(keyring::secrets(seen, &children.keyrings)) {
        let pool = observe::key(&seen.pool);
        let written = write_keyring(ctx, &pool, &secret).await;
        if written.is_err() {
            ctx.loaded.set_unwritten(&pool, *shard);
        }
        documents.note(written);
    }
    for secret in &children.secrets {
        documents.note(write(ctx, &stores.secrets, &namespace, secret).await);
    }
    for Withdrawal { manager, secret } in &plan.withdrawals {
        let withdrawn = ctx.writer.apply_always(manager, secret).await;
        documents.note(withdrawn.map(|()| Outcome::Written));
    }
    let mut others = Tally::default();
    let account = &children.service_account;
    others.note(write(ctx, &stores.service_accounts, &namespace, account).await);
    for service in &children.services {
        others.note(write(ctx, &stores.services, &namespace, service).await);
    }
    others.note(write(ctx, &stores.budgets, &namespace, &children.budget).await);
    others.note(
        write(
            ctx,
            &stores.stateful_sets,
            &namespace,
            &children.stateful_set,
        )
        .await,
    );
    let documents = documents.result();
    match (others.result(), documents) {
        (Err(other), Err(document)) if other.refusal().is_none() => Err(document),
        (Err(other), _) => Err(other),
        (Ok(_), documents) => documents,
    }
}

async fn write<K: Kind>(
    ctx: &Context,
    store: &Store<K>,
    namespace: &str,
    wanted: &K,
) -> Result<Outcome, Error> {
    let live = stores::get(store, namespace, &wanted.name_any());
    ctx.writer
        .apply(POOL_MANAGER, wanted, live.as_deref())
        .await
}

/// Writes a shard of the keyring, of which the cache has no more than a digest.
async fn write_keyring(ctx: &Context, pool: &PoolKey, wanted: &Secret) -> Result<Outcome, Error> {
    let live = stores::get(&ctx.stores.secrets, &pool.namespace, &wanted.name_any());
    let (writer, live) = (&ctx.writer, live.as_deref());
    let written = writer.apply_kept(POOL_MANAGER, wanted, live, stores::kept);
    let written = written.await?;
    if written == Outcome::Written {
        let octets = plan::first_value(wanted).unwrap_or_default().len();
        ctx.paces.wrote(pool, octets, ctx.clock.monotonic());
    }
    Ok(written)
}

/// What came of several writes.
#[derive(Default)]
struct Tally {
    written: bool,
    failed: Option<Error>,
}

impl Tally {
    fn note(&mut self, outcome: Result<Outcome, Error>) {
        match outcome {
            Ok(Outcome::Unchanged) => {}
            Ok(Outcome::Written) => self.written = true,
            // Of several a refusal is what somebody has to know of.
            Err(error) => match &self.failed {
                Some(first) if first.refusal().is_some() || error.refusal().is_none() => {}
                Some(_) | None => self.failed = Some(error),
            },
        }
    }

    fn result(self) -> Result<Outcome, Error> {
        match self.failed {
            Some(error) => Err(error),
            None if self.written => Ok(Outcome::Written),
            None => Ok(Outcome::Unchanged),
        }
    }
}

/// Tells the kubelets that there is something new to mount.
async fn nudge(ctx: &Context, seen: &Observation, plan: &Plan) -> Result<Outcome, Error> {
    let staying = seen
        .pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    for pod in staying {
        let nudged = ctx
            .writer
            .annotate(pod.as_ref(), CONFIG_ANNOTATION, &plan.config_digest)
            .await;
        match nudged {
            Err(error) if error.is_not_found() => {}
            other => {
                other?;
            }
        }
    }
    Ok(Outcome::Unchanged)
}

async fn write_status(ctx: &Context, seen: &Observation, plan: &Plan) -> Result<(), Error> {
    let (pool, key) = (seen.pool.as_ref(), observe::key(&seen.pool));
    let current = pool.status.as_ref();
    let written = ctx
        .writer
        .status(POOL_MANAGER, pool, current, &plan.status)
        .await?;
    let known = seen.queue_written.as_ref().map(|written| &written.depth);
    let known = known.or_else(|| current.and_then(|status| status.queue.as_ref()));
    let depth = plan.status.queue.as_ref();
    let news = depth.filter(|depth| written == Outcome::Written && known != Some(*depth));
    if let Some(depth) = news.cloned() {
        let at = seen.now;
        ctx.queues_written.set(&key, QueueWritten { at, depth });
    }
    let resource = (key.namespace, key.name);
    ctx.metrics
        .show_conditions("RelayPool", &resource, &plan.status.conditions);
    for notice in plan.notices.iter().filter(|_| written == Outcome::Written) {
        ctx.events.publish(notice, &pool.object_ref(&())).await;
    }
    Ok(())
}
