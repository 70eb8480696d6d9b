//! Custody: the spool (stable storage), the queue (what is due) and the schedule (when again).
//!
//! Promises: a message whose [`Custody::accept`] returned [`Committed`] is on stable storage and
//! from then on each of its recipients ends in one recorded result; a leg is given out to one
//! claimer at a time; attempts, results and due times survive a restart. In doubt a message is
//! delivered twice rather than lost; `docs/spool.md` states when that can be. Never: dials, looks a
//! name up, or decides whether and when to try again.

mod arrivals;
mod bell;
mod committer;
mod error;
mod late;
mod message;
mod operator;
mod orders;
mod queue;
mod shared;
mod spool;
mod state;
mod store;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::SignedDuration;
use postrider_crds::{DomainName, relay_config::Admission};
use tokio::{sync::oneshot, task::spawn_blocking, time::sleep};

pub use arrivals::Arriving;
pub use error::{AcceptError, NotAccepting, OpenError, OrderError, StoreError};
pub use message::{Claim, Committed, NewMessage, RecipientResult, Settlement};
pub use operator::Overview;
pub use orders::Obeyed;
pub use postrider_crds::relay_config::QueueReport;
pub use queue::{QueueFigures, Room, Trust};
pub(crate) use spool::Aside;

use self::{
    committer::Jobs,
    message::Ticket,
    queue::{Hot, Queue, Taken},
    shared::Shared,
    spool::{
        Damage, DamageKind, ReadError, Spool, forget_old_tails,
        format::MAX_PAYLOAD,
        read_back, read_record,
        record::{Encoded, Head, Record},
    },
    state::{State, whole_micros},
    store::{Job, Settled, Store},
};
use crate::{
    mail::Site,
    ports::{Clock, Disk, Random},
    telemetry::Telemetry,
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
    /// Bytes of memory for messages not yet attempted.
    pub hot_bytes: usize,
    /// Messages that may be queued; with more, nothing is accepted.
    pub messages: usize,
    /// How long the result of an attempt may wait for a message whose sync it shares. A power
    /// failure meanwhile repeats the attempt.
    pub result_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            free_space_mark: 256 << 20,
            segment_bytes: 64 << 20,
            // Some 3,000 messages of 10 KiB: a third of a second at full rate.
            hot_bytes: 32 << 20,
            // Some 400 MiB of memory.
            messages: 4_000_000,
            // Long against a sync, short against what a receiver takes to answer.
            result_wait: Duration::from_millis(5),
        }
    }
}

/// The owner of every accepted message. Cheap to clone.
#[derive(Clone)]
pub struct Custody {
    shared: Arc<Shared>,
    jobs: Jobs,
}

/// After how long a leg is due again whose body could not be read.
const UNREADABLE_DELAY: SignedDuration = SignedDuration::from_secs(60);
/// How long opening the spool may restore before the relay goes on: a relay is to listen within two
/// seconds. A spool of some 100,000 messages is restored by then.
const OPENING: Duration = Duration::from_secs(1);
/// Longest wait without a look at the wall clock, which may jump.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What a record needs beside envelope and body, rounded up.
const RECORD_OVERHEAD: u64 = 64;
/// Bytes a recipient and its leg take in a record at most, and any other address.
const RECIPIENT_BYTES: u64 = 512;

/// A leg that was given out, to be loaded. Dropped instead, it is due again a minute later.
#[derive(Debug)]
pub struct Due {
    taken: Taken,
    ticket: Ticket,
}

