//! Pools, domains and lists at a glance, and what to fix next, in order.
//!
//! Promises: an object whose manifest is newer than its status is never shown as ready, nor with
//! reasons that belong to an earlier manifest.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource as _;
use postrider_crds::{
    RecordState, RelayPool, SendingDomain, SuppressionList,
    condition::{
        reasons,
        types::{READY, STALLED},
    },
    relay_config::Admission,
};
use serde::Serialize;

use crate::cluster::Everything;

/// Reason shown while the operator has not looked at the manifest as it is now. Never written to
/// a status, which is why it is no constant of the API.
const NOT_OBSERVED: &str = "NotObserved";

/// Everything at a glance; serializes as the answer of `-o json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    /// Relay pools.
    pub(crate) pools: Vec<PoolLine>,
    /// Sending domains.
    pub(crate) domains: Vec<DomainLine>,
    /// Suppression lists.
    pub(crate) lists: Vec<ListLine>,
    /// What to fix, the most urgent first.
    pub(crate) fixes: Vec<Fix>,
}

/// What every kind has.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Status of the Ready condition: True, False or Unknown.
    pub(crate) ready: String,
    /// Its reason.
    pub(crate) reason: String,
    /// Its message.
    pub(crate) message: String,
    /// Whether retrying cannot cure it.
    pub(crate) stalled: bool,
}

/// A RelayPool.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolLine {
    /// How it is.
    #[serde(flatten)]
    pub(crate) health: Health,
    /// Pods wanted.
    pub(crate) desired: i32,
    /// Pods that accept mail.
    pub(crate) ready_replicas: i32,
    /// Messages in custody, when known.
    pub(crate) queued: Option<u64>,
    /// How long the oldest due message has been due.
    pub(crate) oldest_due: Option<String>,
}

/// A SendingDomain.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DomainLine {
    /// How it is.
    #[serde(flatten)]
    pub(crate) health: Health,
    /// The domain.
    pub(crate) domain: String,
    /// Its pool.
    pub(crate) pool: String,
    /// Records that do their duty.
    pub(crate) records_verified: usize,
    /// Records wanted.
    pub(crate) records: usize,
    /// What relays do with its mail now, when known.
    pub(crate) admission: Option<Admission>,
}

/// A SuppressionList.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListLine {
    /// How it is.
    #[serde(flatten)]
    pub(crate) health: Health,
    /// Entries in force.
    pub(crate) entries: u64,
    /// Pools that have loaded it.
    pub(crate) pools_loaded: usize,
    /// Pools that name it.
    pub(crate) pools: usize,
}

/// Something to do.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fix {
    /// Kind of the object.
    pub(crate) kind: &'static str,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Why it is not ready.
    pub(crate) reason: String,
    /// The same in a sentence, from the operator.
    pub(crate) message: String,
    /// The command that shows more.
    pub(crate) command: String,
}

impl Overview {
    /// What `everything` amounts to, sorted by namespace and name.
    pub(crate) fn of(everything: &Everything) -> Self {
        let mut pools: Vec<_> = everything.pools.iter().map(PoolLine::of).collect();
        let mut domains: Vec<_> = everything.domains.iter().map(DomainLine::of).collect();
        let mut lists: Vec<_> = everything.lists.iter().map(ListLine::of).collect();
        pools.sort_by(|a, b| a.health.key().cmp(&b.health.key()));
        domains.sort_by(|a, b| a.health.key().cmp(&b.health.key()));
        lists.sort_by(|a, b| a.health.key().cmp(&b.health.key()));
        let fixes = fixes(&pools, &domains, &lists);
        Self {
            pools,
            domains,
            lists,
            fixes,
        }
    }
}

impl Health {
    fn of(meta: &ObjectMeta, observed: Option<i64>, conditions: &[Condition]) -> Self {
        let find = |name: &str| conditions.iter().find(|c| c.type_ == name);
        let current = observed.is_some() && observed == meta.generation;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let (ready, reason, message) = match find(READY).filter(|_| current) {
            Some(c) => (c.status.clone(), c.reason.clone(), c.message.clone()),
            None => (
                "Unknown".into(),
                NOT_OBSERVED.into(),
                format!(
                    "the operator has not looked at this version of the manifest; is it running, and does it watch namespace {namespace}?"
                ),
            ),
        };
        Self {
            namespace,
            name: meta.name.clone().unwrap_or_default(),
            ready,
            reason,
            message,
            stalled: current && find(STALLED).is_some_and(|c| c.status == "True"),
        }
    }

    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn urgency(&self) -> u8 {
        match (self.stalled, self.ready.as_str()) {
            (true, _) => 0,
            (false, "False") => 1,
            (false, _) => 2,
        }
    }
}

