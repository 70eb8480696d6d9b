//! Who a message is from and for, and what was promised about it.

use postrider_crds::{DomainName, Mailbox};
use serde::{Deserialize, Serialize};

use super::Priority;

/// The envelope sender as the client gave it (RFC 5321 §4.1.1.2 reverse-path).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnPath {
    /// `<>`: notifications, which are never answered with another.
    Null,
    /// Where failures are reported.
    Mailbox(Mailbox),
}

/// Content that was announced in MAIL (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyKind {
    /// Only octets below 128.
    SevenBit,
    /// Any octet, in lines.
    EightBitMime,
}

/// One recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address, as the client gave it.
    pub mailbox: Mailbox,
}

/// What travels beside a body. As JSON it is what spool format 3 has, which knew no priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Where failures are reported. Receivers see an address of the return path domain instead.
    pub return_path: ReturnPath,
    /// Recipients; their index names them within the message.
    pub recipients: Vec<Recipient>,
    /// Announced content.
    pub body_kind: BodyKind,
    /// The sending domain that answers for the message and whose keys sign it: that of the From
    /// header it was accepted for; for a notification, that of the message it is about. `None`
    /// when that domain is no longer configured; then nothing is signed.
    pub domain: Option<DomainName>,
    /// Whom the message is counted for.
    pub tenant: String,
    /// How urgent it is among the mail of the tenant, where its sender said something about that.
    #[serde(skip)]
    pub priority: Option<Priority>,
}

impl ReturnPath {
    /// The mailbox, if there is one.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}
