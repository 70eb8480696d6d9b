//! What became of one attempt for one recipient. A remote refusal is an outcome, not an error.

use std::fmt;

use postrider_crds::DomainName;
use serde::{Deserialize, Serialize};

use super::Reply;

/// What an attempt ended in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The remote has taken it over.
    Delivered {
        /// Its reply to the data.
        reply: Reply,
    },
    /// It may succeed later.
    Deferred {
        /// Kind of cause.
        class: Class,
        /// The remote's reply, or one we wrote for a failure without one (X.4.x).
        reply: Reply,
    },
    /// It will not succeed.
    Bounced {
        /// Kind of cause.
        class: Class,
        /// The remote's reply, or one we wrote.
        reply: Reply,
    },
}

/// Kinds of cause, the same in every interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// No such mailbox.
    InvalidRecipient,
    /// The mailbox takes no more.
    MailboxFull,
    /// The remote's policy.
    Policy,
    /// The sender's reputation.
    Reputation,
    /// The message's content.
    Content,
    /// SPF, DKIM or DMARC as the remote sees them.
    AuthFailure,
    /// Too much, too fast.
    Throttled,
    /// Come back later, on principle.
    Greylisted,
    /// No connection, or a broken one.
    Network,
    /// No route, for lack of DNS.
    Dns,
    /// No transport security.
    Tls,
    /// Too old.
    Expired,
    /// None of these.
    Other,
}

impl Class {
    /// Every class, for metrics that start at zero.
    pub const ALL: [Self; 13] = [
        Self::InvalidRecipient,
        Self::MailboxFull,
        Self::Policy,
        Self::Reputation,
        Self::Content,
        Self::AuthFailure,
        Self::Throttled,
        Self::Greylisted,
        Self::Network,
        Self::Dns,
        Self::Tls,
        Self::Expired,
        Self::Other,
    ];

    /// The name in events, metrics and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRecipient => "invalid-recipient",
            Self::MailboxFull => "mailbox-full",
            Self::Policy => "policy",
            Self::Reputation => "reputation",
            Self::Content => "content",
            Self::AuthFailure => "auth-failure",
            Self::Throttled => "throttled",
            Self::Greylisted => "greylisted",
            Self::Network => "network",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Expired => "expired",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The receivers that share limits: the set of a domain's MX hosts, or the domain where it has
/// none. Printed as the most preferred host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Site(String);

impl Site {
    /// The site of a domain without MX records.
    #[must_use]
    pub fn of_domain(domain: &DomainName) -> Self {
        Self(domain.to_string())
    }

    /// The site of MX hosts, most preferred first; equal sets in any order of equal preference
    /// give the same site when sorted by the caller.
    #[must_use]
    pub fn of_hosts<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(hosts.into_iter().collect::<Vec<_>>().join(","))
    }

    /// The site as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
