//! The documents that reach a relay pod as mounted files, and the report it gives back.
//!
//! The operator writes them, the relay reads them; both use these types. Every document carries a
//! `version`, and an unknown key in a known version is an error, so a misspelt or too new setting
//! is refused whole instead of ignored.
//!
//! Layout below the configuration directory (see [`layout`]):
//!
//! ```text
//! config/relay.yaml              RelayConfig   from a ConfigMap
//! keyring/00.yaml .. 63.yaml     Keyring       from Secrets, a domain's shard is shard_of(domain)
//! credentials/credentials.yaml   Credentials   from a Secret
//! suppression/<list>.<k>         text          from Secrets, see suppression_file
//! tls/tls.crt, tls/tls.key       PEM           the submission certificate
//! admin/tls.crt, tls.key, ca.crt PEM           the admin listener's certificate and client CA
//! ```

use crate::DomainName;

mod credentials;
mod document;
mod keyring;
mod report;
mod settings;

pub use credentials::{Credential, Credentials};
pub use document::{DOCUMENT_VERSION, Document, DocumentError};
pub use keyring::{
    Admission, DomainEntry, Intake, KeyAlgorithm, Keyring, Sender, SigningKey, SigningState,
};
pub use report::{MAX_REMAINING, QueueReport, RefusedDocument, Report};
pub use settings::{
    Delivery, Limits, Listeners, PoolName, RelayConfig, Retry, TlsMode, TrustedClient,
};

/// Secrets the keyring is spread over: with 1 MiB each, room for some 25,000 domains.
pub const KEYRING_SHARDS: u32 = 64;
/// Secrets suppression entries of a pool are spread over.
pub const SUPPRESSION_SHARDS: u32 = 8;

/// File names below the configuration directory.
pub mod layout {
    /// The [`super::RelayConfig`].
    pub const RELAY_CONFIG: &str = "config/relay.yaml";
    /// Directory of [`super::Keyring`] shards.
    pub const KEYRING: &str = "keyring";
    /// The [`super::Credentials`].
    pub const CREDENTIALS: &str = "credentials/credentials.yaml";
    /// Directory of suppression files.
    pub const SUPPRESSION: &str = "suppression";
    /// Certificate chain of the submission listeners, PEM.
    pub const TLS_CERTIFICATE: &str = "tls/tls.crt";
    /// Private key of the submission listeners, PEM.
    pub const TLS_KEY: &str = "tls/tls.key";
    /// Certificate chain of the admin listener, PEM.
    pub const ADMIN_CERTIFICATE: &str = "admin/tls.crt";
    /// Private key of the admin listener, PEM.
    pub const ADMIN_KEY: &str = "admin/tls.key";
    /// The CA that admin clients must be signed by, PEM.
    pub const ADMIN_CA: &str = "admin/ca.crt";

    /// The keyring file of shard `shard`.
    #[must_use]
    pub fn keyring(shard: u32) -> String {
        format!("{KEYRING}/{shard:02}.yaml")
    }

    /// The suppression file of shard `shard` of list `list`.
    #[must_use]
    pub fn suppression(list: &str, shard: u32) -> String {
        format!("{SUPPRESSION}/{list}.{shard}")
    }
}

/// Ports of a relay pod that no resource changes.
pub mod ports {
    /// `/metrics`, `/healthz`, `/readyz`, plain HTTP.
    pub const METRICS: u16 = 9090;
    /// Admin API, mutual TLS.
    pub const ADMIN: u16 = 9443;
}

/// The keyring shard that holds `domain`: FNV-1a of the name, modulo [`KEYRING_SHARDS`].
#[must_use]
pub fn shard_of(domain: &DomainName) -> u32 {
    fnv1a(domain.as_str()) % KEYRING_SHARDS
}

/// The suppression shard that holds `key`: FNV-1a, modulo [`SUPPRESSION_SHARDS`].
#[must_use]
pub fn suppression_shard_of(key: &str) -> u32 {
    fnv1a(key) % SUPPRESSION_SHARDS
}

/// 32-bit FNV-1a: stable across programs and versions, which is all a shard number needs.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests;
