//! RelayPools: the pods that take custody of mail, everything they need, and what they report.
//!
//! `observe` reads the caches, `plan` and `status` decide (pure), `apply` writes; `reports` asks
//! the relays beside that.

pub mod admin_client;
mod apply;
pub mod build;
pub mod certificates;
pub mod config;
pub mod credentials;
pub mod dns;
pub mod domains;
pub mod ehlo;
pub mod event_readings;
mod joining;
mod kept_keys;
pub mod keyring;
pub mod loaded;
pub mod observe;
pub mod pace;
pub mod pki;
pub mod plan;
mod refused_pods;
pub mod reports;
pub mod reverse;
mod status;
mod stuck_pods;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use postrider_crds::RelayPool;

use self::loaded::PoolKey;
use crate::{Context, controller, queues::Inbox};

/// Runs the controller, once the relays have been asked, until the process stops.
pub async fn run(ctx: Arc<Context>, inbox: Inbox<RelayPool>) {
    let store = ctx.stores.pools.clone();
    let asked = ctx.start.until_relays_asked();
    if ctx.stop.run_until_cancelled(asked).await.is_none() {
        return;
    }
    controller::run(ctx, store, inbox, apply::reconcile).await;
}

/// When the depth of each pool's queue was last written to its status.
#[derive(Debug, Default)]
pub struct QueuesWritten(Mutex<HashMap<PoolKey, Timestamp>>);

impl QueuesWritten {
    fn get(&self, pool: &PoolKey) -> Option<Timestamp> {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(pool).copied()
    }

    fn set(&self, pool: &PoolKey, at: Timestamp) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(pool.clone(), at);
    }
}
