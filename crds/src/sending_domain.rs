//! SendingDomain: who may send as a domain, with which keys, and whether the world agrees.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, pub and all, in a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DomainName, Duration, Mailbox, Selector, relay_config::KeyAlgorithm};

mod status;

pub use status::*;

/// A domain that mail is sent as: its DKIM keys, the DNS records it needs and who may use it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "postrider.dev",
    version = "v1alpha1",
    kind = "SendingDomain",
    namespaced,
    shortname = "sd",
    category = "mail",
    status = "SendingDomainStatus",
    derive = "PartialEq",
    doc = "A domain that mail is sent as: its DKIM keys, the DNS records it needs and who may use it.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name must be at most 63 characters, so that it fits the label of its key Secrets; the domain itself, in spec.domain, may be longer"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Domain", type_ = "string", json_path = ".spec.domain"),
    printcolumn(
        name = "Selectors",
        type_ = "string",
        json_path = ".status.dkim.active[*].selector"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.returnPath) || self.returnPath.domain != self.domain").message("returnPath.domain must differ from domain; use a subdomain such as bounce.<domain>").field_path(".returnPath.domain"))]
#[x_kube(validation = Rule::new("self.dkim.delegation != 'CNAME' || (has(self.publish) && has(self.publish.rfc2136))").message("dkim.delegation CNAME needs publish.rfc2136, whose zone holds the keys' records").field_path(".dkim.delegation"))]
#[x_kube(validation = Rule::new("self.dkim.delegation != 'CNAME' || !has(self.publish) || !has(self.publish.rfc2136) || size(self.domain) + size(self.publish.rfc2136.zone) <= 150").message("domain and publish.rfc2136.zone are too long together for dkim.delegation CNAME: at most 150 characters").field_path(".dkim.delegation"))]
pub struct SendingDomainSpec {
    /// The domain in From addresses: lower-case A-labels. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("domain is immutable; delete this SendingDomain and create another"))]
    pub domain: DomainName,
    /// The RelayPool, in the same namespace, that sends the domain's mail. Changed, the pool it named
    /// before takes no more of it and sends what it has; status.pools tells when that is done.
    pub pool_ref: PoolRef,
    /// Where receivers send bounces to. Default: bounce.<domain>.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_path: Option<ReturnPath>,
    /// DKIM keys and how they are named.
    #[serde(default)]
    pub dkim: Dkim,
    /// What is verified and how often.
    #[serde(default)]
    pub verification: Verification,
    /// What relays do with the domain's mail while it is not verified.
    #[serde(default)]
    pub unverified: Unverified,
    /// Who puts the records into DNS. Absent: they are only listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// Who may send as this domain. Empty: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub senders: Vec<SenderRef>,
}

/// Names a RelayPool in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolRef {
    /// Name of the RelayPool.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// Where receivers send bounces to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReturnPath {
    /// Domain of the envelope sender that receivers see.
    pub domain: DomainName,
}

/// DKIM keys and how they are named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dkim {
    /// One signature each. Default: RSA2048 and Ed25519.
    #[serde(default = "Dkim::default_keys")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(validation = Rule::new("self.all(k, self.exists_one(o, o.algorithm == k.algorithm))").message("each algorithm may be listed once"))]
    pub keys: Vec<DkimKeySpec>,
    /// Selectors are `<prefix>-<short id>` and never reused. Default: pr.
    #[serde(default = "Dkim::default_prefix")]
    #[x_kube(validation = Rule::new("size(self) <= 40").message("must be at most 40 characters, so that the selector fits a DNS label"))]
    pub selector_prefix: Selector,
    /// Where the keys' records are: at the domain itself, or in the zone of publish.rfc2136, to which
    /// the domain's names lead by aliases. Default: TXT.
    #[serde(default)]
    pub delegation: Delegation,
    /// When keys are replaced. Default: only when asked.
    #[serde(default, skip_serializing_if = "Rotation::is_default")]
    pub rotation: Rotation,
}

