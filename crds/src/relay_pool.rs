//! RelayPool: a set of relay pods that share a configuration, and where their mail leaves from.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, pub and all, in a function"
)]

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Condition},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, EgressRange, RecordStatus, SecretRef, relay_config::TlsMode};

/// The longest wait is no shorter than the first. CEL knows no days; what is no duration at all is
/// refused by the fields themselves.
const RETRY_ORDER: &str = "[self.initial, self.maximum].exists(d, !d.matches('^([0-9]+[dhms])+$')) || [self.initial, self.maximum].map(d, d.contains('d') ? int(d.split('d')[0]) * 86400 + duration(d.split('d')[1] + '0s').getSeconds() : duration(d).getSeconds()).isSorted()";

/// Relay pods that take custody of mail and deliver it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "postrider.dev",
    version = "v1alpha1",
    kind = "RelayPool",
    namespaced,
    shortname = "rp",
    category = "mail",
    status = "RelayPoolStatus",
    derive = "PartialEq",
    doc = "Relay pods that take custody of mail and deliver it.",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name must be at most 40 characters, so that the names of its pods and Secrets fit"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')").message("metadata.name must be lower-case letters, digits and inner hyphens and begin with a letter, since its Service is named after it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready pods", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Queued", type_ = "integer", json_path = ".status.queue.queued"),
    printcolumn(name = "Oldest", type_ = "string", json_path = ".status.queue.oldestDue"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayPoolSpec {
    /// Pods wanted. Default: 1. An autoscaler sets it through the scale subresource; leave it out of
    /// manifests then, so that applying them does not set it back.
    // A default in the schema, since the scale subresource cannot be read while the field is absent.
    #[serde(default = "RelayPoolSpec::default_replicas")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,
    /// Name the relays give in EHLO; `{ordinal}` stands for the pod's ordinal.
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(validation = Rule::new("self.replace('{ordinal}', '99').matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$')").message("must be a fully qualified, lower-case host name, such as mail.example.net or mail-{ordinal}.example.net"))]
    pub hostname: String,
    /// Doors that are open. Default: submission on 587, submissions on 465.
    #[serde(default)]
    pub listeners: ListenerSpecs,
    /// The submission certificate. Absent: one of the pool's own CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// The volume of each pod.
    #[serde(default)]
    pub storage: Storage,
    /// Where mail leaves from.
    #[serde(default)]
    pub egress: Egress,
    /// How mail is delivered.
    #[serde(default)]
    pub delivery: DeliverySpec,
    /// SuppressionLists, in the same namespace, that hold for this pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub suppression_lists: Vec<SuppressionListRef>,
    /// Placement and size of the pods.
    #[serde(default)]
    pub template: PodTemplate,
}

/// Doors of a relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.submission) || has(self.submissions)").message("at least one of submission and submissions must be open"))]
#[x_kube(validation = Rule::new("!has(self.submission) || !has(self.submissions) || self.submission.port != self.submissions.port").message("submission and submissions need different ports"))]
pub struct ListenerSpecs {
    /// Submission with STARTTLS (RFC 6409).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submission: Option<ListenerSpec>,
    /// Submission with implicit TLS (RFC 8314).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submissions: Option<ListenerSpec>,
}

/// A door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerSpec {
    /// TCP port of pods and Service.
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self != 9090 && self != 9443").message("9090 and 9443 are taken by metrics and the admin API"))]
    pub port: u16,
}

/// The submission certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsSpec {
    /// A Secret of type kubernetes.io/tls, such as cert-manager makes.
    pub secret_ref: SecretRef,
}

/// The volume of each pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storageClassName is immutable; create another RelayPool and move the domains to it"))]
pub struct Storage {
    /// Size of the spool. Default: 10Gi. Immutable.
    #[serde(default = "Storage::default_size")]
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))").message("must be a quantity greater than 0, such as 10Gi"))]
    #[x_kube(validation = Rule::new("quantity(string(self)).compareTo(quantity(string(oldSelf))) == 0").message("size cannot be changed; create another RelayPool and move the domains to it"))]
    pub size: Quantity,
    /// StorageClass. Absent: the cluster's default. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// Where mail leaves from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Egress {
    /// Addresses that receivers see: what SPF and PTR are verified for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub addresses: Vec<EgressRange>,
}

/// How mail is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliverySpec {
    /// When to try again.
    #[serde(default)]
    pub retry: RetrySpec,
    /// Age at which an undelivered message is bounced. Default: 5d.
    #[serde(default = "DeliverySpec::default_expire_after")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("must be longer than 0s"))]
    pub expire_after: Duration,
    /// Age at which the sender is told of a delay. Default: 4h.
    #[serde(default = "DeliverySpec::default_delay_warning_after")]
    pub delay_warning_after: Duration,
    /// Transport security asked of receivers. Default: Opportunistic.
    #[serde(default)]
    pub tls: TlsMode,
}

