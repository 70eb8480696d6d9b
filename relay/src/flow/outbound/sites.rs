//! Legs waiting for their site's connections.
//!
//! Promises: a site never has more workers than asked for, and at most [`MAX_WAITING`] legs wait
//! for them; a site without either takes no memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Job;
use crate::mail::Site;

/// Most legs of one site that wait for a connection; what comes on top is put off. Sixteen sites
/// that do not move leave room for others.
pub(super) const MAX_WAITING: usize = 256;
/// How long a leg waits for room in its site's queue. A site that moves makes some by then.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a connection without work is kept. Receivers want their slots back soon.
const IDLE: Duration = Duration::from_secs(2);

/// Every site with something to do.
#[derive(Default)]
pub(super) struct Sites {
    queues: Mutex<HashMap<Site, Queue>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    workers: u32,
    idle: u32,
    /// Told when a job comes, or room does.
    changed: Arc<Notify>,
    room: Arc<Notify>,
}

/// What a job that was taken in needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Somebody will come for it.
    Queued,
    /// A worker, which is counted already and has to be started.
    NeedsWorker,
}

impl Sites {
    /// Queues `job`; gives it back when there is no room and none comes soon.
    pub(super) async fn push(
        &self,
        site: &Site,
        job: Job,
        workers: u32,
    ) -> Result<Pushed, Box<Job>> {
        let mut job = Box::new(job);
        let mut waited = false;
        loop {
            let room = match self.try_push(site, job, workers) {
                Ok(pushed) => return Ok(pushed),
                Err((back, _)) if waited => return Err(back),
                Err((back, room)) => {
                    job = back;
                    room
                }
            };
            waited = timeout(PATIENCE, room.notified()).await.is_err();
        }
    }

    fn try_push(
        &self,
        site: &Site,
        job: Box<Job>,
        workers: u32,
    ) -> Result<Pushed, (Box<Job>, Arc<Notify>)> {
        let mut queues = self.lock();
        let queue = queues.entry(site.clone()).or_default();
        if queue.jobs.len() >= MAX_WAITING {
            return Err((job, queue.room.clone()));
        }
        queue.jobs.push_back(*job);
        if queue.jobs.len() > queue.idle as usize && queue.workers < workers {
            queue.workers += 1;
            return Ok(Pushed::NeedsWorker);
        }
        queue.changed.notify_one();
        Ok(Pushed::Queued)
    }

    /// The next job for a worker of `site`. `None` ends the worker, which then counts no more:
    /// there is nothing to do, there are more than `limit` workers, or everything stops.
    pub(super) async fn next(
        &self,
        site: &Site,
        limit: u32,
        stop: &CancellationToken,
    ) -> Option<Job> {
        loop {
            let changed = match self.try_next(site, limit, stop) {
                Found::Job(job) => return Some(*job),
                Found::End => return None,
                Found::Nothing(changed) => changed,
            };
            let news = tokio::select! {
                news = timeout(IDLE, changed.notified()) => news.is_ok(),
                () = stop.cancelled() => true,
            };
            let mut queues = self.lock();
            let queue = queues.get_mut(site)?;
            queue.idle = queue.idle.saturating_sub(1);
            if !news && queue.jobs.is_empty() {
                leave(&mut queues, site);
                return None;
            }
        }
    }

    fn try_next(&self, site: &Site, limit: u32, stop: &CancellationToken) -> Found {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(site) else {
            return Found::End;
        };
        let too_many = queue.workers > limit && queue.workers > 1;
        if let Some(job) = (!too_many).then(|| queue.jobs.pop_front()).flatten() {
            queue.room.notify_one();
            return Found::Job(Box::new(job));
        }
        if too_many || stop.is_cancelled() {
            leave(&mut queues, site);
            return Found::End;
        }
        queue.idle += 1;
        Found::Nothing(queue.changed.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Site, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is for a worker.
enum Found {
    Job(Box<Job>),
    End,
    Nothing(Arc<Notify>),
}

/// One worker less. In the same breath as it is told to end, so that a job that comes then is
/// not left to it.
fn leave(queues: &mut HashMap<Site, Queue>, site: &Site) {
    if let Some(queue) = queues.get_mut(site) {
        queue.workers = queue.workers.saturating_sub(1);
        if queue.workers == 0 && queue.jobs.is_empty() {
            queues.remove(site);
        }
    }
}

/// The place of a worker that has not been told to end: given up when the worker panics.
pub(super) struct Seat<'a> {
    sites: &'a Sites,
    site: &'a Site,
}

impl<'a> Seat<'a> {
    /// The place that [`Pushed::NeedsWorker`] counted.
    pub(super) fn new(sites: &'a Sites, site: &'a Site) -> Self {
        Self { sites, site }
    }

    /// The worker was told to end.
    pub(super) fn given_up(self) {
        std::mem::forget(self);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        leave(&mut self.sites.lock(), self.site);
    }
}
