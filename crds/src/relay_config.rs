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

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{DomainName, Duration, Mailbox, Selector, scram::ScramVerifier};

/// The version of every document in this module.
pub const DOCUMENT_VERSION: u32 = 1;
/// Secrets the keyring is spread over: with 1 MiB each, room for some 25,000 domains.
pub const KEYRING_SHARDS: u32 = 64;
/// Secrets suppression entries of a pool are spread over.
pub const SUPPRESSION_SHARDS: u32 = 8;
/// Domains in [`Report::remaining`]. With names of 253 octets a report stays below 1 MiB.
pub const MAX_REMAINING: usize = 2000;

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

/// A document of this module.
pub trait Document: Serialize + DeserializeOwned {
    /// What the document is called in errors.
    const NAME: &'static str;
    /// The version the document says it has.
    fn version(&self) -> u32;

    /// Reads a document. Errors name the field, the value and the line.
    fn from_yaml(text: &str) -> Result<Self, DocumentError> {
        // The version is looked at first: "unknown version" is a better answer than an unknown key.
        let probe: VersionProbe =
            serde_yaml::from_str(text).map_err(|source| DocumentError::Syntax {
                document: Self::NAME,
                source,
            })?;
        if probe.version != DOCUMENT_VERSION {
            let found = probe.version;
            return Err(DocumentError::Version {
                document: Self::NAME,
                found,
            });
        }
        serde_yaml::from_str(text).map_err(|source| DocumentError::Syntax {
            document: Self::NAME,
            source,
        })
    }

    /// Writes the document; the same value always gives the same bytes.
    fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("documents hold only strings, numbers, lists and maps")
    }
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not YAML of the right shape. Long values are not repeated: they may be keys.
    #[error("{document}: {}", without_long_values(&source.to_string()))]
    Syntax {
        /// Which document.
        document: &'static str,
        /// Where and what.
        source: serde_yaml::Error,
    },
    /// A version this program does not know.
    #[error(
        "{document}: version {found} is unknown; this program reads version {DOCUMENT_VERSION}"
    )]
    Version {
        /// Which document.
        document: &'static str,
        /// The version found.
        found: u32,
    },
}

/// Characters of a quoted value that an error may repeat; private keys are longer.
const MAX_QUOTED: usize = 60;

/// `text` with "..." in place of what is quoted and long.
fn without_long_values(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(['"', '`']) {
        let (before, quoted) = rest.split_at(start);
        let quote = if quoted.starts_with('"') { '"' } else { '`' };
        let inner = quoted.get(1..).unwrap_or_default();
        let (inner, after) = inner.split_once(quote).unwrap_or((inner, ""));
        let shown = match inner.chars().count() {
            0..=MAX_QUOTED => inner,
            _ => "...",
        };
        out.push_str(before);
        out.extend([quote]);
        out.push_str(shown);
        out.extend([quote]);
        rest = after;
    }
    out.push_str(rest);
    out
}

#[derive(Deserialize)]
struct VersionProbe {
    version: u32,
}

/// What a pool's relays need to know besides domains, credentials and suppression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayConfig {
    /// [`DOCUMENT_VERSION`].
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
    /// A username of [`Credentials`].
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

/// What a shard of the keyring holds: its domains, with their private keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyring {
    /// [`DOCUMENT_VERSION`].
    pub version: u32,
    /// Domains whose [`shard_of`] is this shard, by name.
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
    /// It does not: its SendingDomain is being deleted. Refuse at submission with 550 5.7.1; mail
    /// already accepted goes on as its [`Admission`] says, and is counted in [`Report::remaining`].
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
    /// A username of [`Credentials`].
    pub username: String,
    /// From addresses allowed; empty: any of the domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Mailbox>,
}

/// Who can log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// [`DOCUMENT_VERSION`].
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

/// `GET /v1/report` of a relay's admin API, JSON. Unknown keys are ignored by readers, so a newer
/// relay can speak to an older operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pod's name.
    pub pod: String,
    /// Path below the configuration directory to [`crate::digest::of`] its bytes, for every
    /// document in force.
    pub documents: BTreeMap<String, String>,
    /// Documents that were found but refused; what was in force before stays so.
    pub refused: Vec<RefusedDocument>,
    /// Depth of the queue.
    pub queue: QueueReport,
    /// Messages in custody, or on their way into it, of each domain whose intake the keyring in force
    /// closes; of the first [`MAX_REMAINING`] by name. Empty while custody is not restored: a domain
    /// that is not there has not been counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remaining: BTreeMap<DomainName, u64>,
    /// Why the relay accepts no mail now, or `None`.
    pub not_ready: Option<String>,
}

/// A document the relay found but could not use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedDocument {
    /// Path below the configuration directory.
    pub path: String,
    /// Digest of what was refused.
    pub digest: String,
    /// Why.
    pub error: String,
}

/// Messages in custody by state; a message with several recipients counts in its most urgent one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReport {
    /// Waiting for a delivery slot or being attempted.
    pub due: u64,
    /// Waiting for their next attempt.
    pub deferred: u64,
    /// Kept back by an operator's suspension.
    #[serde(default)]
    pub suspended: u64,
    /// Kept back by admission or an operator's hold.
    pub held: u64,
    /// Seconds since the longest waiting due message became due.
    pub oldest_due_seconds: u64,
}

