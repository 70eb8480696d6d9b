//! What is known of a SendingDomain: records, keys, pools, what has been published.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rfc2136;
use crate::{
    Selector,
    relay_config::{Admission, KeyAlgorithm},
};

/// What is known of a SendingDomain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SendingDomainStatus {
    /// The generation this status speaks of; -1: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, KeysReady, SPFVerified, DKIMVerified, DMARCVerified, ReturnPathVerified, PTRVerified,
    /// MTASTSVerified, TLSRPTVerified, Rotating; Published where spec.publish is set; Moving while pools
    /// that the domain has left have mail of it.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Every record to publish, the wanted text beside the one seen.
    pub records: Vec<RecordStatus>,
    /// DKIM keys by state.
    pub dkim: DkimStatus,
    /// What relays do with the domain's mail now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// RelayPools that may have mail of the domain: the one that spec.poolRef names, and those it has
    /// named before, each until nothing of the domain is queued there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pools: Vec<MailPool>,
    /// What this operator has put into DNS, or is about to, so that it can take it out again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedStatus>,
}

/// A RelayPool that may have mail of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailPool {
    /// Name of the RelayPool.
    pub name: String,
    /// Since when spec.poolRef has named another; absent: it names this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<Time>,
}

/// What has been put into DNS, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishedStatus {
    /// The DNSEndpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_endpoint: Option<String>,
    /// The name server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136>,
    /// The records.
    #[schemars(length(max = 64))]
    pub records: Vec<PublishedRecord>,
}

/// A record that has been put into DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishedRecord {
    /// TXT or MX.
    pub r#type: RecordType,
    /// Owner name without trailing dot.
    pub name: String,
    /// Its text.
    pub value: String,
}

/// A record to publish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordStatus {
    /// TXT, MX, CNAME, A, AAAA or PTR.
    pub r#type: RecordType,
    /// Owner name without trailing dot.
    pub name: String,
    /// What to publish.
    pub wanted: String,
    /// What is published, or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// How the two compare.
    pub state: RecordState,
    /// What the record is for.
    pub purpose: RecordPurpose,
    /// What to do, in one sentence; empty when nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Types of DNS record.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RecordType {
    /// Text.
    TXT,
    /// Mail exchange.
    MX,
    /// Alias.
    CNAME,
    /// IPv4 address.
    A,
    /// IPv6 address.
    AAAA,
    /// Name of an address.
    PTR,
}

/// How a wanted record compares to what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RecordState {
    /// It does its duty.
    Verified,
    /// Nothing is published there.
    Missing,
    /// Something else is published there.
    Mismatch,
    /// Several records are published where one is allowed.
    Conflict,
    /// DNS gave no answer.
    Unknown,
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RecordPurpose {
    /// The public half of a signing key.
    DKIM,
    /// The addresses that may send.
    SPF,
    /// The policy for mail that fails both.
    DMARC,
    /// Where bounces go.
    ReturnPath,
    /// The addresses that may use a name in EHLO (SPF, RFC 7208 section 2.3).
    EHLO,
    /// The names of egress addresses, which lead back to them.
    PTR,
    /// That mail to a domain is to be encrypted, and by whom (RFC 8461).
    MTASTS,
    /// Where reports about TLS go (RFC 8460).
    TLSRPT,
}

/// DKIM keys by state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DkimStatus {
    /// Keys that sign.
    #[schemars(length(max = 32))]
    pub active: Vec<KeyStatus>,
    /// Keys on their way to sign.
    #[schemars(length(max = 32))]
    pub pending: Vec<KeyStatus>,
    /// Keys that sign no more, whose records are still published.
    #[schemars(length(max = 32))]
    pub retiring: Vec<KeyStatus>,
    /// When the next key is old enough to be replaced; absent when keys do not age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,
    /// The `spec.dkim.rotation.trigger` that every key that signs was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
}

/// A DKIM key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Its selector.
    pub selector: Selector,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// The Secret that holds it.
    pub secret: String,
    /// How far it is on its way.
    pub state: KeyState,
    /// Since when it is there.
    pub since: Time,
    /// When the wait it is in ends, if that is known: the caches of the world for a published key,
    /// the queues for a retiring one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// How far a DKIM key is on its way, in this order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum KeyState {
    /// It exists.
    Generated,
    /// Its record is listed to be published.
    Published,
    /// Every name server has its record, and no cache can have anything else.
    Visible,
    /// Every relay has loaded it.
    Loaded,
    /// Relays sign with it.
    Active,
    /// Relays sign with it no more; its record has to stay for what is on its way.
    Retiring,
    /// Its record is no longer wanted.
    Withdrawn,
}
