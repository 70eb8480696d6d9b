//! Health of an object as GitOps tools judge it: the rules of kstatus
//! (sigs.k8s.io/cli-utils, `pkg/kstatus`, "Statuses" and "The Library") for kinds it does not know.
//!
//! Promises: looks at nothing but the object; knows nothing of Postrider.

use serde_json::Value;

/// What kstatus says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is as its spec asks.
    Current,
    /// It is on its way.
    InProgress,
    /// It cannot get there by itself.
    Failed,
    /// It is being deleted.
    Terminating,
}

/// The health of `object`.
pub(crate) fn health(object: &Value) -> Health {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return Health::Terminating;
    }
    let observed = object.pointer("/status/observedGeneration");
    if observed.is_some() && observed != object.pointer("/metadata/generation") {
        return Health::InProgress;
    }
    if status(object, "Reconciling") == Some("True") {
        return Health::InProgress;
    }
    if status(object, "Stalled") == Some("True") {
        return Health::Failed;
    }
    match status(object, "Ready") {
        // Without the condition, as kstatus has it, nothing speaks against it.
        None | Some("True") => Health::Current,
        Some(_) => Health::InProgress,
    }
}

/// The condition of this type, if it is there.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|one| one["type"] == kind)
}

fn status<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    condition(object, kind)?["status"].as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rules_in_their_order() {
        let object = |observed: i64, conditions: &[(&str, &str)]| {
            let conditions: Vec<_> = conditions
                .iter()
                .map(|(kind, status)| json!({"type": kind, "status": status}))
                .collect();
            json!({"metadata": {"generation": 2},
                "status": {"observedGeneration": observed, "conditions": conditions}})
        };
        for (object, expected) in [
            (object(-1, &[]), Health::InProgress),
            (object(1, &[("Ready", "True")]), Health::InProgress),
            (object(2, &[("Ready", "True")]), Health::Current),
            (object(2, &[("Ready", "Unknown")]), Health::InProgress),
            (
                object(2, &[("Ready", "True"), ("Reconciling", "True")]),
                Health::InProgress,
            ),
            (
                object(2, &[("Ready", "False"), ("Stalled", "True")]),
                Health::Failed,
            ),
            (json!({"metadata": {"generation": 1}}), Health::Current),
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                Health::Terminating,
            ),
        ] {
            assert_eq!(health(&object), expected, "{object}");
        }
    }
}