/// Where the records of keys are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delegation {
    /// At the domain: `<selector>._domainkey.<domain>` is a TXT record.
    #[default]
    TXT,
    /// In the zone that is published in: `<selector>._domainkey.<domain>` is an alias of
    /// `<selector>._domainkey.<domain>.<zone>`. One DNAME at `_domainkey.<domain>` makes them all.
    CNAME,
}

/// When keys are replaced by new ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// Age at which a key that signs is replaced. Absent: keys do not age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("must be longer than 0s; leave it out to keep keys"))]
    pub every: Option<Duration>,
    /// Least time the record of a replaced key is kept published; never shorter than mail may be
    /// in the pool's queue and a day on its way. Default: 7d.
    #[serde(default = "Rotation::default_retire_after")]
    pub retire_after: Duration,
    /// Any text; a changed one replaces every key once, such as a date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]+( [!-~]+)*$')").message("must be printable ASCII without spaces at its ends, such as a date"))]
    pub trigger: Option<String>,
    /// Selectors of keys that are known to strangers: each is replaced now, stops signing as soon
    /// as its successor signs, and its record is withdrawn at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub revoke: Vec<Selector>,
}

/// A DKIM key that is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DkimKeySpec {
    /// Kind of key.
    pub algorithm: KeyAlgorithm,
}

/// What is verified and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verification {
    /// SPF of the return path, for every egress address of the pool. Default: Required.
    #[serde(default)]
    pub spf: Requirement,
    /// A DMARC policy for the domain. Default: Required.
    #[serde(default)]
    pub dmarc: Requirement,
    /// The weakest DMARC policy that counts. Default: None.
    #[serde(default)]
    pub minimum_dmarc_policy: DmarcPolicy,
    /// Names of the pool's egress addresses: each has one that leads back to it, and the relays
    /// give such a name in EHLO. Default: Warn.
    #[serde(default = "Verification::default_ptr")]
    pub ptr: Requirement,
    /// MTA-STS (RFC 8461) of the domains that answers go to, which are the domain and its return
    /// path: the record, the policy that its host serves, and that the policy covers every MX.
    /// Default: Skip.
    #[serde(default = "Verification::default_inbound")]
    pub mta_sts: Requirement,
    /// Where reports about TLS to the same domains go (TLSRPT, RFC 8460). Default: Skip.
    #[serde(default = "Verification::default_inbound")]
    pub tls_rpt: Requirement,
    /// Time between checks once all is verified. Default: 10m.
    #[serde(default = "Verification::default_interval")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("must be longer than 0s"))]
    pub interval: Duration,
}

/// Whether a check decides readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Requirement {
    /// The domain is Ready only if the check passes.
    #[default]
    Required,
    /// The check is made and shown, and decides nothing.
    Warn,
    /// The check is not made. (`Off` in a manifest would be a boolean: YAML 1.1 reads it so.)
    #[serde(rename = "Skip")]
    Off,
}

/// DMARC policies, weakest first (RFC 7489 §6.3 `p=`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum DmarcPolicy {
    /// `p=none`.
    #[default]
    None,
    /// `p=quarantine`.
    Quarantine,
    /// `p=reject`.
    Reject,
}

/// What relays do with the domain's mail while it is not verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unverified {
    /// Accept it and keep it until the domain is verified.
    #[default]
    Hold,
    /// Refuse it at submission.
    Reject,
    /// Send it all the same.
    Send,
}

/// Who puts the records into DNS: those of the keys and of the return path. The policy at the
/// domain's own `_dmarc` is left to whoever it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.dnsEndpoint) != has(self.rfc2136)").message("exactly one of dnsEndpoint and rfc2136 must be set"))]
pub struct Publish {
    /// external-dns, by a DNSEndpoint in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_endpoint: Option<DnsEndpointPublish>,
    /// A name server that takes updates (RFC 2136).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136>,
}

