//! Reconciles one list: observe, plan, and writing what differs.

use std::sync::Arc;

use futures::future::BoxFuture;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};
use postrider_crds::SuppressionList;

use super::{observe, plan};
use crate::{Context, Error, apply::Outcome, names, stores};

/// Makes the pools' Secrets hold `list`.
pub(super) fn reconcile(
    list: Arc<SuppressionList>,
    ctx: Arc<Context>,
) -> BoxFuture<'static, Result<Action, Error>> {
    Box::pin(async move {
        // Pools take the keys of a list out once it is gone.
        if list.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let seen = observe::observe(&ctx, list);
        let plan = plan::plan(&seen);
        let list = seen.list.as_ref();
        let (namespace, name) = (list.namespace().unwrap_or_default(), list.name_any());
        let manager = names::suppression_manager(&name);
        for part in &plan.parts {
            let live = stores::get(&ctx.stores.secrets, &namespace, &part.name_any());
            ctx.writer
                .apply_part(&manager, part, live.as_deref())
                .await?;
        }
        let current = list.status.as_ref();
        let writer = &ctx.writer;
        let written = writer
            .status(names::LIST_MANAGER, list, current, &plan.status)
            .await?;
        let resource = (namespace, name);
        ctx.metrics
            .show_conditions("SuppressionList", &resource, &plan.status.conditions);
        for notice in plan.notices.iter().filter(|_| written == Outcome::Written) {
            ctx.events.publish(notice, &list.object_ref(&())).await;
        }
        Ok(plan
            .next_expiry
            .map_or_else(Action::await_change, Action::requeue))
    })
}
