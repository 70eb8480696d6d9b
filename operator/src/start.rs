//! The order of a start: relays are asked, pools are rendered, then domains and lists are judged.
//!
//! What relays have loaded is kept nowhere. A process that judged before it asked would write that
//! it waits for relays that have long been ready, and take it back a second later.
//!
//! Promises: nobody waits longer than [`BOUND`] for a pool that cannot be rendered.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;

use crate::relay_pool::loaded::PoolKey;

/// The longest that domains and lists wait for pools.
const BOUND: Duration = Duration::from_secs(30);

/// How far the start has come.
#[derive(Debug, Default)]
pub struct Start {
    asked: watch::Sender<bool>,
    tried: watch::Sender<BTreeSet<PoolKey>>,
}

impl Start {
    /// Every relay there is has been asked once.
    pub fn relays_asked(&self) {
        self.asked.send_replace(true);
    }

    /// A first attempt to render `pool` has ended, well or not.
    pub fn pool_tried(&self, pool: &PoolKey) {
        self.tried.send_if_modified(|tried| {
            let news = !tried.contains(pool);
            if news {
                tried.insert(pool.clone());
            }
            news
        });
    }

    /// Waits until every relay has been asked once.
    pub async fn until_relays_asked(&self) {
        // Fails only when the sender is gone, which `self` holds.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// Waits until rendering each of `pools` has been tried, or for [`BOUND`].
    pub async fn until_pools_tried(&self, pools: &[PoolKey]) {
        let mut tried = self.tried.subscribe();
        let all = tried.wait_for(|tried| pools.iter().all(|pool| tried.contains(pool)));
        if tokio::time::timeout(BOUND, all).await.is_err() {
            tracing::warn!("some pools take long to render; domains and lists go ahead");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn pool(name: &str) -> PoolKey {
        PoolKey {
            namespace: "mail".into(),
            name: name.into(),
        }
    }

    #[tokio::test]
    async fn domains_wait_for_each_pool() {
        let start = Start::default();
        assert_eq!(start.until_relays_asked().now_or_never(), None);
        start.relays_asked();
        start.until_relays_asked().await;
        let pools = [pool("a"), pool("b")];
        assert_eq!(start.until_pools_tried(&pools).now_or_never(), None);
        start.pool_tried(&pool("a"));
        start.pool_tried(&pool("a"));
        assert_eq!(start.until_pools_tried(&pools).now_or_never(), None);
        start.pool_tried(&pool("b"));
        start.until_pools_tried(&pools).await;
        start.until_pools_tried(&[]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_that_cannot_be_rendered_holds_nobody_up_for_ever() {
        let start = Start::default();
        let pools = [pool("a")];
        let waiting = start.until_pools_tried(&pools);
        let longer = BOUND + Duration::from_secs(1);
        let waited = tokio::time::timeout(longer, waiting).await;
        assert!(waited.is_ok());
    }
}