/// How external-dns is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsEndpointPublish {}

/// A name server that takes updates (RFC 2136) signed with a shared secret (TSIG, RFC 8945).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rfc2136 {
    /// The zone's primary server: an address or host name, with a port where it is not 53.
    #[schemars(length(min = 1, max = 261))]
    #[x_kube(validation = Rule::new("self.matches('^([a-zA-Z0-9.-]+(:[0-9]{1,5})?|[0-9a-fA-F:.]+|\\\\[[0-9a-fA-F:.]+\\\\](:[0-9]{1,5})?)$')").message("must be an address or a host name, with a port if it is not 53, such as 192.0.2.53 or ns1.example.net:5353"))]
    pub server: String,
    /// The zone that is updated. Records outside of it are only listed.
    pub zone: DomainName,
    /// A Secret in the same namespace with the keys `name`, `secret` (base64) and, where it is not
    /// hmac-sha256, `algorithm`.
    pub tsig_secret_ref: SecretRef,
    /// Time the records may be cached. Default: 5m.
    #[serde(default = "Rfc2136::default_ttl")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("must be longer than 0s"))]
    pub ttl: Duration,
}

/// Who may send as the domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SenderRef {
    /// A Secret in the same namespace with the keys `username` and `password`
    /// (type kubernetes.io/basic-auth).
    pub secret_ref: SecretRef,
    /// From addresses this sender may use. Empty: any address of the domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub addresses: Vec<Mailbox>,
}

/// Names a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl SendingDomainSpec {
    /// The return path domain: the one given, or `bounce.<domain>`.
    ///
    /// Falls back to the domain itself where `bounce.` would make the name too long.
    #[must_use]
    pub fn return_path_domain(&self) -> DomainName {
        match &self.return_path {
            Some(path) => path.domain.clone(),
            None => self
                .domain
                .child("bounce")
                .unwrap_or_else(|_| self.domain.clone()),
        }
    }
}

impl SendingDomainSpec {
    /// Where the record of the key `selector` is when the domain's own name is an alias of it.
    #[must_use]
    pub fn delegated_name(&self, selector: &Selector) -> Option<String> {
        let zone = &self.publish.as_ref()?.rfc2136.as_ref()?.zone;
        match self.dkim.delegation {
            Delegation::TXT => None,
            Delegation::CNAME => Some(format!("{}.{zone}", selector.record_name(&self.domain))),
        }
    }
}

impl Default for Dkim {
    fn default() -> Self {
        Self {
            keys: Self::default_keys(),
            selector_prefix: Self::default_prefix(),
            delegation: Delegation::default(),
            rotation: Rotation::default(),
        }
    }
}

impl Rotation {
    fn default_retire_after() -> Duration {
        Duration::from_secs(7 * 86_400)
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            every: None,
            retire_after: Self::default_retire_after(),
            trigger: None,
            revoke: Vec::new(),
        }
    }
}

impl Dkim {
    fn default_keys() -> Vec<DkimKeySpec> {
        let keys = [KeyAlgorithm::RSA2048, KeyAlgorithm::Ed25519];
        keys.map(|algorithm| DkimKeySpec { algorithm }).to_vec()
    }

    fn default_prefix() -> Selector {
        "pr".parse().expect("pr is a selector")
    }
}

impl Rfc2136 {
    fn default_ttl() -> Duration {
        Duration::from_secs(300)
    }
}

impl Verification {
    fn default_ptr() -> Requirement {
        Requirement::Warn
    }

    fn default_inbound() -> Requirement {
        Requirement::Off
    }

    fn default_interval() -> Duration {
        Duration::from_secs(600)
    }
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            spf: Requirement::Required,
            dmarc: Requirement::Required,
            minimum_dmarc_policy: DmarcPolicy::None,
            ptr: Self::default_ptr(),
            mta_sts: Self::default_inbound(),
            tls_rpt: Self::default_inbound(),
            interval: Self::default_interval(),
        }
    }
}
