//! The pod of a relay.
//!
//! Promises: it meets the `restricted` Pod Security Standard, has no API token, and mounts every
//! document volume from the start, so that no change of domains, keys, senders or lists restarts
//! it.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
        HTTPGetAction, KeyToPath, LocalObjectReference, ObjectFieldSelector, PodSecurityContext,
        PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, SeccompProfile, SecretProjection,
        SecretVolumeSource, SecurityContext, Sysctl, TopologySpreadConstraint, Volume, VolumeMount,
        VolumeProjection,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt as _;
use postrider_crds::{
    RelayPool,
    relay_config::{KEYRING_SHARDS, SUPPRESSION_SHARDS, ports},
};

use super::{documents, service::listener_ports, stateful_set::SPOOL};
use crate::names;

/// Name of the relay's container.
pub const RELAY: &str = "relay";
/// User and group of the relay.
const USER: i64 = 65532;
/// Time for sessions and attempts under way after SIGTERM, in seconds.
const GRACE_SECONDS: i64 = 60;
/// A relay has this many times [`PROBE_SECONDS`] to read its spool before it counts as stuck.
const STARTUP_PROBES: i32 = 120;
/// Time between probes.
const PROBE_SECONDS: i32 = 5;
/// Where the documents are mounted.
const CONFIG_DIR: &str = "/etc/postrider";
/// Where the spool is mounted.
const SPOOL_DIR: &str = "/var/spool/postrider";

/// What relays are run from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayImage {
    /// The image, as a registry knows it.
    pub reference: String,
    /// Secrets, in the pool's namespace, with which it is pulled.
    pub pull_secrets: Vec<String>,
}

/// The template of `pool`'s pods, running `image`.
pub(super) fn template(pool: &RelayPool, image: &RelayImage) -> PodTemplateSpec {
    let name = pool.name_any();
    let wanted = &pool.spec.template;
    let mut labels = wanted.metadata.labels.clone();
    labels.extend(names::pool_labels(&name));
    let annotations = wanted.metadata.annotations.clone();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(names::service_account(&name)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            // Absent where there are none, so that the template stays what it was.
            image_pull_secrets: Some(pull_secrets(image)).filter(|secrets| !secrets.is_empty()),
            security_context: Some(pod_security()),
            containers: vec![container(pool, &image.reference)],
            volumes: Some(volumes(pool)),
            node_selector: Some(wanted.node_selector.clone()).filter(|s| !s.is_empty()),
            affinity: wanted.affinity.clone(),
            tolerations: Some(wanted.tolerations.clone()).filter(|t| !t.is_empty()),
            topology_spread_constraints: Some(spread(pool)),
            priority_class_name: wanted.priority_class_name.clone(),
            ..PodSpec::default()
        }),
    }
}

fn pull_secrets(image: &RelayImage) -> Vec<LocalObjectReference> {
    let names = image.pull_secrets.iter().cloned();
    names.map(|name| LocalObjectReference { name }).collect()
}

fn spread(pool: &RelayPool) -> Vec<TopologySpreadConstraint> {
    let wanted = &pool.spec.template.topology_spread_constraints;
    if !wanted.is_empty() {
        return wanted.clone();
    }
    vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names::pool_selector(&pool.name_any())),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }]
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A large spool is not walked on every start.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            ..SeccompProfile::default()
        }),
        // Lets the relay open 587 and 465 without a capability; the kubelet counts it as safe.
        sysctls: Some(vec![Sysctl {
            name: "net.ipv4.ip_unprivileged_port_start".into(),
            value: "0".into(),
        }]),
        ..PodSecurityContext::default()
    }
}

