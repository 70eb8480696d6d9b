//! What is new about a pool: which of its domains and lists have to be judged anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use postrider_crds::{
    DomainName,
    relay_config::{Report, SUPPRESSION_SHARDS, layout, shard_of},
};

use super::Rendered;
use crate::relay_pool::keyring::Shard;

/// What is new about a pool, for whom of its domains and lists to wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These documents have other digests: paths below the configuration directory.
    Documents(BTreeSet<String>),
    /// Anything may be new.
    Everything,
}

impl News {
    /// What is new where `now` has been rendered in place of `before`.
    pub(super) fn of_rendered(before: &Rendered, now: &Rendered) -> Self {
        if before.members != now.members {
            return Self::Everything;
        }
        let mut paths = differing(&before.documents, &now.documents);
        paths.extend(restated(&before.shards, &now.shards));
        Self::Documents(paths)
    }

    /// What is new where a pod has reported `now` after `before`.
    pub(super) fn of_reports(before: &Report, now: &Report) -> Self {
        let mut paths = differing(&before.documents, &now.documents);
        paths.extend(recounted(&before.remaining, &now.remaining));
        Self::Documents(paths)
    }

    /// True when there is news of the keyring that holds `domain`.
    #[must_use]
    pub fn concerns_domain(&self, domain: &DomainName) -> bool {
        match self {
            Self::Documents(paths) => paths.contains(&layout::keyring(shard_of(domain))),
            Self::Everything => true,
        }
    }

    /// True when there is news of a shard of `list`.
    #[must_use]
    pub fn concerns_list(&self, list: &str) -> bool {
        match self {
            Self::Documents(paths) => (0..SUPPRESSION_SHARDS)
                .any(|shard| paths.contains(&layout::suppression(list, shard))),
            Self::Everything => true,
        }
    }
}

/// The documents that have another digest now, or none.
fn differing(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let differs = |path: &&String| before.get(*path) != now.get(*path);
    let paths = before.keys().chain(now.keys()).filter(differs);
    paths.cloned().collect()
}

/// The keyrings that say something else of a domain, or say it of another state of its SendingDomain,
/// whether or not that makes other bytes.
fn restated(
    before: &BTreeMap<u32, Arc<Shard>>,
    now: &BTreeMap<u32, Arc<Shard>>,
) -> BTreeSet<String> {
    let differs = |shard: &&u32| match (before.get(*shard), now.get(*shard)) {
        (Some(before), Some(now)) => !Arc::ptr_eq(before, now) && before.domains != now.domains,
        (before, now) => before.is_some() != now.is_some(),
    };
    let shards = before.keys().chain(now.keys()).filter(differs);
    shards.map(|shard| layout::keyring(*shard)).collect()
}

/// The keyrings of domains that have another count now, or none.
fn recounted(
    before: &BTreeMap<DomainName, u64>,
    now: &BTreeMap<DomainName, u64>,
) -> BTreeSet<String> {
    let differs = |domain: &&DomainName| before.get(*domain) != now.get(*domain);
    let domains = before.keys().chain(now.keys()).filter(differs);
    domains
        .map(|domain| layout::keyring(shard_of(domain)))
        .collect()
}
