//! What to do about a SendingDomain: a pure function of what was observed and the time.
//!
//! Promises (property-tested):
//! * a key becomes Active only when every name server was seen to have its record and every relay has
//!   loaded it;
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

use super::{
    closing, moving,
    observe::{Observation, Read},
    rotation,
};
use crate::{
    conditions::{self, Fact, Status},
    events::{Notice, Severity},
    keys::{KeyState, Life},
};

mod answers;
mod delegation;
pub mod keys;
mod verdict;
pub mod wanted;

/// Shortest wait before DNS is looked at again while something is missing.
const QUICKEST: Duration = Duration::from_secs(5);
/// Longest wait while something is missing.
const SLOWEST: Duration = Duration::from_secs(60);

/// The action of events that tell of a key that is about to be made.
pub(super) const GENERATE_KEY: &str = "GenerateKey";

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Keys to make.
    pub generate: Vec<NewKey>,
    /// Steps of keys to write.
    pub transitions: Vec<Transition>,
    /// Keys to delete.
    pub delete: Vec<Deletion>,
    /// Secrets of keys that the stored status shows and that were not seen. A cache that lags must not
    /// make a status that no longer lists their records.
    pub vanished: Vec<String>,
    /// The status to write, when it differs from the stored one.
    pub status: SendingDomainStatus,
    /// Events to publish.
    pub notices: Vec<Notice>,
    /// When to look at DNS again, without jitter.
    pub next_look: Duration,
    /// How long until a wait that only time ends is over; `None`: there is none.
    pub next_step: Option<Duration>,
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

/// A step of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The Secret that keeps the key.
    pub secret: String,
    /// The version of it that the step was planned on.
    pub read: Read,
    /// What to write.
    pub to: Life,
}

/// A key to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The Secret that keeps the key.
    pub secret: String,
    /// The version of it that this was planned on.
    pub read: Read,
}

/// Plans for `observation` as of `now`.
#[must_use]
pub fn plan(observation: &Observation, now: Timestamp) -> Plan {
    let advanced = keys::advance(observation, now);
    let generate = rotation::to_generate(observation, now);
    let delete = keys::deletions(observation, now);
    let records = wanted::records(observation, &advanced);
    let progress = verdict::Rotation {
        generating: generate.iter().any(|new| keys::is_first(observation, new)),
        rotating: rotation::progress(observation, &advanced, now),
    };
    let verdict = verdict::judge(observation, &advanced, &records, progress);
    let previous = &observation.previous;
    let mut notices = notices(observation, &advanced, &generate, &verdict.facts);
    notices.extend(keys::deletion_notice(&delete));
    let moves = verdict.facts.iter().find(|f| f.type_ == types::MOVING);
    notices.extend(moving::notices(observation, moves));
    let notices = joined(notices);
    let facts = conditions::with_progress(verdict.facts, verdict.progress);
    let status = SendingDomainStatus {
        observed_generation: Some(observation.generation),
        conditions: conditions::merge(&previous.conditions, &facts, observation.generation, now),
        records,
        dkim: keys::status(observation, &advanced),
        admission: Some(verdict.admission),
        pools: moving::kept(observation),
        published: previous.published.clone(),
    };
    Plan {
        transitions: keys::transitions(observation, &advanced),
        notices,
        next_look: next_look(observation, &advanced, &status, now),
        next_step: next_step(observation, &advanced, now),
        vanished: keys::vanished(observation),
        generate,
        delete,
        status,
    }
}

/// The interval of the spec once all is verified and no key waits for DNS; before, sooner the fresher
/// the news: a quarter of the time since something last changed.
fn next_look(
    observation: &Observation,
    advanced: &[Life],
    status: &SendingDomainStatus,
    now: Timestamp,
) -> Duration {
    // Keys, relays and the names of the pool's addresses are not cured by looking here; their changes
    // wake the controller by themselves.
    let cured_elsewhere = |condition: &Condition| {
        [types::KEYS_READY, types::ROTATING, types::PTR_VERIFIED]
            .contains(&condition.type_.as_str())
            || [reasons::WAITING_FOR_MEMBERS, reasons::SCALED_TO_ZERO]
                .contains(&condition.reason.as_str())
    };
    let unmet = status
        .conditions
        .iter()
        .filter(|condition| condition.status != "True" && !cured_elsewhere(condition))
        .map(|condition| condition.last_transition_time.0);
    let waiting = advanced.iter().filter(|life| waits_for_dns(life.state));
    let latest = unmet.chain(waiting.map(|life| life.since)).max();
    match latest {
        None => observation.spec.verification.interval.to_std(),
        Some(since) => {
            let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
            Duration::from_secs(seconds.unsigned_abs() / 4).clamp(QUICKEST, SLOWEST)
        }
    }
}

const fn waits_for_dns(state: KeyState) -> bool {
    match state {
        KeyState::Generated | KeyState::Published | KeyState::Visible | KeyState::Loaded => true,
        KeyState::Active | KeyState::Retiring | KeyState::Withdrawn => false,
    }
}

/// How long until the first of the waits that only time ends is over.
fn next_step(observation: &Observation, advanced: &[Life], now: Timestamp) -> Option<Duration> {
    let keys = observation.keys.iter().zip(advanced);
    let deadlines = keys.filter_map(|(key, life)| rotation::deadline(observation, key, life));
    let next = deadlines.filter(|at| *at > now).min()?;
    let wait = next.duration_since(now);
    // Stored times are whole seconds.
    Some(wait.unsigned_abs() + Duration::from_secs(1))
}

/// Events for what changed between the stored status and now.
fn notices(
    observation: &Observation,
    advanced: &[Life],
    generate: &[NewKey],
    facts: &[Fact],
) -> Vec<Notice> {
    let mut notices = Vec::new();
    for key in generate {
        notices.push(Notice {
            severity: Severity::Normal,
            reason: reasons::KEYS_GENERATED,
            action: GENERATE_KEY,
            note: format!(
                "making the {} key in Secret {}",
                crate::keys::algorithm_name(key.algorithm),
                key.secret
            ),
        });
    }
    for (key, life) in observation.keys.iter().zip(advanced) {
        notices.extend(keys::notice(observation, key, life));
    }
    notices.extend(facts.iter().filter_map(|fact| match &observation.closing {
        Some(_) if fact.type_ == types::READY => closing::notice(observation, fact),
        Some(_) | None => turned(observation, fact),
    }));
    notices.extend(new_sender_problems(observation));
    notices
}

/// One notice where several have the same severity, reason and action: the recorder of events
/// counts those as repetitions of the first and drops what the others say.
pub(super) fn joined(notices: Vec<Notice>) -> Vec<Notice> {
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
        // Its end is good news, and told by what came of it.
        Status::False if fact.type_ == types::ROTATING => return None,
        // Told of the pool, once for all its domains.
        Status::False if fact.type_ == types::PTR_VERIFIED => return None,
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
pub(super) const fn fails(state: RecordState) -> bool {
    match state {
        RecordState::Missing | RecordState::Mismatch | RecordState::Conflict => true,
        RecordState::Verified | RecordState::Unknown => false,
    }
}

#[cfg(test)]
pub(crate) mod tests;
