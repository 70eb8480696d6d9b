//! Which SendingDomains a pool serves: of those that name it, and of those that have left it and may
//! still have mail there.
//!
//! Promises: of those that name the same domain in the same pool the oldest wins (then the first by
//! name), so a newcomer cannot take over a domain that is in use. One that has left gives way to every
//! one that names the pool. Both the RelayPool and the SendingDomain controller decide by these
//! functions.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use postrider_crds::{DomainName, SendingDomain};

/// The SendingDomain that has `domain.spec.domain` in its pool, when it is not `domain` itself.
/// `claims` are the SendingDomains of that domain in the namespace, or more.
#[must_use]
pub fn rival<'a>(
    domain: &SendingDomain,
    claims: &'a [Arc<SendingDomain>],
) -> Option<&'a Arc<SendingDomain>> {
    claims
        .iter()
        .filter(|other| {
            other.spec.domain == domain.spec.domain && other.spec.pool_ref == domain.spec.pool_ref
        })
        .min_by_key(|other| age(other))
        .filter(|oldest| age(oldest) < age(domain))
}

/// True when `domain` names another pool than `pool`, which may have mail of it from before.
#[must_use]
pub fn has_left(pool: &str, domain: &SendingDomain) -> bool {
    let known = domain.status.as_ref().map(|status| status.pools.iter());
    domain.spec.pool_ref.name != pool && known.is_some_and(|mut all| all.any(|p| p.name == pool))
}

/// Those that the pool `pool` serves, by domain, out of `known`: the SendingDomains of its
/// namespace that name it or have left it, or more.
#[must_use]
pub fn served(pool: &str, known: &[Arc<SendingDomain>]) -> Vec<Arc<SendingDomain>> {
    let mut first: BTreeMap<&DomainName, (Rank, &Arc<SendingDomain>)> = BTreeMap::new();
    for domain in known {
        let Some(rank) = rank(pool, domain) else {
            continue;
        };
        match first.entry(&domain.spec.domain) {
            Entry::Vacant(entry) => {
                entry.insert((rank, domain));
            }
            Entry::Occupied(mut entry) if rank < entry.get().0 => {
                entry.insert((rank, domain));
            }
            Entry::Occupied(_) => {}
        }
    }
    let first = first.into_values();
    first.map(|(_, domain)| domain.clone()).collect()
}

/// Whether the pool `pool` serves `domain`; `claims` are the SendingDomains of the same domain in the
/// namespace, or more.
#[must_use]
pub fn serves(pool: &str, domain: &SendingDomain, claims: &[Arc<SendingDomain>]) -> bool {
    let Some(own) = rank(pool, domain) else {
        return false;
    };
    let mut others = claims
        .iter()
        .filter(|other| other.spec.domain == domain.spec.domain);
    !others.any(|other| rank(pool, other).is_some_and(|rank| rank < own))
}

/// How a SendingDomain stands to a pool; of several of a domain the least is served.
type Rank = (Standing, (Option<Time>, String));

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Named,
    Left,
}

/// `None`: the pool has nothing to do with it.
fn rank(pool: &str, domain: &SendingDomain) -> Option<Rank> {
    let standing = match domain.spec.pool_ref.name == pool {
        true => Standing::Named,
        false if has_left(pool, domain) => Standing::Left,
        false => return None,
    };
    Some((standing, age(domain)))
}

fn age(domain: &SendingDomain) -> (Option<Time>, String) {
    (domain.creation_timestamp(), domain.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn domain(name: &str, created: &str, domain: &str, pool: &str) -> Arc<SendingDomain> {
        let object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name, "namespace": "mail", "creationTimestamp": created},
            "spec": {"domain": domain, "poolRef": {"name": pool}},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn the_oldest_claim_wins_within_a_pool() {
        const OLD: &str = "2026-01-01T00:00:00Z";
        const NEW: &str = "2026-02-01T00:00:00Z";
        let all = [
            domain("late", NEW, "example.com", "a"),
            domain("zed", OLD, "example.com", "a"),
            domain("ann", OLD, "example.com", "a"),
            domain("elsewhere", NEW, "example.com", "b"),
            domain("other", NEW, "example.org", "a"),
        ];
        let rivals: Vec<Option<String>> = all
            .iter()
            .map(|d| rival(d, &all).map(|r| r.name_any()))
            .collect();
        let ann = Some("ann".to_owned());
        assert_eq!(rivals, [ann.clone(), ann, None, None, None]);
        let names: Vec<String> = served("a", &all).iter().map(|d| d.name_any()).collect();
        assert_eq!(names, ["ann", "other"]);
        let served: Vec<bool> = all.iter().map(|d| serves("a", d, &all)).collect();
        assert_eq!(served, [false, false, true, false, true]);
    }

    /// `domain`, which has left the pools `left`.
    fn moved(domain: Arc<SendingDomain>, left: &[&str]) -> Arc<SendingDomain> {
        let mut domain = Arc::unwrap_or_clone(domain);
        let pools = left.iter().map(|pool| json!({"name": pool}));
        let status = json!({"pools": pools.collect::<Vec<_>>()});
        domain.status = Some(serde_json::from_value(status).unwrap());
        Arc::new(domain)
    }

    #[test]
    fn one_that_has_left_is_served_unless_another_names_the_pool() {
        const OLD: &str = "2026-01-01T00:00:00Z";
        const NEW: &str = "2026-02-01T00:00:00Z";
        let left = moved(domain("left", OLD, "example.com", "b"), &["a", "b"]);
        let also = moved(domain("also", NEW, "example.com", "c"), &["a", "c"]);
        let newcomer = domain("newcomer", NEW, "example.com", "a");
        let other = domain("other", NEW, "example.org", "a");
        let names = |pool: &str, all: &[Arc<SendingDomain>]| -> Vec<String> {
            let names: Vec<String> = served(pool, all).iter().map(|d| d.name_any()).collect();
            for domain in all {
                let expected = names.contains(&domain.name_any());
                assert_eq!(serves(pool, domain, all), expected, "{}", domain.name_any());
            }
            names
        };
        let two = [also.clone(), left.clone(), other.clone()];
        assert_eq!(names("a", &two), ["left", "other"]);
        assert_eq!(names("b", &two), ["left"]);
        assert_eq!(names("c", &two), ["also"]);
        let all = [also, left, other, newcomer];
        assert_eq!(names("a", &all), ["newcomer", "other"]);
        assert_eq!(names("b", &all), ["left"]);
    }
}