/// The retry schedule: the wait doubles from `initial` to `maximum`, each jittered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(RETRY_ORDER).message(Message::Expression("'maximum ' + self.maximum + ' is less than initial ' + self.initial + '; raise maximum or lower initial'".into())))]
pub struct RetrySpec {
    /// Wait after the first failed attempt. Default: 1m.
    #[serde(default = "RetrySpec::default_initial")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("must be longer than 0s"))]
    pub initial: Duration,
    /// Longest wait. Default: 4h.
    #[serde(default = "RetrySpec::default_maximum")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("must be longer than 0s"))]
    pub maximum: Duration,
}

/// Names a SuppressionList in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuppressionListRef {
    /// Name of the SuppressionList.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
}

/// Placement and size of the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodTemplate {
    /// Labels and annotations added to the pods.
    pub metadata: PodMetadata,
    /// CPU and memory of a relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "!has(self.limits) || self.limits.all(n, isQuantity(string(self.limits[n])))",
         "message": "each of limits must be a quantity, such as 500m or 256Mi",
         "fieldPath": ".limits"},
        {"rule": "!has(self.requests) || self.requests.all(n, isQuantity(string(self.requests[n])))",
         "message": "each of requests must be a quantity, such as 500m or 256Mi",
         "fieldPath": ".requests"},
    ]))]
    pub resources: Option<ResourceRequirements>,
    /// Labels a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Scheduling affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints tolerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Spread over nodes and zones. Default: over nodes, as far as possible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// PriorityClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Labels and annotations added to the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodMetadata {
    /// Labels; those of Postrider win.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations; those of Postrider win.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is known of a RelayPool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RelayPoolStatus {
    /// The generation this status speaks of; -1: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Available, Progressing, ConfigApplied, SpoolsRetained, EHLOVerified, PTRVerified.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Pods that exist.
    pub replicas: i32,
    /// Pods that accept mail.
    pub ready_replicas: i32,
    /// Label selector of the pods, for the scale subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Depth of the queue over all members; written at most once a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// The pods.
    pub members: Vec<MemberStatus>,
    /// Volumes of former members, kept because they may hold mail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retained_spools: Vec<String>,
    /// Records to publish for the names given in EHLO and for the egress addresses, the wanted text
    /// beside the one seen. Of many addresses those that lack something come first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 264))]
    pub records: Vec<RecordStatus>,
}

/// Depth of a pool's queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// All messages in custody.
    pub queued: u64,
    /// Waiting for a delivery slot or being attempted.
    pub due: u64,
    /// Waiting for their next attempt.
    pub deferred: u64,
    /// Kept back because an operator suspended their destination or tenant.
    #[serde(default)]
    pub suspended: u64,
    /// Kept back because their domain is not verified or an operator holds them.
    pub held: u64,
    /// How long the oldest due message has been due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_due: Option<Duration>,
}

/// A pod of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// The pod's name.
    pub name: String,
    /// Its ordinal.
    pub ordinal: i32,
    /// What it does.
    pub state: MemberState,
    /// Whether it runs the rendered configuration.
    pub config: MemberConfig,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberState {
    /// Not accepting mail yet.
    Starting,
    /// Accepts and delivers mail.
    Active,
    /// Running but not answering the operator.
    Lost,
}

/// Whether a member runs the rendered configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberConfig {
    /// It does.
    Applied,
    /// It has an older one.
    Pending,
    /// It found the rendered one and refused it.
    Refused,
    /// It has not reported.
    Unknown,
}

impl RelayPoolSpec {
    fn default_replicas() -> i32 {
        1
    }
}

impl Default for ListenerSpecs {
    fn default() -> Self {
        Self {
            submission: Some(ListenerSpec { port: 587 }),
            submissions: Some(ListenerSpec { port: 465 }),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            size: Self::default_size(),
            storage_class_name: None,
        }
    }
}

impl Default for DeliverySpec {
    fn default() -> Self {
        Self {
            retry: RetrySpec::default(),
            expire_after: Self::default_expire_after(),
            delay_warning_after: Self::default_delay_warning_after(),
            tls: TlsMode::default(),
        }
    }
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            initial: Self::default_initial(),
            maximum: Self::default_maximum(),
        }
    }
}

impl Storage {
    fn default_size() -> Quantity {
        Quantity("10Gi".into())
    }
}

impl DeliverySpec {
    fn default_expire_after() -> Duration {
        Duration::from_secs(5 * 86_400)
    }

    fn default_delay_warning_after() -> Duration {
        Duration::from_secs(4 * 3_600)
    }
}

impl RetrySpec {
    fn default_initial() -> Duration {
        Duration::from_secs(60)
    }

    fn default_maximum() -> Duration {
        Duration::from_secs(4 * 3_600)
    }
}
