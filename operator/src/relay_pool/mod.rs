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
use postrider_crds::{QueueStatus, RelayPool};

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

/// The depth of each pool's queue as it was last written.
#[derive(Debug, Default)]
pub struct QueuesWritten(Mutex<HashMap<PoolKey, QueueWritten>>);

/// The depth of a queue as it was last written to its pool's status, which a cache that lags does not
/// show yet.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueWritten {
    /// When.
    pub at: Timestamp,
    /// What.
    pub depth: QueueStatus,
}

impl QueuesWritten {
    fn get(&self, pool: &PoolKey) -> Option<QueueWritten> {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(pool).cloned()
    }

    fn set(&self, pool: &PoolKey, what: QueueWritten) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(pool.clone(), what);
    }
}
