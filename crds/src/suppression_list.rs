//! SuppressionList: whom never to mail.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, pub and all, in a function"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DomainName, Mailbox};

/// Addresses and domains that are never mailed.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "postrider.dev",
    version = "v1alpha1",
    kind = "SuppressionList",
    namespaced,
    shortname = "supp",
    category = "mail",
    status = "SuppressionListStatus",
    derive = "PartialEq",
    doc = "Addresses and domains that are never mailed.",
    validation = Rule::new("size(self.metadata.name) <= 200").message("metadata.name must be at most 200 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Entries", type_ = "integer", json_path = ".status.entries"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuppressionListSpec {
    /// Entries by hand; for many, use sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub entries: Vec<SuppressionEntry>,
    /// ConfigMaps and Secrets with one entry a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub sources: Vec<SuppressionSource>,
    /// Which sending domains the list holds for.
    #[serde(default)]
    pub scope: Scope,
}

/// A suppressed address or domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.address) != has(self.domain)").message("exactly one of address and domain must be set"))]
pub struct SuppressionEntry {
    /// One address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Mailbox>,
    /// Every address of a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainName>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub reason: Option<String>,
    /// When the entry ends. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self < timestamp('9999-01-01T00:00:00Z')").message("must lie before the year 9999; leave expires out for an entry that never ends"))]
    pub expires: Option<Time>,
}

/// A ConfigMap or Secret with one entry a line: an address, or `@domain`; after a comma a reason
/// and an RFC 3339 expiry. `#` starts a comment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.configMapRef) != has(self.secretRef)").message("exactly one of configMapRef and secretRef must be set"))]
pub struct SuppressionSource {
    /// A key of a ConfigMap in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,
    /// A key of a Secret in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
}

/// Names a key of a ConfigMap or Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Which sending domains a list holds for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scope {
    /// Sending domains; empty: every domain of the pools that name the list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub domains: Vec<DomainName>,
}

/// What is known of a SuppressionList.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SuppressionListStatus {
    /// The generation this status speaks of; -1: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready and Distributed.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Entries in force, each target counted once.
    pub entries: u64,
    /// Digest of the merged list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Pools that name the list.
    pub pools: Vec<PoolDistribution>,
}

/// How far a pool has the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolDistribution {
    /// The pool's name.
    pub name: String,
    /// Digest of the list that every pod of the pool has loaded; absent while they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}
