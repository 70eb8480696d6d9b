//! Custody: the spool (stable storage), the queue (what is due) and the schedule (when again).
//!
//! Promises: a message whose [`Custody::accept`] returned [`Committed`] is on stable storage and
//! from then on each of its recipients ends in one recorded result; a leg is given out to one
//! claimer at a time; attempts, results and due times survive a restart. In doubt a message is
//! delivered twice rather than lost; `docs/spool.md` states when that can be. Never: dials, looks a
//! name up, or decides whether and when to try again.

mod committer;
mod error;
mod message;
mod queue;
mod schedule;
mod shared;
mod spool;
mod state;
mod store;

use std::{fmt, sync::Arc, time::Duration};

use jiff::SignedDuration;
use postrider_crds::{DomainName, relay_config::Admission};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};

pub use error::{AcceptError, NotAccepting, OpenError, StoreError};
pub use message::{Claim, Committed, NewMessage, RecipientResult, Settlement};
pub use postrider_crds::relay_config::QueueReport;
pub use queue::QueueFigures;

use self::{
    message::Ticket,
    queue::{NewEntry, Queue, Taken},
    shared::Shared,
    spool::{Damage, ReadError, Restored, Spool, format::MAX_PAYLOAD, read_body},
    state::{State, whole_micros},
    store::{Job, Prepared, Settled, Store},
};
use crate::{
    ports::{Clock, Disk, Random},
    telemetry::{Stage, Telemetry},
};

/// What a sending domain's mail is done with; `None` is mail the relay wrote itself.
pub type AdmissionOf = Arc<dyn Fn(Option<&DomainName>) -> Admission + Send + Sync>;

/// What custody is built from.
pub struct Parts {
    /// The spool directory.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for segment markers.
    pub random: Arc<dyn Random>,
    /// Where `Held`, `Released`, `Quarantined` and the spool's figures go.
    pub telemetry: Arc<Telemetry>,
    /// Sizes.
    pub limits: Limits,
    /// What each domain's mail is done with from the start.
    pub admission: AdmissionOf,
}

/// Sizes that bound custody.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that must stay free on the volume; below, nothing is accepted.
    pub free_space_mark: u64,
    /// Bytes after which a new segment is begun.
    pub segment_bytes: u64,
    /// Bytes of bodies kept in memory for messages not yet attempted.
    pub hot_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            free_space_mark: 256 << 20,
            segment_bytes: 64 << 20,
            hot_bytes: 64 << 20,
        }
    }
}

/// The owner of every accepted message. Cheap to clone.
#[derive(Clone)]
pub struct Custody {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// After how long a leg is due again whose body could not be read.
const UNREADABLE_DELAY: SignedDuration = SignedDuration::from_secs(60);
/// Longest wait without a look at the wall clock, which may jump.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What a record needs beside envelope and body, rounded up.
const RECORD_OVERHEAD: u64 = 64;
/// Bytes a recipient and its leg take in a record, JSON quoting of the address included.
const RECIPIENT_BYTES: u64 = 2048;

impl Custody {
    /// Opens the spool, restores the queue and starts the committer on the current runtime. Blocks
    /// on the disk; call it before the relay serves.
    ///
    /// Errors when another process owns the spool, a newer relay wrote it, or the disk fails.
    /// Damaged records are no error: they are put aside, counted and logged.
    pub fn open(parts: Parts) -> Result<Self, OpenError> {
        let opened = Spool::open(
            Arc::clone(&parts.disk),
            parts.random,
            parts.limits.segment_bytes,
        )?;
        for damage in &opened.damage {
            report_damage(damage, &parts.telemetry);
        }
        let mut queue = Queue::new(parts.admission, parts.limits.hot_bytes);
        let now = parts.clock.wall();
        let restored = opened.messages.len();
        for message in opened.messages {
            queue.insert(entry_of(message), now);
        }
        tracing::info!(messages = restored, "spool opened");
        let shared = Arc::new(Shared::new(
            queue,
            parts.disk,
            parts.clock,
            parts.telemetry,
            parts.limits,
        ));
        let mut store = Store::new(opened.spool, Arc::clone(&shared));
        store.maintain();
        let (jobs, waiting) = mpsc::channel(committer::JOBS);
        tokio::spawn(committer::run(store, waiting));
        Ok(Self { shared, jobs })
    }

    /// Takes custody; returns once the message is on stable storage.
    ///
    /// Caveat: when the future is dropped before it returns, the message may or may not be in
    /// custody; the client, never answered, sends it again.
    pub async fn accept(&self, message: NewMessage) -> Result<Committed, AcceptError> {
        let message = prepare(message)?;
        let record = spool::record::message(&message.fields());
        let (reply, answer) = oneshot::channel();
        let job = Job::Accept {
            message,
            record,
            reply,
        };
        let closing = AcceptError::NotAccepting(NotAccepting::Closing);
        if self.jobs.send(job).await.is_err() {
            return Err(closing);
        }
        answer.await.unwrap_or(Err(closing))
    }