impl Custody {
    /// Opens the spool, restores as much of the queue as [`OPENING`] allows, and starts the
    /// committer on the current runtime, which restores the rest. Blocks on the disk; call it
    /// before the relay serves.
    ///
    /// Errors when another process owns the spool, a newer relay wrote it, or the disk fails.
    /// Damaged records are no error: they are put aside, counted and logged.
    pub fn open(parts: Parts) -> Result<Self, OpenError> {
        let (disk, segment_bytes) = (Arc::clone(&parts.disk), parts.limits.segment_bytes);
        let (spool, recovery) = Spool::open(disk, parts.random, segment_bytes)?;
        let shared = Arc::new(Shared::new(
            Queue::new(parts.admission, parts.limits.hot_bytes),
            parts.disk,
            parts.clock,
            parts.telemetry,
            parts.limits,
        ));
        let mut store = Store::new(spool, recovery, Arc::clone(&shared));
        let began = shared.clock.monotonic();
        while store.is_restoring() && shared.clock.monotonic().saturating_sub(began) < OPENING {
            store.restore().map_err(|source| OpenError::Disk {
                doing: "reading segments".into(),
                source,
            })?;
        }
        store.maintain();
        if let Err(error) = forget_old_tails(shared.disk.as_ref()) {
            tracing::warn!(%error, "copies of old torn tails could not be removed");
        }
        shared.tell_aside();
        let jobs = Jobs::start(store, parts.limits.result_wait);
        Ok(Self { shared, jobs })
    }

