//! The objects of a pool, one a file. Pure functions of the pool and what has been rendered.
//!
//! Promises: every object carries the pool's labels and is owned by the pool, so it goes with it;
//! volumes are not owned and stay.

mod budget;
mod documents;
mod pod;
mod service;
mod stateful_set;

use k8s_openapi::{
    api::core::v1::ServiceAccount,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource as _, ResourceExt as _};
use postrider_crds::RelayPool;

pub(crate) use self::documents::KEYRING_KEY;
pub use self::{
    budget::budget,
    documents::{config_map, credentials, keyring, suppression},
    pod::{RELAY, RelayImage},
    service::{client_service, members_service},
    stateful_set::{SPOOL, stateful_set},
};
use crate::names;

/// Metadata of the object `name` of `pool`.
#[must_use]
pub fn metadata(pool: &RelayPool, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: pool.namespace(),
        labels: Some(names::pool_labels(&pool.name_any())),
        owner_references: owner(pool).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The reference that makes `pool` the owner of an object.
fn owner(pool: &RelayPool) -> Option<OwnerReference> {
    pool.controller_owner_ref(&())
}

/// The identity of the pods: one without a token.
#[must_use]
pub fn service_account(pool: &RelayPool) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(pool, names::service_account(&pool.name_any())),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