fn container(pool: &RelayPool, image: &str) -> Container {
    let metrics = i32::from(ports::METRICS);
    let mut open = listener_ports(pool);
    open.extend([("metrics", metrics), ("admin", i32::from(ports::ADMIN))]);
    let container_port = |(name, port): (&str, i32)| ContainerPort {
        name: Some(name.into()),
        container_port: port,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    Container {
        name: RELAY.into(),
        image: Some(image.into()),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec![
            format!("--config-dir={CONFIG_DIR}"),
            format!("--spool={SPOOL_DIR}"),
            "--pod-name=$(POD_NAME)".into(),
        ]),
        env: Some(vec![pod_name()]),
        ports: Some(open.into_iter().map(container_port).collect()),
        resources: pool.spec.template.resources.clone(),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        startup_probe: Some(probe("/healthz", STARTUP_PROBES)),
        liveness_probe: Some(probe("/healthz", 6)),
        readiness_probe: Some(probe("/readyz", 2)),
        volume_mounts: Some(mounts()),
        ..Container::default()
    }
}

fn pod_name() -> EnvVar {
    EnvVar {
        name: "POD_NAME".into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: "metadata.name".into(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn probe(path: &str, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(i32::from(ports::METRICS)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(PROBE_SECONDS),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Volumes of documents, by their directory below [`CONFIG_DIR`].
const DOCUMENT_VOLUMES: [&str; 6] = [
    "config",
    "keyring",
    "credentials",
    "suppression",
    "tls",
    "admin",
];

fn mounts() -> Vec<VolumeMount> {
    let documents = DOCUMENT_VOLUMES.into_iter().map(|name| VolumeMount {
        name: name.into(),
        mount_path: format!("{CONFIG_DIR}/{name}"),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let spool = VolumeMount {
        name: SPOOL.into(),
        mount_path: SPOOL_DIR.into(),
        ..VolumeMount::default()
    };
    documents.chain([spool]).collect()
}

fn volumes(pool: &RelayPool) -> Vec<Volume> {
    let name = pool.name_any();
    let tls = pool.spec.tls.as_ref();
    let tls = tls.map_or_else(
        || names::tls_secret(&name),
        |tls| tls.secret_ref.name.clone(),
    );
    let keyring = (0..KEYRING_SHARDS).map(|shard| SecretProjection {
        items: Some(vec![KeyToPath {
            key: documents::KEYRING_KEY.into(),
            path: format!("{shard:02}.yaml"),
            ..KeyToPath::default()
        }]),
        ..optional(names::keyring_secret(&name, shard))
    });
    let suppression =
        (0..SUPPRESSION_SHARDS).map(|shard| optional(names::suppression_secret(&name, shard)));
    vec![
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(&name),
                ..ConfigMapVolumeSource::default()
            }),
            ..volume("config")
        },
        projected("keyring", keyring.collect()),
        secret("credentials", names::credentials_secret(&name), None),
        projected("suppression", suppression.collect()),
        // ca.crt is left out: relays need it of the admin Secret only.
        secret("tls", tls, Some(&["tls.crt", "tls.key"])),
        secret("admin", names::admin_secret(&name), None),
    ]
}

fn optional(secret: String) -> SecretProjection {
    SecretProjection {
        name: secret,
        optional: Some(true),
        ..SecretProjection::default()
    }
}

fn projected(name: &str, secrets: Vec<SecretProjection>) -> Volume {
    let source = |secret| VolumeProjection {
        secret: Some(secret),
        ..VolumeProjection::default()
    };
    Volume {
        projected: Some(ProjectedVolumeSource {
            sources: Some(secrets.into_iter().map(source).collect()),
            ..ProjectedVolumeSource::default()
        }),
        ..volume(name)
    }
}

fn secret(name: &str, secret: String, keys: Option<&[&str]>) -> Volume {
    let item = |key: &&str| KeyToPath {
        key: (*key).into(),
        path: (*key).into(),
        ..KeyToPath::default()
    };
    Volume {
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items: keys.map(|keys| keys.iter().map(item).collect()),
            ..SecretVolumeSource::default()
        }),
        ..volume(name)
    }
}

fn volume(name: &str) -> Volume {
    Volume {
        name: name.into(),
        ..Volume::default()
    }
}
