//! Which keys are to be made.

use jiff::Timestamp;
use postrider_crds::{digest, relay_config::KeyAlgorithm};

use super::{MAX_RETIRING, current, is_revoked, next_of, of, pending};
use crate::{
    keys::{KeyState, algorithm_name},
    sending_domain::{
        observe::{KeyFacts, Observation},
        plan::NewKey,
    },
};

/// Characters of the SendingDomain's name in a Secret's name; a digest of the UID tells longer
/// ones apart.
const STEM: usize = 40;
/// Hex digits of that digest.
const UID_DIGITS: usize = 8;

/// Why a key that signs is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It is named in `revoke`.
    Revoked,
    /// The trigger is another than the one it was made for.
    Triggered,
    /// It is older than `every`.
    Aged,
}

/// The keys to make: one for each listed algorithm that no key signs for or is on its way to, or
/// whose key is to be replaced. None for a domain that somebody else has or that is being deleted.
#[must_use]
pub fn to_generate(observation: &Observation, now: Timestamp) -> Vec<NewKey> {
    if observation.rival.is_some() || observation.closing.is_some() {
        return Vec::new();
    }
    let listed = observation.spec.dkim.keys.iter().map(|spec| spec.algorithm);
    listed
        .filter(|algorithm| is_missing(observation, *algorithm, now))
        .map(|algorithm| NewKey {
            secret: secret_name(observation, algorithm),
            algorithm,
        })
        .collect()
}

fn is_missing(observation: &Observation, algorithm: KeyAlgorithm, now: Timestamp) -> bool {
    if pending(observation, algorithm).is_some() {
        return false;
    }
    match current(observation, algorithm) {
        None => true,
        Some(key) => due(observation, key, now).is_some() && !is_held_back(observation, key, now),
    }
}

/// Whether the key that signs is to be replaced.
pub(super) fn due(observation: &Observation, key: &KeyFacts, now: Timestamp) -> Option<Due> {
    let trigger = &observation.spec.dkim.rotation.trigger;
    if is_revoked(observation, key) {
        Some(Due::Revoked)
    } else if trigger.is_some() && *trigger != key.life.trigger {
        Some(Due::Triggered)
    } else if next_of(observation, &key.life).is_some_and(|at| at <= now) {
        Some(Due::Aged)
    } else {
        None
    }
}

/// True when `key` is to be replaced and as many as may be are still retiring.
pub(super) fn is_held_back(observation: &Observation, key: &KeyFacts, now: Timestamp) -> bool {
    let retiring = of(observation, key.algorithm)
        .filter(|key| key.life.state == KeyState::Retiring)
        .count();
    match due(observation, key, now) {
        Some(Due::Triggered | Due::Aged) => retiring >= MAX_RETIRING,
        Some(Due::Revoked) | None => false,
    }
}

/// `<name>-<digest>-<algorithm>-<number>`: depends on the object and the Secrets there are alone, so
/// making a key twice collides instead of making two.
fn secret_name(observation: &Observation, algorithm: KeyAlgorithm) -> String {
    let stem: String = observation.name.chars().take(STEM).collect();
    let uid: String = digest::of(observation.uid.as_bytes())
        .chars()
        .take(UID_DIGITS)
        .collect();
    let kind = algorithm_name(algorithm).to_lowercase();
    let name = format!("{}-{uid}-{kind}", stem.trim_end_matches(['-', '.']));
    let keys = observation.keys.iter().map(|key| key.secret.as_str());
    let unusable = observation
        .unusable_keys
        .iter()
        .map(|key| key.secret.as_str());
    let taken = keys
        .chain(unusable)
        .filter(|secret| secret.starts_with(&name));
    let number = taken.map(number).max().unwrap_or(0).saturating_add(1);
    format!("{name}-{number}")
}

/// The number that the name of a key's Secret ends in; 0 when somebody else named it.
pub(super) fn number(secret: &str) -> u32 {
    let digits = secret.rsplit('-').next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
