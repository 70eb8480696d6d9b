//! Who depends on a changed object. Pure functions of the object and the caches.
//!
//! Promises: references never leave a namespace, so neither does a trigger. Waking somebody in vain
//! costs a look at the caches; not waking somebody would be a bug.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Resource, ResourceExt as _};
use postrider_crds::{RelayPool, SendingDomain, SuppressionList, SuppressionSource};

use super::{Change, Stores, Term, index};
use crate::{
    keys,
    names::{POOL_LABEL, SUPPRESSION_SHARD_LABEL},
    queues::Trigger,
};

/// A pool wakes itself, and, unless it is just its status that changed, its domains (egress
/// addresses, existence) and its lists: a status is written each minute while mail flows.
pub(super) fn of_pool(pool: &RelayPool, change: Change, stores: &Stores) -> BTreeSet<Trigger> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    if change == Change::SameGeneration {
        return BTreeSet::from([Trigger::Pool(namespace, name)]);
    }
    let mut woken = dependants_of_pool(&namespace, &name, stores);
    for list in &pool.spec.suppression_lists {
        woken.insert(Trigger::List(namespace.clone(), list.name.clone()));
    }
    woken.insert(Trigger::Pool(namespace, name));
    woken
}

/// A domain wakes itself, the pools that it names or that may have mail of it, and whoever claims the
/// same domain.
pub(super) fn of_domain(domain: &SendingDomain, _: Change, stores: &Stores) -> BTreeSet<Trigger> {
    let namespace = domain.namespace().unwrap_or_default();
    let claim = Term::Domain(domain.spec.domain.clone());
    let rivals = stores.domains_with(&namespace, &claim);
    let mut woken: BTreeSet<Trigger> = rivals
        .map(|rival| Trigger::Domain(namespace.clone(), rival.name_any()))
        .collect();
    woken.extend(pools_of(&namespace, domain));
    woken.insert(Trigger::Domain(namespace, domain.name_any()));
    woken
}

/// A list wakes itself and the pools that name it.
pub(super) fn of_list(list: &SuppressionList, _: Change, stores: &Stores) -> BTreeSet<Trigger> {
    let (namespace, name) = (list.namespace().unwrap_or_default(), list.name_any());
    let pools = stores.pools.state_filter(|pool| {
        pool.metadata.namespace == list.metadata.namespace
            && pool.spec.suppression_lists.iter().any(|l| l.name == name)
    });
    let mut woken: BTreeSet<Trigger> = pools
        .iter()
        .map(|pool| Trigger::Pool(namespace.clone(), pool.name_any()))
        .collect();
    woken.insert(Trigger::List(namespace, name));
    woken
}

/// A Secret wakes its owner and everyone who refers to it.
pub(super) fn of_secret(secret: &Secret, change: Change, stores: &Stores) -> BTreeSet<Trigger> {
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    let mut woken = of_child(secret, change, stores);
    if let Some(domain) = secret.labels().get(keys::DOMAIN_LABEL) {
        woken.insert(Trigger::Domain(namespace.clone(), domain.clone()));
        let kept = super::get(&stores.domains, &namespace, domain);
        woken.extend(kept.iter().flat_map(|k| pools_of(&namespace, &k.object)));
    }
    if secret.labels().contains_key(SUPPRESSION_SHARD_LABEL) {
        let pool = secret.labels().get(POOL_LABEL).cloned().unwrap_or_default();
        if let Some(pool) = super::get(&stores.pools, &namespace, &pool) {
            let lists = pool.spec.suppression_lists.iter();
            woken.extend(lists.map(|l| Trigger::List(namespace.clone(), l.name.clone())));
        }
    }
    for pool in stores
        .pools
        .state_filter(|p| p.namespace().as_deref() == Some(&namespace))
    {
        if pool
            .spec
            .tls
            .as_ref()
            .is_some_and(|tls| tls.secret_ref.name == name)
        {
            woken.insert(Trigger::Pool(namespace.clone(), pool.name_any()));
        }
    }
    let named = Term::Sender(name.clone());
    for domain in stores.domains_with(&namespace, &named) {
        woken.insert(Trigger::Domain(namespace.clone(), domain.name_any()));
        woken.extend(pools_of(&namespace, &domain));
    }
    let signed_with = Term::Tsig(name.clone());
    for domain in stores.domains_with(&namespace, &signed_with) {
        woken.insert(Trigger::Domain(namespace.clone(), domain.name_any()));
    }
    woken.extend(lists_with_source(&namespace, stores, |source| {
        source
            .secret_ref
            .as_ref()
            .is_some_and(|key| key.name == name)
    }));
    woken
}

/// A ConfigMap wakes its pool and the lists that read it.
pub(super) fn of_config_map(map: &ConfigMap, change: Change, stores: &Stores) -> BTreeSet<Trigger> {
    let (namespace, name) = (map.namespace().unwrap_or_default(), map.name_any());
    let mut woken = of_child(map, change, stores);
    woken.extend(lists_with_source(&namespace, stores, |source| {
        source
            .config_map_ref
            .as_ref()
            .is_some_and(|key| key.name == name)
    }));
    woken
}

/// What belongs to a pool wakes the pool.
pub(super) fn of_child<K: Resource<DynamicType = ()>>(
    child: &K,
    _: Change,
    _: &Stores,
) -> BTreeSet<Trigger> {
    let namespace = child.namespace().unwrap_or_default();
    let pool = child.labels().get(POOL_LABEL).cloned();
    pool.map(|pool| Trigger::Pool(namespace, pool))
        .into_iter()
        .collect()
}

