//! SuppressionLists: whom never to mail, merged from entries and sources and carried to the pools.
//!
//! `observe` reads the caches, `plan` decides (pure; `entries` reads the sources' lines), `apply`
//! writes. Each list owns its own keys in the pools' Secrets, by a field manager of its own; a pool
//! takes the keys out again when it no longer names the list.

mod apply;
pub mod entries;
pub mod observe;
pub mod plan;

use std::sync::Arc;

use postrider_crds::SuppressionList;

use crate::{Context, controller, queues::Inbox};

/// Runs the controller until the process stops.
pub async fn run(ctx: Arc<Context>, inbox: Inbox<SuppressionList>) {
    let store = ctx.stores.lists.clone();
    controller::run(ctx, store, inbox, apply::reconcile).await;
}
