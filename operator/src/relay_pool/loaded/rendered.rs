//! What has been rendered for a pool, as far as anybody asks what of it is in force.

use std::{collections::BTreeMap, sync::Arc};

use postrider_crds::{
    DomainName, Selector,
    relay_config::{Admission, Intake, shard_of},
};

use crate::relay_pool::keyring::Shard;

/// What has been rendered for a pool, and which pods should have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Path below the configuration directory to digest.
    pub documents: BTreeMap<String, String>,
    /// The same for certificates and their keys, which relays need not report.
    pub certificates: BTreeMap<String, String>,
    /// Shards of the keyring and what each says.
    pub shards: BTreeMap<u32, Arc<Shard>>,
    /// UIDs by name of the pods the pool should have; `None` for one that does not exist yet.
    pub members: BTreeMap<String, Option<String>>,
}

impl Rendered {
    /// What the keyring says of `domain`.
    pub(crate) fn domain(&self, domain: &DomainName) -> Option<&RenderedDomain> {
        self.shards.get(&shard_of(domain))?.domains.get(domain)
    }
}

/// What a keyring says of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedDomain {
    /// UID of the SendingDomain it was rendered from.
    pub uid: String,
    /// Generation of that SendingDomain.
    pub generation: i64,
    /// What relays do with its mail.
    pub admission: Admission,
    /// Whether they take new mail of it.
    pub intake: Intake,
    /// Its selectors, whatever their state.
    pub selectors: Box<[Selector]>,
}
