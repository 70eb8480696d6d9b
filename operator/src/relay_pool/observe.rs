//! Reads the world of one pool from the caches. Nothing is decided here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod, Secret},
};
use kube::{Resource, ResourceExt as _, runtime::reflector::Store};
use postrider_crds::{
    RelayPool, SendingDomain,
    relay_config::{Credentials, KEYRING_SHARDS, shard_of},
};

use super::{
    QueueWritten,
    build::RelayImage,
    certificates::Certificates,
    credentials::{self, Senders},
    dns::PoolLook,
    domains,
    kept_keys::kept_keys,
    loaded::{PoolKey, PoolState},
};
use crate::{
    Context,
    keys::DkimKey,
    names::{POOL_LABEL, SUPPRESSION_SHARD_LABEL},
    refusal::Refusal,
    stores::{self, Term, Undecodable},
};

/// All that a pool's plan depends on.
#[derive(Clone)]
pub struct Observation {
    /// Wall time.
    pub now: Timestamp,
    /// The pool.
    pub pool: Arc<RelayPool>,
    /// What relays are run from.
    pub image: RelayImage,
    /// Resolvers the relays are to use.
    pub resolvers: Vec<SocketAddr>,
    /// The StatefulSet, if there is one.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// The pods.
    pub pods: Vec<Arc<Pod>>,
    /// The volumes.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// The pool's own Secrets, by name.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// The SendingDomains it serves, by domain.
    pub domains: Vec<Arc<SendingDomain>>,
    /// Usable DKIM keys that these SendingDomains own.
    pub keys: Vec<Arc<DkimKey>>,
    /// Who may log in.
    pub senders: Senders,
    /// Their verifiers.
    pub credentials: Credentials,
    /// Names of the SuppressionLists that exist.
    pub lists: BTreeSet<String>,
    /// What the pool depends on and nobody here can decode.
    pub undecodable: Unread,
    /// The certificates.
    pub certificates: Certificates,
    /// What DNS says of the names given in EHLO and of the egress addresses.
    pub look: PoolLook,
    /// Why pods are not made or do not run, if that is known.
    pub hindered_pods: Option<Refusal>,
    /// What the relays report.
    pub state: PoolState,
    /// Octets of keyring that may be written now.
    pub allowance: usize,
    /// The depth of the queue as it was last written to the status.
    pub queue_written: Option<QueueWritten>,
}

/// What a pool depends on that is there and cannot be decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Kind, name and what is wrong, of each.
    pub objects: Vec<(&'static str, String, String)>,
    /// Shards of the keyring that hold domains of which no version is known.
    pub shards: BTreeSet<u32>,
    /// The Secrets of these domains' senders.
    senders: BTreeSet<String>,
    /// Names of lists.
    lists: BTreeSet<String>,
}

impl Unread {
    fn of(ctx: &Context, pool: &RelayPool, namespace: &str) -> Self {
        let mut unread = Self::default();
        let named = |list: &Undecodable| {
            let mut lists = pool.spec.suppression_lists.iter();
            lists.any(|l| l.name == list.name)
        };
        for list in ctx.stores.undecodable_lists.of(namespace) {
            if named(&list) {
                unread.lists.insert(list.name.clone());
                unread.note("SuppressionList", list.name, list.error);
            }
        }
        let pool = pool.name_any();
        for domain in ctx.stores.undecodable_domains.of(namespace) {
            if domain.pool.as_ref().is_some_and(|of| *of != pool) {
                continue;
            }
            // While the last good version is in the cache, that is what counts.
            if stores::get(&ctx.stores.domains, namespace, &domain.name).is_none() {
                match &domain.domain {
                    Some(domain) => unread.shards.extend([shard_of(domain)]),
                    None => unread.shards.extend(0..KEYRING_SHARDS),
                }
                unread.senders.extend(domain.senders);
            }
            unread.note("SendingDomain", domain.name, domain.error);
        }
        unread
    }

    /// This, and all that has to stay for the sake of `earlier`: between two looks an object may
    /// have been decoded.
    fn after(mut self, earlier: Self) -> Self {
        self.shards.extend(earlier.shards);
        self.senders.extend(earlier.senders);
        self.lists.extend(earlier.lists);
        self
    }

    fn note(&mut self, kind: &'static str, name: String, error: String) {
        self.objects.push((kind, name, error));
    }
}

