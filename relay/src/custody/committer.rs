//! The committer: one task that owns the store and gathers what waits while it writes.
//!
//! Flow: idle, the task waits for a job; then a thread works until there has been none for a
//! moment, woken by the bell for what it can use. What has gathered is one batch: written in one
//! go, synced once, answered.
//!
//! Promises: group commit. While one batch is written and synced the next one gathers; idle, a
//! message waits for one sync only, and under load for as many others as shared the last sync, as
//! long as that took. The result of an attempt has no sync of its own unless no message came to
//! share one within [`super::Limits::result_wait`], or an order, which is recorded after all that
//! was handed over before it. Everything handed over before a close is answered before it. While
//! the spool is restored, a step of that goes between two batches. What failed is tried again once a
//! second, however much there is to do besides.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    bell::{Bell, For, Urgency, Waited},
    store::{Job, Store},
};

/// Jobs that may wait: more than the sessions and attempts a pod runs at once, each of which waits
/// for one. Bodies are bounded by the sessions that brought them.
const JOBS: usize = 1024;
/// Jobs one batch takes, results that waited aside; with header, head and body each, what three
/// `pwritev` calls carry, five with the most results.
const BATCH_JOBS: usize = 1024;
/// Bytes of bodies after which a batch is not extended, so that one sync stays short.
const BATCH_BYTES: usize = 8 << 20;
/// Results that wait for a sync to share; with more they get one of their own.
const MAX_RESULTS: usize = BATCH_JOBS / 2;
/// Longest wait of a message for others: a disk that takes longer gathers enough by itself.
const MAX_COMPANY_WAIT: Duration = Duration::from_millis(2);
/// How often a disk that failed is tried.
const PROBE: Duration = Duration::from_secs(1);

/// The way to the committer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Jobs {
    sender: mpsc::Sender<Job>,
    bell: Arc<Bell>,
}

/// Nobody takes jobs any more.
#[derive(Debug)]
pub(super) struct Closed;

/// What the blocking half works with.
struct Work {
    store: Store,
    jobs: mpsc::Receiver<Job>,
    bell: Arc<Bell>,
    result_wait: Duration,
    /// Results that wait for a sync to share, and until when, in monotonic time.
    results: Vec<Job>,
    results_due: Duration,
    /// Messages that shared the last sync.
    company: usize,
    /// Whether the last step of restoring failed.
    stuck: bool,
    /// When what failed was last tried, in monotonic time.
    tried: Duration,
}

/// What waits, gathered.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    bytes: usize,
    accepts: usize,
    /// Whether somebody waits for its sync.
    is_synced: bool,
    close: Option<oneshot::Sender<()>>,
}

/// What the thread does next.
enum Next {
    Commit(Box<Job>),
    /// The results have waited long enough.
    Flush,
    /// Nothing has come for a while.
    Rest,
}

impl Jobs {
    /// Starts the committer on the current runtime.
    pub(super) fn start(store: Store, result_wait: Duration) -> Self {
        let (sender, jobs) = mpsc::channel(JOBS);
        let bell = Arc::new(Bell::default());
        tokio::spawn(run(Work {
            store,
            jobs,
            bell: Arc::clone(&bell),
            result_wait,
            results: Vec::new(),
            results_due: Duration::ZERO,
            company: 0,
            stuck: false,
            tried: Duration::ZERO,
        }));
        Self { sender, bell }
    }

    /// Hands a job over.
    pub(super) async fn send(&self, job: Job) -> Result<(), Closed> {
        let urgency = job.urgency();
        self.sender.send(job).await.map_err(|_| Closed)?;
        self.bell.ring(urgency);
        Ok(())
    }

