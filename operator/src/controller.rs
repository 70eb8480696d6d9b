//! Runs one controller: takes requests from its queue, reconciles, waits after failures.
//!
//! Guarantees: an object is reconciled by one task at a time; nothing is reconciled before every
//! cache of the scope is filled; a failure is counted, logged once and tried again after a wait
//! that grows; what the API server refuses is also told in the object's status, once; requests that
//! never cease put no object off. When the process stops, reconciliations
//! under way are finished.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream};
use kube::{
    Resource, ResourceExt as _,
    runtime::{
        controller::{Action, Config, Error as ControllerError, applier},
        reflector::{self, ObjectRef, Store},
    },
};

use crate::{
    Context, Error,
    error::Retry,
    metrics::ReconcileResult,
    queues::{Inbox, Request},
    refusal::{self, Cached, Judged},
};

/// Reconciliations of one controller at a time: they wait for the API and for DNS, not for the CPU.
const CONCURRENCY: u16 = 16;
/// Requests that come within this time of the first are taken together, each object once. A debounce
/// would wait for a pause instead, which a pool with thousands of domains at work never gets.
const WINDOW: Duration = Duration::from_millis(100);
/// Wait after somebody else changed an object in between.
const CONFLICT_WAIT: Duration = Duration::from_millis(500);

/// A function that makes the world match one object.
pub type Reconcile<K> = fn(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Action, Error>>;

/// Serves `inbox` until the process stops. `store` is the cache of the controller's own kind.
pub async fn run<K: Cached>(
    ctx: Arc<Context>,
    store: Store<K>,
    inbox: Inbox<K>,
    reconcile: Reconcile<K>,
) {
    if ctx.stores.filled().await.is_err() {
        return;
    }
    let queue = requests(inbox, store.clone(), ctx.clone());
    let config = Config::default().concurrency(CONCURRENCY);
    let measured = move |object: Arc<K>, ctx: Arc<Context>| measure(object, ctx, reconcile);
    let results = applier(measured, wait_after::<K>, ctx.clone(), store, queue, config);
    let mut results = Box::pin(results);
    while let Some(result) = results.next().await {
        match result {
            Ok(_) => {}
            Err(ControllerError::ObjectNotFound(gone)) => {
                let key = (gone.namespace.unwrap_or_default(), gone.name);
                ctx.metrics.forget(K::Of::KIND, &key);
            }
            // Logged where it happened, with the wait that follows.
            Err(ControllerError::ReconcilerFailed(..)) => {}
            Err(error) => tracing::warn!(kind = K::Of::KIND, %error, "controller"),
        }
    }
}

/// The queue as a stream of object references that ends when the process stops.
fn requests<K>(
    inbox: Inbox<K>,
    store: Store<K>,
    ctx: Arc<Context>,
) -> impl Stream<Item = Result<ObjectRef<K>, std::convert::Infallible>>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let stop = ctx.stop.clone();
    let batches = stream::unfold(inbox, |mut inbox| async move {
        let batch = batch(&mut inbox).await?;
        Some((batch, inbox))
    });
    let objects = batches.flat_map(move |batch| stream::iter(batch.objects(&store)));
    objects
        .map(Ok)
        .take_until(async move { stop.cancelled().await })
}

/// Requests taken together.
struct Batch<K: reflector::Lookup<DynamicType = ()> + 'static> {
    objects: HashSet<ObjectRef<K>>,
    all: bool,
}

impl<K> Batch<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    fn of(request: Request<K>) -> Self {
        let mut batch = Self {
            objects: HashSet::new(),
            all: false,
        };
        batch.add(request);
        batch
    }

    fn add(&mut self, request: Request<K>) {
        match request {
            Request::One(object) => {
                self.objects.insert(object);
            }
            Request::All => self.all = true,
        }
    }

    /// Each object once; all of `store` where they are asked for.
    fn objects(mut self, store: &Store<K>) -> Vec<ObjectRef<K>> {
        if self.all {
            let all = store.state();
            let all = all
                .iter()
                .map(|object| ObjectRef::from_obj(object.as_ref()));
            self.objects.extend(all);
        }
        self.objects.into_iter().collect()
    }
}

