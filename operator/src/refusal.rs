//! Objects that the API server refuses: whose fault it is, in its own words, and what to do.
//!
//! Promises: the same refusal gives the same bytes at every attempt, so that a status that tells of it
//! comes to rest. What is known only from the words of an answer (Kubernetes gives quota, policy and RBAC
//! the same code) is read here and nowhere else; words that are not known get the general remedy. An
//! answer that says nothing about the object (the server is busy, the namespace ends) is no refusal.

mod status;

use kube::core::{Status as ApiStatus, response::StatusCause};
use postrider_crds::condition::{reasons, types};

pub use status::{Cached, Judged, tell};

use crate::{
    conditions::{Fact, Progress, Status},
    error::Asked,
    events::{Notice, Severity},
};

/// Longest part of a server's answer that is repeated, in octets.
const MAX_WORDS: usize = 600;

/// Where fields of objects come from: kind, field, field of the RelayPool.
const ORIGINS: [(&str, &str, &str); 11] = [
    (
        "StatefulSet",
        "spec.template.spec.affinity",
        "spec.template.affinity",
    ),
    (
        "StatefulSet",
        "spec.template.spec.tolerations",
        "spec.template.tolerations",
    ),
    (
        "StatefulSet",
        "spec.template.spec.nodeSelector",
        "spec.template.nodeSelector",
    ),
    (
        "StatefulSet",
        "spec.template.spec.priorityClassName",
        "spec.template.priorityClassName",
    ),
    (
        "StatefulSet",
        "spec.template.spec.topologySpreadConstraints",
        "spec.template.topologySpreadConstraints",
    ),
    (
        "StatefulSet",
        "spec.template.spec.containers[0].resources",
        "spec.template.resources",
    ),
    (
        "StatefulSet",
        "spec.template.labels",
        "spec.template.metadata.labels",
    ),
    (
        "StatefulSet",
        "spec.template.annotations",
        "spec.template.metadata.annotations",
    ),
    (
        "StatefulSet",
        "spec.template.metadata",
        "spec.template.metadata",
    ),
    (
        "StatefulSet",
        "spec.volumeClaimTemplates[0].spec",
        "spec.storage",
    ),
    ("Service", "spec.ports", "spec.listeners"),
];

/// An object that the API server does not take, or a pod that the cluster does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`reasons`].
    pub reason: &'static str,
    /// The object, the server's words, and what to do.
    pub message: String,
    /// Who can cure it.
    pub progress: Progress,
}

impl Refusal {
    /// What `answer` to `asked` has against the object.
    #[must_use]
    pub fn of(asked: &Asked, answer: &ApiStatus) -> Option<Self> {
        let said = answer.message.as_str();
        let ending = said.contains("because it is being terminated");
        let unavailable = webhook_called(said).filter(|_| answer.code >= 500);
        let about_object = matches!(answer.code, 400 | 403 | 405 | 413 | 415 | 422);
        if ending || !(about_object || unavailable.is_some()) {
            return None;
        }
        let (reason, words, remedy) = match unavailable {
            Some(webhook) => (
                reasons::ADMISSION_UNAVAILABLE,
                format!("admission webhook {webhook:?} cannot be called"),
                "see to it that it answers".to_owned(),
            ),
            None => judged(&asked.kind, answer),
        };
        let progress = match reason {
            reasons::ADMISSION_UNAVAILABLE | reasons::QUOTA_EXCEEDED => Progress::Reconciling,
            _ => Progress::Stalled,
        };
        let Asked { verb, kind, name } = asked;
        let message = format!("cannot {verb} {kind} {name}: {}; {remedy}", cut(words));
        Some(Self {
            reason,
            message,
            progress,
        })
    }

    /// The same where somebody else `asked`, and no more is known than what was `said` to them.
    #[must_use]
    pub fn told(asked: &Asked, said: &str) -> Option<Self> {
        let code = if webhook_called(said).is_some() {
            500
        } else if said.contains("\" is invalid: ") {
            422
        } else if said.contains(" is forbidden: ") || said.contains("denied") {
            403
        } else {
            return None;
        };
        Self::of(asked, &ApiStatus::failure(said, "").with_code(code))
    }

    /// `Ready` of a resource that needs the object.
    #[must_use]
    pub fn ready(&self) -> Fact {
        Fact::new(
            types::READY,
            Status::False,
            self.reason,
            self.message.clone(),
        )
    }

    /// What is told when it begins.
    #[must_use]
    pub fn notice(&self) -> Notice {
        Notice {
            severity: Severity::Warning,
            reason: self.reason,
            action: "Apply",
            note: self.message.clone(),
        }
    }
}

