//! What to tell of a change of a pool's conditions.

use postrider_crds::{
    RelayPoolStatus,
    condition::{reasons, types},
};

use crate::{
    conditions::{Fact, Status, has},
    events::{Notice, Severity},
};

/// What became different: condition type, new status, reason.
const TOLD: [(&str, Status, &str, Severity); 6] = [
    (
        types::AVAILABLE,
        Status::True,
        reasons::MEMBERS_AVAILABLE,
        Severity::Normal,
    ),
    (
        types::AVAILABLE,
        Status::False,
        reasons::NO_MEMBERS,
        Severity::Warning,
    ),
    (
        types::CONFIG_APPLIED,
        Status::False,
        reasons::REFUSED,
        Severity::Warning,
    ),
    (
        types::SPOOLS_RETAINED,
        Status::True,
        reasons::VOLUMES_RETAINED,
        Severity::Warning,
    ),
    (
        types::READY,
        Status::False,
        reasons::REFERENCE_NOT_FOUND,
        Severity::Warning,
    ),
    (
        types::READY,
        Status::False,
        reasons::REFERENCE_INVALID,
        Severity::Warning,
    ),
];

/// Events for what `facts` say and the stored status does not.
pub(super) fn notices(before: &RelayPoolStatus, facts: &[Fact]) -> Vec<Notice> {
    // A pool that has just been made has no members yet: that is no event.
    let first = before.conditions.is_empty();
    let told = TOLD
        .iter()
        .filter(|(type_, status, reason, _)| {
            let starting = first && *reason == reasons::NO_MEMBERS;
            !starting && !has(&before.conditions, type_, *status, reason)
        })
        .filter_map(|(type_, status, reason, severity)| {
            let fact = facts.iter().find(|fact| {
                fact.type_ == *type_ && fact.status == *status && fact.reason == *reason
            })?;
            Some(Notice {
                severity: *severity,
                reason,
                action: "Reconcile",
                note: fact.message.clone(),
            })
        });
    told.chain(facts.iter().filter_map(|fact| lost(before, fact)))
        .collect()
}

/// A record that did its duty and does no more.
fn lost(before: &RelayPoolStatus, fact: &Fact) -> Option<Notice> {
    let ours = [types::EHLO_VERIFIED, types::PTR_VERIFIED].contains(&fact.type_);
    let was = before.conditions.iter().find(|c| c.type_ == fact.type_)?;
    let was_true = was.status == Status::True.as_str();
    (ours && was_true && fact.status == Status::False).then(|| Notice {
        severity: Severity::Warning,
        reason: fact.reason,
        action: "Verify",
        note: format!("{} is False: {}", fact.type_, fact.message),
    })
}
