//! The one way objects are written: server-side apply, one field manager a controller, and only
//! when something would change.
//!
//! Guarantees: an object is applied when it is missing, when a live field differs from the wanted
//! one (drift is repaired), or when the wanted object itself changed, which its digest annotation
//! tells (so that what is no longer wanted goes away). Otherwise no call is made. Every call ends
//! within [`CALL_TIMEOUT`].
//!
//! Assumptions: `live` comes from a cache and may be old; applying twice is harmless.
//!
//! Caveats: elements that somebody else put into a list cannot be applied away; such lists are then
//! written whole. An API server may store a value in another spelling than it was given (quantities). The
//! comparison then fails for ever; a memo of what the server made of the last apply keeps that from
//! becoming a write on every visit.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Error, error::Asked, names::APPLIED_ANNOTATION};

/// No API call takes longer, retries of the client included.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Kinds this module can write: namespaced ones.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Whether a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API was written to.
    Written,
    /// All was as wanted.
    Unchanged,
}

/// Writes objects for all controllers.
pub struct Writer {
    client: Client,
    memo: Mutex<HashMap<String, Settled>>,
}

/// What is known of the object that is to be written.
struct Live {
    version: String,
    /// Whether it is as wanted.
    covers: bool,
}

impl Live {
    fn of<K: Kind>(live: &K, wanted: &Value) -> Result<Self, Error> {
        Ok(Self {
            version: live.resource_version().unwrap_or_default(),
            covers: covers(&to_value(live)?, wanted),
        })
    }
}

/// What the server made of an apply.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settled {
    version: String,
    digest: String,
}

