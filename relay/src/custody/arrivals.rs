//! Messages on their way into custody, by the domain they are sent as.
//!
//! Promises: a message that custody takes is counted here until it is in the queue. So whoever looks
//! here first and into the queue then misses none.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use postrider_crds::DomainName;

use super::shared::Shared;

/// How many there are. No more domains than there are sessions.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<HashMap<DomainName, u64>>);

/// A message on its way into custody: dropped once it is there or known not to come.
#[must_use = "the message counts for as long as this is kept"]
pub struct Arriving {
    shared: Arc<Shared>,
    domain: DomainName,
}

impl Arriving {
    /// One more of `domain`.
    pub(super) fn new(shared: Arc<Shared>, domain: DomainName) -> Self {
        *shared.arrivals.lock().entry(domain.clone()).or_default() += 1;
        Self { shared, domain }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut arrivals = self.shared.arrivals.lock();
        if let Some(count) = arrivals.get_mut(&self.domain) {
            *count -= 1;
            if *count == 0 {
                arrivals.remove(&self.domain);
            }
        }
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Arriving").field(&self.domain).finish()
    }
}

impl Arrivals {
    /// Adds to each count of `counts` the messages that arrive for the domain.
    pub(super) fn count(&self, counts: &mut BTreeMap<DomainName, u64>) {
        let arrivals = self.lock();
        for (domain, count) in counts {
            *count += arrivals.get(domain).copied().unwrap_or_default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DomainName, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
