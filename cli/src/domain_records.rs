//! The records of a SendingDomain, taken out of its status for printing.

use kube::ResourceExt as _;
use postrider_crds::{RecordState, RecordStatus, SendingDomain};
use serde::Serialize;

/// What a SendingDomain needs in DNS; serializes as the answer of `-o json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DomainRecords {
    /// Namespace of the SendingDomain.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The domain that mail is sent as.
    pub(crate) domain: String,
    /// Whether the records speak of the manifest as it is now.
    pub(crate) current: bool,
    /// The records.
    pub(crate) records: Vec<RecordStatus>,
}

impl DomainRecords {
    /// The records of `object`.
    pub(crate) fn of(object: &SendingDomain) -> Self {
        let status = object.status.as_ref();
        let observed = status.and_then(|s| s.observed_generation);
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            domain: object.spec.domain.to_string(),
            current: observed.is_some() && observed == object.metadata.generation,
            records: status.map(|s| s.records.clone()).unwrap_or_default(),
        }
    }

    /// How many do their duty.
    pub(crate) fn verified(&self) -> usize {
        let verified = |record: &&RecordStatus| record.state == RecordState::Verified;
        self.records.iter().filter(verified).count()
    }

    /// Why what is known may not be what is wanted now, if so.
    pub(crate) fn caveat(&self) -> Option<String> {
        if self.current {
            return None;
        }
        let known = if self.records.is_empty() {
            "No records are known yet"
        } else {
            "These records belong to an earlier version of the manifest"
        };
        Some(format!(
            "{known}: the operator has not looked at it. Is it running, and does it watch namespace {}?",
            self.namespace
        ))
    }
}
