//! The records of a SendingDomain and of its pool's names and addresses, taken out of their status for
//! printing.

use kube::ResourceExt as _;
use postrider_crds::{PublishedRecord, RecordState, RecordStatus, RelayPool, SendingDomain};
use serde::Serialize;

use crate::text::counted;

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
    /// The pool that sends the domain's mail, when its status is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<PoolRecords>,
    /// Those that the operator itself puts into DNS.
    #[serde(skip)]
    published: Vec<PublishedRecord>,
}

/// What a RelayPool needs in DNS: names of its addresses, and SPF for those given in EHLO.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolRecords {
    /// Its name.
    pub(crate) name: String,
    /// The records.
    pub(crate) records: Vec<RecordStatus>,
}

impl DomainRecords {
    /// The records of `object` and of its pool.
    pub(crate) fn of(object: &SendingDomain, pool: Option<&RelayPool>) -> Self {
        let status = object.status.as_ref();
        let observed = status.and_then(|s| s.observed_generation);
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            domain: object.spec.domain.to_string(),
            current: observed.is_some() && observed == object.metadata.generation,
            records: status.map(|s| s.records.clone()).unwrap_or_default(),
            pool: pool.and_then(PoolRecords::of),
            published: status
                .and_then(|s| s.published.as_ref())
                .map(|published| published.records.clone())
                .unwrap_or_default(),
        }
    }

    /// Those that somebody has to publish: all but what the operator publishes (`spec.publish`).
    pub(crate) fn by_hand(&self) -> impl Iterator<Item = &RecordStatus> {
        let published = |record: &RecordStatus| {
            let mut ours = self.published.iter();
            ours.any(|own| (own.r#type, &own.name) == (record.r#type, &record.name))
        };
        self.records.iter().filter(move |record| !published(record))
    }

    /// Whether `name` lies in the domain, so that its record belongs in the domain's zone.
    pub(crate) fn holds(&self, name: &str) -> bool {
        let parent = name.strip_suffix(self.domain.as_str());
        parent.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
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

impl PoolRecords {
    /// Those of `pool`, if there are any.
    fn of(pool: &RelayPool) -> Option<Self> {
        let records = pool.status.as_ref()?.records.clone();
        (!records.is_empty()).then(|| Self {
            name: pool.name_any(),
            records,
        })
    }

    /// What they are, for people.
    pub(crate) fn title(&self) -> String {
        let total = counted(self.records.len(), "record");
        format!(
            "RelayPool {}, its addresses and the names given in EHLO: {} of {total} verified",
            self.name,
            verified(&self.records),
        )
    }
}

/// How many of `records` do their duty.
pub(crate) fn verified(records: &[RecordStatus]) -> usize {
    let verified = |record: &&RecordStatus| record.state == RecordState::Verified;
    records.iter().filter(verified).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn what_the_operator_publishes_is_not_for_people() {
        let mut domain = golden::shop();
        let all = domain.records.len();
        assert_eq!(domain.by_hand().count(), all);
        let record = &domain.records[0];
        domain.published = vec![PublishedRecord {
            r#type: record.r#type,
            name: record.name.clone(),
            value: record.wanted.clone(),
        }];
        assert_eq!(domain.by_hand().count(), all - 1);
        assert!(
            domain
                .by_hand()
                .all(|left| left.name != domain.records[0].name)
        );
    }
}
