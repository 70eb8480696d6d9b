//! Everything that is known of a SendingDomain besides DNS, from the caches.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use postrider_crds::{DomainName, Duration, SendingDomain};

use super::{
    Findings, KeyFacts, Observation, PoolFacts, Read, UnusableKey, senders::sender_problems,
};
use crate::{
    Context, Error,
    dns::Sight,
    keys,
    relay_pool::{
        domains,
        loaded::{PoolKey, PoolState},
        reverse,
    },
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
    let (reach, (keys, unusable_keys)) = ctx.loaded.with(&pool_key, |state| {
        let reach = state.reach(&domain.spec.domain, &uid, generation);
        (reach, own_keys(&domain.spec.domain, &owned, state))
    });
    Ok(Observation {
        name: domain.name_any(),
        uid,
        generation,
        spec: domain.spec.clone(),
        previous: domain.status.clone().unwrap_or_default(),
        reverse: pool
            .as_deref()
            .and_then(|pool| reverse::known(pool, &ctx.pool_looks)),
        pool: pool.as_deref().map(PoolFacts::from),
        rival,
        keys,
        unusable_keys,
        sender_problems,
        reach,
        findings: Findings::default(),
        delegated: BTreeMap::new(),
        tsig: tsig(domain, &namespace, &ctx.stores),
        closing: None,
        floor: seconds(ctx.settings.dns.propagation_minimum),
        trust_resolver_after: ctx.settings.dns.trust_resolver_after.map(seconds),
    })
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// The version of the Secret that `spec.publish.rfc2136` names.
fn tsig(domain: &SendingDomain, namespace: &str, stores: &Stores) -> Option<String> {
    let publish = domain.spec.publish.as_ref()?;
    let name = &publish.rfc2136.as_ref()?.tsig_secret_ref.name;
    let secret = stores::get(&stores.secrets, namespace, name)?;
    secret.resource_version()
}

/// The keys of `domain` among `owned`, by algorithm and selector, and what is wrong with the Secrets that
/// hold none; `pool` is what its pool has loaded.
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
