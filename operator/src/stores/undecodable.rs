//! Objects that are there and that this program cannot decode, as after it was put back to an older
//! version while its definitions stayed.
//!
//! Promises: such an object is known by name for as long as it is there, so that nobody takes it for
//! deleted. Of its spec is kept what tells who depends on it, where that can be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, runtime::watcher::Event};
use postrider_crds::DomainName;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use serde_json::Value;

/// An object that a watch tells of, or what there is of one that cannot be decoded.
#[derive(Clone, Debug)]
pub(super) struct Guard<K>(pub(super) Result<K, Invalid>);

/// What there is of an object that cannot be decoded.
#[derive(Clone, Debug)]
pub(super) struct Invalid {
    pub(super) metadata: ObjectMeta,
    pub(super) error: String,
    spec: Value,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guard<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        let error = match K::deserialize(&object) {
            Ok(decoded) => return Ok(Self(Ok(decoded))),
            Err(error) => error.to_string(),
        };
        let part = |name| object.get(name).cloned().unwrap_or_default();
        Ok(Self(Err(Invalid {
            metadata: serde_json::from_value(part("metadata")).map_err(D::Error::custom)?,
            error,
            spec: part("spec"),
        })))
    }
}

impl<K: Resource> Resource for Guard<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &K::DynamicType) -> std::borrow::Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> std::borrow::Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> std::borrow::Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> std::borrow::Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(invalid) => &mut invalid.metadata,
        }
    }
}

/// An object that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub error: String,
    /// `spec.domain`, if it can be read.
    pub domain: Option<DomainName>,
    /// `spec.poolRef.name`, if it can be read.
    pub pool: Option<String>,
    /// The Secrets of `spec.senders`, as far as they can be read.
    pub senders: BTreeSet<String>,
}

impl From<&Invalid> for Undecodable {
    fn from(invalid: &Invalid) -> Self {
        let text = |path: &str| invalid.spec.pointer(path).and_then(Value::as_str);
        let senders = invalid.spec.get("senders").and_then(Value::as_array);
        let senders = senders.into_iter().flatten();
        let secret = |sender: &Value| {
            let name = sender.pointer("/secretRef/name")?.as_str()?;
            Some(name.to_owned())
        };
        Self {
            name: invalid.metadata.name.clone().unwrap_or_default(),
            error: invalid.error.clone(),
            domain: text("/domain").and_then(|domain| domain.parse().ok()),
            pool: text("/poolRef/name").map(str::to_owned),
            senders: senders.filter_map(secret).collect(),
        }
    }
}

/// By namespace and name.
type Table = BTreeMap<(String, String), Undecodable>;

/// The objects of one kind that cannot be decoded.
#[derive(Clone, Default)]
pub struct Undecodables(Arc<RwLock<Table>>);

impl Undecodables {
    /// Those of `namespace`, by name.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Vec<Undecodable> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let all = table.iter().filter(|((of, _), _)| of == namespace);
        all.map(|(_, object)| object.clone()).collect()
    }
}

/// The writing end of [`Undecodables`].
pub(super) struct UndecodablesWriter {
    all: Undecodables,
    /// What the watch has listed so far since it started over.
    listed: Table,
}

impl UndecodablesWriter {
    /// Writes `all`.
    pub(super) fn new(all: Undecodables) -> Self {
        Self {
            all,
            listed: Table::new(),
        }
    }

    /// Notes what `event` tells of objects that cannot be decoded, before any cache lets go of them.
    pub(super) fn apply<K: Resource>(&mut self, event: &Event<Guard<K>>) {
        let mut table = self.all.0.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(Guard(Err(invalid))) => put(&mut self.listed, invalid),
            Event::InitDone => *table = std::mem::take(&mut self.listed),
            Event::Apply(Guard(Err(invalid))) => put(&mut table, invalid),
            Event::Delete(Guard(Err(invalid))) => {
                table.remove(&key(&invalid.metadata));
            }
            Event::InitApply(Guard(Ok(_)))
            | Event::Apply(Guard(Ok(_)))
            | Event::Delete(Guard(Ok(_))) => {}
        }
    }

    /// Notes that the object of `event` can be decoded, once a cache has it.
    pub(super) fn decoded<K: Resource>(&self, event: &Event<K>) {
        match event {
            Event::Apply(object) | Event::Delete(object) => {
                let mut table = self.all.0.write().unwrap_or_else(PoisonError::into_inner);
                table.remove(&key(object.meta()));
            }
            Event::Init | Event::InitApply(_) | Event::InitDone => {}
        }
    }
}

fn put(table: &mut Table, invalid: &Invalid) {
    table.insert(key(&invalid.metadata), invalid.into());
}

fn key(metadata: &ObjectMeta) -> (String, String) {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    (part(&metadata.namespace), part(&metadata.name))
}

#[cfg(test)]
mod tests {
    use postrider_crds::SendingDomain;
    use serde_json::json;

    use super::*;

    fn domain(name: &str, more: &Value) -> Guard<SendingDomain> {
        let mut object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name, "namespace": "mail", "uid": "u"},
            "spec": {"domain": format!("{name}.example"), "poolRef": {"name": "p"},
                "senders": [{"secretRef": {"name": "app"}}]},
        });
        for (field, value) in more.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_is_there_is_known_until_it_can_be_decoded_or_is_gone() {
        let all = Undecodables::default();
        let mut writer = UndecodablesWriter::new(all.clone());
        let names = || -> Vec<String> { all.of("mail").into_iter().map(|o| o.name).collect() };
        let newer = json!({"later": true});
        writer.apply::<SendingDomain>(&Event::Init);
        writer.apply(&Event::InitApply(domain("a", &json!({}))));
        writer.apply(&Event::InitApply(domain("b", &newer)));
        assert_eq!(names(), [""; 0], "the list is not done");
        writer.apply::<SendingDomain>(&Event::InitDone);
        assert_eq!(names(), ["b"]);
        let b = all.of("mail").remove(0);
        assert!(b.error.contains("later"), "{}", b.error);
        assert_eq!(b.domain, Some("b.example".parse().unwrap()));
        assert_eq!(b.pool.as_deref(), Some("p"));
        assert_eq!(b.senders, BTreeSet::from(["app".to_owned()]));
        assert!(all.of("other").is_empty());

        writer.apply(&Event::Apply(domain("a", &newer)));
        assert_eq!(names(), ["a", "b"]);
        writer.apply(&Event::Apply(domain("b", &json!({}))));
        assert_eq!(names(), ["a", "b"], "until a cache has it");
        let Guard(Ok(b)) = domain("b", &json!({})) else {
            unreachable!("it has no newer field")
        };
        writer.decoded(&Event::Apply(b));
        writer.apply(&Event::Delete(domain("a", &newer)));
        assert_eq!(names(), [""; 0]);
        writer.apply(&Event::Apply(domain("a", &newer)));
        writer.apply::<SendingDomain>(&Event::Init);
        assert_eq!(names(), ["a"], "until the new list is done");
        writer.apply::<SendingDomain>(&Event::InitDone);
        assert_eq!(names(), [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_of_it_is_not_made_up() {
        let odd = json!({"domain": 7, "poolRef": "p", "senders": [{"secretRef": {}}, 3]});
        let Guard(Err(invalid)) = domain("a", &odd) else {
            unreachable!("a domain is no number")
        };
        let odd = Undecodable::from(&invalid);
        assert_eq!((odd.domain, odd.pool), (None, None));
        assert!(odd.senders.is_empty());
    }
}
