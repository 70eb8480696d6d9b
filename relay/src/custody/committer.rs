//! The committer: one task that owns the store and gathers what waits while it writes.
//!
//! Promises: group commit. While one batch is written and synced the next one gathers; idle, a job
//! waits for one sync only. Everything handed over before a close is answered before it.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};

use super::store::{Job, Store};

/// Jobs that may wait: more than the sessions and attempts a pod runs at once, each of which waits
/// for one. Bodies are bounded by the sessions that brought them.
pub(crate) const JOBS: usize = 1024;
/// Jobs one batch takes; with header, head and body each, what three `pwritev` calls carry.
const BATCH_JOBS: usize = 1024;
/// Bytes of bodies after which a batch is not extended, so that one sync stays short.
const BATCH_BYTES: usize = 8 << 20;
/// How often a disk that failed is tried.
const PROBE: Duration = Duration::from_secs(1);

/// Runs until it is told to close or nobody can reach it.
pub(crate) async fn run(mut store: Store, mut jobs: mpsc::Receiver<Job>) {
    loop {
        let first = tokio::select! {
            job = jobs.recv() => job,
            () = sleep(PROBE), if store.is_ailing() => {
                let Some(back) = blocking(store, Store::probe).await else {
                    return;
                };
                store = back;
                continue;
            }
        };
        let Some(first) = first else {
            break;
        };
        let (batch, close) = gather(first, &mut jobs);
        let step = move |store: &mut Store| {
            store.commit(batch);
            store.maintain();
        };
        let Some(back) = blocking(store, step).await else {
            return;
        };
        store = back;
        if let Some(reply) = close {
            finish(store, &mut jobs, reply).await;
            return;
        }
    }
    // Every handle is gone: nothing can be asked any more.
    blocking(store, report_sync).await;
}

/// What waits, and who asked for a close.
fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>) -> (Vec<Job>, Option<oneshot::Sender<()>>) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(job) = next {
        match job {
            Job::Close { reply } => return (batch, Some(reply)),
            Job::Accept { ref record, .. } => bytes += record.payload_length(),
            Job::Attempt { .. } | Job::Settle { .. } | Job::Pin { .. } => {}
        }
        batch.push(job);
        if batch.len() >= BATCH_JOBS || bytes >= BATCH_BYTES {
            break;
        }
        next = jobs.try_recv().ok();
    }
    (batch, None)
}

/// Answers what came before the close, syncs, lets go of the lock, then answers the close.
async fn finish(store: Store, jobs: &mut mpsc::Receiver<Job>, reply: oneshot::Sender<()>) {
    jobs.close();
    let mut rest = Vec::new();
    while let Some(job) = jobs.recv().await {
        rest.push(job);
    }
    blocking(store, move |store| {
        store.commit(rest);
        store.probe_if_ailing();
        report_sync(store);
    })
    .await;
    // Whoever asked may have gone.
    let _ = reply.send(());
}

fn report_sync(store: &mut Store) {
    if let Err(error) = store.sync() {
        tracing::error!(%error, "last sync of the spool failed");
    }
}

/// Runs a step where it may block. `None` when it panicked, which leaves everyone without an answer
/// and custody closed.
async fn blocking(
    mut store: Store,
    step: impl FnOnce(&mut Store) + Send + 'static,
) -> Option<Store> {
    let done = spawn_blocking(move || {
        step(&mut store);
        store
    })
    .await;
    if let Err(error) = &done {
        tracing::error!(%error, "the committer failed, custody is closed");
    }
    done.ok()
}