impl Document for RelayConfig {
    const NAME: &'static str = "RelayConfig";
    fn version(&self) -> u32 {
        self.version
    }
}

impl Document for Keyring {
    const NAME: &'static str = "Keyring";
    fn version(&self) -> u32 {
        self.version
    }
}

impl Document for Credentials {
    const NAME: &'static str = "Credentials";
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

/// 32-bit FNV-1a: stable across programs and versions, which is all a shard number needs.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
version: 1
pool: {namespace: mail, name: default}
hostname: mail-{ordinal}.example.net
listeners: {submission: 587}
limits: {messageBytes: 26214400, recipients: 1000, sessions: 500}
delivery:
  retry: {initial: 1m, maximum: 4h}
  expireAfter: 5d
  delayWarningAfter: 4h
  tls: Opportunistic
  connectionsPerSite: 10
";

    #[test]
    fn a_document_survives_the_round_trip() {
        let config = RelayConfig::from_yaml(CONFIG).unwrap();
        assert_eq!(config.delivery.port, 25);
        assert_eq!(RelayConfig::from_yaml(&config.to_yaml()).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_a_bad_value_and_a_new_version_are_refused_by_name() {
        for (from, to, part) in [
            ("hostname:", "hostnam: x\nhostname:", "hostnam"),
            ("initial: 1m", "initial: 1x", "1x"),
            ("tls: Opportunistic", "tls: Maybe", "Maybe"),
            ("version: 1", "version: 2", "version 2"),
            ("submission: 587", "submission: 99999", "99999"),
        ] {
            let error = RelayConfig::from_yaml(&CONFIG.replace(from, to)).expect_err(to);
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn intake_is_open_unless_it_says_otherwise() {
        let open =
            "{domain: a.example, returnPath: b.a.example, admission: Send, keys: [], senders: []}";
        let entry: DomainEntry = serde_yaml::from_str(open).unwrap();
        assert_eq!(entry.intake, Intake::Open);
        assert!(!serde_yaml::to_string(&entry).unwrap().contains("intake"));
        let closed = DomainEntry {
            intake: Intake::Closed,
            ..entry
        };
        let text = serde_yaml::to_string(&closed).unwrap();
        assert!(text.contains("intake: Closed"), "{text}");
        assert_eq!(serde_yaml::from_str::<DomainEntry>(&text).unwrap(), closed);
    }

    #[test]
    fn a_report_of_an_older_relay_counts_nothing() {
        let older = r#"{"pod": "p-0", "documents": {}, "refused": [], "notReady": null,
            "queue": {"due": 1, "deferred": 0, "held": 0, "oldestDueSeconds": 0}}"#;
        let mut report: Report = serde_json::from_str(older).unwrap();
        assert!(report.remaining.is_empty());
        report.remaining.insert("a.example".parse().unwrap(), 3);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(r#""remaining":{"a.example":3}"#), "{text}");
    }

    #[test]
    fn keys_do_not_print() {
        let key = SigningKey {
            selector: "pr-1".parse().unwrap(),
            algorithm: KeyAlgorithm::Ed25519,
            state: SigningState::Active,
            private_key: "PRIVATE".into(),
        };
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn errors_repeat_no_long_value_wherever_it_stands() {
        const KEYRING: &str = "version: 1\ndomains: [{domain: a.example, returnPath: b.a.example, admission: Send, keys: [{selector: s, algorithm: RSA2048, state: Active, privateKey: k}], senders: []}]\n";
        Keyring::from_yaml(KEYRING).unwrap();
        let secret = "MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let pem =
            format!("\"-----BEGIN PRIVATE KEY-----\\n{secret}\\n-----END PRIVATE KEY-----\\n\"");
        for field in [
            "a.example",
            "Send",
            "RSA2048",
            "Active",
            "[]",
            "s,",
            "selector",
            "1\n",
        ] {
            let end = if field.ends_with(',') { "," } else { "\n" };
            let end = if field.ends_with(['\n', ',']) {
                end
            } else {
                ""
            };
            let text = KEYRING.replacen(field, &format!("{pem}{end}"), 1);
            let error = Keyring::from_yaml(&text).expect_err(field).to_string();
            assert!(!error.contains(secret), "{field}: {error}");
            assert!(error.starts_with("Keyring: "), "{error}");
        }
        let short = KEYRING.replace("Active", "Actve");
        let error = Keyring::from_yaml(&short)
            .expect_err("misspelt")
            .to_string();
        assert!(
            error.contains("`Actve`") && error.contains("`Standby`"),
            "{error}"
        );
    }

    #[test]
    fn shards_are_stable_and_spread() {
        assert_eq!(
            shard_of(&"example.com".parse().unwrap()),
            fnv1a("example.com") % 64
        );
        let used: std::collections::BTreeSet<u32> = (0..2000)
            .map(|n| shard_of(&format!("d{n}.example.com").parse().unwrap()))
            .collect();
        assert_eq!(used.len(), 64);
    }
}
