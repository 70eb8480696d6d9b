//! The writing ends of the caches: what a watch tells is kept, trimmed where nobody reads the whole.

use std::sync::Arc;

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource, ResourceExt as _,
    runtime::{
        reflector::{ObjectRef, store::Writer},
        watcher::Event,
    },
};
use postrider_crds::digest;

use super::{
    Index,
    index::IndexWriter,
    keys::{Keys, KeysWriter, domain_of},
};
use crate::names;

/// How an object differs from what the cache had of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It may differ in anything.
    Any,
    /// It is the same object in the same generation: no more than status and metadata differ.
    SameGeneration,
}

impl Change {
    fn between<K: Resource>(before: &K, now: &K) -> Self {
        let (before, now) = (before.meta(), now.meta());
        let same = before.uid == now.uid
            && before.generation.is_some()
            && before.generation == now.generation
            && before.deletion_timestamp == now.deletion_timestamp;
        if same {
            Self::SameGeneration
        } else {
            Self::Any
        }
    }
}

/// Keeps what a watch of one kind tells.
pub(super) trait Keeps<K>: Send + 'static {
    /// What there is of the object of `event`, which has not been taken in yet; `None` also of a kind
    /// on which nobody depends for what an object was before.
    fn before(&self, _: &Event<K>) -> Option<Arc<K>> {
        None
    }

    /// Takes `event` in.
    fn apply(&mut self, event: &Event<K>) -> Change;
}

/// The writing end of a cache and, if it has one, of its index.
pub(super) struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    index: Option<IndexWriter<K>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Cache<K> {
    pub(super) fn indexed(writer: Writer<K>, index: &Index<K>) -> Self {
        Self {
            writer,
            index: Some(IndexWriter::new(index.clone())),
        }
    }

    /// What is kept of the object with this name and namespace.
    pub(super) fn kept(&self, meta: &ObjectMeta) -> Option<Arc<K>> {
        let name = meta.name.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        super::get(&self.writer.as_reader(), namespace, name)
    }
}

impl<K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static> Keeps<K> for Cache<K> {
    fn apply(&mut self, event: &Event<K>) -> Change {
        let Self { writer, index } = self;
        let before = match event {
            Event::Apply(object) | Event::Delete(object) => {
                writer.as_reader().get(&ObjectRef::from_obj(object))
            }
            Event::Init | Event::InitApply(_) | Event::InitDone => None,
        };
        writer.apply_watcher_event(event);
        if let Some(index) = index {
            index.apply(event, before.as_deref());
        }
        match (event, &before) {
            (Event::Apply(now), Some(before)) => Change::between(before.as_ref(), now),
            _ => Change::Any,
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> From<Writer<K>> for Cache<K> {
    fn from(writer: Writer<K>) -> Self {
        Self {
            writer,
            index: None,
        }
    }
}

/// The writing ends of the caches of Secrets: keys go to one of their own, all others, as [`kept`],
/// to the other.
pub(super) struct SecretCache {
    keys: KeysWriter,
    others: Cache<Secret>,
}

impl SecretCache {
    pub(super) fn new(keys: Keys, others: Cache<Secret>) -> Self {
        Self {
            keys: KeysWriter::new(keys),
            others,
        }
    }
}

impl Keeps<Secret> for SecretCache {
    fn apply(&mut self, event: &Event<Secret>) -> Change {
        self.keys.apply(event);
        match event {
            Event::InitApply(secret) if domain_of(secret).is_some() => {}
            // It may have been something else before.
            Event::Apply(secret) if domain_of(secret).is_some() => {
                self.others.apply(&Event::Delete(secret.clone()));
            }
            Event::InitApply(secret) if names::is_keyring(secret) => {
                self.others.apply(&Event::InitApply(kept(secret.clone())));
            }
            Event::Apply(secret) if names::is_keyring(secret) => {
                self.others.apply(&Event::Apply(kept(secret.clone())));
            }
            event => {
                self.others.apply(event);
            }
        }
        Change::Any
    }
}

/// `secret` as it is cached: of a keyring, which is rendered from keys that are cached themselves, with
/// the digest of each document in its place.
#[must_use]
pub fn kept(mut secret: Secret) -> Secret {
    if names::is_keyring(&secret) {
        for document in secret.data.iter_mut().flat_map(|data| data.values_mut()) {
            *document = ByteString(digest::of(&document.0).into_bytes());
        }
    }
    secret
}

/// Annotation of `kubectl apply` with the whole object again.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Takes out of `object` what no controller reads.
pub(super) fn trim<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    if object.annotations().contains_key(LAST_APPLIED) {
        object.annotations_mut().remove(LAST_APPLIED);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stores::{Stores, get};

    fn secret(name: &str, labels: serde_json::Value) -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "mail", "labels": labels,
                         "annotations": {LAST_APPLIED: "{}", "other": "x"}},
            "data": {"document": "dGV4dA=="},
        }))
        .unwrap()
    }

    #[test]
    fn keyrings_are_cached_as_digests_and_keys_elsewhere() {
        let (stores, writers) = Stores::new();
        let others = Cache::indexed(writers.secrets, &stores.secrets_by);
        let mut cache = SecretCache::new(stores.keys.clone(), others);
        let of_pool = || json!({"postrider.dev/pool": "one"});
        let key = || secret("key", json!({"postrider.dev/sending-domain": "d"}));
        cache.apply(&Event::Init);
        cache.apply(&Event::InitApply(secret("one-keyring-07", of_pool())));
        cache.apply(&Event::InitApply(secret("one-tls", of_pool())));
        cache.apply(&Event::InitApply(secret("two-keyring-07", json!({}))));
        cache.apply(&Event::InitApply(key()));
        cache.apply(&Event::InitDone);
        let data = |name: &str| {
            let secret = get(&stores.secrets, "mail", name)?;
            Some(secret.data.as_ref()?["document"].0.clone())
        };
        let digest = digest::of(b"text").into_bytes();
        assert_eq!(data("one-keyring-07"), Some(digest));
        for whole in ["one-tls", "two-keyring-07"] {
            assert_eq!(data(whole), Some(b"text".to_vec()), "{whole}");
        }
        assert_eq!(data("key"), None);
        cache.apply(&Event::Apply(secret("key", json!({}))));
        assert_eq!(data("key"), Some(b"text".to_vec()), "a key no more");
        cache.apply(&Event::Apply(key()));
        assert_eq!(data("key"), None, "a key again");
    }

    #[test]
    fn what_nobody_reads_is_left_out() {
        let mut object = secret("a", json!({}));
        object.metadata.managed_fields = Some(Vec::new());
        trim(&mut object);
        assert_eq!(object.metadata.managed_fields, None);
        let left: Vec<&String> = object.annotations().keys().collect();
        assert_eq!(left, ["other"]);
    }
}
