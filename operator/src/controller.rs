//! Runs one controller: takes requests from its queue, reconciles, waits after failures.
//!
//! Guarantees: an object is reconciled by one task at a time; nothing is reconciled before every
//! cache of the scope is filled; a failure is counted, logged once and tried again after a wait
//! that grows. When the process stops, reconciliations under way are finished.

use std::{fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream};
use kube::{
    Resource, ResourceExt as _,
    runtime::{
        controller::{Action, Config, Error as ControllerError, applier},
        reflector::{ObjectRef, Store},
    },
};

use crate::{
    Context, Error,
    error::Retry,
    metrics::ReconcileResult,
    queues::{Inbox, Request},
};

/// Reconciliations of one controller at a time: they wait for the API and for DNS, not for the CPU.
const CONCURRENCY: u16 = 16;
/// Requests for the same object within this time become one.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Wait after somebody else changed an object in between.
const CONFLICT_WAIT: Duration = Duration::from_millis(500);

/// A function that makes the world match one object.
pub type Reconcile<K> = fn(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Action, Error>>;

/// Serves `inbox` until the process stops. `store` is the cache of the controller's own kind.
pub async fn run<K>(ctx: Arc<Context>, store: Store<K>, inbox: Inbox<K>, reconcile: Reconcile<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash,
{
    if ctx.stores.filled().await.is_err() {
        return;
    }
    let queue = requests(inbox, store.clone(), ctx.clone());
    let config = Config::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE);
    let measured = move |object: Arc<K>, ctx: Arc<Context>| measure(object, ctx, reconcile);
    let results = applier(measured, wait_after::<K>, ctx.clone(), store, queue, config);
    let mut results = Box::pin(results);
    while let Some(result) = results.next().await {
        match result {
            Ok(_) => {}
            Err(ControllerError::ObjectNotFound(gone)) => {
                let key = (gone.namespace.unwrap_or_default(), gone.name);
                ctx.metrics.forget(kind::<K>(), &key);
            }
            // Logged where it happened, with the wait that follows.
            Err(ControllerError::ReconcilerFailed(..)) => {}
            Err(error) => tracing::warn!(kind = kind::<K>(), %error, "controller"),
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
    let received = stream::unfold(inbox, |mut inbox| async move {
        inbox.0.recv().await.map(|request| (request, inbox))
    });
    let objects = received.flat_map(move |request| {
        stream::iter(match request {
            Request::One(object) => vec![object],
            Request::All => {
                let objects = store.state();
                objects
                    .iter()
                    .map(|o| ObjectRef::from_obj(o.as_ref()))
                    .collect()
            }
        })
    });
    objects
        .map(Ok)
        .take_until(async move { stop.cancelled().await })
}

fn measure<K>(
    object: Arc<K>,
    ctx: Arc<Context>,
    reconcile: Reconcile<K>,
) -> BoxFuture<'static, Result<Action, Error>>
where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    Box::pin(async move {
        let started = ctx.clock.monotonic();
        let uid = object.meta().uid.clone().unwrap_or_default();
        let result = reconcile(object, ctx.clone()).await;
        let took = ctx.clock.monotonic().saturating_sub(started);
        let label = if result.is_ok() {
            ctx.backoff.succeeded(&uid);
            ReconcileResult::Success
        } else {
            ReconcileResult::Error
        };
        ctx.metrics.reconciled(kind::<K>(), label, took);
        result
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the applier hands its error policy owned values"
)]
fn wait_after<K>(object: Arc<K>, error: &Error, ctx: Arc<Context>) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let wait = match error.retry() {
        Retry::Soon => CONFLICT_WAIT,
        Retry::Backoff => ctx
            .backoff
            .failed(object.meta().uid.as_deref().unwrap_or("")),
    };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(
        kind = kind::<K>(), namespace, name, reason = error.reason(), %error,
        retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        "reconciliation failed"
    );
    Action::requeue(wait)
}

/// The kind's name as a metric label. The kinds with controllers are few and known.
fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()).as_ref() {
        "RelayPool" => "RelayPool",
        "SendingDomain" => "SendingDomain",
        "SuppressionList" => "SuppressionList",
        _ => "Other",
    }
}
