//! Finds cached objects by something else than their name, without looking at all of them.
//!
//! Guarantees: what [`Index::find`] gives matches the term and is what the cache holds. The watch
//! that writes the cache writes the index right after it and only then wakes whoever depends on
//! the object, so nobody who was woken by a change misses it.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    ops::Bound,
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

use crate::{names::POOL_LABEL, relay_pool::credentials};

/// What objects are found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// Secrets labelled as this RelayPool's, SendingDomains that name it or that it may have mail of.
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
    holds: fn(&K, &Term) -> bool,
    entries: Arc<RwLock<Entries>>,
}

/// Names that are looked up at a time.
const NAMES: usize = 64;

/// Names by namespace and term.
type Entries = HashMap<String, HashMap<Term, BTreeSet<Arc<str>>>>;

/// The terms of a Secret.
pub(super) fn of_secret(secret: &Secret) -> Vec<Term> {
    [
        secret.labels().get(POOL_LABEL).cloned().map(Term::Pool),
        credentials::username(secret).map(Term::Username),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether `term` is among [`of_secret`], without making them.
pub(super) fn holds_for_secret(secret: &Secret, term: &Term) -> bool {
    match term {
        Term::Pool(pool) => secret.labels().get(POOL_LABEL) == Some(pool),
        Term::Username(username) => credentials::has_username(secret, username),
        Term::Domain(_) | Term::Sender(_) | Term::Tsig(_) => false,
    }
}

/// The terms of a SendingDomain.
pub(super) fn of_domain(domain: &SendingDomain) -> Vec<Term> {
    let spec = &domain.spec;
    let senders = spec.senders.iter();
    let mut terms: Vec<Term> = senders
        .map(|sender| Term::Sender(sender.secret_ref.name.clone()))
        .collect();
    terms.extend(tsig(domain).cloned().map(Term::Tsig));
    terms.extend(pools(domain).cloned().map(Term::Pool));
    terms.push(Term::Domain(spec.domain.clone()));
    terms
}

/// The pools that `domain` names or that may have mail of it.
pub(super) fn pools(domain: &SendingDomain) -> impl Iterator<Item = &String> {
    let known = domain.status.iter().flat_map(|status| &status.pools);
    let named = &domain.spec.pool_ref.name;
    let left = known.map(|pool| &pool.name);
    std::iter::once(named).chain(left.filter(move |name| *name != named))
}

/// The Secrets of the updates by which the records of `domain` are published, or have been.
fn tsig(domain: &SendingDomain) -> impl Iterator<Item = &String> {
    let asked = domain.spec.publish.as_ref();
    let asked = asked.and_then(|publish| publish.rfc2136.as_ref());
    let published = domain.status.as_ref().and_then(|s| s.published.as_ref());
    let done = published.and_then(|published| published.rfc2136.as_ref());
    let targets = asked.into_iter().chain(done);
    targets.map(|rfc2136| &rfc2136.tsig_secret_ref.name)
}

/// Whether `term` is among [`of_domain`], without making them.
pub(super) fn holds_for_domain(domain: &SendingDomain, term: &Term) -> bool {
    let spec = &domain.spec;
    match term {
        Term::Pool(pool) => pools(domain).any(|name| name == pool),
        Term::Domain(name) => spec.domain == *name,
        Term::Sender(name) => spec.senders.iter().any(|s| s.secret_ref.name == *name),
        Term::Tsig(name) => tsig(domain).any(|secret| secret == name),
        Term::Username(_) => false,
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Index<K> {
    /// An empty index over `store`, by the `terms` of each object, which are those that it `holds`.
    pub(super) fn new(
        store: Store<K>,
        terms: fn(&K) -> Vec<Term>,
        holds: fn(&K, &Term) -> bool,
    ) -> Self {
        Self {
            store,
            terms,
            holds,
            entries: Arc::default(),
        }
    }

    /// The objects of `namespace` that `term` holds for, by name.
    #[must_use]
    pub fn find(&self, namespace: &str, term: &Term) -> Vec<Arc<K>> {
        self.each(namespace, term).collect()
    }

    /// The same, one at a time: for who needs but a few of thousands. A name is looked up when it comes
    /// to it, and so is its object, so either may have come or gone by then.
    pub fn each<'a>(
        &'a self,
        namespace: &'a str,
        term: &'a Term,
    ) -> impl Iterator<Item = Arc<K>> + 'a {
        let mut last: Option<Arc<str>> = None;
        let names = std::iter::from_fn(move || {
            let names = self.names_after(last.as_deref(), namespace, term);
            last = Some(names.last()?.clone());
            Some(names)
        });
        let objects = names.flatten().filter_map(move |name| {
            let object = ObjectRef::new(&name).within(namespace);
            self.store.get(&object)
        });
        objects.filter(move |object| (self.holds)(object, term))
    }

    /// Up to [`NAMES`] names after `last`. Nobody waits for the lock while objects are looked at.
    fn names_after(&self, last: Option<&str>, namespace: &str, term: &Term) -> Vec<Arc<str>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let names = entries.get(namespace).and_then(|terms| terms.get(term));
        let after = (
            last.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let names = names
            .into_iter()
            .flat_map(|names| names.range::<str, _>(after));
        names.take(NAMES).cloned().collect()
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            terms: self.terms,
            holds: self.holds,
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
    let name: Arc<str> = object.name_any().into();
    for term in terms(object) {
        namespace.entry(term).or_default().insert(name.clone());
    }
}

fn remove<K: Resource>(entries: &mut Entries, object: &K, terms: fn(&K) -> Vec<Term>) {
    let name = object.namespace().unwrap_or_default();
    let Some(namespace) = entries.get_mut(&name) else {
        return;
    };
    for term in terms(object) {
        if let Some(names) = namespace.get_mut(&term) {
            names.remove(object.name_any().as_str());
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
    use crate::stores::{Cache, Keeps as _};

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
    fn what_an_object_is_found_by_holds_for_it_and_nothing_else_does() {
        let one = domain("a", "a.example", "one", &["app", "other"]);
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "app", "labels": {"postrider.dev/pool": "one"}},
            "data": {"username": "YXBw"},
        }))
        .unwrap();
        let all = [
            Term::Pool("one".into()),
            Term::Pool("two".into()),
            Term::Domain("a.example".parse().unwrap()),
            Term::Domain("b.example".parse().unwrap()),
            Term::Sender("app".into()),
            Term::Sender("other".into()),
            Term::Sender("one".into()),
            Term::Username("app".into()),
            Term::Username("ap".into()),
        ];
        for term in &all {
            assert_eq!(of_domain(&one).contains(term), holds_for_domain(&one, term));
            assert_eq!(
                of_secret(&secret).contains(term),
                holds_for_secret(&secret, term)
            );
        }
        assert_eq!(of_domain(&one).len(), 4);
        assert_eq!(of_secret(&secret).len(), 2);
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

    #[test]
    fn a_domain_is_found_by_the_pools_that_may_have_mail_of_it() {
        let mut domain = domain("a", "a.example", "new", &[]);
        let pools = json!({"pools": [{"name": "old", "leftAt": "2026-01-01T00:00:00Z"},
            {"name": "new"}]});
        domain.status = Some(serde_json::from_value(pools).unwrap());
        let terms = of_domain(&domain).into_iter();
        let pools: Vec<Term> = terms.filter(|t| matches!(t, Term::Pool(_))).collect();
        assert_eq!(pools, ["new", "old"].map(|name| Term::Pool(name.into())));
        assert!(pools.iter().all(|term| holds_for_domain(&domain, term)));
        assert!(!holds_for_domain(&domain, &Term::Pool("other".into())));
    }

    #[test]
    fn thousands_are_found_each_once() {
        let (store, writer) = reflector::store();
        let index = Index::new(store, of_domain, holds_for_domain);
        let mut cache = Cache::indexed(writer, &index);
        let names: Vec<String> = (0..3 * NAMES).map(|n| format!("d{n:05}")).collect();
        for name in &names {
            let object = domain(name, &format!("{name}.example"), "one", &[]);
            cache.apply(&Event::Apply(object));
        }
        let found = index.find("mail", &Term::Pool("one".into()));
        let found: Vec<String> = found.iter().map(|object| object.name_any()).collect();
        assert_eq!(found, names);
        assert!(
            index
                .find("elsewhere", &Term::Pool("one".into()))
                .is_empty()
        );
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
        let index = Index::new(store, of_domain, holds_for_domain);
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
