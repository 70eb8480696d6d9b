//! The domain's keys in its status and events, and the steps of [`rotation`] as writes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use postrider_crds::{DkimStatus, KeyStatus, condition::reasons};

use super::{Deletion, NewKey, Transition};
use crate::{
    events::{Notice, Severity},
    keys::{KeyState, Life},
    sending_domain::{
        observe::{KeyFacts, Observation},
        rotation,
    },
};

/// Keys of one state that the status shows.
const MAX_SHOWN: usize = 32;

/// The life each key of `observation` has from `now` on, in the same order.
#[must_use]
pub fn advance(observation: &Observation, now: Timestamp) -> Vec<Life> {
    rotation::advance(observation, now)
}

/// True when no key of the algorithm exists that `new` is to replace.
pub(super) fn is_first(observation: &Observation, new: &NewKey) -> bool {
    let mut keys = observation.keys.iter();
    !keys.any(|key| key.algorithm == new.algorithm && key.life.state == KeyState::Active)
}

/// The steps to write. First those towards signing: they never leave a domain with fewer keys.
pub(super) fn transitions(observation: &Observation, advanced: &[Life]) -> Vec<Transition> {
    let keys = observation.keys.iter().zip(advanced);
    let mut changed: Vec<Transition> = keys
        .filter(|(key, life)| key.life != **life)
        .map(|(key, life)| Transition {
            secret: key.secret.clone(),
            read: key.read.clone(),
            to: life.clone(),
        })
        .collect();
    changed.sort_by_key(|transition| transition.to.state > KeyState::Active);
    changed
}

/// The Secrets to delete.
pub(super) fn deletions(observation: &Observation, now: Timestamp) -> Vec<Deletion> {
    rotation::to_delete(observation, now)
        .into_iter()
        .map(|key| Deletion {
            secret: key.secret.clone(),
            read: key.read.clone(),
        })
        .collect()
}

/// The event for keys that go.
pub(super) fn deletion_notice(deletions: &[Deletion]) -> Option<Notice> {
    let secrets: Vec<&str> = deletions.iter().map(|d| d.secret.as_str()).collect();
    let note = format!("deleting withdrawn keys: Secret {}", secrets.join(", "));
    (!secrets.is_empty()).then_some(Notice {
        severity: Severity::Normal,
        reason: reasons::KEY_DELETED,
        action: "DeleteKey",
        note,
    })
}

/// The event for a step that somebody may want to know of.
pub(super) fn notice(observation: &Observation, key: &KeyFacts, to: &Life) -> Option<Notice> {
    let selector = &key.selector;
    let normal = |reason, note| {
        Some(Notice {
            severity: Severity::Normal,
            reason,
            action: "ChangeKey",
            note,
        })
    };
    let warning = |reason, note| {
        Some(Notice {
            severity: Severity::Warning,
            reason,
            action: "ChangeKey",
            note,
        })
    };
    match (key.life.state, to.state) {
        (KeyState::Active, KeyState::Active) if to.failing && !key.life.failing => {
            let finding = key.finding.as_ref();
            let why = finding.map_or("its record is gone", |f| f.message.as_str());
            let reason = finding.map_or(reasons::RECORD_MISSING, |f| f.reason);
            let others = "mail is signed with it only while no other key verifies";
            warning(reason, format!("{selector}: {why}; {others}"))
        }
        (KeyState::Active, KeyState::Active) if !to.failing && key.life.failing => normal(
            reasons::VERIFIED,
            format!("the record of {selector} is right again; mail is signed with it"),
        ),
        (from, to) if from == to => None,
        (KeyState::Retiring, KeyState::Active) => warning(
            reasons::KEY_ACTIVATED,
            format!("mail is signed with {selector} again, because what replaced it is gone"),
        ),
        (_, KeyState::Active) => normal(
            reasons::KEY_ACTIVATED,
            format!("mail is signed with {selector} from now on"),
        ),
        (_, KeyState::Visible) if key.life.state == KeyState::Published => normal(
            reasons::KEY_VISIBLE,
            format!("every name server has the record of {selector}"),
        ),
        (KeyState::Visible | KeyState::Loaded, KeyState::Published) => {
            let name = selector.record_name(&observation.spec.domain);
            let note = format!("{name} is gone again; {selector} waits for it");
            warning(reasons::RECORD_MISSING, note)
        }
        (_, KeyState::Retiring) => normal(
            reasons::KEY_RETIRED,
            format!("mail is no longer signed with {selector}; keep its record for now"),
        ),
        (_, KeyState::Withdrawn) => {
            let name = selector.record_name(&observation.spec.domain);
            let note = format!("{name} is no longer wanted; remove it, or empty its p=");
            normal(reasons::KEY_WITHDRAWN, note)
        }
        _ => None,
    }
}

/// The keys by state, for the status.
pub(super) fn status(observation: &Observation, advanced: &[Life]) -> DkimStatus {
    let mut status = DkimStatus {
        next_rotation: rotation::next_rotation(observation, advanced).map(Time),
        trigger: done_trigger(observation, advanced),
        ..DkimStatus::default()
    };
    for (key, life) in observation.keys.iter().zip(advanced) {
        let shown = KeyStatus {
            selector: key.selector.clone(),
            algorithm: key.algorithm,
            secret: key.secret.clone(),
            state: life.state,
            since: Time(life.since),
            until: rotation::until(observation, key, life).map(Time),
        };
        let list = match life.state {
            KeyState::Active => &mut status.active,
            KeyState::Retiring | KeyState::Withdrawn => &mut status.retiring,
            KeyState::Generated | KeyState::Published | KeyState::Visible | KeyState::Loaded => {
                &mut status.pending
            }
        };
        if list.len() < MAX_SHOWN {
            list.push(shown);
        }
    }
    status
}

/// Secrets of keys that the stored status shows and `observation` does not have.
pub(super) fn vanished(observation: &Observation) -> Vec<String> {
    let shown = &observation.previous.dkim;
    let shown = shown
        .active
        .iter()
        .chain(&shown.pending)
        .chain(&shown.retiring);
    let keys = observation.keys.iter().map(|key| &key.secret);
    let unusable = observation.unusable_keys.iter().map(|key| &key.secret);
    let seen: BTreeSet<&String> = keys.chain(unusable).collect();
    shown
        .filter(|key| !seen.contains(&key.secret))
        .map(|key| key.secret.clone())
        .collect()
}

/// The trigger that every key that signs was made for.
fn done_trigger(observation: &Observation, advanced: &[Life]) -> Option<String> {
    let keys = observation.keys.iter().zip(advanced);
    let mut signing = keys.filter(|(_, life)| life.state == KeyState::Active);
    let first = signing.next()?.1.trigger.clone()?;
    signing
        .all(|(_, life)| life.trigger.as_ref() == Some(&first))
        .then_some(first)
}
