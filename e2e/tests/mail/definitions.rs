//! The definitions of kinds that all claims share: that they stay as they are for a while, or change.
//!
//! A change ends every watch of the kind, and none can go on from where it ended: what happened in
//! between is not seen.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::support::Stage;

/// Held to change a definition, and, shared, to let nobody do so.
static SAME: RwLock<()> = RwLock::const_new(());

impl Stage {
    /// Keeps other claims from changing a definition for as long as this is held. Once a claim: two of
    /// these with somebody waiting for a change between them would wait for ever.
    pub(crate) async fn same_definitions(&self) -> RwLockReadGuard<'static, ()> {
        SAME.read().await
    }

    /// Lets a definition be changed for as long as this is held, while no claim minds.
    pub(crate) async fn other_definitions(&self) -> RwLockWriteGuard<'static, ()> {
        SAME.write().await
    }
}
