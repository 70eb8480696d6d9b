//! What can go wrong in a reconciliation, by whose fault it is.
//!
//! Promises: each error answers [`Error::retry`] and [`Error::reason`], so no caller matches text.
//! What a user can cure is a condition of the resource, not an error of this module.

use std::fmt;

use postrider_crds::{condition::reasons, relay_config::DocumentError};

use crate::{apply::Foreign, refusal::Refusal};

/// Why a reconciliation did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("{action}: {}", brief(source))]
    Api {
        /// What was asked of it.
        action: Asked,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// The API server gave no answer in time.
    #[error("{action}: no answer within {} s", crate::apply::CALL_TIMEOUT.as_secs())]
    Timeout {
        /// What was asked of it.
        action: Asked,
    },
    /// An object of the name that is needed is somebody else's.
    #[error(transparent)]
    Foreign(Box<Foreign>),
    /// A certificate or key could not be made.
    #[error("certificate of {name}: {problem}")]
    Certificate {
        /// The Secret it is for.
        name: String,
        /// What went wrong.
        problem: String,
    },
    /// A key could not be made or read.
    #[error("key {name}: {problem}")]
    Key {
        /// The Secret it is for.
        name: String,
        /// What went wrong.
        problem: String,
    },
    /// An object from the API lacks what every stored object has.
    #[error("{object} has no {field}")]
    Incomplete {
        /// Kind and name.
        object: String,
        /// The field.
        field: &'static str,
    },
    /// The caches have not seen an object that is there.
    #[error("{object} is not in the cache yet")]
    Stale {
        /// Kind and name.
        object: String,
    },
    /// A document this operator has written cannot be read back.
    #[error("{object}: {source}")]
    Document {
        /// Kind and name.
        object: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// A value could not be turned into JSON.
    #[error("{action}: {source}")]
    Serialize {
        /// What it was for.
        action: String,
        /// Why not.
        source: serde_json::Error,
    },
}

/// What was asked of the API server: a verb, and the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Such as "apply".
    pub verb: &'static str,
    /// Kind of the object.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.verb, self.kind, self.name)
    }
}

/// What the API server said, without the debug output that `kube::Error` prints along.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            format!("{} ({} {})", status.message, status.code, status.reason)
        }
        other => other.to_string(),
    }
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Soon: somebody else changed the object in between.
    Soon,
    /// After a growing wait.
    Backoff,
}

impl From<Foreign> for Error {
    fn from(foreign: Foreign) -> Self {
        Self::Foreign(Box::new(foreign))
    }
}

impl Error {
    /// Whether trying again may help, and how eagerly.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 409 => Retry::Soon,
                _ => Retry::Backoff,
            },
            Self::Stale { .. } => Retry::Soon,
            Self::Timeout { .. }
            | Self::Foreign(_)
            | Self::Certificate { .. }
            | Self::Key { .. }
            | Self::Incomplete { .. }
            | Self::Document { .. }
            | Self::Serialize { .. } => Retry::Backoff,
        }
    }

    /// Stable PascalCase name of the kind of error, for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 409 => "Conflict",
                kube::Error::Api(status) if status.code == 403 => "Forbidden",
                kube::Error::Api(_) => "Refused",
                _ => "ApiUnavailable",
            },
            Self::Stale { .. } => "StaleCache",
            Self::Timeout { .. } => "Timeout",
            Self::Foreign(_) => reasons::OBJECT_CONFLICT,
            Self::Certificate { .. } => "Certificate",
            Self::Key { .. } => "Key",
            Self::Incomplete { .. } => "Incomplete",
            Self::Document { .. } => "Document",
            Self::Serialize { .. } => "Serialize",
        }
    }

    /// True when the API server found the object as written to be invalid.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Api { source, .. }
            if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 422))
    }

    /// What the API server has against an object, where that and not its own state is the trouble,
    /// or whose the object is.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Api { action, source } => match source.as_ref() {
                kube::Error::Api(status) => Refusal::of(action, status),
                _ => None,
            },
            Self::Foreign(foreign) => Some(foreign.refusal()),
            Self::Timeout { .. }
            | Self::Certificate { .. }
            | Self::Key { .. }
            | Self::Incomplete { .. }
            | Self::Stale { .. }
            | Self::Document { .. }
            | Self::Serialize { .. } => None,
        }
    }

    /// True when the API server answered that the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. }
            if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404))
    }
}
