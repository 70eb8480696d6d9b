//! The Credentials: who can log in, and what proves it.

use serde::{Deserialize, Serialize};

use super::document::Document;
use crate::scram::ScramVerifier;

/// Who can log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// [`super::DOCUMENT_VERSION`].
    pub version: u32,
    /// By username, each once.
    pub credentials: Vec<Credential>,
}

/// A username and what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// What the client gives as authentication identity (RFC 4616).
    pub username: String,
    /// Whom its mail is counted for: namespace and name of the Secret.
    pub tenant: String,
    /// What proves it.
    pub verifier: ScramVerifier,
}

impl Document for Credentials {
    const NAME: &'static str = "Credentials";
    fn version(&self) -> u32 {
        self.version
    }
}
