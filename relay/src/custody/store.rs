//! The committer's half that blocks: writes what has gathered, syncs once, changes the queue, and
//! answers.
//!
//! Promises: the queue changes only after the record is written (synced, for all but attempts), and
//! an answer is given only after that. A message whose client has gone by then stays. When a write
//! fails it is tried once more on a new segment; then everything that asks for a promise is refused,
//! but settlements are applied in memory and written as soon as the disk takes them.

mod orders;

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

pub(crate) use orders::OrderJob;

use super::{
    AcceptError, Committed, NotAccepting, RecipientResult, StoreError,
    bell::Urgency,
    queue::{Holding, HoldingChange, Origin, Queue},
    report_damage,
    shared::Shared,
    spool::{
        Current, Place, QUARANTINE, Recovery, Spool, Sync, put_aside, read_record,
        record::{Encoded, Head, Record},
    },
};
use crate::{mail::MessageId, telemetry::Stage};

/// What the committer is asked.
pub(crate) enum Job {
    /// Take a message.
    Accept {
        record: Encoded,
        reply: oneshot::Sender<Result<Committed, AcceptError>>,
    },
    /// Record that an attempt is about to be made.
    Attempt {
        id: MessageId,
        leg: u32,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Record what became of a claim.
    Settle {
        settled: Settled,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// A leg that waits for its next attempt is due at `due`.
    Hasten {
        id: MessageId,
        leg: u32,
        due: Timestamp,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Change the orders in force.
    Order(OrderJob),
    /// Put a message aside that is damaged where it was read for this leg.
    Quarantine {
        id: MessageId,
        leg: u32,
        place: Place,
    },
    /// Sync and let go.
    Close { reply: oneshot::Sender<()> },
}

impl Job {
    /// What it is to the committer.
    pub(crate) fn urgency(&self) -> Urgency {
        match self {
            Self::Accept { .. } => Urgency::Accept,
            Self::Hasten { .. } | Self::Order(_) => Urgency::Sync,
            Self::Attempt { .. } | Self::Quarantine { .. } | Self::Close { .. } => Urgency::Soon,
            Self::Settle { .. } => Urgency::Result,
        }
    }
}

/// A settlement on its way in.
pub(crate) struct Settled {
    pub(crate) id: MessageId,
    pub(crate) leg: u32,
    pub(crate) results: Vec<(u32, RecipientResult)>,
    pub(crate) delay_warned: bool,
    /// The notification and its body.
    pub(crate) notification: Option<(Head, Bytes)>,
}

/// The committer's state.
pub(crate) struct Store {
    spool: Spool,
    shared: Arc<Shared>,
    /// Settlements in force that are not recorded yet.
    unrecorded: Vec<Encoded>,
    /// What is not restored yet.
    recovery: Option<Recovery>,
    /// How long the last write that was synced took.
    last_write: Duration,
}

/// A job whose record waits for the write.
enum Pending {
    Accept(oneshot::Sender<Result<Committed, AcceptError>>),
    Attempt(oneshot::Sender<Result<(), StoreError>>),
    Settle(oneshot::Sender<Result<(), StoreError>>),
    Hasten(oneshot::Sender<Result<(), StoreError>>, Timestamp),
    /// A table of orders, which is put in force by who wrote it.
    Orders,
    /// A settlement that is in force already.
    Unrecorded,
    Quarantined {
        leg: u32,
        file: String,
        origin: Arc<Origin>,
    },
}

/// What is said once the queue is let go of.
#[derive(Default)]
struct Told {
    accepted: Vec<(oneshot::Sender<Result<Committed, AcceptError>>, MessageId)>,
    recorded: Vec<oneshot::Sender<Result<(), StoreError>>>,
    held: Vec<HoldingChange>,
    quarantined: Vec<(MessageId, String, Arc<Origin>)>,
}

/// After how long a message is due again that could not be put aside.
const QUARANTINE_DELAY: SignedDuration = SignedDuration::from_secs(60);

impl Store {
    pub(crate) fn new(spool: Spool, recovery: Recovery, shared: Arc<Shared>) -> Self {
        let mut queue = shared.queue();
        queue.begin_restore();
        if spool.announces_orders() {
            queue.await_orders();
        }
        drop(queue);
        Self {
            spool,
            shared,
            unrecorded: Vec::new(),
            recovery: Some(recovery),
            last_write: Duration::ZERO,
        }
    }

    /// Writes and syncs once for all the jobs, then answers each.
    pub(crate) fn commit(&mut self, jobs: Vec<Job>) {
        let accepting = self.shared.accepting();
        let ailing = self.shared.ailing();
        let mut records = Vec::with_capacity(jobs.len());
        let mut pending = Vec::with_capacity(jobs.len());
        let (mut damaged, mut orders) = (Vec::new(), Vec::new());
        let shared = Arc::clone(&self.shared);
        let queue = shared.queue();
        for job in jobs {
            let made = match job {
                Job::Accept { record, reply } => may_take(&queue, &accepting, record, reply),
                Job::Attempt { id, leg, reply } => attempt(&queue, id, leg, reply),
                Job::Settle { settled, reply } => settle(&queue, settled, reply),
                Job::Hasten {
                    id,
                    leg,
                    due,
                    reply,
                } => orders::hasten(&queue, (id, leg), due, reply),
                Job::Order(order) => {
                    orders.push(order);
                    None
                }
                Job::Quarantine { id, leg, place } => {
                    damaged.push((id, leg, place));
                    None
                }
                Job::Close { reply } => {
                    let _ = reply.send(());
                    None
                }
            };
            if let Some((record, of)) = made {
                records.push(record);
                pending.push(of);
            }
        }
        drop(queue);
        for (id, leg, place) in damaged {
            if let Some((record, of)) = self.quarantine(id, leg, place) {
                records.push(record);
                pending.push(of);
            }
        }
        match ailing {
            None => drop(self.write(records, pending)),
            Some(error) => self.fail(records, pending, &error),
        }
        for order in orders {
            self.order(order);
        }
        self.shared.wake.notify_one();
    }

    /// Tries whether a disk that failed works again, with the settlements that were kept.
    pub(crate) fn probe(&mut self) {
        let records = std::mem::take(&mut self.unrecorded);
        let works = match records.is_empty() {
            true => self.spool.ensure_head().map_err(Arc::new),
            false => {
                let pending = records.iter().map(|_| Pending::Unrecorded).collect();
                self.write(records, pending)
            }
        };
        match works {
            Ok(()) => self.shared.set_ailing(None),
            Err(error) => self.shared.set_ailing(Some(error)),
        }
        self.shared.wake.notify_one();
    }

    /// Whether the last write failed.
    pub(crate) fn is_ailing(&self) -> bool {
        self.shared.ailing().is_some()
    }

    /// How long the last write that was synced took.
    pub(crate) fn last_write(&self) -> Duration {
        self.last_write
    }

    /// The monotonic time.
    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// A last try to record what is kept in memory.
    pub(crate) fn probe_if_ailing(&mut self) {
        if self.is_ailing() {
            self.probe();
        }
    }

    /// Whether the spool is not restored yet.
    pub(crate) fn is_restoring(&self) -> bool {
        self.recovery.is_some()
    }

    /// Restores a part of the spool.
    pub(crate) fn restore(&mut self) -> io::Result<()> {
        let Some(recovery) = &mut self.recovery else {
            return Ok(());
        };
        let mut damage = Vec::new();
        let shared = &self.shared;
        let mut on_queue = |apply: &mut dyn FnMut(&mut Queue)| apply(&mut shared.queue());
        let began = shared.begin_write();
        let stepped = recovery.step(&mut self.spool, &mut on_queue, &mut damage);
        shared.end_write(began);
        for damage in &damage {
            report_damage(damage, &shared.telemetry);
        }
        if !damage.is_empty() {
            shared.count_aside();
        }
        shared.set_restoring(recovery.left());
        if recovery.is_done() {
            self.recovery = None;
            self.spool.end_restore();
            let mut queue = shared.queue();
            queue.end_restore(self.spool.orders(), shared.clock.wall());
            shared.set_queued(queue.len());
            tracing::info!(messages = queue.len(), "spool restored");
            drop(queue);
            shared.wake.notify_one();
            shared.ordered.notify_one();
        }
        stepped
    }

    /// Compacts and removes segments, while all that is in force is also recorded, and all that is
    /// recorded is known.
    pub(crate) fn maintain(&mut self) {
        if !self.unrecorded.is_empty() || self.is_restoring() || self.is_ailing() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let began = shared.begin_write();
        let current = &mut |id| shared.queue().current(id).map(Current::from);
        let moved = self.spool.compact(current);
        match moved {
            Ok(moved) => {
                let mut queue = self.shared.queue();
                for message in &moved {
                    queue.relocate(message.id, message.to);
                }
            }
            Err(error) => tracing::warn!(%error, "spool compaction failed"),
        }
        if let Err(error) = self.spool.remove_dead() {
            tracing::warn!(%error, "dead segments could not be removed");
        }
        shared.end_write(began);
        shared.telemetry.spool_segments(self.spool.segment_count());
    }

    /// Syncs what is written and not synced, and leaves the head as the next opening wants it.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        self.spool.seal()
    }

    /// Copies a damaged message aside, so that it can be taken out.
    fn quarantine(&mut self, id: MessageId, leg: u32, place: Place) -> Option<(Encoded, Pending)> {
        let mut queue = self.shared.queue();
        let origin = queue.origin(id)?;
        if queue.place(id) != Some(place) {
            // It was moved while it was read.
            queue.put_back(id, leg, None);
            return None;
        }
        drop(queue);
        let Place {
            segment,
            offset,
            length,
        } = place;
        let file = format!("{QUARANTINE}/{segment:016x}-{offset}-{length}.bad");
        let disk = self.shared.disk.as_ref();
        let mut bytes = vec![0; length as usize];
        let kept = read_record(disk, &place, &mut bytes)
            .map_err(io::Error::other)
            .and_then(|()| put_aside(disk, &file, &bytes));
        if let Err(error) = kept {
            tracing::error!(message.id = %id, %error, "damaged message could not be put aside");
            self.put_off(id, leg);
            return None;
        }
        let home = segment;
        let record = Encoded::of(Record::Finished { id, home });
        Some((record, Pending::Quarantined { leg, file, origin }))
    }

    fn put_off(&self, id: MessageId, leg: u32) {
        let due = self.shared.clock.wall() + QUARANTINE_DELAY;
        self.shared.queue().put_back(id, leg, Some(due));
    }

    /// Writes a batch, twice if need be, and applies it.
    fn write(
        &mut self,
        records: Vec<Encoded>,
        pending: Vec<Pending>,
    ) -> Result<(), Arc<io::Error>> {
        if records.is_empty() {
            return Ok(());
        }
        let only_attempts = pending.iter().all(|of| matches!(of, Pending::Attempt(_)));
        let sync = if only_attempts {
            Sync::Later
        } else {
            Sync::Now
        };
        let started = self.shared.begin_write();
        let written = self.spool.append(&records, sync).or_else(|error| {
            tracing::warn!(%error, "spool write failed, trying a new segment");
            self.spool.append(&records, sync)
        });
        let took = self.shared.end_write(started);
        match written {
            Ok(places) => {
                if sync == Sync::Now {
                    self.last_write = took;
                    let accepts = |of: &&Pending| matches!(of, Pending::Accept(_));
                    let messages = pending.iter().filter(accepts).count();
                    self.shared.telemetry.spool_batch(messages, took);
                }
                self.applied(records, pending, &places);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "spool write failed, mail is refused until it works");
                let error = Arc::new(error);
                self.shared.set_ailing(Some(Arc::clone(&error)));
                self.fail(records, pending, &error);
                Err(error)
            }
        }
    }

    fn applied(&mut self, records: Vec<Encoded>, pending: Vec<Pending>, places: &[Place]) {
        let mut told = Told::default();
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue();
        for ((record, of), place) in records.into_iter().zip(pending).zip(places) {
            if let Some((_, home)) = record.record.subject() {
                self.spool.refer(place.segment, home);
            }
            match (of, &record.record) {
                (Pending::Accept(reply), Record::Message(head)) => {
                    told.accepted.push((reply, head.id));
                }
                (Pending::Attempt(reply), record) => {
                    if let Record::Attempt {
                        id, leg, number, ..
                    } = record
                    {
                        queue.start_attempt(*id, *leg, *number);
                    }
                    told.recorded.push(reply);
                }
                (Pending::Settle(reply), record) => {
                    self.put_in_force(&mut queue, record);
                    told.recorded.push(reply);
                }
                (Pending::Quarantined { file, origin, .. }, Record::Finished { id, .. }) => {
                    if let Some(place) = queue.remove(*id) {
                        self.spool.release(&place);
                    }
                    told.quarantined.push((*id, file, origin));
                }
                (Pending::Hasten(reply, due), record) => {
                    orders::hastened(&mut queue, record, due);
                    told.recorded.push(reply);
                }
                (
                    Pending::Accept(_)
                    | Pending::Quarantined { .. }
                    | Pending::Orders
                    | Pending::Unrecorded,
                    _,
                ) => {}
            }
            self.take_in(&mut queue, record, place, &mut told);
        }
        shared.set_queued(queue.len());
        drop(queue);
        self.tell(told);
    }

    fn tell(&self, told: Told) {
        for (reply, id) in told.accepted {
            drop(reply.send(Ok(Committed { id })));
        }
        for reply in told.recorded {
            drop(reply.send(Ok(())));
        }
        if told.held.is_empty() && told.quarantined.is_empty() {
            return;
        }
        let now = self.shared.clock.wall();
        for change in told.held {
            self.shared.tell_holding(&change, now);
        }
        if !told.quarantined.is_empty() {
            self.shared.count_aside();
        }
        for (id, file, origin) in told.quarantined {
            self.shared.telemetry.quarantined();
            self.shared
                .tell(id, &origin, Stage::Quarantined { file }, now);
        }
    }

    fn fail(&mut self, records: Vec<Encoded>, pending: Vec<Pending>, error: &Arc<io::Error>) {
        let failed = || StoreError::Disk(Arc::clone(error));
        for (record, of) in records.into_iter().zip(pending) {
            match of {
                Pending::Accept(reply) => {
                    drop(reply.send(Err(AcceptError::Disk(Arc::clone(error)))));
                }
                Pending::Attempt(reply) | Pending::Hasten(reply, _) => {
                    drop(reply.send(Err(failed())));
                }
                // Who wrote it answers.
                Pending::Orders => {}
                Pending::Settle(reply) => {
                    let shared = Arc::clone(&self.shared);
                    self.put_in_force(&mut shared.queue(), &record.record);
                    self.unrecorded.push(record);
                    drop(reply.send(Err(failed())));
                }
                Pending::Unrecorded => self.unrecorded.push(record),
                Pending::Quarantined { leg, .. } => {
                    if let Some((id, _)) = record.record.subject() {
                        self.put_off(id, leg);
                    }
                }
            }
        }
    }

    fn put_in_force(&mut self, queue: &mut Queue, record: &Record) {
        let Record::Settled {
            id,
            leg,
            results,
            delay_warned,
            ..
        } = record
        else {
            return;
        };
        if let Some(place) = queue.settle(*id, *leg, results, *delay_warned) {
            self.spool.release(&place);
        }
    }

    /// Queues the message that a record brings.
    fn take_in(&mut self, queue: &mut Queue, record: Encoded, place: &Place, told: &mut Told) {
        let Encoded { record, body, .. } = record;
        let Some(head) = record
            .into_message()
            .filter(|head| !head.state.is_finished())
        else {
            return;
        };
        self.spool.hold(place);
        let now = self.shared.clock.wall();
        let id = head.id;
        let holding = queue.insert(head, body, *place, now);
        if holding == Holding::Held
            && let Some(origin) = queue.origin(id)
        {
            let now = holding;
            told.held.push(HoldingChange { id, origin, now });
        }
    }
}

type Made = Option<(Encoded, Pending)>;

fn may_take(
    queue: &Queue,
    accepting: &Result<(), NotAccepting>,
    record: Encoded,
    reply: oneshot::Sender<Result<Committed, AcceptError>>,
) -> Made {
    let id = record.record.message().map(|head| head.id);
    let refused = match (accepting, id) {
        (Err(error), _) => Some(AcceptError::NotAccepting(error.clone())),
        (Ok(()), Some(id)) if queue.contains(id) => Some(AcceptError::Known(id)),
        (Ok(()), _) => None,
    };
    match refused {
        None => Some((record, Pending::Accept(reply))),
        Some(error) => {
            drop(reply.send(Err(error)));
            None
        }
    }
}

fn attempt(
    queue: &Queue,
    id: MessageId,
    leg: u32,
    reply: oneshot::Sender<Result<(), StoreError>>,
) -> Made {
    let Some((attempts, place)) = queue.attempts(id, leg) else {
        drop(reply.send(Err(StoreError::UnknownClaim(id))));
        return None;
    };
    if queue.keeps(id, leg) {
        drop(reply.send(Err(StoreError::Kept(id))));
        return None;
    }
    let record = Record::Attempt {
        id,
        home: place.segment,
        leg,
        number: attempts + 1,
    };
    Some((Encoded::of(record), Pending::Attempt(reply)))
}

fn settle(queue: &Queue, settled: Settled, reply: oneshot::Sender<Result<(), StoreError>>) -> Made {
    let Some((attempts, place)) = queue.attempts(settled.id, settled.leg) else {
        drop(reply.send(Err(StoreError::UnknownClaim(settled.id))));
        return None;
    };
    let (notification, body) = settled.notification.unzip();
    let record = Record::Settled {
        id: settled.id,
        home: place.segment,
        leg: settled.leg,
        attempts,
        delay_warned: settled.delay_warned,
        results: settled.results,
        notification,
    };
    let record = Encoded::new(record, body.unwrap_or_default());
    Some((record, Pending::Settle(reply)))
}