/// What cannot be decoded wakes every pool of its namespace, which says so: nobody knows who
/// depends on it.
pub(super) fn of_undecodable(namespace: &str, stores: &Stores) -> BTreeSet<Trigger> {
    let inside = |pool: &RelayPool| pool.namespace().as_deref() == Some(namespace);
    let pools = stores.pools.state_filter(inside);
    let woken = pools.iter();
    woken
        .map(|pool| Trigger::Pool(namespace.to_owned(), pool.name_any()))
        .collect()
}

/// The pools whose keyrings hold `domain`.
fn pools_of(namespace: &str, domain: &SendingDomain) -> impl Iterator<Item = Trigger> {
    index::pools(domain).map(|pool| Trigger::Pool(namespace.to_owned(), pool.clone()))
}

fn dependants_of_pool(namespace: &str, pool: &str, stores: &Stores) -> BTreeSet<Trigger> {
    let named = Term::Pool(pool.to_owned());
    let domains = stores.domains_with(namespace, &named);
    domains
        .map(|domain| Trigger::Domain(namespace.to_owned(), domain.name_any()))
        .collect()
}

fn lists_with_source(
    namespace: &str,
    stores: &Stores,
    reads: impl Fn(&SuppressionSource) -> bool,
) -> Vec<Trigger> {
    let lists = stores.lists.state_filter(|list| {
        list.namespace().as_deref() == Some(namespace) && list.spec.sources.iter().any(&reads)
    });
    lists
        .iter()
        .map(|list| Trigger::List(namespace.to_owned(), list.name_any()))
        .collect()
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::stores::{Cache, DomainCache, Keeps as _};

    fn object<K: serde::de::DeserializeOwned>(kind: &str, generation: i64, spec: &str) -> K {
        let spec: serde_json::Value = serde_json::from_str(spec).unwrap();
        serde_json::from_value(json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "x", "namespace": "mail", "uid": "u", "generation": generation},
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn the_secret_of_updates_wakes_the_domain_that_is_published_with_it() {
        let (stores, writers) = Stores::new();
        let mut domains = DomainCache::new(writers.domains, &stores.domains_by);
        let spec = r#"{"domain": "example.com", "poolRef": {"name": "p"}, "publish": {"rfc2136":
            {"server": "192.0.2.53", "zone": "example.com", "tsigSecretRef": {"name": "dns"}}}}"#;
        domains.apply(&Event::Apply(object("SendingDomain", 1, spec)));
        let woken = |name: &str| {
            let secret = json!({"metadata": {"name": name, "namespace": "mail"}});
            let secret = serde_json::from_value(secret).unwrap();
            of_secret(&secret, Change::Any, &stores)
        };
        let domain = Trigger::Domain("mail".into(), "x".into());
        assert_eq!(woken("dns"), BTreeSet::from([domain]));
        assert!(woken("other").is_empty());
    }

    #[test]
    fn a_domain_that_moves_wakes_the_pool_it_leaves_until_that_is_done_with_it() {
        let (stores, writers) = Stores::new();
        let mut domains = DomainCache::new(writers.domains, &stores.domains_by);
        let mut woken = |pool: &str, pools: serde_json::Value| {
            let spec = json!({"domain": "example.com", "poolRef": {"name": pool}});
            let mut domain: SendingDomain = object("SendingDomain", 1, &spec.to_string());
            domain.status = Some(serde_json::from_value(json!({"pools": pools})).unwrap());
            let event = Event::Apply(domain.clone());
            let before = domains.before(&event);
            let change = domains.apply(&event);
            let mut woken = of_domain(&domain, change, &stores);
            woken.extend(before.iter().flat_map(|d| of_domain(d, change, &stores)));
            let pools = woken.into_iter().filter_map(|trigger| match trigger {
                Trigger::Pool(_, name) => Some(name),
                Trigger::Domain(..) | Trigger::List(..) | Trigger::Everything => None,
            });
            pools.collect::<Vec<_>>()
        };
        assert_eq!(woken("a", json!([])), ["a"]);
        assert_eq!(woken("b", json!([])), ["a", "b"], "nothing was noted yet");
        let both = json!([{"name": "a", "leftAt": "2026-01-01T00:00:00Z"}, {"name": "b"}]);
        assert_eq!(woken("b", both), ["a", "b"]);
        assert_eq!(woken("b", json!([{"name": "b"}])), ["a", "b"], "done");
        assert_eq!(woken("b", json!([{"name": "b"}])), ["b"]);
    }

    #[test]
    fn the_status_of_a_pool_wakes_the_pool_alone() {
        let (stores, writers) = Stores::new();
        let mut domains = DomainCache::new(writers.domains, &stores.domains_by);
        let spec = r#"{"domain": "example.com", "poolRef": {"name": "x"}}"#;
        domains.apply(&Event::Apply(object("SendingDomain", 1, spec)));
        let mut pools = Cache::from(writers.pools);
        let spec = r#"{"hostname": "mail.example.net"}"#;
        let mut woken = |generation, status: &str| {
            let mut pool: RelayPool = object("RelayPool", generation, spec);
            pool.status = Some(serde_json::from_str(status).unwrap());
            let change = pools.apply(&Event::Apply(pool.clone()));
            of_pool(&pool, change, &stores)
        };
        let (mail, x) = ("mail".to_owned(), "x".to_owned());
        let own = Trigger::Pool(mail.clone(), x.clone());
        let both = BTreeSet::from([own.clone(), Trigger::Domain(mail, x)]);
        assert_eq!(woken(1, "{}"), both, "a new pool");
        assert_eq!(woken(1, r#"{"replicas": 2}"#), BTreeSet::from([own]));
        assert_eq!(woken(2, r#"{"replicas": 2}"#), both, "another spec");
    }
}
