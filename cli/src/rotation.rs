//! How far the rotation of a SendingDomain's keys is, read from its status.
//!
//! Promises: done only when the operator has seen the trigger and every key that signs was made for
//! it, so that a status of before is never taken for the end.

use kube::ResourceExt as _;
use postrider_crds::{KeyState, KeyStatus, SendingDomain, condition::types};
use serde::Serialize;

use crate::text::{columns, printable};

/// States a key goes through until it signs.
const STEPS: [KeyState; 5] = [
    KeyState::Generated,
    KeyState::Published,
    KeyState::Visible,
    KeyState::Loaded,
    KeyState::Active,
];

/// A rotation; serializes as the answer of `-o json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rotation {
    /// Namespace of the SendingDomain.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The trigger.
    pub(crate) trigger: String,
    /// Whether every key that signs was made for the trigger.
    pub(crate) done: bool,
    /// What is waited for, in the operator's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    /// Keys that sign.
    pub(crate) active: Vec<KeyStatus>,
    /// Keys on their way to sign.
    pub(crate) pending: Vec<KeyStatus>,
    /// Keys that sign no more, whose records have to stay for a while.
    pub(crate) retiring: Vec<KeyStatus>,
}

impl Rotation {
    /// The rotation of `domain` for `trigger`, which was written as generation `generation`.
    pub(crate) fn of(domain: &SendingDomain, trigger: &str, generation: i64) -> Self {
        let status = domain.status.clone().unwrap_or_default();
        let seen = status
            .observed_generation
            .is_some_and(|seen| seen >= generation);
        let signs = |algorithm| {
            status
                .dkim
                .active
                .iter()
                .any(|key| key.algorithm == algorithm)
        };
        let all_sign = domain.spec.dkim.keys.iter().all(|key| signs(key.algorithm));
        let of_trigger = status.dkim.trigger.as_deref() == Some(trigger);
        let rotating = status
            .conditions
            .iter()
            .find(|c| c.type_ == types::ROTATING);
        let message = match (seen, rotating) {
            (true, Some(condition)) => condition.message.clone(),
            _ => "waiting for the operator".to_owned(),
        };
        let done = seen && of_trigger && all_sign && status.dkim.pending.is_empty();
        Self {
            namespace: domain.namespace().unwrap_or_default(),
            name: domain.name_any(),
            trigger: trigger.to_owned(),
            done,
            message: if done { String::new() } else { message },
            active: status.dkim.active,
            pending: status.dkim.pending,
            retiring: status.dkim.retiring,
        }
    }

    /// Steps that keys besides `before` have made, of how many.
    pub(crate) fn steps(&self, before: &[KeyStatus], keys: usize) -> (usize, usize) {
        let fresh = |key: &&KeyStatus| !before.iter().any(|old| old.selector == key.selector);
        let made = self.pending.iter().chain(&self.active).filter(fresh);
        let made = made.map(|key| STEPS.iter().filter(|step| **step <= key.state).count());
        let all = keys * STEPS.len();
        (made.sum::<usize>().min(all), all)
    }

    /// The keys, for people.
    pub(crate) fn table(&self) -> String {
        let keys = self
            .pending
            .iter()
            .chain(&self.active)
            .chain(&self.retiring);
        let rows: Vec<_> = keys
            .map(|key| {
                let until = key
                    .until
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |time| time.0.to_string());
                [
                    printable(key.selector.as_str()),
                    format!("{:?}", key.algorithm),
                    format!("{:?}", key.state),
                    until,
                ]
            })
            .collect();
        columns(["SELECTOR", "ALGORITHM", "STATE", "UNTIL"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(selector: &str, state: &str) -> Value {
        json!({"selector": selector, "algorithm": "Ed25519", "secret": "s", "state": state, "since": "2026-01-01T00:00:00Z"})
    }

    fn domain(observed: i64, trigger: &str, dkim: Value) -> SendingDomain {
        let mut dkim = dkim;
        dkim["trigger"] = trigger.into();
        serde_json::from_value(json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": "shop", "namespace": "mail", "generation": 4},
            "spec": {"domain": "shop.example", "poolRef": {"name": "default"}, "dkim": {"keys": [{"algorithm": "Ed25519"}]}},
            "status": {"observedGeneration": observed, "dkim": dkim},
        }))
        .unwrap()
    }

    #[test]
    fn done_is_only_what_the_operator_has_done_for_this_trigger() {
        let active = |selector: &str| json!({"active": [key(selector, "Active")]});
        let is_done = |domain: SendingDomain| Rotation::of(&domain, "now", 4).done;
        assert!(is_done(domain(4, "now", active("pr-2"))));
        assert!(
            !is_done(domain(3, "now", active("pr-2"))),
            "a status of before"
        );
        assert!(
            !is_done(domain(4, "before", active("pr-1"))),
            "keys of before"
        );
        assert!(!is_done(domain(4, "now", json!({}))), "no key signs");
        let mut more = active("pr-2");
        more["pending"] = json!([key("pr-3", "Visible")]);
        assert!(!is_done(domain(4, "now", more)), "a key is on its way");
    }

    #[test]
    fn steps_count_new_keys_only() {
        let old = domain(4, "before", json!({"active": [key("pr-1", "Active")]}));
        let before = Rotation::of(&old, "now", 4).active;
        let on_its_way = domain(
            4,
            "before",
            json!({"active": [key("pr-1", "Active")], "pending": [key("pr-2", "Visible")]}),
        );
        assert_eq!(
            Rotation::of(&on_its_way, "now", 4).steps(&before, 1),
            (3, 5)
        );
        let done = domain(
            4,
            "now",
            json!({"active": [key("pr-2", "Active")], "retiring": [key("pr-1", "Retiring")]}),
        );
        let done = Rotation::of(&done, "now", 4);
        assert_eq!(done.steps(&before, 1), (5, 5));
        assert_eq!(done.table().lines().count(), 3);
    }
}
