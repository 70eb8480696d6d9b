//! The caches: every object the controllers look at, kept current by one watch a kind and scope.
//!
//! Guarantees: controllers read these and never list. A change wakes whoever depends on the object
//! ([`triggers`]); after a watch had to start over, everything is woken, since what was missed is
//! not known. Who depends on what is found by indexes over the caches ([`Index`]), so that neither
//! a change nor a reconciliation looks at all objects. An object that cannot be decoded is skipped
//! with a log line: the last good version of it stays until the watch starts over, and that it is
//! there is known for longer ([`Undecodables`]). It cannot stop a watch. Secrets nobody here reads
//! are not even listed.

mod cache;
mod domain;
mod index;
pub mod keys;
mod packed;
mod triggers;
mod undecodable;

use std::{collections::BTreeSet, fmt::Debug, pin::pin, sync::Arc};

use futures::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use postrider_crds::{RelayPool, SendingDomain, SuppressionList};
use serde::de::DeserializeOwned;
use tokio::{sync, task::JoinSet};

use crate::{
    names::POOL_LABEL,
    queues::{Queues, Trigger},
};

pub use cache::kept;
use cache::{Cache, Change, Keeps, SecretCache};
use domain::DomainCache;
pub use domain::KeptDomain;
pub use index::{Index, Term};
use keys::Keys;
use undecodable::{Guard, Invalid, UndecodablesWriter};
pub use undecodable::{Undecodable, Undecodables};

/// Caches of a scope.
const KINDS: usize = 11;
/// Objects of a page of a list. Those of which there are thousands take some 10 kB each while they are
/// read, several times over.
const PAGE: u32 = 100;
/// The same of Secrets: keyrings, of up to 1 MiB each, come one after the other.
const SECRETS_PAGE: u32 = 25;
/// Leaves out the Secrets that are large or many and that nothing here refers to.
const SECRETS_READ: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token";

/// Caches of one scope.
#[derive(Clone)]
pub struct Stores {
    /// RelayPools.
    pub pools: Store<RelayPool>,
    /// SendingDomains.
    pub domains: Store<KeptDomain>,
    /// SuppressionLists.
    pub lists: Store<SuppressionList>,
    /// SuppressionLists that are there and cannot be decoded.
    pub undecodable_lists: Undecodables,
    /// The same of SendingDomains.
    pub undecodable_domains: Undecodables,
    /// SendingDomains by domain, pool and sender.
    pub domains_by: Index<KeptDomain>,
    /// Secrets that are no DKIM keys, as [`kept`].
    pub secrets: Store<Secret>,
    /// Of these by pool and user name.
    pub secrets_by: Index<Secret>,
    /// DKIM keys.
    pub keys: Keys,
    /// All ConfigMaps.
    pub config_maps: Store<ConfigMap>,
    /// Pods of pools.
    pub pods: Store<Pod>,
    /// StatefulSets of pools.
    pub stateful_sets: Store<StatefulSet>,
    /// Services of pools.
    pub services: Store<Service>,
    /// ServiceAccounts of pools.
    pub service_accounts: Store<ServiceAccount>,
    /// PodDisruptionBudgets of pools.
    pub budgets: Store<PodDisruptionBudget>,
    /// Volumes of pools.
    pub claims: Store<PersistentVolumeClaim>,
    /// How many caches have been filled.
    filled: sync::watch::Receiver<usize>,
}

/// The writing ends of [`Stores`].
pub struct Writers {
    pools: Writer<RelayPool>,
    domains: Writer<KeptDomain>,
    lists: Writer<SuppressionList>,
    secrets: Writer<Secret>,
    config_maps: Writer<ConfigMap>,
    pods: Writer<Pod>,
    stateful_sets: Writer<StatefulSet>,
    services: Writer<Service>,
    service_accounts: Writer<ServiceAccount>,
    budgets: Writer<PodDisruptionBudget>,
    claims: Writer<PersistentVolumeClaim>,
    filled: sync::watch::Sender<usize>,
}

/// The watches ended before the caches were filled: the process is stopping.
#[derive(Debug, thiserror::Error)]
#[error("watches ended before the caches were filled")]
pub struct Stopped;