/// Reason, words and remedy of an answer about an object of `kind`.
fn judged(kind: &str, answer: &ApiStatus) -> (&'static str, String, String) {
    let said = answer.message.as_str();
    let causes = causes(answer);
    let known = |reason, remedy: &str| (reason, tail(said), remedy.to_owned());
    if said.contains("exceeded quota") || said.contains("unknown for quota") {
        let remedy = "raise the ResourceQuota, or delete what is not needed";
        let words = without_used(&tail(said));
        (reasons::QUOTA_EXCEEDED, words, remedy.to_owned())
    } else if let Some(remedy) = resources(said) {
        known(reasons::ADMISSION_DENIED, remedy)
    } else if answer.code == 403 && said.contains(" cannot ") && said.contains(" resource ") {
        let remedy = "give the operator's Role that right, as in the chart";
        known(reasons::FORBIDDEN, remedy)
    } else if let Some((cause, more)) = causes.split_first() {
        let words = worded(cause, more.len());
        (reasons::OBJECT_INVALID, words, cure(kind, cause))
    } else if answer.code == 403 || said.contains("denied") {
        let remedy = "change what it objects to, or have it make an exception";
        known(reasons::ADMISSION_DENIED, remedy)
    } else {
        let remedy = "change the field of the spec that it comes from";
        known(reasons::OBJECT_INVALID, remedy)
    }
}

/// What to do about what a ResourceQuota or a LimitRange has against the resources of a pod or volume.
fn resources(said: &str) -> Option<&'static str> {
    if said.contains("failed quota: ") && said.contains("must specify ") {
        Some("say in spec.template.resources of the RelayPool what the ResourceQuota asks for")
    } else if said.contains(" per PersistentVolumeClaim is ") {
        Some("change spec.storage.size of the RelayPool, or the LimitRange")
    } else if said.contains(" per Container is ") || said.contains(" per Pod is ") {
        Some("change spec.template.resources of the RelayPool, or the LimitRange")
    } else {
        None
    }
}

/// The faults found in fields, in an order of their own: a server that walks a map has none.
fn causes(answer: &ApiStatus) -> Vec<&StatusCause> {
    let causes = answer.details.iter().flat_map(|details| &details.causes);
    let mut causes: Vec<_> = causes.filter(|cause| !cause.field.is_empty()).collect();
    causes.sort_by_key(|cause| (&cause.field, &cause.message));
    causes
}

fn worded(cause: &StatusCause, more: usize) -> String {
    let StatusCause { field, message, .. } = cause;
    match more {
        0 => format!("{field}: {message}"),
        more => format!("{field}: {message} (and {more} more)"),
    }
}

/// What to do about a fault in a field of a `kind`.
fn cure(kind: &str, cause: &StatusCause) -> String {
    let fixed = [
        "immutable",
        "may not change once set",
        "updates to statefulset spec",
    ];
    if fixed.iter().any(|words| cause.message.contains(words)) {
        return match kind {
            "StatefulSet" => {
                "delete it with --cascade=orphan, so that it is made anew; its pods and \
                 volumes stay"
                    .to_owned()
            }
            _ => "if nobody else needs it, delete it, so that it is made anew".to_owned(),
        };
    }
    let mut origins = ORIGINS.iter().filter(|(of, ..)| *of == kind);
    let origin = origins.find_map(|(_, field, origin)| {
        let rest = cause.field.strip_prefix(field)?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("{origin}{rest}"))
    });
    match origin {
        Some(field) => format!("correct {field} of the RelayPool"),
        None => "change the field of the spec that it comes from".to_owned(),
    }
}

/// The webhook that `said` was to be called: what follows tells of addresses and differs each time.
fn webhook_called(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("failed calling webhook \"")?;
    rest.split_once('"').map(|(name, _)| name)
}

/// `said` without the object it begins with.
fn tail(said: &str) -> String {
    let heads = ["\" is forbidden: ", "\" is invalid: "];
    let tails = heads.iter().filter_map(|head| said.split_once(head));
    let shortest = tails.map(|(_, tail)| tail).min_by_key(|tail| tail.len());
    shortest.unwrap_or(said).to_owned()
}

/// What a quota says, but for how much is in use: that changes with every object of other people's.
fn without_used(words: &str) -> String {
    let (Some(from), Some(to)) = (words.find(", used: "), words.find(", limited: ")) else {
        return words.to_owned();
    };
    match (words.get(..from), words.get(to..)) {
        (Some(before), Some(after)) if from < to => format!("{before}{after}"),
        _ => words.to_owned(),
    }
}

/// `words`, no longer than a message should repeat them.
pub(crate) fn cut(mut words: String) -> String {
    if words.len() > MAX_WORDS {
        words.truncate(words.floor_char_boundary(MAX_WORDS));
        words.push_str("...");
    }
    words
}

#[cfg(test)]
mod tests;
