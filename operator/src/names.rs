//! Every name the operator gives to objects, labels and annotations, once.
//!
//! Promises: names of a pool's objects derive from the pool's name alone, which the RelayPool
//! schema bounds to 40 characters, so that all of them fit a DNS label.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

/// Label: the RelayPool an object belongs to.
pub const POOL_LABEL: &str = "postrider.dev/pool";
/// Label on the Secrets of a pool's suppression shards: the number of the shard.
pub const SUPPRESSION_SHARD_LABEL: &str = "postrider.dev/suppression-shard";
/// Annotation: digest of what this operator last applied, to notice what it no longer wants.
pub const APPLIED_ANNOTATION: &str = "postrider.dev/applied-digest";
/// Annotation on pods: digest over the rendered documents. Changing it makes the kubelet refresh
/// the pod's volumes at once.
pub const CONFIG_ANNOTATION: &str = "postrider.dev/config-digest";
/// Annotation on volumes: whether the member has been told of the pool's standing orders, or since when
/// it has been away and which of them it has.
pub const ORDERS_ANNOTATION: &str = "postrider.dev/orders";
/// Field manager of the RelayPool controller.
pub const POOL_MANAGER: &str = "postrider/relay-pool";
/// Field manager of the SendingDomain controller.
pub const DOMAIN_MANAGER: &str = "postrider/sending-domain";
/// Field manager of the SuppressionList controller for statuses.
pub const LIST_MANAGER: &str = "postrider/suppression-list";
/// What stands between the name of a pool and the number of a keyring shard.
const KEYRING_INFIX: &str = "-keyring-";
/// Longest field manager name an API server takes.
const MAX_MANAGER: usize = 128;

/// Labels of every object of a pool.
#[must_use]
pub fn pool_labels(pool: &str) -> BTreeMap<String, String> {
    let mut labels = pool_selector(pool);
    labels.insert("app.kubernetes.io/component".into(), "relay".into());
    labels.insert("app.kubernetes.io/managed-by".into(), "postrider".into());
    labels
}

/// The labels a pool's pods are selected by. Never changes: a StatefulSet's selector is immutable.
#[must_use]
pub fn pool_selector(pool: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".into(), "postrider-relay".into()),
        ("app.kubernetes.io/instance".into(), pool.to_owned()),
        (POOL_LABEL.into(), pool.to_owned()),
    ])
}

/// The identity of the pods: never `default`, which every namespace has for all pods that name none.
#[must_use]
pub fn service_account(pool: &str) -> String {
    format!("{pool}-relay")
}

/// The headless Service.
#[must_use]
pub fn members_service(pool: &str) -> String {
    format!("{pool}-members")
}

/// The ConfigMap with the RelayConfig.
#[must_use]
pub fn config_map(pool: &str) -> String {
    format!("{pool}-config")
}

/// The Secret with a shard of the keyring.
#[must_use]
pub fn keyring_secret(pool: &str, shard: u32) -> String {
    format!("{pool}{KEYRING_INFIX}{shard:02}")
}

/// True for a [`keyring_secret`] of the pool that `secret` is labelled as.
#[must_use]
pub fn is_keyring(secret: &Secret) -> bool {
    let (labels, name) = (&secret.metadata.labels, &secret.metadata.name);
    let pool = labels.as_ref().and_then(|labels| labels.get(POOL_LABEL));
    let (Some(pool), Some(name)) = (pool, name) else {
        return false;
    };
    let rest = name.strip_prefix(pool.as_str());
    rest.is_some_and(|rest| rest.starts_with(KEYRING_INFIX))
}

/// The Secret with the credentials.
#[must_use]
pub fn credentials_secret(pool: &str) -> String {
    format!("{pool}-credentials")
}

/// The Secret with shard `shard` of every suppression list of the pool.
#[must_use]
pub fn suppression_secret(pool: &str, shard: u32) -> String {
    format!("{pool}-suppression-{shard}")
}

/// The Secret with the pool's CA and the operator's client certificate. Never mounted.
#[must_use]
pub fn ca_secret(pool: &str) -> String {
    format!("{pool}-ca")
}

/// The Secret with the admin listener's certificate.
#[must_use]
pub fn admin_secret(pool: &str) -> String {
    format!("{pool}-admin")
}

/// The Secret with the submission certificate of the pool's own CA.
#[must_use]
pub fn tls_secret(pool: &str) -> String {
    format!("{pool}-tls")
}

/// The name in the certificate of every relay's admin listener.
#[must_use]
pub fn admin_server_name(namespace: &str, pool: &str) -> String {
    format!("{pool}-relay.{namespace}.svc")
}

/// Field manager that owns the keys of one suppression list in a pool's Secrets.
#[must_use]
pub fn suppression_manager(list: &str) -> String {
    let manager = format!("postrider/suppression/{list}");
    if manager.len() <= MAX_MANAGER {
        return manager;
    }
    format!(
        "postrider/suppression/{}",
        postrider_crds::digest::of(list.as_bytes())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_managers_fit() {
        assert_eq!(
            suppression_manager("global"),
            "postrider/suppression/global"
        );
        assert!(suppression_manager(&"l".repeat(200)).len() <= MAX_MANAGER);
    }
}