impl Stores {
    /// Empty caches and what fills them.
    #[must_use]
    pub fn new() -> (Self, Writers) {
        let (pools, pool_writer) = reflector::store();
        let (domains, domain_writer) = reflector::store();
        let (lists, list_writer) = reflector::store();
        let (secrets, secret_writer) = reflector::store();
        let (config_maps, config_map_writer) = reflector::store();
        let (pods, pod_writer) = reflector::store();
        let (stateful_sets, stateful_set_writer) = reflector::store();
        let (services, service_writer) = reflector::store();
        let (service_accounts, service_account_writer) = reflector::store();
        let (budgets, budget_writer) = reflector::store();
        let (claims, claim_writer) = reflector::store();
        let (fill, filled) = sync::watch::channel(0);
        let stores = Self {
            pools,
            domains_by: Index::new(
                domains.clone(),
                |kept| index::of_domain(&kept.object),
                |kept, term| index::holds_for_domain(&kept.object, term),
            ),
            domains,
            lists,
            undecodable_lists: Undecodables::default(),
            undecodable_domains: Undecodables::default(),
            secrets_by: Index::new(secrets.clone(), index::of_secret, index::holds_for_secret),
            secrets,
            keys: Keys::default(),
            config_maps,
            pods,
            stateful_sets,
            services,
            service_accounts,
            budgets,
            claims,
            filled,
        };
        let writers = Writers {
            pools: pool_writer,
            domains: domain_writer,
            lists: list_writer,
            secrets: secret_writer,
            config_maps: config_map_writer,
            pods: pod_writer,
            stateful_sets: stateful_set_writer,
            services: service_writer,
            service_accounts: service_account_writer,
            budgets: budget_writer,
            claims: claim_writer,
            filled: fill,
        };
        (stores, writers)
    }

    /// Caches that hold these objects.
    #[cfg(test)]
    pub(crate) fn holding(domains: &[SendingDomain], secrets: &[Secret]) -> Self {
        let (stores, writers) = Self::new();
        let mut cache = DomainCache::new(writers.domains, &stores.domains_by);
        for domain in domains {
            cache.apply(&Event::Apply(domain.clone()));
        }
        let mut cache = Cache::indexed(writers.secrets, &stores.secrets_by);
        for secret in secrets {
            cache.apply(&Event::Apply(secret.clone()));
        }
        stores
    }

    /// The SendingDomains of `namespace` that `term` holds for, by name, one at a time, each with as
    /// much of its status as [`KeptDomain::object`] has.
    pub fn domains_with<'a>(
        &'a self,
        namespace: &'a str,
        term: &'a Term,
    ) -> impl Iterator<Item = Arc<SendingDomain>> + 'a {
        let kept = self.domains_by.each(namespace, term);
        kept.map(|kept| kept.object.clone())
    }

    /// Waits until every cache holds all that there is. Any number of tasks may wait, which
    /// `Store::wait_until_ready` does not offer: it wakes only the last that asked.
    ///
    /// # Errors
    ///
    /// When a watch has ended instead.
    pub async fn filled(&self) -> Result<(), Stopped> {
        let mut filled = self.filled.clone();
        let all = filled.wait_for(|count| *count == KINDS).await;
        all.map(|_| ()).map_err(|_| Stopped)
    }
}

/// The object of this namespace and name in `store`.
#[must_use]
pub fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

/// Starts the watches of a scope.
pub struct Watches {
    /// The client to watch with.
    pub client: Client,
    /// The namespace; `None`: all.
    pub namespace: Option<String>,
    /// For telling who depends on a changed object.
    pub stores: Stores,
    /// Whom to wake.
    pub queues: Queues,
}

impl Watches {
    /// Spawns every watch on `tasks`; they end when aborted.
    pub fn start(&self, writers: Writers, tasks: &mut JoinSet<()>) {
        let fill = &writers.filled;
        let all = watcher::Config::default().page_size(PAGE);
        let secrets = all.clone().page_size(SECRETS_PAGE).fields(SECRETS_READ);
        let domains = DomainCache::new(writers.domains, &self.stores.domains_by);
        let others = Cache::indexed(writers.secrets, &self.stores.secrets_by);
        let secret_cache = SecretCache::new(self.stores.keys.clone(), others);
        let (pools, lists) = (Cache::from(writers.pools), Cache::from(writers.lists));
        let nobody_asks = Undecodables::default;
        let of_pools = (nobody_asks(), triggers::of_pool as Dependants<_>);
        tasks.spawn(self.watch(pools, fill, all.clone(), of_pools));
        let of_domains = self.stores.undecodable_domains.clone();
        let of_domains = (of_domains, triggers::of_domain as Dependants<_>);
        tasks.spawn(self.watch(domains, fill, all.clone(), of_domains));
        let of_lists = self.stores.undecodable_lists.clone();
        let of_lists = (of_lists, triggers::of_list as Dependants<_>);
        tasks.spawn(self.watch(lists, fill, all.clone(), of_lists));
        let of_secrets = (nobody_asks(), triggers::of_secret as Dependants<_>);
        tasks.spawn(self.watch(secret_cache, fill, secrets, of_secrets));
        let config_maps = Cache::from(writers.config_maps);
        let of_config_maps = (nobody_asks(), triggers::of_config_map as Dependants<_>);
        tasks.spawn(self.watch(config_maps, fill, all, of_config_maps));
        tasks.spawn(self.children(writers.pods, fill));
        tasks.spawn(self.children(writers.stateful_sets, fill));
        tasks.spawn(self.children(writers.services, fill));
        tasks.spawn(self.children(writers.service_accounts, fill));
        tasks.spawn(self.children(writers.budgets, fill));
        tasks.spawn(self.children(writers.claims, fill));
    }

