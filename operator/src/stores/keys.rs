//! The DKIM keys there are, by the SendingDomain each is labelled with: of their Secrets what
//! controllers need and no more, parsed once for each version of a Secret.
//!
//! Guarantees: a Secret that carries the label is found under what the label says now, whether it can
//! be used or not. `Debug` prints no key material.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt as _, runtime::watcher::Event};

use crate::{
    dns::dkim::PublicKey,
    keys::{DOMAIN_LABEL, DkimKey},
    sending_domain::key,
};

/// What is kept of a key's Secret.
#[derive(Clone, Debug)]
pub struct KeptKey {
    /// `metadata.name`.
    pub secret: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// The key, or what is wrong with the Secret, in a sentence that names it.
    pub key: Result<UsableKey, String>,
    /// UIDs of its owners; none of a Secret that is being deleted.
    owners: Box<[Box<str>]>,
}

/// A key with its public half.
#[derive(Clone, Debug)]
pub struct UsableKey {
    /// The key.
    pub key: Arc<DkimKey>,
    /// Its public half.
    pub public: PublicKey,
}

impl From<&Secret> for KeptKey {
    fn from(secret: &Secret) -> Self {
        let owners = secret.metadata.owner_references.iter().flatten();
        let owners = owners.filter(|_| secret.metadata.deletion_timestamp.is_none());
        Self {
            secret: secret.name_any().into(),
            uid: secret.uid().unwrap_or_default().into(),
            version: secret.resource_version().unwrap_or_default().into(),
            key: usable(secret),
            owners: owners.map(|owner| owner.uid.as_str().into()).collect(),
        }
    }
}

fn usable(secret: &Secret) -> Result<UsableKey, String> {
    let key = DkimKey::try_from(secret).map_err(|error| error.to_string())?;
    let public = key::public_key(key.algorithm, &key.private_key.text()).map_err(|error| {
        let name = &key.secret;
        format!("secret {name:?} {error}; delete the Secret to have a new key made")
    })?;
    Ok(UsableKey {
        key: Arc::new(key),
        public,
    })
}

/// The keys of a scope.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<Table>>);

/// By namespace.
type Table = HashMap<String, Namespace>;

#[derive(Default)]
struct Namespace {
    /// Keys by SendingDomain.
    keys: HashMap<Arc<str>, Vec<Arc<KeptKey>>>,
    /// The SendingDomain by name of the Secret.
    domains: HashMap<Box<str>, Arc<str>>,
}

impl Keys {
    /// The keys labelled with the SendingDomain `domain` that belong to the one with the UID `uid`, by
    /// name. Those of a deleted one of the same name have another owner: its keys were published by
    /// somebody else, perhaps for another domain.
    #[must_use]
    pub fn owned(&self, namespace: &str, domain: &str, uid: &str) -> Vec<Arc<KeptKey>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let labelled = table.get(namespace).and_then(|all| all.keys.get(domain));
        let labelled = labelled.into_iter().flatten();
        let owned = labelled.filter(|key| key.owners.iter().any(|owner| **owner == *uid));
        owned.cloned().collect()
    }
}

/// The writing end of [`Keys`].
pub(super) struct KeysWriter {
    keys: Keys,
    /// What the watch has listed so far since it started over.
    listed: Table,
}

impl KeysWriter {
    /// Writes `keys`.
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys,
            listed: Table::new(),
        }
    }

    /// Notes `event`.
    pub(super) fn apply(&mut self, event: &Event<Secret>) {
        let mut table = self.keys.0.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(secret) => put(&mut self.listed, secret),
            Event::InitDone => *table = std::mem::take(&mut self.listed),
            Event::Apply(secret) => put(&mut table, secret),
            Event::Delete(secret) => remove(&mut table, secret),
        }
    }
}

/// The SendingDomain that `secret` is labelled with as a key.
pub(super) fn domain_of(secret: &Secret) -> Option<&str> {
    secret.labels().get(DOMAIN_LABEL).map(String::as_str)
}

fn put(table: &mut Table, secret: &Secret) {
    let Some(domain) = domain_of(secret) else {
        return remove(table, secret);
    };
    let namespace = table
        .entry(secret.namespace().unwrap_or_default())
        .or_default();
    let name = secret.name_any();
    if namespace
        .domains
        .get(name.as_str())
        .is_some_and(|before| **before != *domain)
    {
        namespace.take(&name);
    }
    let key = Arc::new(KeptKey::from(secret));
    let (domain, keys) = match namespace.keys.get_key_value(domain) {
        Some((known, _)) => (known.clone(), namespace.keys.entry(known.clone())),
        None => {
            let domain: Arc<str> = domain.into();
            (domain.clone(), namespace.keys.entry(domain))
        }
    };
    let keys = keys.or_default();
    match keys.binary_search_by(|kept| kept.secret.cmp(&key.secret)) {
        Ok(at) => {
            if let Some(kept) = keys.get_mut(at) {
                *kept = key;
            }
        }
        Err(at) => {
            // Two or three, for years: not the four that a first insertion makes room for.
            keys.reserve_exact(1);
            keys.insert(at, key);
        }
    }
    namespace.domains.insert(name.into(), domain);
}