    /// Whether nobody takes jobs any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until that is so.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// Runs until it is told to close or nobody can reach it.
async fn run(mut work: Work) {
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
        let Some((back, close)) = blocking(work, |work| work.work(first)).await else {
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
    /// Commits what waits and what comes until nothing does for a while; no result is left over
    /// then. Who asked for a close, if somebody did.
    fn work(&mut self, first: Job) -> Option<oneshot::Sender<()>> {
        let mut next = Next::Commit(Box::new(first));
        loop {
            let mut batch = Batch::default();
            let results = match next {
                Next::Commit(job) => {
                    batch.add(*job);
                    self.fill(&mut batch);
                    self.await_company(&mut batch);
                    self.results_of(&mut batch)
                }
                Next::Flush => {
                    self.fill(&mut batch);
                    std::mem::take(&mut self.results)
                }
                Next::Rest => return None,
            };
            batch.jobs.extend(results);
            if !batch.jobs.is_empty() {
                self.store.commit(batch.jobs);
                self.tend();
            }
            if batch.close.is_some() {
                return batch.close;
            }
            next = self.next();
        }
    }

    /// Takes what waits.
    fn fill(&mut self, batch: &mut Batch) {
        while batch.has_room()
            && let Ok(job) = self.jobs.try_recv()
        {
            batch.add(job);
        }
    }

    /// Where messages came together before, waits for as many.
    fn await_company(&mut self, batch: &mut Batch) {
        if batch.accepts == 0 {
            return;
        }
        let time = self.store.last_write().min(MAX_COMPANY_WAIT);
        if batch.accepts < self.company && !time.is_zero() {
            self.bell.listen();
            self.fill(batch);
            let missing = self.company.saturating_sub(batch.accepts);
            if missing > 0 && batch.has_room() {
                self.bell.wait(For::Accepts(missing), time);
                self.fill(batch);
            }
        }
        self.company = batch.accepts;
    }

    /// The results that go with a batch: all there are with one that is synced, so that an order
    /// finds in force what was handed over before it, and once the first has waited as long as it
    /// may. Else those it has are taken from it, to wait.
    fn results_of(&mut self, batch: &mut Batch) -> Vec<Job> {
        let is_overdue = !self.results.is_empty() && self.store.now() >= self.results_due;
        let may_wait = !batch.is_synced
            && !is_overdue
            && batch.close.is_none()
            && !self.result_wait.is_zero()
            && !self.store.is_ailing()
            && !self.store.is_restoring();
        if !may_wait {
            return std::mem::take(&mut self.results);
        }
        if self.results.is_empty() {
            self.results_due = self.store.now().saturating_add(self.result_wait);
        }
        let is_result = |job: &mut Job| job.urgency() == Urgency::Result;
        self.results.extend(batch.jobs.extract_if(.., is_result));
        match self.results.len() < MAX_RESULTS {
            true => Vec::new(),
            false => std::mem::take(&mut self.results),
        }
    }

    /// Waits for what to do next.
    fn next(&mut self) -> Next {
        loop {
            self.bell.listen();
            if let Ok(job) = self.jobs.try_recv() {
                return Next::Commit(Box::new(job));
            }
            let hurried = self.store.is_ailing() || self.store.is_restoring();
            let (what, time, otherwise) = match self.results.is_empty() {
                true => (For::Any, self.result_wait, Next::Rest),
                false => {
                    let left = self.results_due.saturating_sub(self.store.now());
                    let results = MAX_RESULTS.saturating_sub(self.results.len());
                    (For::Urgent { results }, left, Next::Flush)
                }
            };
            if hurried || self.bell.wait(what, time) == Waited::InVain {
                return otherwise;
            }
        }
    }

    /// What is done between two batches.
    fn tend(&mut self) {
        let is_failing = self.store.is_ailing() || self.stuck;
        if is_failing && self.store.now().saturating_sub(self.tried) >= PROBE {
            self.idle();
            return;
        }
        self.store.maintain();
        if !self.stuck {
            self.restore();
        }
    }

    /// What is done when nobody has asked for anything for as long as what failed rests.
    fn idle(&mut self) {
        self.tried = self.store.now();
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

impl Batch {
    fn has_room(&self) -> bool {
        self.close.is_none() && self.jobs.len() < BATCH_JOBS && self.bytes < BATCH_BYTES
    }

    fn add(&mut self, job: Job) {
        self.is_synced |= matches!(job.urgency(), Urgency::Accept | Urgency::Sync);
        match job {
            Job::Close { reply } => {
                self.close = Some(reply);
                return;
            }
            Job::Accept { ref record, .. } => {
                self.bytes += record.payload_length();
                self.accepts += 1;
            }
            Job::Attempt { .. }
            | Job::Settle { .. }
            | Job::Hasten { .. }
            | Job::Order(_)
            | Job::Quarantine { .. } => {}
        }
        self.jobs.push(job);
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