    /// Waits for a leg that is due and admitted, and gives it out with its body. `None` once
    /// closed. Several may wait at once; dropping the future loses nothing.
    pub async fn next_due(&self) -> Option<Claim> {
        loop {
            let woken = self.shared.wake.notified();
            if self.shared.is_closing() {
                // Pass it on to whoever else waits.
                self.shared.wake.notify_one();
                return None;
            }
            let Some((taken, ticket)) = self.take() else {
                let wait = self.until_next();
                tokio::select! {
                    () = woken => {}
                    () = sleep(wait) => {}
                }
                continue;
            };
            if let Some(claim) = self.with_body(taken, ticket).await {
                return Some(claim);
            }
        }
    }

    /// Records that the claim's remote is about to be dialed: call it before dialing, and do not
    /// dial when it fails. Written at return, so that a killed process keeps the count; on stable
    /// storage with the next commit, so a power failure may forget the count of the last moment.
    pub async fn attempt_started(&self, claim: &Claim) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Attempt {
            id: claim.ticket.id,
            leg: claim.ticket.leg,
            reply,
        };
        if self.jobs.send(job).await.is_err() {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Records what became of the claim, and the notification, in one record; returns once it is on
    /// stable storage. Results of recipients that are not in the claim are left out.
    ///
    /// On [`StoreError::Disk`] the settlement is in force but not yet on stable storage: it is
    /// written as soon as the disk takes it, and only a crash before that repeats the attempt.
    pub async fn settle(&self, mut claim: Claim, settlement: Settlement) -> Result<(), StoreError> {
        let notification = settlement.notification.map(prepare).transpose();
        let notification = notification.unwrap_or_else(|error| {
            tracing::error!(message.id = %claim.id, %error, "notification cannot be stored");
            None
        });
        let results = settlement.results.into_iter();
        let results = results
            .filter(|(recipient, _)| claim.recipients.contains(recipient))
            .filter_map(|(recipient, result)| Some((u32::try_from(recipient).ok()?, result)))
            .collect();
        let settled = Settled {
            id: claim.ticket.id,
            leg: claim.ticket.leg,
            results,
            delay_warned: settlement.delay_warned,
            notification,
        };
        let (reply, answer) = oneshot::channel();
        if self
            .jobs
            .send(Job::Settle { settled, reply })
            .await
            .is_err()
        {
            return Err(StoreError::Closed);
        }
        // From here the committer has the leg.
        claim.ticket.given_up = true;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Gives back a claim that was not attempted: due again at once, no attempt counted.
    pub async fn put_back(&self, mut claim: Claim) {
        claim.ticket.given_up = true;
        self.shared
            .queue()
            .put_back(claim.ticket.id, claim.ticket.leg, None);
        self.shared.wake.notify_one();
    }

    /// Holds and releases mail as `admission` says, now and for what comes. Call it at each change
    /// of configuration.
    pub fn apply_admission(&self, admission: AdmissionOf) {
        let now = self.shared.clock.wall();
        let changes = self.shared.queue().apply_admission(admission, now);
        for change in changes {
            self.shared
                .tell_holding(change.id, &change.envelope, change.now, now);
        }
        self.shared.wake.notify_one();
    }

    /// How much waits for what.
    #[must_use]
    pub fn report(&self) -> QueueReport {
        self.figures().report
    }

    /// The same with the ages the metrics show.
    #[must_use]
    pub fn figures(&self) -> QueueFigures {
        let now = self.shared.clock.wall();
        self.shared.queue().figures(now)
    }

    /// Whether mail is accepted now: what `/readyz` shows, and what MAIL is answered 452 with.
    pub fn accepting(&self) -> Result<(), NotAccepting> {
        if self.jobs.is_closed() {
            return Err(NotAccepting::Closing);
        }
        self.shared.accepting()
    }

    /// Stops accepting and claiming, answers what was handed over, syncs, releases the lock.
    /// Settle or put back claims first: afterwards nothing can be recorded.
    pub async fn close(&self) {
        self.shared.start_closing();
        let (reply, answer) = oneshot::channel();
        if self.jobs.send(Job::Close { reply }).await.is_ok() {
            // An error means that another close got there first.
            drop(answer.await);
        }
        self.jobs.closed().await;
    }

    fn take(&self) -> Option<(Taken, Ticket)> {
        let mut queue = self.shared.queue();
        let taken = queue.claim(self.shared.clock.wall())?;
        drop(queue);
        // The next waiter looks for itself: another leg may be due, now or at a new time.
        self.shared.wake.notify_one();
        let ticket = Ticket {
            shared: Arc::clone(&self.shared),
            id: taken.id,
            leg: taken.leg,
            given_up: false,
        };
        Some((taken, ticket))
    }

    /// How long nothing becomes due by time alone.
    fn until_next(&self) -> Duration {
        let next = self.shared.queue().next();
        let now = self.shared.clock.wall();
        next.map_or(LONGEST_WAIT, |next| {
            Duration::try_from(next.duration_since(now))
                .unwrap_or(Duration::ZERO)
                .clamp(SHORTEST_WAIT, LONGEST_WAIT)
        })
    }

    /// The claim with its body, read back where it is not in memory. `None` when it cannot be read:
    /// damaged, the message is taken out; else it is tried again later.
    async fn with_body(&self, taken: Taken, mut ticket: Ticket) -> Option<Claim> {
        let body = match taken.body {
            Some(body) => body,
            None => {
                let disk = Arc::clone(&self.shared.disk);
                let place = taken.place;
                let read = spawn_blocking(move || read_body(disk.as_ref(), &place)).await;
                match read.unwrap_or_else(|e| Err(ReadError::Disk(std::io::Error::other(e)))) {
                    Ok(body) => body,
                    Err(error) => {
                        ticket.given_up = true;
                        self.unreadable(&taken, &error).await;
                        return None;
                    }
                }
            }
        };
        Some(Claim {
            id: taken.id,
            accepted: taken.accepted,
            attempts: taken.attempts,
            envelope: taken.envelope,
            recipients: taken.recipients,
            domain: taken.domain,
            body,
            delay_warned: taken.delay_warned,
            ticket,
        })
    }

    async fn unreadable(&self, taken: &Taken, error: &ReadError) {
        let now = self.shared.clock.wall();
        let moved = {
            let mut queue = self.shared.queue();
            let moved = queue.current(taken.id).map(|(place, _)| place) != Some(taken.place);
            match error {
                _ if moved => queue.put_back(taken.id, taken.leg, None),
                ReadError::Disk(_) => {
                    queue.put_back(taken.id, taken.leg, Some(now + UNREADABLE_DELAY));
                }
                ReadError::Damaged { .. } => drop(queue.remove(taken.id)),
            }
            moved
        };
        if moved {
            return;
        }
        tracing::error!(message.id = %taken.id, %error, "message cannot be read back");
        if let ReadError::Damaged { segment, .. } = error {
            // Its bytes stay where they are: the segment is kept, and the next opening puts them
            // aside.
            let segment = *segment;
            drop(self.jobs.send(Job::Pin { segment }).await);
            let file = spool::segment_name(segment);
            self.shared.telemetry.quarantined();
            self.shared
                .tell(taken.id, &taken.envelope, Stage::Quarantined { file }, now);
        }
    }
}

/// Shortest wait for a leg, so that a clock that stands still is not polled in a loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

impl fmt::Debug for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custody").finish_non_exhaustive()
    }
}

/// Checks what a message must be and gives it the state it starts with.
fn prepare(message: NewMessage) -> Result<Prepared, AcceptError> {
    let recipients = message.envelope.recipients.len();
    let outside = message.suppressed.iter().any(|index| *index >= recipients);
    if recipients == 0 || outside {
        return Err(AcceptError::Recipients(recipients));
    }
    let bytes = message.body.len() as u64
        + RECORD_OVERHEAD
        + message.envelope.tenant.len() as u64 * JSON_GROWTH
        + (recipients as u64 + 2) * RECIPIENT_BYTES;
    if bytes > MAX_PAYLOAD {
        return Err(AcceptError::TooLarge {
            bytes,
            limit: MAX_PAYLOAD,
        });
    }
    let accepted = whole_micros(message.accepted);
    Ok(Prepared {
        id: message.id,
        accepted,
        state: State::new(&message.envelope, accepted, &message.suppressed),
        envelope: Arc::new(message.envelope),
        body: message.body,
    })
}

/// Most bytes JSON makes of one.
const JSON_GROWTH: u64 = 6;

fn entry_of(message: Restored) -> NewEntry {
    NewEntry {
        id: message.id,
        accepted: message.accepted,
        envelope: Arc::new(message.envelope),
        state: message.state,
        place: message.place,
        body: None,
    }
}

fn report_damage(damage: &Damage, telemetry: &Telemetry) {
    let file = damage.file.as_deref().unwrap_or("kept in its segment");
    let (segment, offset, length) = (damage.segment, damage.offset, damage.length);
    if damage.torn {
        tracing::warn!(segment, offset, length, file, "torn tail was cut off");
    } else {
        tracing::error!(segment, offset, length, file, "damaged records put aside");
        telemetry.quarantined();
    }
}

#[cfg(test)]
mod tests;
