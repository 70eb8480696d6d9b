//! The StatefulSet: the pods and their volumes.

use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::ResourceExt as _;
use postrider_crds::RelayPool;

use super::pod::{self, RelayImage};
use crate::names;

/// Name of the volume that holds a member's mail.
pub const SPOOL: &str = "spool";

/// The StatefulSet of `pool` with `replicas` pods of `image`.
///
/// Members share nothing, so they start and stop in parallel. Volumes outlive pods and the pool:
/// they may hold mail.
#[must_use]
pub fn stateful_set(pool: &RelayPool, image: &RelayImage, replicas: i32) -> StatefulSet {
    let name = pool.name_any();
    StatefulSet {
        metadata: super::metadata(pool, name.clone()),
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some(names::members_service(&name)),
            selector: LabelSelector {
                match_labels: Some(names::pool_selector(&name)),
                ..LabelSelector::default()
            },
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Retain".into()),
                    when_scaled: Some("Retain".into()),
                },
            ),
            template: pod::template(pool, image),
            volume_claim_templates: Some(vec![spool(pool)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn spool(pool: &RelayPool) -> PersistentVolumeClaim {
    let storage = &pool.spec.storage;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(SPOOL.into()),
            labels: Some(names::pool_labels(&pool.name_any())),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), storage.size.clone())].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
