//! Calls about one object that are no apply: reading, creating, replacing, deleting, single pieces of
//! metadata, the status.
//!
//! Guarantees: what is written about an object that was read is written about that very object, never
//! about another of its name. What is named `..._as_read` fails with "conflict" when it changed since.

use std::collections::BTreeMap;

use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Foreign, Kind, Outcome, Writer, call, describe};
use crate::{Error, error::Retry};

impl Writer {
    /// Reads an object past every cache; `None` also where the API server does not know the kind.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error> {
        let action = describe::<K>("read", Some(name));
        call(action, self.api::<K>(Some(namespace)).get_opt(name)).await
    }

    /// Reads those objects of a namespace whose `fields` are as a field selector says, past every cache;
    /// the first `limit` of them.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn list<K: Kind>(
        &self,
        namespace: &str,
        fields: &str,
        limit: u32,
    ) -> Result<Vec<K>, Error> {
        let parameters = ListParams::default().fields(fields).limit(limit);
        let api = self.api::<K>(Some(namespace));
        let action = describe::<K>("list", Some(fields));
        let listed = call(action, api.list(&parameters)).await?;
        Ok(listed.items)
    }

    /// Reads the object of the name of `desired` past every cache; `None` also where `desired` names no
    /// owner: then nobody asks whose it is. `verb` is what is about to be done.
    ///
    /// # Errors
    ///
    /// When it has another owner than `desired`; when the API server refuses or does not answer.
    pub(super) async fn own<K: Kind>(
        &self,
        verb: &'static str,
        desired: &K,
    ) -> Result<Option<K>, Error> {
        let owners = desired.owner_references();
        if owners.is_empty() {
            return Ok(None);
        }
        let namespace = desired.namespace().unwrap_or_default();
        let live: Option<K> = self.get(&namespace, &desired.name_any()).await?;
        let foreign = live.as_ref();
        match foreign.and_then(|live| Foreign::of(verb, live, owners)) {
            Some(foreign) => Err(foreign.into()),
            None => Ok(live),
        }
    }

    /// Creates `object`; an error answers "conflict" when it exists already, and tells whose it is when
    /// it is not that of the same owner.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let action = describe::<K>("create", object.meta().name.as_deref());
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let created = call(action, api.create(&PostParams::default(), object)).await;
        if let Err(error) = &created
            && error.retry() == Retry::Soon
        {
            self.own("create", object).await?;
        }
        created
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
        self.remove(object, None).await
    }

    /// Like [`Self::delete`], only while the object is as it was read.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn delete_as_read<K: Kind>(&self, object: &K) -> Result<(), Error> {
        self.remove(object, object.resource_version()).await
    }

    /// Makes `finalizers` those of `object`, only while it is as it was read.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer.
    pub async fn finalizers<K: Kind>(
        &self,
        object: &K,
        finalizers: &[String],
    ) -> Result<(), Error> {
        let metadata = json!({
            "uid": object.meta().uid,
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
        });
        self.patch_metadata("set the finalizers of", object, metadata)
            .await
    }

    /// Sets annotations of an object, or removes those that are `None`, only while it is as it was
    /// read.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer; also when the object is gone.
    pub async fn annotate_as_read<K: Kind>(
        &self,
        object: &K,
        annotations: &BTreeMap<&'static str, Option<String>>,
    ) -> Result<(), Error> {
        let metadata = json!({
            "uid": object.meta().uid,
            "resourceVersion": object.resource_version(),
            "annotations": annotations,
        });
        self.patch_metadata("annotate", object, metadata).await
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
        let metadata = json!({"uid": object.meta().uid, "annotations": {annotation: value}});
        self.patch_metadata("annotate", object, metadata).await?;
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
        let metadata = json!({"name": object.name_any(), "uid": object.meta().uid});
        self.patch_status(manager, object, metadata, wanted).await?;
        Ok(Outcome::Written)
    }

    /// Writes `wanted` as the status of `object`, only while it is as it was read.
    ///
    /// # Errors
    ///
    /// When the API server refuses or does not answer; also when the object is gone.
    pub async fn status_as_read<K: Kind, S: Serialize>(
        &self,
        manager: &str,
        object: &K,
        wanted: &S,
    ) -> Result<(), Error> {
        let metadata = json!({
            "name": object.name_any(),
            "uid": object.meta().uid,
            "resourceVersion": object.resource_version(),
        });
        self.patch_status(manager, object, metadata, wanted).await
    }

    /// Deletes `object`, if `version` is given only while it is that one. Gone already is fine.
    async fn remove<K: Kind>(&self, object: &K, version: Option<String>) -> Result<(), Error> {
        let name = object.name_any();
        let action = describe::<K>("delete", Some(&name));
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.meta().uid.clone(),
                resource_version: version,
            }),
            ..DeleteParams::background()
        };
        match call(action, api.delete(&name, &parameters)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Applies `status` to `object`, which `metadata` tells from others.
    async fn patch_status<K: Kind, S: Serialize>(
        &self,
        manager: &str,
        object: &K,
        metadata: Value,
        status: &S,
    ) -> Result<(), Error> {
        let name = object.name_any();
        let action = describe::<K>("write the status of", Some(&name));
        let status = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": metadata,
            "status": status,
        });
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let parameters = PatchParams::apply(manager).force();
        let patch = Patch::Apply(&status);
        call(action, api.patch_status(&name, &parameters, &patch)).await?;
        Ok(())
    }

    /// Merges `metadata`, which has the UID that it is meant for, into that of `object`.
    async fn patch_metadata<K: Kind>(
        &self,
        verb: &'static str,
        object: &K,
        metadata: Value,
    ) -> Result<(), Error> {
        let name = object.name_any();
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let api = self.api::<K>(object.meta().namespace.as_deref());
        let parameters = PatchParams::default();
        let patched = api.patch_metadata(&name, &parameters, &patch);
        call(describe::<K>(verb, Some(&name)), patched).await?;
        Ok(())
    }
}
