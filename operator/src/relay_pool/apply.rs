//! Reconciles one pool: certificates, then observe, plan, and writing what differs.
//!
//! Order: documents before the pods that mount them; the nudge to the kubelet only once the caches
//! show that every document is stored, so that what it fetches is the new one.

use std::sync::Arc;

use futures::future::BoxFuture;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};
use postrider_crds::RelayPool;

use super::{
    certificates,
    loaded::PoolKey,
    observe::{self, Observation},
    plan::{self, Plan},
};
use crate::{
    Context, Error,
    apply::Outcome,
    names::{CONFIG_ANNOTATION, POOL_MANAGER},
    queues::Trigger,
    stores,
};

/// Makes the world match `pool`.
pub(super) fn reconcile(
    pool: Arc<RelayPool>,
    ctx: Arc<Context>,
) -> BoxFuture<'static, Result<Action, Error>> {
    Box::pin(async move {
        if pool.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let certificates = certificates::ensure(&ctx, &pool, ctx.now()).await?;
        let seen = observe::observe(&ctx, pool, certificates);
        let plan = plan::plan(&seen);
        if ctx
            .loaded
            .set_rendered(&observe::key(&seen.pool), plan.rendered.clone())
        {
            wake_dependants(&ctx, &seen.pool).await;
        }
        let documents = write_children(&ctx, &seen, &plan).await?;
        if documents == Outcome::Unchanged {
            nudge(&ctx, &seen, &plan).await?;
        }
        write_status(&ctx, &seen, &plan).await?;
        Ok(Action::requeue(plan.look_again))
    })
}

/// Wakes the domains and lists of `pool`: what its relays have loaded may have changed.
pub(super) async fn wake_dependants(ctx: &Context, pool: &RelayPool) {
    let PoolKey { namespace, name } = observe::key(pool);
    for domain in observe::in_namespace(&ctx.stores.domains, &namespace) {
        if domain.spec.pool_ref.name == name {
            let trigger = Trigger::Domain(namespace.clone(), domain.name_any());
            ctx.queues.send(trigger).await;
        }
    }
    for list in &pool.spec.suppression_lists {
        let trigger = Trigger::List(namespace.clone(), list.name.clone());
        ctx.queues.send(trigger).await;
    }
}

/// Writes every object that differs; tells whether a document was among them.
async fn write_children(ctx: &Context, seen: &Observation, plan: &Plan) -> Result<Outcome, Error> {
    let PoolKey { namespace, name } = observe::key(&seen.pool);
    let (stores, writer, children) = (&ctx.stores, &ctx.writer, &plan.children);
    let mut documents = Outcome::Unchanged;
    let mut note = |outcome| {
        if outcome == Outcome::Written {
            documents = Outcome::Written;
        }
    };

    let live = stores::get(
        &stores.config_maps,
        &namespace,
        &children.config_map.name_any(),
    );
    note(
        writer
            .apply(POOL_MANAGER, &children.config_map, live.as_deref())
            .await?,
    );
    for secret in &children.secrets {
        let live = stores::get(&stores.secrets, &namespace, &secret.name_any());
        note(writer.apply(POOL_MANAGER, secret, live.as_deref()).await?);
    }
    for withdrawal in &plan.withdrawals {
        writer
            .apply_always(&withdrawal.manager, &withdrawal.secret)
            .await?;
        note(Outcome::Written);
    }
    let live = stores::get(&stores.service_accounts, &namespace, &name);
    writer
        .apply(POOL_MANAGER, &children.service_account, live.as_deref())
        .await?;
    for service in &children.services {
        let live = stores::get(&stores.services, &namespace, &service.name_any());
        writer.apply(POOL_MANAGER, service, live.as_deref()).await?;
    }
    let live = stores::get(&stores.budgets, &namespace, &name);
    writer
        .apply(POOL_MANAGER, &children.budget, live.as_deref())
        .await?;
    let live = seen.stateful_set.as_deref();
    writer
        .apply(POOL_MANAGER, &children.stateful_set, live)
        .await?;
    Ok(documents)
}

/// Tells the kubelets that there is something new to mount.
async fn nudge(ctx: &Context, seen: &Observation, plan: &Plan) -> Result<(), Error> {
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
    Ok(())
}

async fn write_status(ctx: &Context, seen: &Observation, plan: &Plan) -> Result<(), Error> {
    let (pool, key) = (seen.pool.as_ref(), observe::key(&seen.pool));
    let current = pool.status.as_ref();
    let written = ctx
        .writer
        .status(POOL_MANAGER, pool, current, &plan.status)
        .await?;
    let queue_before = current.and_then(|status| status.queue.as_ref());
    if written == Outcome::Written && queue_before != plan.status.queue.as_ref() {
        ctx.queues_written.set(&key, seen.now);
    }
    let resource = (key.namespace, key.name);
    ctx.metrics
        .show_conditions("RelayPool", &resource, &plan.status.conditions);
    for notice in plan.notices.iter().filter(|_| written == Outcome::Written) {
        ctx.events.publish(notice, &pool.object_ref(&())).await;
    }
    Ok(())
}
