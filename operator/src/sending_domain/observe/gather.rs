//! Everything that is known of a SendingDomain besides DNS, from the caches.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use postrider_crds::{DomainName, Duration, RelayPool, SendingDomain};

use super::{
    Findings, KeyFacts, Observation, PoolFacts, Read, UnusableKey, senders::sender_problems,
};
use crate::{
    Context, Error,
    dns::Sight,
    keys,
    relay_pool::{
        domains,
        loaded::{Loaded, PoolKey, PoolState},
        reverse,
    },
    sending_domain::{moving, queued::Verdict},
    stores::{
        self, Stores, Term,
        keys::{KeptKey, UsableKey},
    },
};

/// Pods named in a message; the rest will be named when these are done.
const MAX_LAGGING: usize = 3;

/// Everything but DNS, from the caches of `ctx`.
///
/// # Errors
///
/// When the object lacks what every stored object has.
pub fn gather(domain: &SendingDomain, ctx: &Context) -> Result<Observation, Error> {
    let incomplete = |field| Error::Incomplete {
        object: format!("SendingDomain {}", domain.name_any()),
        field,
    };
    let uid = domain.uid().ok_or_else(|| incomplete("metadata.uid"))?;
    let namespace = domain
        .namespace()
        .ok_or_else(|| incomplete("metadata.namespace"))?;
    let pool_name = &domain.spec.pool_ref.name;
    let pool = stores::get(&ctx.stores.pools, &namespace, pool_name);
    let claim = Term::Domain(domain.spec.domain.clone());
    let claims: Vec<_> = ctx.stores.domains_with(&namespace, &claim).collect();
    let rival = domains::rival(domain, &claims).map(|rival| rival.name_any());
    let sender_problems = match rival {
        Some(_) => Vec::new(),
        None => sender_problems(domain, &namespace, &ctx.stores),
    };
    let pool_key = PoolKey {
        namespace: namespace.clone(),
        name: pool_name.clone(),
    };
    let generation = domain.metadata.generation.unwrap_or_default();
    let owned = ctx.stores.keys.owned(&namespace, &domain.name_any(), &uid);
    let (reach, (mut keys, unusable_keys)) = ctx.loaded.with(&pool_key, |state| {
        let reach = state.reach(&domain.spec.domain, &uid, generation);
        (reach, own_keys(&domain.spec.domain, &owned, state))
    });
    let left = moving::observe(domain, ctx);
    also_released(&mut keys, domain, &left, &ctx.loaded);
    Ok(Observation {
        name: domain.name_any(),
        uid,
        generation,
        spec: domain.spec.clone(),
        previous: domain.status.clone().unwrap_or_default(),
        reverse: pool
            .as_deref()
            .and_then(|pool| reverse::known(pool, &ctx.pool_looks)),
        pool: pool_facts(pool.as_deref(), &left, &namespace, &ctx.stores),
        rival,
        keys,
        unusable_keys,
        sender_problems,
        reach,
        findings: Findings::default(),
        delegated: BTreeMap::new(),
        tsig: tsig(domain, &namespace, &ctx.stores),
        closing: None,
        left,
        floor: seconds(ctx.settings.dns.propagation_minimum),
        trust_resolver_after: ctx.settings.dns.trust_resolver_after.map(seconds),
    })
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// What a domain needs to know of `pool`, which it names, and of those it has left that have mail of it.
fn pool_facts(
    pool: Option<&RelayPool>,
    left: &[Verdict],
    namespace: &str,
    stores: &Stores,
) -> Option<PoolFacts> {
    let waits = left.iter().filter_map(Verdict::wait);
    let others = waits.filter_map(|wait| stores::get(&stores.pools, namespace, &wait.pool));
    let facts = PoolFacts::from(pool?);
    Some(others.fold(facts, |facts, other| facts.beside(&other)))
}

/// `keys` of `domain`, of which a pool that it has left and that has mail of it may have some: those
/// are not let go.
fn also_released(keys: &mut [KeyFacts], domain: &SendingDomain, left: &[Verdict], loaded: &Loaded) {
    for wait in left.iter().filter_map(Verdict::wait) {
        let pool = PoolKey {
            namespace: domain.namespace().unwrap_or_default(),
            name: wait.pool.clone(),
        };
        loaded.with(&pool, |state| {
            for key in &mut *keys {
                key.released &=
                    state.selector_released_everywhere(&domain.spec.domain, &key.selector);
            }
        });
    }
}

/// The version of the Secret that `spec.publish.rfc2136` names.
fn tsig(domain: &SendingDomain, namespace: &str, stores: &Stores) -> Option<String> {
    let publish = domain.spec.publish.as_ref()?;
    let name = &publish.rfc2136.as_ref()?.tsig_secret_ref.name;
    let secret = stores::get(&stores.secrets, namespace, name)?;
    secret.resource_version()
}

/// The keys of `domain` among `owned`, by algorithm and selector, and what is wrong with the
/// Secrets that hold none; `pool` is what its pool has loaded.
fn own_keys(
    domain: &DomainName,
    owned: &[Arc<KeptKey>],
    pool: &PoolState,
) -> (Vec<KeyFacts>, Vec<UnusableKey>) {
    let (mut keys, mut unusable) = (Vec::new(), Vec::new());
    for kept in owned {
        match &kept.key {
            Ok(usable) => keys.push(key_facts(kept, usable, domain, pool)),
            Err(problem) => unusable.push(UnusableKey {
                secret: kept.secret.to_string(),
                problem: problem.clone(),
            }),
        }
    }
    keys.sort_by(|a, b| (a.algorithm, &a.selector).cmp(&(b.algorithm, &b.selector)));
    unusable.sort_by(|a, b| a.secret.cmp(&b.secret));
    (keys, unusable)
}

/// True when `secret` keeps, by its label and owner, a key of `domain` and is there to stay.
pub(in crate::sending_domain) fn owns(domain: &SendingDomain, uid: &str, secret: &Secret) -> bool {
    secret.labels().get(keys::DOMAIN_LABEL) == Some(&domain.name_any())
        && secret
            .owner_references()
            .iter()
            .any(|owner| owner.uid == uid)
        && secret.metadata.deletion_timestamp.is_none()
}

fn key_facts(
    kept: &KeptKey,
    usable: &UsableKey,
    domain: &DomainName,
    pool: &PoolState,
) -> KeyFacts {
    let key = &usable.key;
    let lagging = pool.lagging(domain).into_iter().take(MAX_LAGGING);
    KeyFacts {
        secret: key.secret.clone(),
        selector: key.selector.clone(),
        algorithm: key.algorithm,
        life: key.life.clone(),
        read: Read {
            uid: kept.uid.to_string(),
            version: kept.version.to_string(),
        },
        public: usable.public.clone(),
        loaded: pool.selector_loaded_everywhere(domain, &key.selector),
        released: pool.selector_released_everywhere(domain, &key.selector),
        lagging: lagging.map(str::to_owned).collect(),
        finding: None,
        sight: Sight::NotLooked,
    }
}

#[cfg(test)]
mod tests {
    use postrider_crds::{
        Selector,
        relay_config::{Admission, Intake, KeyAlgorithm, layout, shard_of},
    };
    use serde_json::json;

    use super::*;
    use crate::{
        keys::KeyState,
        relay_pool::{
            keyring::Shard,
            loaded::{Rendered, RenderedDomain},
        },
        sending_domain::{
            plan::tests::{at, key},
            queued::{End, Queue, Wait, Why},
        },
    };

    /// A pool without pods, whose keyring has this key of the domain.
    fn rendered(domain: &DomainName, selector: &Selector) -> Rendered {
        let entry = RenderedDomain {
            uid: "u".into(),
            generation: 1,
            admission: Admission::Send,
            intake: Intake::Closed,
            selectors: Box::from([selector.clone()]),
        };
        let shard = Shard::saying(domain.clone(), entry);
        let document = layout::keyring(shard_of(domain));
        Rendered {
            documents: BTreeMap::from([(document, "d".to_owned())]),
            shards: BTreeMap::from([(shard_of(domain), Arc::new(shard))]),
            ..Rendered::default()
        }
    }

    #[test]
    fn a_key_is_let_go_once_every_pool_that_has_mail_has_let_it_go() {
        let domain: SendingDomain = serde_json::from_value(json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": "d", "namespace": "mail"},
            "spec": {"domain": "example.com", "poolRef": {"name": "new"}},
        }))
        .unwrap();
        let own = key(KeyAlgorithm::Ed25519, KeyState::Retiring);
        let loaded = Loaded::default();
        let pool = PoolKey {
            namespace: "mail".into(),
            name: "old".into(),
        };
        let waiting = Verdict::Waiting(Wait {
            pool: "old".into(),
            queue: Queue::Untold,
            until: at(0),
        });
        let released = |by_the_named: bool, left: &Verdict| {
            let mut keys = [KeyFacts {
                released: by_the_named,
                ..own.clone()
            }];
            also_released(&mut keys, &domain, std::slice::from_ref(left), &loaded);
            keys[0].released
        };
        assert!(!released(true, &waiting), "nothing is known of it");
        loaded.set_rendered(&pool, rendered(&domain.spec.domain, &own.selector));
        assert!(!released(true, &waiting), "it has the key");
        let over = Verdict::Over(End {
            pool: "old".into(),
            why: Why::Empty(Vec::new()),
        });
        assert!(released(true, &over), "it has no mail");
        let other = "pr-other".parse().unwrap();
        loaded.set_rendered(&pool, rendered(&domain.spec.domain, &other));
        assert!(released(true, &waiting));
        assert!(!released(false, &waiting), "the pool it names has the key");
    }
}
