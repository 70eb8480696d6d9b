//! What a rotation waits for, in words: the condition `Rotating` and the times of the status.

use jiff::Timestamp;
use postrider_crds::{
    RecordState,
    condition::{reasons, types},
};

use super::{
    counts, current, deadline, is_listed, is_pending, next_of, pending, successor, visible_from,
};
use crate::{
    conditions::{Fact, Status},
    dns::Sight,
    keys::{KeyState, Life, algorithm_name},
    sending_domain::{
        observe::{KeyFacts, Observation},
        plan::fails,
    },
};

/// The condition `Rotating`: True with what is waited for while a key is on its way to sign.
#[must_use]
pub fn progress(observation: &Observation, advanced: &[Life], now: Timestamp) -> Fact {
    let listed = observation.spec.dkim.keys.iter().map(|spec| spec.algorithm);
    let keys = || observation.keys.iter().zip(advanced);
    let waiting = listed
        .clone()
        .filter_map(|algorithm| pending(observation, algorithm))
        .filter_map(|key| {
            let mut keys = keys().filter(|(_, life)| is_pending(life.state));
            let (_, life) = keys.find(|(other, _)| other.secret == key.secret)?;
            Some((key, life))
        })
        .min_by_key(|(_, life)| life.state);
    if let Some((key, life)) = waiting {
        let (reason, message) = wait_of(observation, key, life);
        return Fact::new(types::ROTATING, Status::True, reason, message);
    }
    let held_back = listed
        .filter_map(|algorithm| current(observation, algorithm))
        .find(|key| successor::is_held_back(observation, key, now));
    if let Some(key) = held_back {
        let message = format!(
            "{} is to be replaced once one of the {} keys that are retiring is withdrawn",
            key.selector,
            algorithm_name(key.algorithm)
        );
        let reason = reasons::WAITING_FOR_RETIREMENT;
        return Fact::new(types::ROTATING, Status::True, reason, message);
    }
    if !successor::to_generate(observation, now).is_empty() {
        let message = "keys are being made";
        return Fact::new(types::ROTATING, Status::True, reasons::PENDING, message);
    }
    at_rest(observation, advanced)
}

fn at_rest(observation: &Observation, advanced: &[Life]) -> Fact {
    let message = match next_rotation(observation, advanced) {
        Some(at) => format!("keys are replaced from {at} on"),
        None => "keys are replaced when spec.dkim.rotation asks for it".to_owned(),
    };
    Fact::new(types::ROTATING, Status::False, reasons::UP_TO_DATE, message)
}

/// What `key`, on its way to sign, waits for.
fn wait_of(observation: &Observation, key: &KeyFacts, life: &Life) -> (&'static str, String) {
    let selector = &key.selector;
    match life.state {
        KeyState::Generated | KeyState::Published => wait_for_record(observation, key, life),
        KeyState::Visible | KeyState::Loaded => {
            let pool = &observation.spec.pool_ref.name;
            let pods = match key.lagging.as_slice() {
                [] => format!("every relay of RelayPool {pool}"),
                pods => format!("{} of RelayPool {pool}", pods.join(", ")),
            };
            let message = format!("{pods} has to load {selector}");
            (reasons::WAITING_FOR_RELAYS, message)
        }
        KeyState::Active | KeyState::Retiring | KeyState::Withdrawn => {
            (reasons::UP_TO_DATE, String::new())
        }
    }
}

fn wait_for_record(
    observation: &Observation,
    key: &KeyFacts,
    life: &Life,
) -> (&'static str, String) {
    let name = key.selector.record_name(&observation.spec.domain);
    match &key.sight {
        Sight::NotLooked => (reasons::PENDING, format!("{name} was not looked up yet")),
        Sight::Unsure { problem } => (reasons::DNS_UNAVAILABLE, format!("{name}: {problem}")),
        Sight::Unreachable { problem, .. } => {
            let message = by_the_resolver(observation, key, life);
            let message = format!("{name}: no name server can be reached: {problem}; {message}");
            (reasons::AUTHORITY_UNREACHABLE, message)
        }
        Sight::Elsewise { problem, some, .. } => {
            let failing = key.finding.as_ref().is_some_and(|f| fails(f.state));
            if *some || !failing {
                return (
                    reasons::WAITING_FOR_PROPAGATION,
                    format!("{name}: {problem}"),
                );
            }
            let text = key.public.record();
            let message = format!("publish TXT {name} \"{text}\"");
            (reasons::RECORDS_MISSING, message)
        }
        Sight::Everywhere { .. } => {
            let until = visible_from(observation, life).unwrap_or(life.since);
            let message = format!(
                "{name} is on every name server; caches may have something else until {until}"
            );
            (reasons::WAITING_FOR_PROPAGATION, message)
        }
    }
}

/// What is done where no name server of the zone can be reached.
fn by_the_resolver(observation: &Observation, key: &KeyFacts, life: &Life) -> String {
    let Some(after) = observation.trust_resolver_after else {
        return "open the way to them on port 53 (UDP and TCP), name others by --authority, or have the operator take the resolver's word by --trust-resolver-after".into();
    };
    let finding = key.finding.as_ref();
    let verified = finding.is_some_and(|f| f.state == RecordState::Verified);
    match visible_from(observation, life).filter(|_| verified) {
        Some(until) => {
            format!("the resolver has the record; if so until {until}, its word is taken")
        }
        None => format!(
            "the resolver's word is taken once it has had the record for {}",
            postrider_crds::Duration::from_secs(after.into())
        ),
    }
}

/// When the next key is old enough to be replaced; `None` when keys do not age.
#[must_use]
pub fn next_rotation(observation: &Observation, advanced: &[Life]) -> Option<Timestamp> {
    let keys = observation.keys.iter().zip(advanced);
    let ages = keys
        .filter(|(key, life)| {
            life.state == KeyState::Active
                && is_listed(observation, key.algorithm)
                && (counts(observation, key) || key.life.state != KeyState::Active)
        })
        .filter_map(|(_, life)| next_of(observation, life));
    ages.min()
}

/// When the wait that a key with the life `life` is in ends, for the status.
#[must_use]
pub fn until(observation: &Observation, key: &KeyFacts, life: &Life) -> Option<Timestamp> {
    match life.state {
        KeyState::Published | KeyState::Retiring => deadline(observation, key, life),
        KeyState::Generated
        | KeyState::Visible
        | KeyState::Loaded
        | KeyState::Active
        | KeyState::Withdrawn => None,
    }
}
