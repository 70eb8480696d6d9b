//! The one way objects are written: server-side apply, one field manager a controller, and only
//! when something would change.
//!
//! Guarantees: an object is applied when it is missing, when a live field differs from the wanted
//! one (drift is repaired), or when the wanted object itself changed, which its digest annotation
//! tells (so that what is no longer wanted goes away). Otherwise no call is made. Every call ends
//! within [`CALL_TIMEOUT`]. An object that has not the owner of the wanted one is left alone
//! ([`Foreign`]), also one that no cache shows: before an object is made it is looked for. What is
//! written over a live object is written over that very one.
//!
//! Assumptions: `live` comes from a cache and may be old; applying twice is harmless.
//!
//! Caveats: an object that somebody else makes between that look and our apply is taken over.
//! Elements that somebody else put into a list cannot be applied away; such lists are then written
//! whole. An API server may store a value in another spelling than it was given (quantities). The
//! comparison then fails for ever; a memo of what the server made of the last apply keeps that from
//! becoming a write on every visit.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, error::Asked};

mod calls;
mod covering;
mod foreign;

pub use covering::covers;
use covering::{applied, digest, with_applied, with_digest};
pub use foreign::Foreign;

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
    uid: Option<String>,
    version: String,
    /// Whether it is as wanted.
    covers: bool,
    /// Whose it is, if it is somebody else's.
    foreign: Option<Foreign>,
}

impl Live {
    /// Of `live`, to be as `wanted` is, which is all or a part of `desired`.
    fn of<K: Kind>(live: &K, desired: &K, wanted: &Value) -> Result<Self, Error> {
        Ok(Self {
            uid: live.uid(),
            version: live.resource_version().unwrap_or_default(),
            covers: covers(&to_value(live)?, wanted),
            foreign: Foreign::of("apply", live, desired.owner_references()),
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
        let live = live.map(|live| Live::of(live, desired, &wanted));
        self.apply_value(manager, desired, &wanted, live.transpose()?)
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
            Live::of(live, desired, &shown)
        });
        self.apply_value(manager, desired, &wanted, live.transpose()?)
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
        let live = live.map(|live| Live::of(live, desired, &wanted));
        self.apply_value(manager, desired, &wanted, live.transpose()?)
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

    async fn apply_value<K: Kind>(
        &self,
        manager: &str,
        desired: &K,
        wanted: &Value,
        live: Option<Live>,
    ) -> Result<Outcome, Error> {
        let digest = digest(wanted);
        let key = memo_key::<K>(manager, wanted);
        let uid = match live {
            Some(live) => {
                let settled = Settled {
                    version: live.version,
                    digest: digest.clone(),
                };
                if live.covers || self.recall(&key) == Some(settled) {
                    return Ok(Outcome::Unchanged);
                }
                if let Some(foreign) = live.foreign {
                    return Err(foreign.into());
                }
                live.uid
            }
            None => self.own("apply", desired).await?.and_then(|own| own.uid()),
        };
        let applied = match uid {
            Some(uid) => self.write_over(manager, desired, wanted, uid).await?,
            None => self.patch_to_fit::<K>(manager, wanted).await?,
        };
        let version = applied.resource_version().unwrap_or_default();
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.insert(key, Settled { version, digest });
        Ok(Outcome::Written)
    }

    /// Applies `wanted` to the object `uid`, and to no other that has taken its name meanwhile.
    async fn write_over<K: Kind>(
        &self,
        manager: &str,
        desired: &K,
        wanted: &Value,
        uid: String,
    ) -> Result<K, Error> {
        let mut wanted = wanted.clone();
        if let Some(Value::Object(metadata)) = wanted.get_mut("metadata") {
            metadata.insert("uid".into(), uid.as_str().into());
        }
        let applied = self.patch_to_fit::<K>(manager, &wanted).await;
        if applied.as_ref().is_err_and(Error::is_invalid) {
            // The UID may be all that is wrong with it.
            let live = self.own("apply", desired).await?;
            if live.is_some_and(|live| live.uid() != Some(uid)) {
                let object = format!("{} {}", K::kind(&()), desired.name_any());
                return Err(Error::Stale { object });
            }
        }
        applied
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
