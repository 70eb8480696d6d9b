//! The load: sessions submit, deliveries record an attempt and its outcome, all at once, as in a
//! relay whose receivers answer at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
};

use crate::{
    Failure, Load, Store,
    candidate::{Candidate, Outcome, reopen},
    usage::{Usage, clock, resident},
};

/// Messages that may be accepted and not delivered: sessions wait then.
const UNDELIVERED: usize = 1024;
/// Deliveries at a time.
const DELIVERIES: usize = 160;
/// Sessions that load the backlog.
const FILLING: usize = 100;
/// Bytes of a message of the backlog.
const SMALL: usize = 512;

/// What a run gave. Absent: not asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Messages.
    pub(crate) messages: f64,
    /// Accepted and delivered, a second.
    pub(crate) rate: f64,
    /// CPU seconds for 1,000, this driver's included.
    pub(crate) cpu: f64,
    /// Bytes written for each byte accepted.
    pub(crate) written: f64,
    /// Milliseconds until accepted, at the median.
    pub(crate) p50: f64,
    /// The same that one in a hundred exceeds.
    pub(crate) p99: f64,
    /// MiB of memory afterwards.
    pub(crate) memory: f64,
    /// With the backlog.
    pub(crate) backlog: Option<Backlog>,
}

/// What a backlog costs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Backlog {
    /// Seconds to accept and defer it.
    pub(crate) loading: f64,
    /// MiB of memory with it.
    pub(crate) memory: f64,
    /// Accepted and delivered a second before it.
    pub(crate) rate: f64,
    /// Seconds from opening until every message is known.
    pub(crate) restart: f64,
    /// MiB of memory then.
    pub(crate) memory_restarted: f64,
    /// Messages that were not there again.
    pub(crate) missing: u64,
}

/// Runs everything on one store in an empty directory.
pub(crate) async fn run(store: Store, load: &Load) -> Result<Sample, Failure> {
    let candidate = Arc::new(Candidate::open(store, load)?);
    let numbers = Arc::new(AtomicU64::new(1));
    let lasting = Extent::For(Duration::from_secs(load.seconds));
    let main = Bout {
        body: incompressible(load.body),
        sessions: load.sessions,
        extent: lasting,
        outcome: Outcome::Delivered,
    };
    let mut sample = main.run(&candidate, &numbers).await?;
    if load.backlog == 0 {
        return Ok(sample);
    }
    let began = clock();
    let filling = Bout {
        body: incompressible(SMALL),
        sessions: FILLING,
        extent: Extent::Count(load.backlog),
        outcome: Outcome::Deferred,
    };
    let filled = filling.run(&candidate, &numbers).await?;
    let (loading, memory) = (began.elapsed().as_secs_f64(), resident());
    let rate = main.run(&candidate, &numbers).await?.rate;
    let candidate = Arc::into_inner(candidate).ok_or("somebody still uses the store")?;
    candidate.close().await?;
    let began = clock();
    let (store, waiting) = reopen(store, load).await?;
    let restart = began.elapsed().as_secs_f64();
    sample.backlog = Some(Backlog {
        loading,
        memory,
        rate,
        restart,
        memory_restarted: resident(),
        missing: (filled.messages as u64).saturating_sub(waiting),
    });
    drop(store);
    Ok(sample)
}

/// How long sessions submit.
#[derive(Debug, Clone, Copy)]
enum Extent {
    For(Duration),
    Count(u64),
}

/// Sessions that submit, and deliveries that all have one outcome.
struct Bout {
    body: Bytes,
    sessions: usize,
    extent: Extent,
    outcome: Outcome,
}

impl Bout {
    async fn run(
        &self,
        candidate: &Arc<Candidate>,
        numbers: &Arc<AtomicU64>,
    ) -> Result<Sample, Failure> {
        let (before, began, first) = (Usage::now(), clock(), numbers.load(Ordering::Relaxed));
        let room = Arc::new(Semaphore::new(UNDELIVERED));
        let waits = Arc::new(Mutex::new(Vec::new()));
        let mut sessions = JoinSet::new();
        for _ in 0..self.sessions {
            let session = Session {
                candidate: Arc::clone(candidate),
                numbers: Arc::clone(numbers),
                room: Arc::clone(&room),
                waits: Arc::clone(&waits),
                body: self.body.clone(),
            };
            let extent = self.extent;
            sessions.spawn(async move { session.submit(extent, first).await });
        }
        let mut deliveries = JoinSet::new();
        for _ in 0..DELIVERIES {
            deliveries.spawn(deliver(
                Arc::clone(candidate),
                Arc::clone(&room),
                self.outcome,
            ));
        }
        let mut accepted = 0;
        while let Some(session) = sessions.join_next().await {
            accepted += session??;
        }
        // Every permit is back once everything is delivered.
        let all = u32::try_from(UNDELIVERED)?;
        let _all = room.acquire_many(all).await?;
        let (took, used) = (began.elapsed().as_secs_f64(), Usage::now().since(before));
        deliveries.shutdown().await;
        let mut waits = std::mem::take(&mut *waits.lock().await);
        waits.sort_unstable();
        let at = |share: f64| {
            let index = (waits.len() as f64 * share) as usize;
            waits
                .get(index)
                .map_or(0.0, |wait: &Duration| wait.as_secs_f64() * 1000.0)
        };
        Ok(Sample {
            messages: accepted as f64,
            rate: accepted as f64 / took,
            cpu: used.cpu * 1000.0 / accepted as f64,
            written: used.written / (accepted as f64 * self.body.len() as f64),
            p50: at(0.5),
            p99: at(0.99),
            memory: resident(),
            backlog: None,
        })
    }
}

struct Session {
    candidate: Arc<Candidate>,
    numbers: Arc<AtomicU64>,
    room: Arc<Semaphore>,
    waits: Arc<Mutex<Vec<Duration>>>,
    body: Bytes,
}

impl Session {
    /// One message after the other; how many.
    async fn submit(self, extent: Extent, first: u64) -> Result<u64, Failure> {
        let began = clock();
        let mut waits = Vec::new();
        loop {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let is_over = match extent {
                Extent::For(time) => began.elapsed() >= time,
                Extent::Count(count) => number - first >= count,
            };
            if is_over {
                break;
            }
            self.room.acquire().await?.forget();
            let sent = clock();
            self.candidate
                .accept(name(number), self.body.clone())
                .await?;
            waits.push(sent.elapsed());
        }
        let accepted = waits.len() as u64;
        self.waits.lock().await.extend(waits);
        Ok(accepted)
    }
}

/// Octets like those of an attachment: stores that compress are not to be measured by what no mail
/// is like.
fn incompressible(length: usize) -> Bytes {
    let mut state = 1_u64;
    let octets = std::iter::repeat_with(|| {
        // Knuth's multiplier.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    });
    octets.take(length).collect()
}

/// Message ids sort by time in their upper part and are random in their lower one.
fn name(number: u64) -> u128 {
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (u128::from(number / 16) << 80) | u128::from(random)
}

async fn deliver(candidate: Arc<Candidate>, room: Arc<Semaphore>, outcome: Outcome) {
    loop {
        let delivered = async { candidate.deliver(candidate.next().await?, outcome).await };
        if let Err(error) = delivered.await {
            eprintln!("delivery: {error}");
            return;
        }
        room.add_permits(1);
    }
}
