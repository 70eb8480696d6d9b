//! Senders of domains that share a pool, and of some that do not.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::*;

fn domain(name: &str, domain: &str, pool: &str, sender: &str) -> SendingDomain {
    serde_json::from_value(json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
        "metadata": {"name": name, "namespace": "mail"},
        "spec": {"domain": domain, "poolRef": {"name": pool},
                 "senders": [{"secretRef": {"name": sender}}]},
    }))
    .unwrap()
}

fn login(name: &str, created: &str, username: &str) -> Secret {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "mail", "creationTimestamp": created},
        "data": {"username": username, "password": "cGFzc3dvcmQ="},
    }))
    .unwrap()
}

/// "same" and "else", as Secrets hold them.
const SAME: &str = "c2FtZQ==";
const ELSE: &str = "ZWxzZQ==";

/// What each domain is told of its senders is what the pool, which looks at all, comes to.
#[test]
fn a_domain_and_its_pool_agree_on_senders() {
    let domains = [
        domain("a", "a.example", "one", "young"),
        domain("b", "b.example", "one", "old"),
        domain("c", "c.example", "one", "other"),
        domain("d", "d.example", "one", "missing"),
        domain("e", "e.example", "two", "oldest"),
        domain("f", "f.example", "two", "young"),
        // Its rival "a" has the domain, so what it names does not count.
        domain("z", "a.example", "one", "oldest"),
    ];
    let secrets = [
        login("young", "2026-03-01T00:00:00Z", SAME),
        login("old", "2026-02-01T00:00:00Z", SAME),
        login("oldest", "2026-01-01T00:00:00Z", SAME),
        login("other", "2026-01-01T00:00:00Z", ELSE),
    ];
    let stores = Stores::holding(&domains, &secrets);
    let all: Vec<_> = domains.iter().cloned().map(Arc::new).collect();
    let mut conflicts = 0;
    for domain in &domains[..6] {
        let served = domains::served(&domain.spec.pool_ref.name, &all);
        let secret = |name: &str| stores::get(&stores.secrets, "mail", name);
        let pool = senders(credentials::named(&served), secret);
        let own = &domain.spec.senders[0].secret_ref.name;
        let expected: Vec<_> = pool.problems.get(own).cloned().into_iter().collect();
        let told = sender_problems(domain, "mail", &stores);
        assert_eq!(told, expected, "{}", domain.name_any());
        conflicts += told.len();
    }
    assert_eq!(conflicts, 3, "young in both pools, and the missing one");
}
