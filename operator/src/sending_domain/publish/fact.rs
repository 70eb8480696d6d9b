//! The condition `Published`: True only for records that the look itself has found.

use postrider_crds::{
    PublishedRecord, RecordState, RecordStatus, Rfc2136,
    condition::{reasons, types},
};

use crate::conditions::{Fact, Status};

/// Records that a message names.
const NAMED: usize = 5;

/// Whether `records` hold one of the type and name of `record`.
pub(super) fn has(records: &[PublishedRecord], record: &PublishedRecord) -> bool {
    records
        .iter()
        .any(|other| (other.r#type, &other.name) == (record.r#type, &record.name))
}

/// Whether the look has found `record`.
pub(super) fn is_verified(records: &[RecordStatus], record: &PublishedRecord) -> bool {
    records.iter().any(|status| {
        status.state == RecordState::Verified
            && (status.r#type, &status.name) == (record.r#type, &record.name)
    })
}

/// The condition.
pub(super) fn published(status: Status, reason: &'static str, message: String) -> Fact {
    Fact::new(types::PUBLISHED, status, reason, message)
}

/// Whether what was handed to `place` has been found by the look. Records of keys whose Secrets are
/// gone are not looked at any more.
pub(super) fn seen(records: &[RecordStatus], handed: &[PublishedRecord], place: &str) -> Fact {
    let is_looked_at = |record: &PublishedRecord| {
        let mut known = records.iter();
        known.any(|status| (status.r#type, &status.name) == (record.r#type, &record.name))
    };
    let open: Vec<_> = handed
        .iter()
        .filter(|record| is_looked_at(record) && !is_verified(records, record))
        .collect();
    if open.is_empty() {
        let message = format!("{} records are in DNS by {place}", handed.len());
        return published(Status::True, reasons::PUBLISHED, message);
    }
    let message = format!(
        "handed to {place} and not seen in DNS yet: {}",
        named(open.into_iter())
    );
    published(Status::Unknown, reasons::WAITING_FOR_DNS, message)
}

/// `fact`, unless records that nobody publishes are missing.
pub(super) fn with_outside(
    fact: Fact,
    records: &[RecordStatus],
    outside: &[PublishedRecord],
    settings: &Rfc2136,
) -> Fact {
    let missing = outside
        .iter()
        .filter(|record| !is_verified(records, record));
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return fact;
    }
    let message = format!(
        "not in the zone {}: {}; publish by hand, or correct spec.publish.rfc2136.zone",
        settings.zone,
        named(missing.into_iter())
    );
    published(Status::False, reasons::OUTSIDE_ZONE, message)
}

/// The first of `records` by type and name, and how many more there are.
pub(super) fn named<'a>(records: impl ExactSizeIterator<Item = &'a PublishedRecord>) -> String {
    let more = records.len().saturating_sub(NAMED);
    let names: Vec<_> = records
        .take(NAMED)
        .map(|r| format!("{:?} {}", r.r#type, r.name))
        .collect();
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
