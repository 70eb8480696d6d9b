//! Finds cached objects by something else than their name, without looking at all of them.
//!
//! Guarantees: what [`Index::find`] gives matches the term and is what the cache holds. The watch
//! that writes the cache writes the index right after it and only then wakes whoever depends on
//! the object, so nobody who was woken by a change misses it.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource, ResourceExt as _,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::Event,
    },
};
use postrider_crds::{DomainName, SendingDomain};

use crate::{keys::DOMAIN_LABEL, names::POOL_LABEL, relay_pool::credentials::username};

/// What objects are found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// Secrets labelled as keys of this SendingDomain.
    KeyOf(String),
    /// Secrets labelled as this RelayPool's, SendingDomains that name it.
    Pool(String),
    /// Secrets with this text under the key `username`.
    Username(String),
    /// SendingDomains of this domain.
    Domain(DomainName),
    /// SendingDomains that name this Secret as a sender.
    Sender(String),
    /// SendingDomains whose records are published, or have been, by updates signed with this Secret.
    Tsig(String),
}

/// An index over a cache.
pub struct Index<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    terms: fn(&K) -> Vec<Term>,
    entries: Arc<RwLock<Entries>>,
}

/// Names by namespace and term.
type Entries = HashMap<String, HashMap<Term, BTreeSet<String>>>;

/// The terms of a Secret.
pub(super) fn of_secret(secret: &Secret) -> Vec<Term> {
    let labels = secret.labels();
    [
        labels.get(DOMAIN_LABEL).cloned().map(Term::KeyOf),
        labels.get(POOL_LABEL).cloned().map(Term::Pool),
        username(secret).map(Term::Username),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The terms of a SendingDomain.
pub(super) fn of_domain(domain: &SendingDomain) -> Vec<Term> {
    let spec = &domain.spec;
    let senders = spec.senders.iter();
    let mut terms: Vec<Term> = senders
        .map(|sender| Term::Sender(sender.secret_ref.name.clone()))
        .collect();
    let asked = spec.publish.as_ref().and_then(|p| p.rfc2136.as_ref());
    let published = domain.status.as_ref().and_then(|s| s.published.as_ref());
    let done = published.and_then(|published| published.rfc2136.as_ref());
    let tsig = asked.into_iter().chain(done);
    terms.extend(tsig.map(|rfc2136| Term::Tsig(rfc2136.tsig_secret_ref.name.clone())));
    terms.push(Term::Pool(spec.pool_ref.name.clone()));
    terms.push(Term::Domain(spec.domain.clone()));
    terms
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Index<K> {
    /// An empty index over `store`.
    pub(super) fn new(store: Store<K>, terms: fn(&K) -> Vec<Term>) -> Self {
        Self {
            store,
            terms,
            entries: Arc::default(),
        }
    }

    /// The objects of `namespace` that `term` holds for, by name.
    #[must_use]
    pub fn find(&self, namespace: &str, term: &Term) -> Vec<Arc<K>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let names = entries.get(namespace).and_then(|terms| terms.get(term));
        let objects = names.into_iter().flatten();
        objects
            .filter_map(|name| self.store.get(&ObjectRef::new(name).within(namespace)))
            .filter(|object| (self.terms)(object).contains(term))
            .collect()
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            terms: self.terms,
            entries: self.entries.clone(),
        }
    }
}

/// The writing end of an [`Index`].
pub(super) struct IndexWriter<K: Resource<DynamicType = ()> + Clone + 'static> {
    index: Index<K>,
    /// What the watch has listed so far since it started over.
    listed: Entries,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> IndexWriter<K> {
    /// Writes `index`.
    pub(super) fn new(index: Index<K>) -> Self {
        Self {
            index,
            listed: Entries::new(),
        }
    }

    /// Notes `event`, which the cache has taken in; `before` is what it had of the object.
    pub(super) fn apply(&mut self, event: &Event<K>, before: Option<&K>) {
        let terms = self.index.terms;
        let mut entries = self
            .index
            .entries
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => insert(&mut self.listed, object, terms),
            Event::InitDone => *entries = std::mem::take(&mut self.listed),
            Event::Apply(object) => {
                if let Some(before) = before {
                    remove(&mut entries, before, terms);
                }
                insert(&mut entries, object, terms);
            }
            Event::Delete(object) => remove(&mut entries, before.unwrap_or(object), terms),
        }
    }
}

