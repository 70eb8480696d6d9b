//! The way of a DKIM key: Pending, Visible, Active.
//!
//! ```text
//! Pending -- record seen, matches --> Visible -- loaded by every relay --> Active
//! Visible -- record known to be gone or wrong --> Pending
//! Active  -- record known to be gone or wrong, and another Active key verifies --> Pending
//! Active  -- algorithm no longer in the spec, all others Active --> Pending
//! ```
//!
//! A key whose algorithm left the spec goes on signing until all wanted keys do; then it is put
//! away as Pending and its record is no longer listed. Its Secret stays: listing the algorithm again
//! takes the same key up again, and nothing that could still be needed is destroyed.

use std::cmp::Reverse;

use postrider_crds::{DkimStatus, KeyStatus, RecordState, condition::reasons, digest};

use super::{NewKey, Transition, fails};
use crate::{
    events::{Notice, Severity},
    keys::{KeyState, algorithm_name},
    sending_domain::observe::{KeyFacts, Observation},
};

/// Characters of the SendingDomain's name in a Secret's name; a digest of the UID tells longer
/// ones apart.
const STEM: usize = 40;
/// Hex digits of that digest.
const UID_DIGITS: usize = 8;

/// The state each key of `observation` is in from now on, in the same order.
#[must_use]
pub fn advance(observation: &Observation) -> Vec<KeyState> {
    observation
        .keys
        .iter()
        .map(|key| next(observation, key))
        .collect()
}

fn next(observation: &Observation, key: &KeyFacts) -> KeyState {
    let seen = key.finding.as_ref().map(|finding| finding.state);
    let verified = seen == Some(RecordState::Verified);
    let failing = seen.is_some_and(fails);
    let wanted = is_wanted(observation, key);
    match key.state {
        KeyState::Pending if wanted && verified => KeyState::Visible,
        KeyState::Pending => KeyState::Pending,
        KeyState::Visible if !wanted || failing => KeyState::Pending,
        KeyState::Visible if verified && key.loaded => KeyState::Active,
        KeyState::Visible => KeyState::Visible,
        KeyState::Active if failing && another_verifies(observation, key) => KeyState::Pending,
        KeyState::Active if !wanted && all_wanted_active(observation) => KeyState::Pending,
        KeyState::Active => KeyState::Active,
    }
}

/// True when `key` is the one to use for an algorithm of the spec: of several, the one furthest on
/// its way.
#[must_use]
pub fn is_wanted(observation: &Observation, key: &KeyFacts) -> bool {
    let listed = observation
        .spec
        .dkim
        .keys
        .iter()
        .any(|spec| spec.algorithm == key.algorithm);
    let alike = observation
        .keys
        .iter()
        .filter(|other| other.algorithm == key.algorithm);
    let chosen = alike.min_by_key(|other| (Reverse(other.state), other.secret.as_str()));
    listed && chosen.is_some_and(|chosen| chosen.secret == key.secret)
}

fn another_verifies(observation: &Observation, key: &KeyFacts) -> bool {
    observation.keys.iter().any(|other| {
        other.secret != key.secret
            && other.state == KeyState::Active
            && other
                .finding
                .as_ref()
                .is_some_and(|f| f.state == RecordState::Verified)
    })
}

fn all_wanted_active(observation: &Observation) -> bool {
    observation.spec.dkim.keys.iter().all(|spec| {
        let keys = observation.keys.iter();
        keys.filter(|key| key.algorithm == spec.algorithm)
            .any(|key| key.state == KeyState::Active)
    })
}

/// Keys of the spec that do not exist. None while a Secret of ours cannot be read, since it may
/// hold the key that seems to be missing; and none for a domain that somebody else has.
#[must_use]
pub fn to_generate(observation: &Observation) -> Vec<NewKey> {
    if observation.rival.is_some() || !observation.unusable_keys.is_empty() {
        return Vec::new();
    }
    let wanted = observation.spec.dkim.keys.iter().map(|spec| spec.algorithm);
    let missing = wanted.filter(|algorithm| {
        !observation
            .keys
            .iter()
            .any(|key| key.algorithm == *algorithm)
    });
    missing
        .map(|algorithm| NewKey {
            secret: secret_name(observation, &algorithm_name(algorithm).to_lowercase()),
            algorithm,
        })
        .collect()
}

fn secret_name(observation: &Observation, kind: &str) -> String {
    let stem: String = observation.name.chars().take(STEM).collect();
    let uid: String = digest::of(observation.uid.as_bytes())
        .chars()
        .take(UID_DIGITS)
        .collect();
    format!("{}-{uid}-{kind}", stem.trim_end_matches(['-', '.']))
}

/// The states to write.
pub(super) fn transitions(observation: &Observation, advanced: &[KeyState]) -> Vec<Transition> {
    let keys = observation.keys.iter().zip(advanced);
    keys.filter(|(key, state)| key.state != **state)
        .map(|(key, state)| Transition {
            secret: key.secret.clone(),
            to: *state,
        })
        .collect()
}

/// The event for a key that starts or stops signing.
pub(super) fn notice(key: &KeyFacts, state: KeyState) -> Option<Notice> {
    let (severity, reason, note) = match (key.state, state) {
        (KeyState::Visible, KeyState::Active) => (
            Severity::Normal,
            reasons::VERIFIED,
            format!("mail is signed with {} from now on", key.selector),
        ),
        (KeyState::Active, KeyState::Pending) => {
            let finding = key.finding.as_ref().filter(|finding| fails(finding.state));
            let why = finding.map_or("its algorithm is no longer wanted", |f| f.message.as_str());
            let note = format!("mail is no longer signed with {}: {why}", key.selector);
            match finding {
                Some(finding) => (Severity::Warning, finding.reason, note),
                None => (Severity::Normal, reasons::NOT_REQUIRED, note),
            }
        }
        _ => return None,
    };
    Some(Notice {
        severity,
        reason,
        action: "ChangeKey",
        note,
    })
}

/// The keys by state, for the status.
pub(super) fn status(observation: &Observation, advanced: &[KeyState]) -> DkimStatus {
    let mut status = DkimStatus::default();
    for (key, state) in observation.keys.iter().zip(advanced) {
        let shown = KeyStatus {
            selector: key.selector.clone(),
            algorithm: key.algorithm,
            secret: key.secret.clone(),
        };
        match state {
            KeyState::Active => status.active.push(shown),
            KeyState::Pending | KeyState::Visible if is_wanted(observation, key) => {
                status.pending.push(shown);
            }
            KeyState::Pending | KeyState::Visible => {}
        }
    }
    status
}
