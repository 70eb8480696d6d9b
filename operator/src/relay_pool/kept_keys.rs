//! Keys of SendingDomains that are being deleted and whose Secrets went before them.
//!
//! A deletion that propagates in the foreground, as GitOps tools ask for, deletes what an object owns
//! before the object itself, whatever finalizers that has. The mail that is queued still has to be
//! signed: until the SendingDomain is gone, the keyring in force keeps what it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use postrider_crds::{
    DomainName, RelayPool, SendingDomain,
    relay_config::{Document as _, DomainEntry, Keyring, SigningKey, SigningState, shard_of},
};

use crate::{
    Context, Error,
    keys::{DkimKey, KeyState, Life},
    names,
    relay_pool::build,
    stores::Term,
};

/// The keyrings that have to be read for [`kept_keys`], by name: the caches have no more of them than
/// digests.
///
/// # Errors
///
/// When the API server does not answer.
pub(super) async fn in_force(
    ctx: &Context,
    pool: &RelayPool,
) -> Result<BTreeMap<String, Arc<Secret>>, Error> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let term = Term::Pool(name.clone());
    let has_keys = |domain: &SendingDomain| {
        let uid = domain.uid().unwrap_or_default();
        let keys = ctx.stores.keys.owned(&namespace, &domain.name_any(), &uid);
        !keys.is_empty()
    };
    let domains = ctx.stores.domains_with(&namespace, &term);
    let shards: BTreeSet<u32> = domains
        .filter(|domain| domain.metadata.deletion_timestamp.is_some() && !has_keys(domain))
        .map(|domain| shard_of(&domain.spec.domain))
        .collect();
    let mut secrets = BTreeMap::new();
    for shard in shards {
        let secret = names::keyring_secret(&name, shard);
        let live: Option<Secret> = ctx.writer.get(&namespace, &secret).await?;
        secrets.extend(live.map(|live| (secret, Arc::new(live))));
    }
    Ok(secrets)
}

/// The keys that `secrets`, those of `pool`, have of `domains` that are being deleted and of which
/// `keys` has none.
pub(super) fn kept_keys(
    pool: &str,
    domains: &[Arc<SendingDomain>],
    keys: &[Arc<DkimKey>],
    secrets: &BTreeMap<String, Arc<Secret>>,
) -> Vec<Arc<DkimKey>> {
    let mut leaving = domains
        .iter()
        .filter(|domain| domain.metadata.deletion_timestamp.is_some())
        .peekable();
    if leaving.peek().is_none() {
        return Vec::new();
    }
    let with_keys: BTreeSet<&str> = keys.iter().map(|k| k.sending_domain.as_str()).collect();
    let mut keyrings: BTreeMap<u32, BTreeMap<DomainName, DomainEntry>> = BTreeMap::new();
    let mut kept = Vec::new();
    for domain in leaving.filter(|domain| !with_keys.contains(domain.name_any().as_str())) {
        let shard = shard_of(&domain.spec.domain);
        let keyring = keyrings.entry(shard);
        let keyring = keyring.or_insert_with(|| entries(pool, shard, secrets));
        if let Some(entry) = keyring.remove(&domain.spec.domain) {
            let keys = entry.keys.into_iter();
            kept.extend(keys.map(|key| Arc::new(kept_key(domain, key))));
        }
    }
    kept
}

fn entries(
    pool: &str,
    shard: u32,
    secrets: &BTreeMap<String, Arc<Secret>>,
) -> BTreeMap<DomainName, DomainEntry> {
    let secret = secrets.get(&names::keyring_secret(pool, shard));
    let data = secret.and_then(|secret| secret.data.as_ref());
    let text = data.and_then(|data| data.get(build::KEYRING_KEY));
    let text = text.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    let keyring = text.and_then(|text| Keyring::from_yaml(text).ok());
    let entries = keyring.into_iter().flat_map(|keyring| keyring.domains);
    entries.map(|entry| (entry.domain.clone(), entry)).collect()
}

fn kept_key(domain: &SendingDomain, key: SigningKey) -> DkimKey {
    let state = match key.state {
        SigningState::Active => KeyState::Active,
        SigningState::Standby => KeyState::Loaded,
    };
    DkimKey {
        secret: String::new(),
        sending_domain: domain.name_any(),
        selector: key.selector,
        algorithm: key.algorithm,
        life: Life::new(Timestamp::UNIX_EPOCH, None).at(state, Timestamp::UNIX_EPOCH),
        private_key: key.private_key.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        keys::tests::key_of as key,
        relay_pool::{config, credentials::Senders},
    };

    fn domain(name: &str, deleted: Option<&str>) -> Arc<SendingDomain> {
        let object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name, "namespace": "mail", "uid": name, "deletionTimestamp": deleted},
            "spec": {"domain": format!("{name}.example"), "poolRef": {"name": "default"}},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_leaving_domain_signs_on_when_its_secrets_are_gone() {
        const DELETED: Option<&str> = Some("2026-01-01T00:00:00Z");
        let pool: RelayPool = serde_json::from_value(json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
            "metadata": {"name": "default", "namespace": "mail", "uid": "p"},
            "spec": {"hostname": "mail.example.net"},
        }))
        .unwrap();
        let domains = [
            domain("a", DELETED),
            domain("b", DELETED),
            domain("c", None),
        ];
        let keys: [Arc<DkimKey>; 4] = [
            key("a", "pr-1", KeyState::Active),
            key("a", "pr-2", KeyState::Visible),
            key("b", "pr-3", KeyState::Active),
            key("c", "pr-4", KeyState::Active),
        ]
        .map(Arc::new);
        let render = |keys: &[Arc<DkimKey>]| -> BTreeMap<u32, Keyring> {
            let parts = config::parts("default", &domains, keys).into_iter();
            parts
                .map(|(shard, parts)| (shard, config::keyring(&parts, &Senders::default())))
                .collect()
        };
        let before = render(&keys);
        let secrets: BTreeMap<String, Arc<Secret>> = before
            .iter()
            .map(|(shard, keyring)| build::keyring(&pool, *shard, keyring.to_yaml()))
            .map(|secret| (secret.name_any(), Arc::new(secret)))
            .collect();
        let of_b = &keys[2..3];
        let kept = kept_keys("default", &domains, of_b, &secrets);
        let selectors: Vec<&str> = kept.iter().map(|key| key.selector.as_str()).collect();
        assert_eq!(selectors, ["pr-1", "pr-2"], "of \"a\" alone");
        let all = [of_b, kept.as_slice(), &keys[3..]].concat();
        assert_eq!(render(&all), before);
        assert!(kept_keys("default", &domains[2..], &[], &secrets).is_empty());
        assert!(kept_keys("default", &domains, &[], &BTreeMap::new()).is_empty());
    }
}
