//! What is wrong with those who may send as a domain.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use postrider_crds::SendingDomain;

use crate::{
    relay_pool::{
        credentials::{self, SenderProblem, senders},
        domains,
    },
    stores::{self, Stores, Term},
};

/// What is wrong with the senders of `domain`, which its pool serves.
pub(super) fn sender_problems(
    domain: &SendingDomain,
    namespace: &str,
    stores: &Stores,
) -> Vec<SenderProblem> {
    let secret = |name: &str| stores::get(&stores.secrets, namespace, name);
    let own = domain.spec.senders.iter();
    let own: Vec<&str> = own.map(|s| s.secret_ref.name.as_str()).collect();
    let likes: BTreeSet<String> = own
        .iter()
        .filter_map(|name| credentials::username(secret(name)?.as_ref()))
        .flat_map(|username| {
            let term = Term::Username(username);
            stores.secrets_by.find(namespace, &term)
        })
        .map(|secret| secret.name_any())
        .filter(|name| serves_sender(&domain.spec.pool_ref.name, name, namespace, stores))
        .collect();
    let mut names: BTreeSet<&str> = likes.iter().map(String::as_str).collect();
    names.extend(&own);
    let problems = senders(names, secret).problems;
    own.iter()
        .filter_map(|name| problems.get(*name).cloned())
        .collect()
}

/// True when `pool` serves a domain that names `sender`.
fn serves_sender(pool: &str, sender: &str, namespace: &str, stores: &Stores) -> bool {
    let naming = Term::Sender(sender.to_owned());
    // One user may send as each of thousands of domains; any of them will do.
    stores.domains_with(namespace, &naming).any(|domain| {
        let claim = Term::Domain(domain.spec.domain.clone());
        let claims = || stores.domains_with(namespace, &claim).collect::<Vec<_>>();
        let concerns = domain.spec.pool_ref.name == pool || domains::has_left(pool, &domain);
        concerns && domains::serves(pool, &domain, &claims())
    })
}

#[cfg(test)]
mod tests;
