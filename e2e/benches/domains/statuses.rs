//! What the API says of the domains, followed by a watch, with the time each news came.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use postrider_crds::{KeyState, SendingDomain, condition::types};
use postrider_e2e::cluster::Stopwatch;
use tokio::task::JoinHandle;

use crate::ground::NAMESPACE;

/// What is known of a domain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The generation its status speaks of.
    pub(crate) observed: i64,
    /// Whether it is Ready.
    pub(crate) ready: bool,
    /// The least state of its keys that are on their way or sign, if there are as many as wanted.
    pub(crate) keys: Option<KeyState>,
    /// The records of its keys, by owner name.
    pub(crate) records: Vec<(String, String)>,
}

/// Follows all domains until it is dropped.
pub(crate) struct Statuses {
    seen: Arc<Mutex<HashMap<String, Seen>>>,
    task: JoinHandle<()>,
}

impl Statuses {
    /// Follows the domains that `client` sees.
    pub(crate) fn follow(client: &Client) -> Self {
        let api: Api<SendingDomain> = Api::namespaced(client.clone(), NAMESPACE);
        let seen = Arc::<Mutex<HashMap<String, Seen>>>::default();
        let kept = seen.clone();
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let Ok(watcher::Event::Apply(domain) | watcher::Event::InitApply(domain)) = event
                else {
                    continue;
                };
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.insert(domain.name_any(), read(&domain));
            }
        });
        Self { seen, task }
    }

    /// How many domains are as `wanted`.
    pub(crate) fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.values().filter(|seen| wanted(seen)).count()
    }

    /// What is known of `name`.
    pub(crate) fn of(&self, name: &str) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(name).cloned().unwrap_or_default()
    }

    /// The records of all keys.
    pub(crate) fn key_records(&self) -> Vec<(String, String)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let records = seen.values().flat_map(|seen| seen.records.clone());
        records.collect()
    }

    /// Waits until `name` is as `wanted`, looking every millisecond; gives up after `bound`.
    pub(crate) async fn until(
        &self,
        name: &str,
        bound: Duration,
        wanted: impl Fn(&Seen) -> bool,
    ) -> Option<()> {
        let watch = Stopwatch::start();
        while watch.elapsed() < bound {
            if wanted(&self.of(name)) {
                return Some(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    }
}

impl Drop for Statuses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read(domain: &SendingDomain) -> Seen {
    let Some(status) = &domain.status else {
        return Seen::default();
    };
    let ready = status.conditions.iter().find(|c| c.type_ == types::READY);
    let on_their_way = status.dkim.active.iter().chain(&status.dkim.pending);
    let states: Vec<KeyState> = on_their_way.map(|key| key.state).collect();
    let all = states.len() == domain.spec.dkim.keys.len();
    let records = status.records.iter();
    let records = records.filter(|record| record.name.contains("._domainkey."));
    Seen {
        observed: status.observed_generation.unwrap_or(-1),
        ready: ready.is_some_and(|ready| ready.status == "True"),
        keys: states.into_iter().min().filter(|_| all),
        records: records
            .map(|record| (record.name.clone(), record.wanted.clone()))
            .collect(),
    }
}