/// Namespace and name of `pool`.
#[must_use]
pub fn key(pool: &RelayPool) -> PoolKey {
    PoolKey {
        namespace: pool.namespace().unwrap_or_default(),
        name: pool.name_any(),
    }
}

/// Reads the caches for `pool`; `in_force` are its keyrings of which the caches do not have enough.
#[must_use]
pub fn observe(
    ctx: &Context,
    pool: Arc<RelayPool>,
    (certificates, look, hindered_pods): (Certificates, PoolLook, Option<Refusal>),
    in_force: &BTreeMap<String, Arc<Secret>>,
) -> Observation {
    let key = key(&pool);
    let PoolKey { namespace, name } = &key;
    let pool_term = Term::Pool(name.clone());
    let unread = Unread::of(ctx, &pool, namespace);
    let known: Vec<_> = ctx.stores.domains_with(namespace, &pool_term).collect();
    let served = domains::served(name, &known);
    let secret = |name: &str| stores::get(&ctx.stores.secrets, namespace, name);
    let lists = in_namespace(&ctx.stores.lists, namespace);
    // Once more, after the caches: they may have let go of one since.
    let undecodable = Unread::of(ctx, &pool, namespace).after(unread);
    let mut logins = credentials::named(&served);
    logins.extend(undecodable.senders.iter().map(String::as_str));
    let senders = credentials::senders(logins, secret);
    let credentials = ctx.verifiers.credentials(namespace, &senders, secret);
    let secrets = ctx.stores.secrets_by.find(namespace, &pool_term);
    let own = secrets.into_iter().filter(|secret| is_own(&pool, secret));
    let secrets = own.map(|secret| (secret.name_any(), secret)).collect();
    let mut keys: Vec<Arc<DkimKey>> = served.iter().flat_map(|d| usable_keys(ctx, d)).collect();
    keys.extend(kept_keys(name, &served, &keys, in_force));
    let mut lists: BTreeSet<String> = lists.iter().map(|list| list.name_any()).collect();
    lists.extend(undecodable.lists.iter().cloned());
    Observation {
        now: ctx.now(),
        image: RelayImage {
            reference: ctx.settings.relay_image.clone(),
            pull_secrets: ctx.settings.relay_image_pull_secrets.clone(),
        },
        resolvers: ctx.settings.resolvers.clone(),
        stateful_set: stores::get(&ctx.stores.stateful_sets, namespace, name),
        pods: of_pool(&ctx.stores.pods, &key),
        claims: of_pool(&ctx.stores.claims, &key),
        secrets,
        keys,
        domains: served,
        senders,
        credentials,
        lists,
        undecodable,
        certificates,
        look,
        hindered_pods,
        state: ctx.loaded.state(&key),
        allowance: ctx.paces.allowance(&key, ctx.clock.monotonic()),
        queue_written: ctx.queues_written.get(&key),
        pool,
    }
}

/// Whether `secret`, which is labelled as `pool`'s, is: another of its name had them before.
fn is_own(pool: &RelayPool, secret: &Secret) -> bool {
    let mut owners = secret.owner_references().iter();
    owners.any(|owner| Some(&owner.uid) == pool.metadata.uid.as_ref())
}

/// The usable keys of `domain`.
fn usable_keys(ctx: &Context, domain: &SendingDomain) -> Vec<Arc<DkimKey>> {
    let (namespace, uid) = (domain.namespace(), domain.uid().unwrap_or_default());
    let namespace = namespace.unwrap_or_default();
    let owned = ctx.stores.keys.owned(&namespace, &domain.name_any(), &uid);
    let usable = owned.iter().filter_map(|kept| kept.key.as_ref().ok());
    usable.map(|usable| usable.key.clone()).collect()
}

/// The suppression shard that `secret` holds, by its label.
#[must_use]
pub fn suppression_shard(secret: &Secret) -> Option<u32> {
    secret.labels().get(SUPPRESSION_SHARD_LABEL)?.parse().ok()
}

/// The objects of a namespace.
pub(crate) fn in_namespace<K>(store: &Store<K>, namespace: &str) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state_filter(|object| object.meta().namespace.as_deref() == Some(namespace))
}

/// The objects labelled as the pool's, by name.
pub(crate) fn of_pool<K>(store: &Store<K>, pool: &PoolKey) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut objects = store.state_filter(|object| {
        object.meta().namespace.as_deref() == Some(&pool.namespace)
            && object.labels().get(POOL_LABEL) == Some(&pool.name)
    });
    objects.sort_by_key(|object| object.name_any());
    objects
}
