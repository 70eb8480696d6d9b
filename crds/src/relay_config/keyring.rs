//! The Keyring: the domains a pool sends as, with what is done with their mail, who may send it, and the
//! keys that sign it.
//!
//! Promises: `Debug` prints no key material.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::document::Document;
use crate::{DomainName, Mailbox, Selector};

/// What a shard of the keyring holds: its domains, with their private keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyring {
    /// [`super::DOCUMENT_VERSION`].
    pub version: u32,
    /// Domains whose [`super::shard_of`] is this shard, by name.
    pub domains: Vec<DomainEntry>,
}

/// A domain this pool may send as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainEntry {
    /// The SendingDomain's `spec.domain`.
    pub domain: DomainName,
    /// Domain of the envelope sender given to receivers.
    pub return_path: DomainName,
    /// What to do with the domain's mail now.
    pub admission: Admission,
    /// Why, when it is not sent; part of replies and events.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether new mail is taken at all.
    #[serde(default, skip_serializing_if = "Intake::is_open")]
    pub intake: Intake,
    /// DKIM keys.
    pub keys: Vec<SigningKey>,
    /// Who may send as the domain.
    pub senders: Vec<Sender>,
}

/// What relays do with a domain's mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum Admission {
    /// Accept and deliver.
    Send,
    /// Accept and keep, deliver once it may be sent.
    Hold,
    /// Refuse at submission with 450 4.7.1; mail already accepted is kept.
    Reject,
}

/// Whether a domain takes new mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intake {
    /// It does, as its [`Admission`] says.
    #[default]
    Open,
    /// It does not: its SendingDomain is being deleted, or names another RelayPool now. Refuse at
    /// submission with 550 5.7.1; mail already accepted goes on as its [`Admission`] says, and is
    /// counted in [`super::Report::remaining`].
    Closed,
}

impl Intake {
    fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

/// A DKIM key as the relay gets it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKey {
    /// Selector of the published record.
    pub selector: Selector,
    /// Kind of key.
    pub algorithm: KeyAlgorithm,
    /// Whether it signs yet.
    pub state: SigningState,
    /// PKCS#8 PEM.
    pub private_key: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("selector", &self.selector)
            .field("algorithm", &self.algorithm)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Kinds of DKIM key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum KeyAlgorithm {
    /// RSA of 2048 bits (RFC 6376 §3.3, RFC 8301).
    RSA2048,
    /// RSA of 4096 bits; its record does not fit one TXT string.
    RSA4096,
    /// Ed25519 (RFC 8463).
    Ed25519,
}

/// Whether a loaded key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningState {
    /// Loaded and ready, signs nothing yet.
    Standby,
    /// Signs.
    Active,
}

/// Who may send as a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sender {
    /// A username of [`super::Credentials`].
    pub username: String,
    /// From addresses allowed; empty: any of the domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Mailbox>,
}

impl Document for Keyring {
    const NAME: &'static str = "Keyring";
    fn version(&self) -> u32 {
        self.version
    }
}