fn insert<K: Resource>(entries: &mut Entries, object: &K, terms: fn(&K) -> Vec<Term>) {
    let namespace = entries
        .entry(object.namespace().unwrap_or_default())
        .or_default();
    for term in terms(object) {
        namespace.entry(term).or_default().insert(object.name_any());
    }
}

fn remove<K: Resource>(entries: &mut Entries, object: &K, terms: fn(&K) -> Vec<Term>) {
    let name = object.namespace().unwrap_or_default();
    let Some(namespace) = entries.get_mut(&name) else {
        return;
    };
    for term in terms(object) {
        if let Some(names) = namespace.get_mut(&term) {
            names.remove(&object.name_any());
            if names.is_empty() {
                namespace.remove(&term);
            }
        }
    }
    if namespace.is_empty() {
        entries.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use serde_json::json;

    use super::*;
    use crate::stores::Cache;

    fn domain(name: &str, domain: &str, pool: &str, senders: &[&str]) -> SendingDomain {
        let senders: Vec<_> = senders
            .iter()
            .map(|name| json!({"secretRef": {"name": name}}))
            .collect();
        let object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name, "namespace": "mail"},
            "spec": {"domain": domain, "poolRef": {"name": pool}, "senders": senders},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_domain_is_found_by_the_secrets_of_its_updates() {
        let mut domain = domain("a", "a.example", "one", &[]);
        let rfc2136 = |secret: &str| {
            json!({"rfc2136": {"server": "192.0.2.53", "zone": "a.example",
                "tsigSecretRef": {"name": secret}}})
        };
        let tsig = |domain: &SendingDomain| -> Vec<Term> {
            let terms = of_domain(domain).into_iter();
            terms.filter(|t| matches!(t, Term::Tsig(_))).collect()
        };
        assert!(tsig(&domain).is_empty());
        domain.spec.publish = Some(serde_json::from_value(rfc2136("new")).unwrap());
        assert_eq!(tsig(&domain), [Term::Tsig("new".into())]);
        // What was published before has to be taken out with the key of then.
        let published = json!({"published": rfc2136("old")});
        domain.status = Some(serde_json::from_value(published).unwrap());
        let both = ["new", "old"].map(|name| Term::Tsig(name.into()));
        assert_eq!(tsig(&domain), both);
    }

    /// A cache whose index is looked at from outside.
    struct World {
        cache: Cache<SendingDomain>,
        index: Index<SendingDomain>,
    }

    impl World {
        fn apply(&mut self, event: Event<SendingDomain>) {
            self.cache.apply(&event);
        }

        fn find(&self, term: &Term) -> Vec<String> {
            let found = self.index.find("mail", term);
            found.iter().map(|object| object.name_any()).collect()
        }
    }

    #[test]
    fn objects_are_found_by_what_they_are_now() {
        let (store, writer) = reflector::store();
        let index = Index::new(store, of_domain);
        let cache = Cache::indexed(writer, &index);
        let mut world = World { cache, index };
        let pool = |name: &str| Term::Pool(name.into());
        let sender = Term::Sender("app".into());
        world.apply(Event::Init);
        world.apply(Event::InitApply(domain("b", "b.example", "one", &["app"])));
        world.apply(Event::InitApply(domain(
            "a",
            "a.example",
            "one",
            &["app", "other"],
        )));
        assert!(world.find(&sender).is_empty(), "listing is not done");
        world.apply(Event::InitDone);
        assert_eq!(world.find(&sender), ["a", "b"]);
        assert_eq!(
            world.find(&Term::Domain("a.example".parse().unwrap())),
            ["a"]
        );
        world.apply(Event::Apply(domain("a", "a.example", "two", &[])));
        assert_eq!(world.find(&pool("one")), ["b"]);
        assert_eq!(world.find(&pool("two")), ["a"]);
        assert_eq!(world.find(&sender), ["b"]);
        world.apply(Event::Delete(domain("b", "b.example", "one", &["app"])));
        assert!(world.find(&pool("one")).is_empty());
        world.apply(Event::Init);
        world.apply(Event::InitApply(domain("c", "c.example", "two", &[])));
        assert_eq!(world.find(&pool("two")), ["a"], "the old list holds on");
        world.apply(Event::InitDone);
        assert_eq!(world.find(&pool("two")), ["c"]);
        let entries = world.index.entries.read().unwrap();
        assert_eq!(entries["mail"].len(), 2, "nothing is left of what is gone");
    }
}