impl Writer {
    /// Writes through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            memo: Mutex::default(),
        }
    }

    /// Makes the live object hold what `desired` says. For objects this manager alone writes.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn apply<K: Kind>(
        &self,
        manager: &str,
        desired: &K,
        live: Option<&K>,
    ) -> Result<Outcome, Error> {
        let wanted = with_digest(to_value(desired)?);
        let live = live.map(|live| Live::of(live, &wanted));
        self.apply_value::<K>(manager, &wanted, live.transpose()?)
            .await
    }

    /// Like [`Self::apply`], where the cache keeps less of an object than there is: `live` is `kept`
    /// of it.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn apply_kept<K: Kind>(
        &self,
        manager: &str,
        desired: &K,
        live: Option<&K>,
        kept: fn(K) -> K,
    ) -> Result<Outcome, Error> {
        let wanted = with_digest(to_value(desired)?);
        let live = live.map(|live| {
            let shown = with_applied(to_value(&kept(desired.clone()))?, applied(&wanted));
            Live::of(live, &shown)
        });
        self.apply_value::<K>(manager, &wanted, live.transpose()?)
            .await
    }

    /// Like [`Self::apply`], for objects that several managers each write a part of: nothing but
    /// the fields of `desired` is compared, so a part no longer wanted has to be applied away.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn apply_part<K: Kind>(
        &self,
        manager: &str,
        desired: &K,
        live: Option<&K>,
    ) -> Result<Outcome, Error> {
        let wanted = to_value(desired)?;
        let live = live.map(|live| Live::of(live, &wanted));
        self.apply_value::<K>(manager, &wanted, live.transpose()?)
            .await
    }

    /// Applies `desired` without a look at what is there. For giving fields up.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn apply_always<K: Kind>(&self, manager: &str, desired: &K) -> Result<(), Error> {
        let wanted = to_value(desired)?;
        self.patch::<K>(manager, &wanted).await.map(|_| ())
    }

    /// Reads an object past every cache; `None` also where the API server does not know the kind.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error> {
        let action = describe::<K>("read", Some(name));
        call(action, self.api::<K>(Some(namespace)).get_opt(name)).await
    }

    /// Makes `finalizers` those of `object`; an error answers "conflict" when it changed since
    /// `object` was read.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn finalizers<K: Kind>(
        &self,
        object: &K,
        finalizers: &[String],
    ) -> Result<(), Error> {
        let name = object.name_any();
        let action = describe::<K>("set the finalizers of", Some(&name));
        let patch = json!({"metadata": {
            "uid": object.meta().uid,
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
        }});
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let patch = Patch::Merge(&patch);
        call(
            action,
            api.patch_metadata(&name, &PatchParams::default(), &patch),
        )
        .await
        .map(|_| ())
    }

    /// Creates `object`; an error answers "conflict" when it exists already.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let action = describe::<K>("create", object.meta().name.as_deref());
        let api = self.api::<K>(object.meta().namespace.as_deref());
        call(action, api.create(&PostParams::default(), object)).await
    }

    /// Replaces an object; an error answers "conflict" when it changed since `object` was read,
    /// which its `resourceVersion` tells.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn replace<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let name = object.name_any();
        let action = describe::<K>("replace", Some(&name));
        let api = self.api::<K>(object.meta().namespace.as_deref());
        call(action, api.replace(&name, &PostParams::default(), object)).await
    }

    /// Deletes exactly the object `object`, not another of the same name. Gone already is fine.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn delete<K: Kind>(&self, object: &K) -> Result<(), Error> {
        let name = object.name_any();
        let action = describe::<K>("delete", Some(&name));
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let parameters = DeleteParams {
            preconditions: Some(kube::api::Preconditions {
                uid: object.meta().uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        match call(action, api.delete(&name, &parameters)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Like [`Self::delete`], only while the object is as it was read: an error answers "conflict"
    /// when it changed since, which its `resourceVersion` tells.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn delete_as_read<K: Kind>(&self, object: &K) -> Result<(), Error> {
        let name = object.name_any();
        let action = describe::<K>("delete", Some(&name));
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let parameters = DeleteParams {
            preconditions: Some(kube::api::Preconditions {
                uid: object.meta().uid.clone(),
                resource_version: object.resource_version(),
            }),
            ..DeleteParams::background()
        };
        match call(action, api.delete(&name, &parameters)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Sets annotations of an object, or removes those that are `None`, only while it is as it was
    /// read: an error answers "conflict" when it changed since.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer; also when the object is gone.
    pub async fn annotate_as_read<K: Kind>(
        &self,
        object: &K,
        annotations: &BTreeMap<&'static str, Option<String>>,
    ) -> Result<(), Error> {
        let name = object.name_any();
        let action = describe::<K>("annotate", Some(&name));
        let patch = json!({"metadata": {
            "uid": object.meta().uid,
            "resourceVersion": object.meta().resource_version,
            "annotations": annotations,
        }});
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        call(action, api.patch_metadata(&name, &parameters, &patch)).await?;
        Ok(())
    }

    /// Sets one annotation of a live object.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer; also when the object was recreated.
    pub async fn annotate<K: Kind>(
        &self,
        object: &K,
        annotation: &str,
        value: &str,
    ) -> Result<Outcome, Error> {
        if object.annotations().get(annotation).map(String::as_str) == Some(value) {
            return Ok(Outcome::Unchanged);
        }
        let name = object.name_any();
        let action = describe::<K>("annotate", Some(&name));
        let patch = json!({"metadata": {
            "uid": object.meta().uid,
            "annotations": {annotation: value},
        }});
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        call(action, api.patch_metadata(&name, &parameters, &patch)).await?;
        Ok(Outcome::Written)
    }

    /// Writes `wanted` as the status of `object`, unless `current` equals it.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn status<K: Kind, S: Serialize + PartialEq>(
        &self,
        manager: &str,
        object: &K,
        current: Option<&S>,
        wanted: &S,
    ) -> Result<Outcome, Error> {
        if current == Some(wanted) {
            return Ok(Outcome::Unchanged);
        }
        let name = object.name_any();
        let action = describe::<K>("write the status of", Some(&name));
        let status = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "uid": object.meta().uid},
            "status": wanted,
        });
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let parameters = PatchParams::apply(manager).force();
        let patch = Patch::Apply(&status);
        call(action, api.patch_status(&name, &parameters, &patch)).await?;
        Ok(Outcome::Written)
    }

    async fn apply_value<K: Kind>(
        &self,
        manager: &str,
        wanted: &Value,
        live: Option<Live>,
    ) -> Result<Outcome, Error> {
        let digest = digest(wanted);
        let key = memo_key::<K>(manager, wanted);
        if let Some(Live { version, covers }) = live {
            let settled = Settled {
                version,
                digest: digest.clone(),
            };
            if covers || self.recall(&key) == Some(settled) {
                return Ok(Outcome::Unchanged);
            }
        }
        let applied = self.patch_to_fit::<K>(manager, wanted).await?;
        let version = applied.resource_version().unwrap_or_default();
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.insert(key, Settled { version, digest });
        Ok(Outcome::Written)
    }

    /// Applies `wanted`; where somebody else's list elements stand in the way, which an apply
    /// cannot remove, writes the lists whole.
    async fn patch_to_fit<K: Kind>(&self, manager: &str, wanted: &Value) -> Result<K, Error> {
        let refusal = match self.patch::<K>(manager, wanted).await {
            Ok(applied) if covers(&to_value(&applied)?, wanted) => return Ok(applied),
            Ok(_) => None,
            Err(error) if error.is_invalid() => Some(error),
            Err(error) => return Err(error),
        };
        let name = wanted.pointer("/metadata/name").and_then(Value::as_str);
        let namespace = wanted
            .pointer("/metadata/namespace")
            .and_then(Value::as_str);
        let parameters = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(wanted);
        let api = self.api::<K>(namespace);
        let action = describe::<K>("repair", name);
        let repaired = api.patch(name.unwrap_or_default(), &parameters, &patch);
        match (call(action, repaired).await, refusal) {
            // There is nothing to repair: what we want is itself invalid.
            (Err(error), Some(refusal)) if error.is_not_found() => Err(refusal),
            (result, _) => result,
        }
    }

    async fn patch<K: Kind>(&self, manager: &str, wanted: &Value) -> Result<K, Error> {
        let name = wanted.pointer("/metadata/name").and_then(Value::as_str);
        let namespace = wanted
            .pointer("/metadata/namespace")
            .and_then(Value::as_str);
        let action = describe::<K>("apply", name);
        let api = self.api::<K>(namespace);
        let parameters = PatchParams::apply(manager).force();
        let patch = Patch::Apply(wanted);
        call(
            action,
            api.patch(name.unwrap_or_default(), &parameters, &patch),
        )
        .await
    }

    fn recall(&self, key: &str) -> Option<Settled> {
        let memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.get(key).cloned()
    }

    fn api<K: Kind>(&self, namespace: Option<&str>) -> Api<K> {
        let namespace = namespace.unwrap_or_else(|| self.client.default_namespace());
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Awaits an API call within [`CALL_TIMEOUT`].
///
/// # Errors
///
/// When it fails or takes longer; `action` is what the error says was asked.
pub async fn call<T>(
    action: Asked,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Api {
            action,
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout { action }),
    }
}

/// True when every field of `wanted` is in `live` with the same value. Lists compare element by
/// element, so a live list may say more about an element but not have other elements; owner
/// references are a set, since others may add theirs.
#[must_use]
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(field, wanted)| match live.get(field) {
                Some(Value::Array(live)) if field == "ownerReferences" => {
                    let wanted = wanted.as_array().map_or(&[][..], Vec::as_slice);
                    wanted.iter().all(|w| live.iter().any(|l| covers(l, w)))
                }
                Some(live) => covers(live, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| covers(l, w))
        }
        _ => live == wanted,
    }
}