    /// Takes custody; returns once the message is on stable storage.
    ///
    /// Caveat: when the future is dropped before it returns, the message may or may not be in
    /// custody; the client, never answered, sends it again.
    pub async fn accept(&self, message: NewMessage) -> Result<Committed, AcceptError> {
        // Who came before waits for a disk that does not answer; nobody else is to.
        self.shared.takes_more()?;
        let (message, body) = prepare(message)?;
        let record = Encoded::new(Record::Message(message), body);
        let (reply, answer) = oneshot::channel();
        let job = Job::Accept { record, reply };
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
            let due = self.next_ready().await?;
            if let Some(claim) = self.load(due).await {
                return Some(claim);
            }
        }
    }

    /// The first half of [`Custody::next_due`]: a leg whose message [`Custody::load`] reads, which
    /// several may do at once.
    pub async fn next_ready(&self) -> Option<Due> {
        loop {
            let woken = self.shared.wake.notified();
            if self.shared.is_closing() {
                // Pass it on to whoever else waits.
                self.shared.wake.notify_one();
                return None;
            }
            if let Some(due) = self.take() {
                return Some(due);
            }
            let wait = self.until_next();
            tokio::select! {
                () = woken => {}
                () = sleep(wait) => {}
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
            self.shared.tell_holding(&change, now);
        }
        self.shared.wake.notify_one();
    }

    /// What may be claimed for `domain` is what may be claimed for its `site`: `limit` legs, and
    /// where the site is no more than a suspect, not more than half of all claims together with the
    /// other suspects. Whether what is claimed now, the claim in hand included, is within that.
    pub fn bind(&self, domain: &DomainName, site: &Site, limit: u32, trust: Trust) -> Room {
        let room = self.shared.queue().bind(domain, site, limit, trust);
        self.shared.wake.notify_one();
        room
    }

    /// Segments of the spool that are not restored yet: mail that was queued before the start waits
    /// until there are none.
    #[must_use]
    pub fn restoring(&self) -> usize {
        self.shared.restoring()
    }

    /// From now on [`Custody::remaining`] counts one message more of `domain`, until what is returned
    /// is dropped.
    ///
    /// Taken before it is looked up whether the domain takes mail, and kept until
    /// [`Custody::accept`] has returned, it makes that count exact: a domain that takes none, and of
    /// which none remain, has none from then on.
    pub fn arriving(&self, domain: &DomainName) -> Arriving {
        Arriving::new(Arc::clone(&self.shared), domain.clone())
    }

    /// Messages of each of `domains` that are in custody or on their way into it; `None` while not
    /// all of the spool is restored.
    #[must_use]
    pub fn remaining(
        &self,
        domains: impl IntoIterator<Item = DomainName>,
    ) -> Option<BTreeMap<DomainName, u64>> {
        if self.restoring() > 0 {
            return None;
        }
        let domains = domains.into_iter();
        let mut counts = domains.map(|domain| (domain, 0)).collect();
        // In this order: what arrives is counted until it is in the queue.
        self.shared.arrivals.count(&mut counts);
        self.shared.queue().count(&mut counts);
        Some(counts)
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

    /// Whether mail is accepted now: what `/readyz` shows, and why a message is answered with 452.
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

    fn take(&self) -> Option<Due> {
        let taken = self.shared.queue().claim(self.shared.clock.wall())?;
        // The next waiter looks for itself: another leg may be due, now or at a new time.
        self.shared.wake.notify_one();
        Some(self.due(taken))
    }

    fn due(&self, taken: Taken) -> Due {
        let ticket = Ticket {
            shared: Arc::clone(&self.shared),
            id: taken.id,
            leg: taken.leg,
            given_up: false,
        };
        Due { taken, ticket }
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

    /// The claim with its message, read back where it is not in memory. `None` when it cannot be
    /// read: damaged, the message is taken out; else it is tried again later.
    pub async fn load(&self, due: Due) -> Option<Claim> {
        let Due { taken, mut ticket } = due;
        let hot = match taken.hot {
            Some(hot) => hot,
            None => match self.read(&taken).await {
                Ok(hot) => hot,
                Err(error) => {
                    ticket.given_up = true;
                    self.unreadable(&taken, error).await;
                    return None;
                }
            },
        };
        Some(Claim {
            id: taken.id,
            accepted: hot.accepted,
            attempts: taken.attempts,
            envelope: hot.envelope,
            recipients: taken.recipients,
            domain: taken.domain,
            body: hot.body,
            delay_warned: taken.delay_warned,
            ticket,
        })
    }

    async fn read(&self, taken: &Taken) -> Result<Hot, ReadError> {
        let disk = Arc::clone(&self.shared.disk);
        let (place, id) = (taken.place, taken.id);
        let _share = self.shared.reads.acquire().await;
        // All memory is taken here: each of the threads that read would keep some MiB of what it had
        // taken, since others give it back.
        let mut bytes = vec![0; place.length as usize];
        let read = move || read_record(disk.as_ref(), &place, &mut bytes).map(|()| bytes);
        let bytes = spawn_blocking(read).await;
        let bytes = bytes.unwrap_or_else(|e| Err(ReadError::Disk(std::io::Error::other(e))))?;
        let read = read_back(bytes, &place, id)?;
        Ok(Hot {
            accepted: read.head.accepted,
            envelope: read.head.envelope,
            body: read.body,
        })
    }

    async fn unreadable(&self, taken: &Taken, error: ReadError) {
        let (id, leg) = (taken.id, taken.leg);
        if self.shared.queue().place(id) != Some(taken.place) {
            // It was moved while it was read.
            self.shared.queue().put_back(id, leg, None);
            return;
        }
        tracing::error!(message.id = %id, %error, "message cannot be read back");
        match error {
            ReadError::Disk(_) => {
                let due = self.shared.clock.wall() + UNREADABLE_DELAY;
                self.shared.queue().put_back(id, leg, Some(due));
            }
            ReadError::Damaged(place) => {
                // When custody is closed the next opening finds it.
                drop(self.jobs.send(Job::Quarantine { id, leg, place }).await);
            }
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
fn prepare(message: NewMessage) -> Result<(Head, Bytes), AcceptError> {
    let recipients = message.envelope.recipients.len();
    let outside = message.suppressed.iter().any(|index| *index >= recipients);
    if recipients == 0 || outside {
        return Err(AcceptError::Recipients(recipients));
    }
    let bytes = message.body.len() as u64
        + RECORD_OVERHEAD
        + message.envelope.tenant.len() as u64
        + (recipients as u64 + 2) * RECIPIENT_BYTES;
    if bytes > MAX_PAYLOAD {
        return Err(AcceptError::TooLarge {
            bytes,
            limit: MAX_PAYLOAD,
        });
    }
    let accepted = whole_micros(message.accepted);
    let head = Head {
        id: message.id,
        accepted,
        state: State::new(&message.envelope, accepted, &message.suppressed),
        envelope: Arc::new(message.envelope),
    };
    Ok((head, message.body))
}

fn report_damage(damage: &Damage, telemetry: &Telemetry) {
    let file = damage.file.as_deref().unwrap_or("kept in its segment");
    let (segment, offset, length) = (damage.segment, damage.offset, damage.length);
    match damage.kind {
        DamageKind::Torn => {
            tracing::warn!(segment, offset, length, file, "torn tail was put aside");
        }
        DamageKind::Bad => {
            tracing::error!(segment, offset, length, file, "damaged records put aside");
            telemetry.quarantined();
        }
    }
}

#[cfg(test)]
mod tests;
