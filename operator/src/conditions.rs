//! Conditions of custom resources, by the Kubernetes API conventions and the rules of kstatus.
//!
//! Promises: `lastTransitionTime` changes only when the status of a condition does, so equal facts
//! give equal bytes. `Ready` is always there. `Reconciling` and `Stalled` are there only while
//! True, `Stalled` only for what retrying cannot cure, and never both.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use postrider_crds::condition::types;

/// Longest message an API server takes is 32 KiB; people read less.
const MAX_MESSAGE: usize = 1024;

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known.
    Unknown,
}

impl Status {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition as far as it is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// One of [`types`].
    pub type_: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// One of [`postrider_crds::condition::reasons`].
    pub reason: &'static str,
    /// For a person; the same as long as the facts are.
    pub message: String,
}

impl Fact {
    /// A fact.
    #[must_use]
    pub fn new(
        type_: &'static str,
        status: Status,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status,
            reason,
            message: message.into(),
        }
    }
}

/// What a resource that is not Ready is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing: it is as wanted.
    Settled,
    /// Time, members or the world: the operator goes on by itself.
    Reconciling,
    /// A person: nothing the operator retries can cure it.
    Stalled,
}

/// `facts` with `Reconciling` or `Stalled` added as `progress` says, taking reason and message
/// from the `Ready` fact.
#[must_use]
pub fn with_progress(mut facts: Vec<Fact>, progress: Progress) -> Vec<Fact> {
    let type_ = match progress {
        Progress::Settled => return facts,
        Progress::Reconciling => types::RECONCILING,
        Progress::Stalled => types::STALLED,
    };
    let ready = facts.iter().find(|fact| fact.type_ == types::READY);
    if let Some(ready) = ready.cloned() {
        facts.push(Fact {
            type_,
            status: Status::True,
            ..ready
        });
    }
    facts
}

/// The conditions to write: `facts`, in their order, each with `generation`, keeping the
/// transition times of `previous` where the status is the same. Whole seconds, as the API keeps.
#[must_use]
pub fn merge(
    previous: &[Condition],
    facts: &[Fact],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = |fact: &Fact| {
        let status = fact.status.as_str();
        let before = previous.iter().find(|c| c.type_ == fact.type_);
        let since = before
            .filter(|c| c.status == status)
            .map_or(Time(now), |c| c.last_transition_time.clone());
        let mut message = fact.message.clone();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        Condition {
            type_: fact.type_.to_owned(),
            status: status.to_owned(),
            observed_generation: Some(generation),
            reason: fact.reason.to_owned(),
            message,
            last_transition_time: since,
        }
    };
    facts.iter().map(condition).collect()
}

/// True when the condition `type_` of `conditions` has this status and reason: for telling a
/// transition, which is an event, from a state, which is none.
#[must_use]
pub fn has(conditions: &[Condition], type_: &str, status: Status, reason: &str) -> bool {
    conditions
        .iter()
        .any(|c| c.type_ == type_ && c.status == status.as_str() && c.reason == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ready(status: Status, message: &str) -> Vec<Fact> {
        vec![Fact::new(types::READY, status, "Reason", message)]
    }

    #[test]
    fn only_a_changed_status_is_a_transition() {
        let first = merge(
            &[],
            &ready(Status::False, "a"),
            1,
            at("2026-01-01T00:00:00.5Z"),
        );
        let same = merge(
            &first,
            &ready(Status::False, "a"),
            1,
            at("2026-01-02T00:00:00Z"),
        );
        assert_eq!(first, same);
        let reworded = merge(
            &first,
            &ready(Status::False, "b"),
            2,
            at("2026-01-02T00:00:00Z"),
        );
        assert_eq!(
            reworded[0].last_transition_time,
            first[0].last_transition_time
        );
        assert_eq!(reworded[0].observed_generation, Some(2));
        let turned = merge(
            &first,
            &ready(Status::True, "b"),
            2,
            at("2026-01-02T00:00:00Z"),
        );
        assert_eq!(
            turned[0].last_transition_time,
            Time(at("2026-01-02T00:00:00Z"))
        );
    }

    #[test]
    fn progress_is_there_only_while_true() {
        let names = |progress| -> Vec<&str> {
            let facts = with_progress(ready(Status::False, "a"), progress);
            facts.iter().map(|f| f.type_).collect()
        };
        assert_eq!(names(Progress::Settled), [types::READY]);
        assert_eq!(
            names(Progress::Reconciling),
            [types::READY, types::RECONCILING]
        );
        assert_eq!(names(Progress::Stalled), [types::READY, types::STALLED]);
        let stalled = merge(
            &[],
            &with_progress(ready(Status::False, "a"), Progress::Stalled),
            1,
            at("2026-01-01T00:00:00Z"),
        );
        let cured = merge(
            &stalled,
            &ready(Status::True, "a"),
            1,
            at("2026-01-01T00:00:00Z"),
        );
        assert_eq!(cured.len(), 1);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let facts = ready(Status::True, &"\u{e9}".repeat(1000));
        let conditions = merge(&[], &facts, 1, at("2026-01-01T00:00:00Z"));
        assert_eq!(conditions[0].message.len(), MAX_MESSAGE);
    }
}