/// True for what an API server drops on storing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// `wanted` with the annotation that holds its own digest.
fn with_digest(wanted: Value) -> Value {
    let digest = digest(&wanted);
    with_applied(wanted, &digest)
}

/// `wanted` with `digest` in the annotation of what was applied.
fn with_applied(mut wanted: Value, digest: &str) -> Value {
    if let Some(Value::Object(metadata)) = wanted.get_mut("metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Value::Object(annotations) = annotations {
            annotations.insert(APPLIED_ANNOTATION.into(), digest.into());
        }
    }
    wanted
}

/// The annotation that [`with_digest`] has added.
fn applied(wanted: &Value) -> &str {
    let annotations = wanted.pointer("/metadata/annotations");
    let digest = annotations.and_then(|annotations| annotations.get(APPLIED_ANNOTATION));
    digest.and_then(Value::as_str).unwrap_or_default()
}

/// Maps of `serde_json` are sorted, so equal objects give equal digests.
fn digest(value: &Value) -> String {
    postrider_crds::digest::of(value.to_string().as_bytes())
}

fn memo_key<K: Kind>(manager: &str, wanted: &Value) -> String {
    let field = |path| wanted.pointer(path).and_then(Value::as_str).unwrap_or("");
    let (namespace, name) = (field("/metadata/namespace"), field("/metadata/name"));
    format!("{} {namespace}/{name} {manager}", K::kind(&()))
}

fn to_value<K: Kind>(object: &K) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Serialize {
        action: describe::<K>("apply", object.meta().name.as_deref()).to_string(),
        source,
    })
}

fn describe<K: Kind>(verb: &'static str, name: Option<&str>) -> Asked {
    Asked {
        verb,
        kind: K::kind(&()).into_owned(),
        name: name.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_and_what_drifted() {
        let wanted = json!({
            "metadata": {"labels": {"a": "1"}, "ownerReferences": [{"uid": "u"}]},
            "spec": {"replicas": 2, "containers": [{"name": "relay", "args": ["--x"]}]},
        });
        let live = json!({
            "metadata": {
                "labels": {"a": "1", "b": "2"}, "resourceVersion": "7",
                "ownerReferences": [{"uid": "other"}, {"uid": "u", "controller": true}],
            },
            "spec": {"replicas": 2, "containers": [{"name": "relay", "args": ["--x"], "image": "i"}]},
            "status": {},
        });
        assert!(covers(&live, &wanted));
        for (path, value) in [
            ("/spec/replicas", json!(3)),
            ("/metadata/labels/a", json!("9")),
            ("/spec/containers/0/args", json!(["--x", "--y"])),
            ("/spec/containers", json!([])),
            ("/metadata/ownerReferences", json!([{"uid": "other"}])),
        ] {
            let mut drifted = live.clone();
            *drifted.pointer_mut(path).unwrap() = value;
            assert!(!covers(&drifted, &wanted), "{path}");
        }
    }

    #[test]
    fn what_the_server_drops_is_no_difference() {
        let wanted = json!({"data": {}, "list": [], "nothing": null, "nested": {"empty": {}}});
        assert!(covers(&json!({}), &wanted));
        assert!(!covers(&json!({}), &json!({"no": false})));
    }

    #[test]
    fn a_field_no_longer_wanted_changes_the_digest() {
        let with = with_digest(json!({"metadata": {}, "spec": {"a": 1, "b": 2}}));
        let without = with_digest(json!({"metadata": {}, "spec": {"a": 1}}));
        assert!(!covers(&with, &without));
        assert!(covers(&with, &with));
    }
}
