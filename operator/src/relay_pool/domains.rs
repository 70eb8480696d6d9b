//! Which SendingDomains a pool serves when several claim the same domain.
//!
//! Promises: of those that name the same domain in the same pool the oldest wins (then the first by
//! name), so a newcomer cannot take over a domain that is in use. Both the RelayPool and the
//! SendingDomain controller decide by these functions.

use std::{collections::BTreeMap, sync::Arc};

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

/// Those that the pool `pool` serves, by domain, out of `named`: the SendingDomains of its
/// namespace that name it, or more.
#[must_use]
pub fn served(pool: &str, named: &[Arc<SendingDomain>]) -> Vec<Arc<SendingDomain>> {
    let mut oldest: BTreeMap<&DomainName, &Arc<SendingDomain>> = BTreeMap::new();
    for domain in named
        .iter()
        .filter(|domain| domain.spec.pool_ref.name == pool)
    {
        let first = oldest.entry(&domain.spec.domain).or_insert(domain);
        if age(domain) < age(first) {
            *first = domain;
        }
    }
    oldest.into_values().cloned().collect()
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
    }
}
