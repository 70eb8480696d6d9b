//! Legs waiting for their site's connections, and which sites took mail lately.
//!
//! Promises: a site never has more workers than asked for; a site without legs and workers takes no
//! memory but its standing. How many legs wait here is up to custody, which gives out no more for a
//! site than [`Sites::terms`] says.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Job;
use crate::{custody::Trust, mail::Site};

/// How long a connection without work is kept. Receivers want their slots back soon.
const IDLE: Duration = Duration::from_secs(2);
/// Claims for each connection of a site that takes mail: one that is sent, some whose results are
/// being recorded, and some that wait, so that a connection never does.
const CLAIMS_PER_CONNECTION: u32 = 8;
/// Claims for each connection of a site that did not take mail lately: enough to find out.
const SUSPECT_CLAIMS_PER_CONNECTION: u32 = 2;
/// How long a success counts.
const MEMORY: Duration = Duration::from_secs(600);
/// Failures without a success among them after which a success counts no more.
const MAX_FAILURES: u32 = 5;
/// Most sites whose standing is remembered, some 100 octets each. Those beyond are suspects.
const MAX_STANDINGS: usize = 16384;

/// Every site with something to do.
#[derive(Default)]
pub(super) struct Sites {
    queues: Mutex<HashMap<Site, Queue>>,
    standings: Mutex<HashMap<Site, Standing>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    workers: u32,
    idle: u32,
    /// Told when a job comes.
    changed: Arc<Notify>,
}

/// How a site did lately, in monotonic time.
#[derive(Debug)]
struct Standing {
    succeeded: Duration,
    failures: u32,
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
    /// Queues `job`.
    pub(super) fn push(&self, site: &Site, job: Job, workers: u32) -> Pushed {
        let mut queues = self.lock();
        let queue = queues.entry(site.clone()).or_default();
        queue.jobs.push_back(job);
        if queue.jobs.len() > queue.idle as usize && queue.workers < workers {
            queue.workers += 1;
            return Pushed::NeedsWorker;
        }
        queue.changed.notify_one();
        Pushed::Queued
    }

    /// How many legs may be claimed for a site of so many connections, and what it is taken for.
    pub(super) fn terms(&self, site: &Site, connections: u32, now: Duration) -> (u32, Trust) {
        match self.trust(site, now) {
            Trust::Proven => (
                connections.saturating_mul(CLAIMS_PER_CONNECTION),
                Trust::Proven,
            ),
            Trust::Suspect => (
                connections.saturating_mul(SUSPECT_CLAIMS_PER_CONNECTION),
                Trust::Suspect,
            ),
        }
    }

    /// Whether a site took mail lately.
    pub(super) fn trust(&self, site: &Site, now: Duration) -> Trust {
        let standings = self.lock_standings();
        let proven = standings
            .get(site)
            .is_some_and(|standing| standing.holds(now));
        match proven {
            true => Trust::Proven,
            false => Trust::Suspect,
        }
    }

    /// A site answered to the end of an attempt. Whether it is trusted only from now on.
    pub(super) fn succeeded(&self, site: &Site, now: Duration) -> Changed {
        let mut standings = self.lock_standings();
        if let Some(standing) = standings.get_mut(site) {
            let changed = Changed::from_to(standing.holds(now), true);
            (standing.succeeded, standing.failures) = (now, 0);
            return changed;
        }
        if standings.len() >= MAX_STANDINGS {
            standings.retain(|_, standing| standing.holds(now));
        }
        if standings.len() >= MAX_STANDINGS {
            return Changed::No;
        }
        let standing = Standing {
            succeeded: now,
            failures: 0,
        };
        standings.insert(site.clone(), standing);
        Changed::Yes
    }

    /// An attempt at a site did not come to an answer. Whether it is trusted no more.
    pub(super) fn failed(&self, site: &Site, now: Duration) -> Changed {
        let mut standings = self.lock_standings();
        let Some(standing) = standings.get_mut(site) else {
            return Changed::No;
        };
        let held = standing.holds(now);
        standing.failures = standing.failures.saturating_add(1);
        Changed::from_to(held, standing.holds(now))
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

    fn lock_standings(&self) -> MutexGuard<'_, HashMap<Site, Standing>> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn holds(&self, now: Duration) -> bool {
        self.failures < MAX_FAILURES && now.saturating_sub(self.succeeded) < MEMORY
    }
}

/// Whether a site's trust changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Yes,
    No,
}

impl Changed {
    fn from_to(before: bool, after: bool) -> Self {
        match before == after {
            true => Self::No,
            false => Self::Yes,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_site_is_trusted_while_it_takes_mail() {
        let (sites, site) = (Sites::default(), Site::of_hosts(["mx.example.org"]));
        assert_eq!(sites.terms(&site, 2, at(1)), (4, Trust::Suspect));
        assert_eq!(sites.succeeded(&site, at(1)), Changed::Yes);
        assert_eq!(sites.succeeded(&site, at(2)), Changed::No);
        assert_eq!(sites.terms(&site, 2, at(2)), (16, Trust::Proven));
        for _ in 1..MAX_FAILURES {
            assert_eq!(sites.failed(&site, at(3)), Changed::No);
        }
        assert_eq!(sites.failed(&site, at(3)), Changed::Yes);
        assert_eq!(sites.trust(&site, at(3)), Trust::Suspect);
        assert_eq!(sites.succeeded(&site, at(4)), Changed::Yes);
        assert_eq!(sites.trust(&site, at(603)), Trust::Proven);
        assert_eq!(sites.trust(&site, at(604)), Trust::Suspect);
    }
}
