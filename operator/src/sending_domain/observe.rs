//! What there is to know about one SendingDomain: itself, its pool, its keys, its senders, and what
//! DNS says.
//!
//! [`Observation`] is plain data, so that a plan can be made from a test table or, without a
//! cluster, from a manifest. [`gather()`] fills it from the caches, [`look()`] asks DNS.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use postrider_crds::{
    Duration, EgressRange, RelayPool, Requirement, Selector, SendingDomain, SendingDomainSpec,
    SendingDomainStatus, relay_config::KeyAlgorithm,
};

use super::{
    answers::Answers,
    queued::{Verdict, Wait},
};
use crate::{
    conditions::Fact,
    dns::{Finding, Sight, dkim::PublicKey},
    keys::Life,
    relay_pool::{credentials::SenderProblem, loaded::Reach, reverse},
};

mod gather;
mod look;
mod senders;

pub use gather::gather;
pub(super) use gather::owns;
pub use look::{Inputs, Look, look};

/// All that a plan is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The spec.
    pub spec: SendingDomainSpec,
    /// The status as it is stored.
    pub previous: SendingDomainStatus,
    /// The pool, if it exists.
    pub pool: Option<PoolFacts>,
    /// Name of an older SendingDomain of the same domain and pool.
    pub rival: Option<String>,
    /// The domain's keys.
    pub keys: Vec<KeyFacts>,
    /// Key Secrets that cannot be used.
    pub unusable_keys: Vec<UnusableKey>,
    /// Senders who cannot log in, in the order of the spec.
    pub sender_problems: Vec<SenderProblem>,
    /// How far the pool's relays are with the domain.
    pub reach: Reach,
    /// What the pool has found of the names of its addresses; `None`: nothing yet.
    pub reverse: Option<Fact>,
    /// What DNS says about everything but keys.
    pub findings: Findings,
    /// What DNS says where the records of keys are, if the domain's names are aliases.
    pub delegated: BTreeMap<Selector, Finding>,
    /// Version of the Secret that updates of DNS are signed with; `None`: there is none.
    pub tsig: Option<String>,
    /// What its deletion waits for; `None`: it is not being deleted.
    pub closing: Option<Vec<Wait>>,
    /// What has become of its mail in each of the pools that it has left.
    pub left: Vec<Verdict>,
    /// Seconds between a key's record on every name server and the key's use, at least.
    pub floor: u32,
    /// Seconds after which the resolver's word is taken for a key's record where no name server can be
    /// reached; `None`: never.
    pub trust_resolver_after: Option<u32>,
}

/// A key Secret that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableKey {
    /// Its name.
    pub secret: String,
    /// What is wrong with it, in a sentence that names it.
    pub problem: String,
}

/// What a domain needs to know of its pool, and of those that it has left and that have mail of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolFacts {
    /// `spec.hostname`.
    pub hostname: String,
    /// `spec.egress.addresses` of all of them; empty if it is of the pool itself.
    pub egress: Vec<EgressRange>,
    /// `spec.delivery.expireAfter`, the longest of them: how long mail may wait.
    pub expire_after: Duration,
}

impl PoolFacts {
    /// These facts where the pool `left` has mail of the domain as well.
    #[must_use]
    pub(super) fn beside(mut self, left: &RelayPool) -> Self {
        self.expire_after = self.expire_after.max(left.spec.delivery.expire_after);
        if !self.egress.is_empty() {
            for range in &left.spec.egress.addresses {
                if !self.egress.contains(range) {
                    self.egress.push(*range);
                }
            }
        }
        self
    }
}

/// A key and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The Secret that keeps it.
    pub secret: String,
    /// Its selector.
    pub selector: Selector,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// How far it is.
    pub life: Life,
    /// The Secret as it was read: `metadata.uid` and `metadata.resourceVersion`.
    pub read: Read,
    /// Its public half.
    pub public: PublicKey,
    /// Whether every pod of the pool has it.
    pub loaded: bool,
    /// Whether no pod has it any more, of the pool or of those that were left and have mail.
    pub released: bool,
    /// Pods that have not reported the keyring with it, some of them when there are many.
    pub lagging: Vec<String>,
    /// What DNS says about its record; `None`: not looked yet.
    pub finding: Option<Finding>,
    /// What the name servers say about its record.
    pub sight: Sight,
}

/// Which version of an object was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
}

/// What DNS says; `None`: not looked, because it is not asked for or what is needed is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// SPF of the return path.
    pub spf: Option<Finding>,
    /// The DMARC policy.
    pub dmarc: Option<Finding>,
    /// The MX of the return path.
    pub return_path: Option<Finding>,
    /// The domains that answers go to.
    pub answers: Answers,
}

impl From<&RelayPool> for PoolFacts {
    fn from(pool: &RelayPool) -> Self {
        Self {
            hostname: pool.spec.hostname.clone(),
            egress: pool.spec.egress.addresses.clone(),
            expire_after: pool.spec.delivery.expire_after,
        }
    }
}

impl Observation {
    /// What a manifest alone tells of `domain`, whose pool is `pool`: no keys, no status.
    #[must_use]
    pub fn of_manifest(domain: &SendingDomain, pool: Option<&RelayPool>) -> Self {
        Self {
            name: domain.name_any(),
            uid: domain.uid().unwrap_or_default(),
            generation: domain.metadata.generation.unwrap_or_default(),
            spec: domain.spec.clone(),
            previous: SendingDomainStatus::default(),
            pool: pool.map(PoolFacts::from),
            rival: None,
            keys: Vec::new(),
            unusable_keys: Vec::new(),
            sender_problems: Vec::new(),
            reach: Reach::default(),
            reverse: pool.and_then(reverse::stated),
            findings: Findings::default(),
            delegated: BTreeMap::new(),
            tsig: None,
            closing: None,
            left: Vec::new(),
            floor: 0,
            trust_resolver_after: None,
        }
    }

    /// The pool, where SPF is asked for and it says which addresses have to pass.
    #[must_use]
    pub fn pool_for_spf(&self) -> Option<&PoolFacts> {
        let asked = self.spec.verification.spf != Requirement::Off;
        self.pool
            .as_ref()
            .filter(|pool| asked && !pool.egress.is_empty())
    }

    /// True while there may be mail of it in a pool that it has left.
    #[must_use]
    pub fn waits_for_mail(&self) -> bool {
        self.left.iter().any(|verdict| verdict.wait().is_some())
    }

    /// True when a person has changed the spec since the stored status was written.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        let observed = self.previous.observed_generation;
        observed.is_some_and(|observed| observed >= 0 && observed != self.generation)
    }
}
