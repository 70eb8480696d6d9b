//! The committer: one task that owns the store and gathers what waits while it writes.
//!
//! Promises: group commit. While one batch is written and synced the next one gathers; idle, a job
//! waits for one sync only. Everything handed over before a close is answered before it. While the
//! spool is restored, a step of that goes between two batches.

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

/// What the blocking half works with.
struct Work {
    store: Store,
    jobs: mpsc::Receiver<Job>,
    /// Whether the last step of restoring failed.
    stuck: bool,
}

/// What waits, gathered.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    bytes: usize,
    close: Option<oneshot::Sender<()>>,
}

/// Runs until it is told to close or nobody can reach it.
pub(crate) async fn run(store: Store, jobs: mpsc::Receiver<Job>) {
    let mut work = Work {
        store,
        jobs,
        stuck: false,
    };
    loop {
        let pause = match (work.store.is_ailing(), work.store.is_restoring()) {
            (true, _) => Some(PROBE),
            (false, true) if work.stuck => Some(PROBE),
            (false, true) => Some(Duration::ZERO),
            (false, false) => None,
        };
        let next = tokio::select! {
            biased;
            job = work.jobs.recv() => Some(job),
            () = wait(pause) => None,
        };
        let Some(job) = next else {
            let Some((back, ())) = blocking(work, Work::idle).await else {
                return;
            };
            work = back;
            continue;
        };
        let Some(first) = job else {
            break;
        };
        let Some((back, close)) = blocking(work, |work| work.commit(first)).await else {
            return;
        };
        work = back;
        if let Some(reply) = close {
            finish(work, reply).await;
            return;
        }
    }
    // Every handle is gone: nothing can be asked any more.
    blocking(work, Work::end).await;
}

/// Nothing to do, or not yet.
async fn wait(pause: Option<Duration>) {
    match pause {
        None => std::future::pending().await,
        Some(Duration::ZERO) => {}
        Some(pause) => sleep(pause).await,
    }
}

impl Work {
    /// Commits what waits, and goes on with restoring. Who asked for a close, if somebody did.
    fn commit(&mut self, first: Job) -> Option<oneshot::Sender<()>> {
        let batch = self.gather(first);
        self.store.commit(batch.jobs);
        self.store.maintain();
        self.restore();
        batch.close
    }

    fn gather(&mut self, first: Job) -> Batch {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Close { reply } => {
                    batch.close = Some(reply);
                    break;
                }
                Job::Accept { ref record, .. } => batch.bytes += record.payload_length(),
                Job::Attempt { .. }
                | Job::Settle { .. }
                | Job::Hasten { .. }
                | Job::Order(_)
                | Job::Quarantine { .. } => {}
            }
            batch.jobs.push(job);
            if batch.jobs.len() >= BATCH_JOBS || batch.bytes >= BATCH_BYTES {
                break;
            }
            next = self.jobs.try_recv().ok();
        }
        batch
    }

    /// What is done when nobody asks for anything.
    fn idle(&mut self) {
        if self.store.is_ailing() {
            self.store.probe();
        }
        self.restore();
        if !self.store.is_restoring() {
            self.store.maintain();
        }
    }

    fn restore(&mut self) {
        let restored = self.store.restore();
        if let Err(error) = &restored {
            tracing::error!(%error, "spool cannot be restored, trying again");
        }
        self.stuck = restored.is_err();
    }

    fn end(&mut self) {
        self.store.probe_if_ailing();
        if let Err(error) = self.store.seal() {
            tracing::error!(%error, "last sync of the spool failed");
        }
    }
}

/// Answers what came before the close, syncs, lets go of the lock, then answers the close.
async fn finish(mut work: Work, reply: oneshot::Sender<()>) {
    work.jobs.close();
    let mut rest = Vec::new();
    while let Some(job) = work.jobs.recv().await {
        rest.push(job);
    }
    blocking(work, |work| {
        work.store.commit(rest);
        work.end();
    })
    .await;
    // Whoever asked may have gone.
    let _ = reply.send(());
}

/// Runs a step where it may block. `None` when it panicked, which leaves everyone without an answer
/// and custody closed.
async fn blocking<T: Send + 'static>(
    mut work: Work,
    step: impl FnOnce(&mut Work) -> T + Send + 'static,
) -> Option<(Work, T)> {
    let done = spawn_blocking(move || {
        let result = step(&mut work);
        (work, result)
    })
    .await;
    if let Err(error) = &done {
        tracing::error!(%error, "the committer failed, custody is closed");
    }
    done.ok()
}