/// The next request with those that follow it within [`WINDOW`]; `None` when there will be none.
async fn batch<K>(inbox: &mut Inbox<K>) -> Option<Batch<K>>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let mut batch = Batch::of(inbox.0.recv().await?);
    let mut window = pin!(tokio::time::sleep(WINDOW));
    loop {
        tokio::select! {
            biased;
            () = &mut window => return Some(batch),
            request = inbox.0.recv() => match request {
                Some(request) => batch.add(request),
                None => return Some(batch),
            },
        }
    }
}

fn measure<K: Cached>(
    object: Arc<K>,
    ctx: Arc<Context>,
    reconcile: Reconcile<K>,
) -> BoxFuture<'static, Result<Action, Error>> {
    Box::pin(async move {
        let started = ctx.clock.monotonic();
        let uid = object.meta().uid.clone().unwrap_or_default();
        let result = reconcile(object.clone(), ctx.clone()).await;
        let took = ctx.clock.monotonic().saturating_sub(started);
        let label = match &result {
            Ok(_) => {
                ctx.backoff.succeeded(&uid);
                ReconcileResult::Success
            }
            Err(error) => {
                tell(object.as_ref(), error, &ctx).await;
                ReconcileResult::Error
            }
        };
        ctx.metrics.reconciled(K::Of::KIND, label, took);
        result
    })
}

/// Shows in the status of `object` what it is that the API server refuses, if that is the trouble.
async fn tell<K: Cached>(object: &K, error: &Error, ctx: &Context) {
    let Some(refusal) = error.refusal() else {
        return;
    };
    if let Err(error) = refusal::tell(ctx, object, &refusal).await {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        tracing::warn!(kind = K::Of::KIND, namespace, name, %error, "refusal not told");
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the applier hands its error policy owned values"
)]
fn wait_after<K: Cached>(object: Arc<K>, error: &Error, ctx: Arc<Context>) -> Action {
    let wait = match error.retry() {
        Retry::Soon => CONFLICT_WAIT,
        Retry::Backoff => ctx
            .backoff
            .failed(object.meta().uid.as_deref().unwrap_or("")),
    };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(
        kind = K::Of::KIND, namespace, name, reason = error.reason(), %error,
        retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        "reconciliation failed"
    );
    Action::requeue(wait)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use postrider_crds::RelayPool;

    use super::*;
    use crate::queues::{Queues, Trigger};

    /// Names of the objects in a batch, in order.
    fn names(batch: Batch<RelayPool>) -> Vec<String> {
        let (store, _) = reflector::store();
        let mut names: Vec<String> = batch.objects(&store).into_iter().map(|o| o.name).collect();
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_never_cease_put_nobody_off() {
        let (queues, mut inboxes) = Queues::new();
        let noise = async {
            loop {
                for name in ["a", "b"] {
                    let trigger = Trigger::Pool("mail".into(), name.into());
                    queues.send(trigger).await;
                    tokio::time::sleep(WINDOW / 10).await;
                }
            }
        };
        let served = async {
            for _ in 0..3 {
                let batch = batch(&mut inboxes.pools).await.expect("the queue is open");
                assert_eq!(names(batch), ["a", "b"], "each once");
            }
        };
        tokio::select! {
            () = served => {}
            () = noise => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_requests_are_served_and_then_none() {
        let (queues, mut inboxes) = Queues::new();
        queues.send(Trigger::Pool("mail".into(), "a".into())).await;
        queues.send(Trigger::Everything).await;
        drop(queues);
        let last = batch(&mut inboxes.pools).await.expect("two requests");
        assert!(last.all && last.objects.len() == 1);
        assert!(
            batch(&mut inboxes.pools)
                .now_or_never()
                .is_some_and(|b| b.is_none())
        );
    }
}