    /// A watch of what belongs to pools.
    fn children<K>(
        &self,
        writer: Writer<K>,
        fill: &sync::watch::Sender<usize>,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let of_pools = watcher::Config::default().labels(POOL_LABEL);
        let dependants = (Undecodables::default(), triggers::of_child as Dependants<_>);
        self.watch(Cache::from(writer), fill, of_pools, dependants)
    }

    fn watch<K>(
        &self,
        mut cache: impl Keeps<K>,
        fill: &sync::watch::Sender<usize>,
        config: watcher::Config,
        (undecodable, dependants): (Undecodables, Dependants<K>),
    ) -> impl Future<Output = ()> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let api: Api<Guard<K>> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let (stores, queues) = (self.stores.clone(), self.queues.clone());
        let mut unfilled = Some(fill.clone());
        let mut undecodable = UndecodablesWriter::new(undecodable);
        async move {
            let mut events = pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => {
                        tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted");
                        continue;
                    }
                };
                undecodable.apply(&event);
                let event = match decoded(event) {
                    Ok(event) => event,
                    Err(namespace) => {
                        for trigger in triggers::of_undecodable(&namespace, &stores) {
                            queues.send(trigger).await;
                        }
                        continue;
                    }
                };
                let before = cache.before(&event);
                let change = cache.apply(&event);
                undecodable.decoded(&event);
                if matches!(event, Event::InitDone)
                    && let Some(fill) = unfilled.take()
                {
                    fill.send_modify(|count| *count += 1);
                }
                let mut woken = woken_by(&event, change, &stores, dependants);
                // Who depended on it has to learn that nothing is to be had of it any more.
                woken.extend(before.iter().flat_map(|k| dependants(k, change, &stores)));
                for trigger in woken {
                    queues.send(trigger).await;
                }
            }
        }
    }
}

/// Who depends on a changed object.
type Dependants<K> = fn(&K, Change, &Stores) -> BTreeSet<Trigger>;

/// `event` with its object, without what nobody reads; of an object that is undecodable, its
/// namespace.
fn decoded<K: Resource<DynamicType = ()>>(event: Event<Guard<K>>) -> Result<Event<K>, String> {
    match event {
        Event::Init => Ok(Event::Init),
        Event::InitDone => Ok(Event::InitDone),
        Event::Apply(guard) => usable(guard).map(Event::Apply),
        Event::InitApply(guard) => usable(guard).map(Event::InitApply),
        Event::Delete(guard) => usable(guard).map(Event::Delete),
    }
}

fn usable<K: Resource<DynamicType = ()>>(guard: Guard<K>) -> Result<K, String> {
    match guard.0 {
        Ok(mut object) => {
            cache::trim(&mut object);
            Ok(object)
        }
        Err(Invalid {
            metadata, error, ..
        }) => {
            let name = metadata.name.as_deref().unwrap_or_default();
            let namespace = metadata.namespace.unwrap_or_default();
            let kind = K::kind(&());
            tracing::warn!(%kind, namespace, name, error, "object skipped");
            Err(namespace)
        }
    }
}

fn woken_by<K: Clone>(
    event: &Event<K>,
    change: Change,
    stores: &Stores,
    dependants: Dependants<K>,
) -> BTreeSet<Trigger> {
    match event {
        // Filling: one InitDone follows and wakes everything.
        Event::Init | Event::InitApply(_) => BTreeSet::new(),
        Event::InitDone => BTreeSet::from([Trigger::Everything]),
        Event::Apply(object) | Event::Delete(object) => dependants(object, change, stores),
    }
}
