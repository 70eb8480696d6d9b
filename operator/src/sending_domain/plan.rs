//! What to do about a SendingDomain: a pure function of what was observed and the time.
//!
//! Promises (property-tested):
//! * a key becomes Active only when its record was seen to match and every relay has loaded it;
//! * an answer that did not come takes no key back and never changes what relays do with mail;
//! * planning on what a plan has brought about asks for no further writes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use postrider_crds::{
    RecordState, SendingDomainStatus,
    condition::{reasons, types},
    relay_config::KeyAlgorithm,
};

use super::observe::Observation;
use crate::{
    conditions::{self, Fact, Status},
    events::{Notice, Severity},
    keys::KeyState,
};

pub mod keys;
mod verdict;
pub mod wanted;

/// Shortest wait before DNS is looked at again while something is missing.
const QUICKEST: Duration = Duration::from_secs(5);
/// Longest wait while something is missing.
const SLOWEST: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Keys to make.
    pub generate: Vec<NewKey>,
    /// Key states to write.
    pub transitions: Vec<Transition>,
    /// The status to write, when it differs from the stored one.
    pub status: SendingDomainStatus,
    /// Events to publish.
    pub notices: Vec<Notice>,
    /// When to look at DNS again, without jitter.
    pub next_look: Duration,
}

/// A key to make. The name of its Secret depends on the object and on the keys there are, so
/// making it twice collides instead of making two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Name of the Secret.
    pub secret: String,
    /// Kind of key.
    pub algorithm: KeyAlgorithm,
}

/// A change of a key's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The Secret that keeps the key.
    pub secret: String,
    /// The state to write.
    pub to: KeyState,
}

/// Plans for `observation` as of `now`.
#[must_use]
pub fn plan(observation: &Observation, now: Timestamp) -> Plan {
    let advanced = keys::advance(observation);
    let generate = keys::to_generate(observation);
    let records = wanted::records(observation, &advanced);
    let verdict = verdict::judge(observation, &advanced, &records, !generate.is_empty());
    let previous = &observation.previous;
    let notices = notices(observation, &advanced, &generate, &verdict.facts);
    let facts = conditions::with_progress(verdict.facts, verdict.progress);
    let status = SendingDomainStatus {
        observed_generation: Some(observation.generation),
        conditions: conditions::merge(&previous.conditions, &facts, observation.generation, now),
        records,
        dkim: keys::status(observation, &advanced),
        admission: Some(verdict.admission),
    };
    Plan {
        transitions: keys::transitions(observation, &advanced),
        notices,
        next_look: next_look(observation, &status, now),
        generate,
        status,
    }
}

/// The interval of the spec once all is verified; before, sooner the fresher the news: a quarter
/// of the time since something last changed.
fn next_look(observation: &Observation, status: &SendingDomainStatus, now: Timestamp) -> Duration {
    // Keys and relays are not cured by DNS; their changes wake the controller by themselves.
    let cured_elsewhere = |condition: &Condition| {
        condition.type_ == types::KEYS_READY
            || [reasons::WAITING_FOR_MEMBERS, reasons::SCALED_TO_ZERO]
                .contains(&condition.reason.as_str())
    };
    let unmet = status
        .conditions
        .iter()
        .filter(|condition| condition.status != "True" && !cured_elsewhere(condition));
    let latest = unmet
        .map(|condition| condition.last_transition_time.0)
        .max();
    match latest {
        None => observation.spec.verification.interval.to_std(),
        Some(since) => {
            let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
            Duration::from_secs(seconds.unsigned_abs() / 4).clamp(QUICKEST, SLOWEST)
        }
    }
}

/// Events for what changed between the stored status and now.
fn notices(
    observation: &Observation,
    advanced: &[KeyState],
    generate: &[NewKey],
    facts: &[Fact],
) -> Vec<Notice> {
    let mut notices = Vec::new();
    for key in generate {
        notices.push(Notice {
            severity: Severity::Normal,
            reason: reasons::KEYS_GENERATED,
            action: "GenerateKey",
            note: format!(
                "making the {} key in Secret {}",
                crate::keys::algorithm_name(key.algorithm),
                key.secret
            ),
        });
    }
    for (key, state) in observation.keys.iter().zip(advanced) {
        notices.extend(keys::notice(key, *state));
    }
    notices.extend(facts.iter().filter_map(|fact| turned(observation, fact)));
    notices.extend(new_sender_problems(observation));
    joined(notices)
}

/// One notice where several have the same severity, reason and action: the recorder of events
/// counts those as repetitions of the first and drops what the others say.
fn joined(notices: Vec<Notice>) -> Vec<Notice> {
    let mut joined: Vec<Notice> = Vec::new();
    for notice in notices {
        let alike = joined.iter_mut().find(|other| {
            (other.severity, other.reason, other.action)
                == (notice.severity, notice.reason, notice.action)
        });
        match alike {
            Some(other) => other.note = format!("{}; {}", other.note, notice.note),
            None => joined.push(notice),
        }
    }
    joined
}

/// A condition that was True and is False now, or `Ready` that became True.
fn turned(observation: &Observation, fact: &Fact) -> Option<Notice> {
    let mut before = observation.previous.conditions.iter();
    let was = before.find(|condition| condition.type_ == fact.type_);
    let was_true = was.is_some_and(|condition| condition.status == Status::True.as_str());
    let severity = match fact.status {
        Status::False if was_true => Severity::Warning,
        Status::True if !was_true && fact.type_ == types::READY => Severity::Normal,
        Status::True | Status::False | Status::Unknown => return None,
    };
    Some(Notice {
        severity,
        reason: fact.reason,
        action: "Verify",
        note: format!(
            "{} is {}: {}",
            fact.type_,
            fact.status.as_str(),
            fact.message
        ),
    })
}

/// Sender problems that the stored `Ready` message does not tell of yet.
fn new_sender_problems(observation: &Observation) -> Vec<Notice> {
    let before = observation
        .previous
        .conditions
        .iter()
        .find(|c| c.type_ == types::READY);
    let known = before.map_or("", |condition| condition.message.as_str());
    let problems = observation.sender_problems.iter();
    let fresh = problems.filter(|problem| !known.contains(&problem.to_string()));
    fresh
        .map(|problem| Notice {
            severity: Severity::Warning,
            reason: problem.reason(),
            action: "ResolveSender",
            note: problem.to_string(),
        })
        .collect()
}

/// True for a published record that is known not to do its duty.
fn fails(state: RecordState) -> bool {
    match state {
        RecordState::Missing | RecordState::Mismatch | RecordState::Conflict => true,
        RecordState::Verified | RecordState::Unknown => false,
    }
}

#[cfg(test)]
pub(crate) mod tests;
