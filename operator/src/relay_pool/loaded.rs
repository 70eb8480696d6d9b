//! What the relays of each pool have loaded, by their own reports.
//!
//! Guarantees: a document counts as loaded everywhere only when every pod the pool should have, and
//! at least one, has reported exactly the rendered bytes. A pod that is replaced counts as not
//! having reported. Nothing is persisted: after a restart of the operator all is unknown until the
//! pods have been asked again, which comes before anything else ([`crate::start`]).

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use postrider_crds::DomainName;

mod news;
mod rendered;
mod state;

pub use news::News;
pub use rendered::{Rendered, RenderedDomain};
pub use state::{PodReport, PoolState, Reach, Remainder};

/// Namespace and name of a RelayPool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What the relays of each pool have loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    pools: RwLock<BTreeMap<PoolKey, PoolState>>,
}

impl Loaded {
    /// All that is known of `pool`.
    #[must_use]
    pub fn state(&self, pool: &PoolKey) -> PoolState {
        self.with(pool, Clone::clone)
    }

    /// What `read` makes of all that is known of `pool`, which may be nothing.
    pub fn with<T>(&self, pool: &PoolKey, read: impl FnOnce(&PoolState) -> T) -> T {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        match pools.get(pool) {
            Some(state) => read(state),
            None => read(&PoolState::default()),
        }
    }

    /// Takes note of what has been rendered and tells what is new about it.
    pub fn set_rendered(&self, pool: &PoolKey, rendered: Rendered) -> News {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let state = pools.entry(pool.clone()).or_default();
        let before = std::mem::replace(&mut state.rendered, rendered);
        let now = &state.rendered;
        for entry in state.reports.values_mut() {
            // What was counted for another SendingDomain of the name tells nothing of this one.
            let counts = entry.report.as_mut().map(|report| &mut report.remaining);
            let same = |domain: &DomainName| before.domain(domain) == now.domain(domain);
            counts
                .into_iter()
                .for_each(|c| c.retain(|domain, _| same(domain)));
        }
        state
            .reports
            .retain(|name, _| now.members.contains_key(name));
        News::of_rendered(&before, now)
    }

    /// Takes note that what was rendered of a shard of the keyring could not be written.
    pub fn set_unwritten(&self, pool: &PoolKey, shard: u32) {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let state = pools.get_mut(pool);
        let shard = state.and_then(|state| state.rendered.shards.get_mut(&shard));
        if let Some(shard) = shard {
            Arc::make_mut(shard).unwritten = true;
        }
    }

    /// Takes note of a report; `None` when it is the same as the one before. A pod that is no
    /// member is ignored; before anything is rendered, nobody knows who is one.
    pub fn set_report(&self, pool: &PoolKey, pod: &str, report: PodReport) -> Option<News> {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let state = pools.entry(pool.clone()).or_default();
        let rendered = &state.rendered;
        if !rendered.documents.is_empty() && !rendered.members.contains_key(pod) {
            return None;
        }
        let before = state.reports.insert(pod.to_owned(), report.clone());
        if before.as_ref() == Some(&report) {
            return None;
        }
        let same_pod = before.as_ref().is_some_and(|b| b.uid == report.uid);
        match (before.and_then(|entry| entry.report), &report.report) {
            (Some(old), Some(new)) if same_pod && old.refused == new.refused => {
                Some(News::of_reports(&old, new))
            }
            _ => Some(News::Everything),
        }
    }

    /// Forgets every pool that is not among `existing`.
    pub fn retain(&self, existing: &[PoolKey]) {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool, _| existing.contains(pool));
    }
}

#[cfg(test)]
pub(crate) mod tests;
