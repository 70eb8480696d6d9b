//! The RelayConfig: what a pool's relays need to know besides domains, credentials and suppression.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::document::Document;
use crate::Duration;

/// What a pool's relays need to know besides domains, credentials and suppression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayConfig {
    /// [`super::DOCUMENT_VERSION`].
    pub version: u32,
    /// The pool this relay belongs to.
    pub pool: PoolName,
    /// Name given in EHLO and greeting (RFC 5321 §4.1.1.1); `{ordinal}` stands for the pod's.
    pub hostname: String,
    /// Doors that are open.
    pub listeners: Listeners,
    /// Bounds on what is accepted.
    pub limits: Limits,
    /// How mail leaves.
    pub delivery: Delivery,
    /// Resolvers to ask; empty: those of `/etc/resolv.conf`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<SocketAddr>,
    /// Clients that need no login, by address; nobody unless listed. No resource sets it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_clients: Vec<TrustedClient>,
}

/// A client known by its address. What it may send is what the username may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedClient {
    /// A loopback address; any other may stand for whoever a gateway hides behind it.
    pub address: IpAddr,
    /// A username of [`super::Credentials`].
    pub username: String,
}

/// Namespace and name of a RelayPool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Listening ports; an absent one is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listeners {
    /// Submission with STARTTLS (RFC 6409), usually 587.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submission: Option<u16>,
    /// Submission with implicit TLS (RFC 8314 §3.3), usually 465.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submissions: Option<u16>,
}

/// Bounds on what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Largest message in octets, announced as SIZE (RFC 1870).
    pub message_bytes: u64,
    /// Most recipients of one message (RFC 5321 §4.5.3.1.8 asks for at least 100).
    pub recipients: u32,
    /// Most submission sessions at a time.
    pub sessions: u32,
}

/// How mail leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// When to try again.
    pub retry: Retry,
    /// Age at which an undelivered message is bounced.
    pub expire_after: Duration,
    /// Age at which the sender is told of a delay (RFC 3464 `delayed`).
    pub delay_warning_after: Duration,
    /// Transport security asked of receivers.
    pub tls: TlsMode,
    /// Port of receiving servers: 25 wherever mail is real.
    #[serde(default = "smtp_port", skip_serializing_if = "is_smtp_port")]
    pub port: u16,
    /// Most connections to one site at a time, per pod.
    pub connections_per_site: u32,
}

/// The retry schedule: `initial * 2^n`, at most `maximum`, each jittered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Wait after the first failed attempt.
    pub initial: Duration,
    /// Longest wait.
    pub maximum: Duration,
}

/// Transport security asked of receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum TlsMode {
    #[default]
    /// STARTTLS where it is offered, certificates not checked (RFC 7435).
    Opportunistic,
    /// STARTTLS with a valid certificate, or the mail is deferred.
    Required,
}

impl Document for RelayConfig {
    const NAME: &'static str = "RelayConfig";
    fn version(&self) -> u32 {
        self.version
    }
}

fn smtp_port() -> u16 {
    25
}

fn is_smtp_port(port: &u16) -> bool {
    *port == smtp_port()
}