fn remove(table: &mut Table, secret: &Secret) {
    let name = secret.namespace().unwrap_or_default();
    let Some(namespace) = table.get_mut(&name) else {
        return;
    };
    namespace.take(&secret.name_any());
    if namespace.domains.is_empty() {
        table.remove(&name);
    }
}

impl Namespace {
    /// Takes the Secret `name` out.
    fn take(&mut self, name: &str) {
        let Some(domain) = self.domains.remove(name) else {
            return;
        };
        if let Some(keys) = self.keys.get_mut(&domain) {
            keys.retain(|key| *key.secret != *name);
            if keys.is_empty() {
                self.keys.remove(&domain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
    use postrider_crds::relay_config::KeyAlgorithm;

    use super::*;
    use crate::keys::Life;

    /// A key labelled with `domain`, owned by `owner`.
    fn secret(name: &str, domain: &str, owner: &str) -> Secret {
        let algorithm = KeyAlgorithm::Ed25519;
        let key = DkimKey {
            secret: name.into(),
            sending_domain: domain.into(),
            selector: "pr-1".parse().unwrap(),
            algorithm,
            life: Life::new(jiff::Timestamp::UNIX_EPOCH, None),
            private_key: key::generate(algorithm).unwrap().into(),
        };
        let mut secret = key.to_secret();
        secret.metadata.namespace = Some("mail".into());
        secret.metadata.owner_references = Some(vec![OwnerReference {
            uid: owner.into(),
            ..OwnerReference::default()
        }]);
        secret
    }

    fn world() -> (Keys, KeysWriter) {
        let keys = Keys::default();
        (keys.clone(), KeysWriter::new(keys))
    }

    fn found(keys: &Keys, domain: &str, uid: &str) -> Vec<String> {
        let owned = keys.owned("mail", domain, uid);
        owned.iter().map(|key| key.secret.to_string()).collect()
    }

    #[test]
    fn a_key_belongs_to_the_object_not_to_its_name() {
        let (keys, mut writer) = world();
        let mut going = secret("c", "shop", "now");
        going.metadata.deletion_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
        let mut ownerless = secret("d", "shop", "now");
        ownerless.metadata.owner_references = None;
        let all = [secret("b", "shop", "now"), secret("a", "shop", "before")];
        for secret in all.into_iter().chain([going, ownerless]) {
            writer.apply(&Event::Apply(secret));
        }
        assert_eq!(found(&keys, "shop", "now"), ["b"]);
        assert_eq!(found(&keys, "shop", "before"), ["a"]);
        assert!(keys.owned("elsewhere", "shop", "now").is_empty());
    }

    #[test]
    fn keys_are_found_under_the_label_they_have_now() {
        let (keys, mut writer) = world();
        writer.apply(&Event::Init);
        writer.apply(&Event::InitApply(secret("b", "shop", "u")));
        writer.apply(&Event::InitApply(secret("a", "shop", "u")));
        assert!(found(&keys, "shop", "u").is_empty(), "listing is not done");
        writer.apply(&Event::InitDone);
        assert_eq!(found(&keys, "shop", "u"), ["a", "b"]);
        writer.apply(&Event::Apply(secret("a", "news", "u")));
        assert_eq!(found(&keys, "shop", "u"), ["b"]);
        assert_eq!(found(&keys, "news", "u"), ["a"]);
        let mut unlabelled = secret("a", "news", "u");
        unlabelled.metadata.labels = None;
        writer.apply(&Event::Apply(unlabelled));
        assert!(found(&keys, "news", "u").is_empty());
        writer.apply(&Event::Delete(secret("b", "shop", "u")));
        assert!(
            keys.0.read().unwrap().is_empty(),
            "nothing is left of what is gone"
        );
    }

    #[test]
    fn a_spoilt_secret_is_kept_with_its_problem() {
        let (keys, mut writer) = world();
        let mut spoilt = secret("a", "shop", "u");
        spoilt.type_ = Some("Opaque".into());
        writer.apply(&Event::Apply(spoilt));
        let owned = keys.owned("mail", "shop", "u");
        let problem = owned[0].key.as_ref().expect_err("spoilt");
        assert!(problem.contains("Opaque"), "{problem}");
        writer.apply(&Event::Apply(secret("a", "shop", "u")));
        let owned = keys.owned("mail", "shop", "u");
        let key = owned[0].key.as_ref().expect("a good one again");
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}
