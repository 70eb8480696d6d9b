//! The ConfigMap and Secrets that carry documents to the relays.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::ResourceExt as _;
use postrider_crds::RelayPool;

use crate::names::{self, SUPPRESSION_SHARD_LABEL};

/// Key of the RelayConfig in its ConfigMap.
pub(crate) const RELAY_CONFIG_KEY: &str = "relay.yaml";
/// Key of a keyring shard in its Secret.
pub(crate) const KEYRING_KEY: &str = "keyring.yaml";
/// Key of the credentials in their Secret.
pub(crate) const CREDENTIALS_KEY: &str = "credentials.yaml";

/// The ConfigMap with the RelayConfig `text`.
#[must_use]
pub fn config_map(pool: &RelayPool, text: String) -> ConfigMap {
    ConfigMap {
        metadata: super::metadata(pool, names::config_map(&pool.name_any())),
        data: Some(BTreeMap::from([(RELAY_CONFIG_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    }
}

/// The Secret with keyring shard `shard`.
#[must_use]
pub fn keyring(pool: &RelayPool, shard: u32, text: String) -> Secret {
    let name = names::keyring_secret(&pool.name_any(), shard);
    secret(pool, name, [(KEYRING_KEY.to_owned(), text)])
}

/// The Secret with the credentials.
#[must_use]
pub fn credentials(pool: &RelayPool, text: String) -> Secret {
    let name = names::credentials_secret(&pool.name_any());
    secret(pool, name, [(CREDENTIALS_KEY.to_owned(), text)])
}

/// One list's part of the Secret with suppression shard `shard`; `None`: no part any more.
#[must_use]
pub fn suppression(pool: &RelayPool, shard: u32, part: Option<(String, String)>) -> Secret {
    let name = names::suppression_secret(&pool.name_any(), shard);
    let mut secret = secret(pool, name, part);
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.insert(SUPPRESSION_SHARD_LABEL.into(), shard.to_string());
    secret
}

fn secret(
    pool: &RelayPool,
    name: String,
    texts: impl IntoIterator<Item = (String, String)>,
) -> Secret {
    let bytes = |(key, text): (String, String)| (key, ByteString(text.into_bytes()));
    Secret {
        metadata: super::metadata(pool, name),
        type_: Some("Opaque".into()),
        data: Some(texts.into_iter().map(bytes).collect()),
        ..Secret::default()
    }
}
