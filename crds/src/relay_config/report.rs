//! The report a relay gives of itself: what it runs, what it refused, how deep its queue is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::DomainName;

/// Domains in [`Report::remaining`]. With names of 253 octets a report stays below 1 MiB.
pub const MAX_REMAINING: usize = 2000;

/// `GET /v1/report` of a relay's admin API, JSON. Unknown keys are ignored by readers, so a newer
/// relay can speak to an older operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pod's name.
    pub pod: String,
    /// Path below the configuration directory to [`crate::digest::of`] its bytes, for every
    /// document in force.
    pub documents: BTreeMap<String, String>,
    /// Documents that were found but refused; what was in force before stays so.
    pub refused: Vec<RefusedDocument>,
    /// Depth of the queue.
    pub queue: QueueReport,
    /// Messages in custody, or on their way into it, of each domain whose intake the keyring in force
    /// closes; of the first [`MAX_REMAINING`] by name. Empty while custody is not restored: a domain
    /// that is not there has not been counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remaining: BTreeMap<DomainName, u64>,
    /// Why the relay accepts no mail now, or `None`.
    pub not_ready: Option<String>,
}

/// A document the relay found but could not use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedDocument {
    /// Path below the configuration directory.
    pub path: String,
    /// Digest of what was refused.
    pub digest: String,
    /// Why.
    pub error: String,
}

/// Messages in custody by state; a message with several recipients counts in its most urgent one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReport {
    /// Waiting for a delivery slot or being attempted.
    pub due: u64,
    /// Waiting for their next attempt.
    pub deferred: u64,
    /// Kept back by an operator's suspension.
    #[serde(default)]
    pub suspended: u64,
    /// Kept back by admission or an operator's hold.
    pub held: u64,
    /// Seconds since the longest waiting due message became due.
    pub oldest_due_seconds: u64,
}
