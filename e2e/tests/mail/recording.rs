//! Every version an object goes through, as a watch of the API server shows them.
//!
//! Guarantees: the watch begins before [`Recording::start`] returns, and no version is left out.
//! Versions of all recordings are in one order, that of their `resourceVersion`, since they come
//! from one store.
//!
//! Assumptions: the kind's definition stays as it is, [`Stage::same_definitions`]; a change ends the
//! recording.
//!
//! [`Stage::same_definitions`]: crate::support::Stage::same_definitions

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams, WatchEvent, WatchParams},
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

/// How long a watch lasts, in seconds, before the next goes on from its end.
const WATCH_SECONDS: u32 = 290;

/// The versions of the objects watched, growing; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Recording {
    seen: watch::Receiver<Vec<Value>>,
    task: JoinHandle<()>,
}

impl Recording {
    /// Watches the objects of `api`.
    pub(crate) async fn start(api: Api<DynamicObject>) -> Self {
        let listed = api.list(&ListParams::default().limit(1)).await;
        let from = listed.expect("listed").metadata.resource_version;
        let mut from = from.expect("a version");
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        let mut watched = api.watch(&params, &from).await.expect("watched").boxed();
        let (versions, seen) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            loop {
                let Some(event) = watched.try_next().await.expect("an unbroken watch") else {
                    watched = api.watch(&params, &from).await.expect("watched").boxed();
                    continue;
                };
                let object = match event {
                    WatchEvent::Added(object)
                    | WatchEvent::Modified(object)
                    | WatchEvent::Deleted(object) => object,
                    WatchEvent::Bookmark(mark) => {
                        from = mark.metadata.resource_version;
                        continue;
                    }
                    WatchEvent::Error(error) => panic!("{error:?}"),
                };
                from = object.resource_version().expect("a version");
                let object = serde_json::to_value(object).expect("JSON");
                versions.send_modify(|all: &mut Vec<Value>| all.push(object));
            }
        });
        Self { seen, task }
    }

    /// All versions so far, oldest first.
    pub(crate) fn versions(&self) -> Vec<Value> {
        self.seen.borrow().clone()
    }

    /// Waits, for `bound` at most, until the version `resource_version` or a later one is recorded;
    /// returns all up to it.
    pub(crate) async fn until(&self, resource_version: u64, bound: Duration) -> Vec<Value> {
        let mut seen = self.seen.clone();
        let there = seen.wait_for(|all| {
            all.last()
                .is_some_and(|last| version(last) >= resource_version)
        });
        let waited = tokio::time::timeout(bound, there).await;
        let all = waited.expect("recorded in time").expect("a watch").clone();
        all.into_iter()
            .filter(|one| version(one) <= resource_version)
            .collect()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where `object` is in the order of all versions.
pub(crate) fn version(object: &Value) -> u64 {
    let text = object.pointer("/metadata/resourceVersion");
    let number = text.and_then(Value::as_str).map(str::parse);
    number.expect("a version").expect("a number")
}