impl PoolLine {
    fn of(pool: &RelayPool) -> Self {
        let status = pool.status.clone().unwrap_or_default();
        let queue = status.queue.as_ref();
        Self {
            health: Health::of(pool.meta(), status.observed_generation, &status.conditions),
            desired: pool.spec.replicas,
            ready_replicas: status.ready_replicas,
            queued: queue.map(|q| q.queued),
            oldest_due: queue.and_then(|q| q.oldest_due).map(|d| d.to_string()),
        }
    }
}

impl DomainLine {
    fn of(domain: &SendingDomain) -> Self {
        let status = domain.status.clone().unwrap_or_default();
        let records = &status.records;
        let verified = records.iter().filter(|r| r.state == RecordState::Verified);
        Self {
            health: Health::of(
                domain.meta(),
                status.observed_generation,
                &status.conditions,
            ),
            domain: domain.spec.domain.to_string(),
            pool: domain.spec.pool_ref.name.clone(),
            records_verified: verified.count(),
            records: records.len(),
            admission: status.admission,
        }
    }
}

impl ListLine {
    fn of(list: &SuppressionList) -> Self {
        let status = list.status.clone().unwrap_or_default();
        let loaded = status
            .pools
            .iter()
            .filter(|p| p.digest.as_ref() == Some(&status.digest) && !status.digest.is_empty());
        Self {
            health: Health::of(list.meta(), status.observed_generation, &status.conditions),
            entries: status.entries,
            pools_loaded: loaded.count(),
            pools: status.pools.len(),
        }
    }
}

/// Reasons of a domain that its records tell nothing about.
const NOT_OF_DNS: [&str; 6] = [
    reasons::POOL_NOT_FOUND,
    reasons::REFERENCE_NOT_FOUND,
    reasons::REFERENCE_INVALID,
    reasons::DOMAIN_CONFLICT,
    reasons::USERNAME_CONFLICT,
    reasons::KEY_INVALID,
];

/// All that is not ready: what cannot cure itself first, then what is wrong, then what is not
/// known; pools before the domains that need them, lists last.
fn fixes(pools: &[PoolLine], domains: &[DomainLine], lists: &[ListLine]) -> Vec<Fix> {
    let pools = pools.iter().map(|p| describe("RelayPool", &p.health));
    let domains = domains.iter().map(|d| match d.records {
        0 => describe("SendingDomain", &d.health),
        _ if NOT_OF_DNS.contains(&d.health.reason.as_str()) => describe("SendingDomain", &d.health),
        _ => show_records(&d.health),
    });
    let lists = lists.iter().map(|l| describe("SuppressionList", &l.health));
    let all = pools.chain(domains).chain(lists);
    let mut wrong: Vec<_> = all.filter(|(health, _)| health.ready != "True").collect();
    // A stable sort: the order above holds among equals.
    wrong.sort_by_key(|(health, _)| health.urgency());
    wrong.into_iter().map(|(_, fix)| fix).collect()
}

fn describe<'a>(kind: &'static str, health: &'a Health) -> (&'a Health, Fix) {
    let (namespace, name) = (&health.namespace, &health.name);
    let plain = kind.to_ascii_lowercase();
    let command = format!("kubectl describe {plain} {name} -n {namespace}");
    (health, Fix::of(kind, health, command))
}

fn show_records(health: &Health) -> (&Health, Fix) {
    let (namespace, name) = (&health.namespace, &health.name);
    let command = format!("kubectl postrider records {name} -n {namespace}");
    (health, Fix::of("SendingDomain", health, command))
}

impl Fix {
    fn of(kind: &'static str, health: &Health, command: String) -> Self {
        Self {
            kind,
            namespace: health.namespace.clone(),
            name: health.name.clone(),
            reason: health.reason.clone(),
            message: health.message.clone(),
            command,
        }
    }
}
