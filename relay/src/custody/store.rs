//! The committer's half that blocks: writes what has gathered, syncs once, changes the queue, and
//! answers.
//!
//! Promises: the queue changes only after the record is written (synced, for all but attempts), and
//! an answer is given only after that. A message whose client has gone by then stays. When a write
//! fails it is tried once more on a new segment; then everything that asks for a promise is refused,
//! but settlements are applied in memory and written as soon as the disk takes them.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{
    AcceptError, Committed, NotAccepting, RecipientResult, StoreError,
    queue::{Holding, NewEntry},
    shared::Shared,
    spool::{
        Current, Place, Spool, Sync,
        record::{self, Encoded, MessageFields, SettledFields},
    },
    state::State,
};
use crate::mail::{Envelope, MessageId};

/// What the committer is asked.
pub(crate) enum Job {
    /// Take a message.
    Accept {
        message: Prepared,
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
    /// Keep a segment that holds a message nobody can read, until the next opening puts it aside.
    Pin { segment: u64 },
    /// Sync and let go.
    Close { reply: oneshot::Sender<()> },
}

/// A message on its way in.
pub(crate) struct Prepared {
    pub(crate) id: MessageId,
    pub(crate) accepted: Timestamp,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) state: State,
    pub(crate) body: Bytes,
}

/// A settlement on its way in.
pub(crate) struct Settled {
    pub(crate) id: MessageId,
    pub(crate) leg: u32,
    pub(crate) results: Vec<(u32, RecipientResult)>,
    pub(crate) delay_warned: bool,
    pub(crate) notification: Option<Prepared>,
}

/// A settlement in force that is not recorded yet.
struct Unrecorded {
    settled: Settled,
    home: u64,
    attempts: u32,
}

/// The committer's state.
pub(crate) struct Store {
    spool: Spool,
    shared: Arc<Shared>,
    unrecorded: Vec<Unrecorded>,
}

/// A job whose record waits for the write.
enum Pending {
    Accept {
        message: Prepared,
        reply: oneshot::Sender<Result<Committed, AcceptError>>,
    },
    Attempt {
        id: MessageId,
        leg: u32,
        number: u32,
        home: u64,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Settle {
        settled: Settled,
        home: u64,
        attempts: u32,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Unrecorded(Unrecorded),
}

impl Store {
    pub(crate) fn new(spool: Spool, shared: Arc<Shared>) -> Self {
        Self {
            spool,
            shared,
            unrecorded: Vec::new(),
        }
    }

    /// Writes and syncs once for all the jobs, then answers each.
    pub(crate) fn commit(&mut self, jobs: Vec<Job>) {
        let accepting = self.shared.accepting();
        let ailing = self.shared.ailing();
        let mut batch = Vec::new();
        for job in jobs {
            match job {
                Job::Accept {
                    message,
                    record,
                    reply,
                } => match self.may_take(&accepting, &message) {
                    Ok(()) => batch.push((record, Pending::Accept { message, reply })),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Job::Attempt { id, leg, reply } => batch.extend(self.attempt(id, leg, reply)),
                Job::Settle { settled, reply } => batch.extend(self.settle(settled, reply)),
                Job::Pin { segment } => self.spool.pin(segment),
                Job::Close { reply } => {
                    let _ = reply.send(());
                }
            }
        }
        match ailing {
            None => drop(self.write(batch)),
            Some(error) => self.fail(batch.into_iter().map(|(_, pending)| pending), &error),
        }
        self.shared.wake.notify_one();
    }

    /// Tries whether a disk that failed works again, with the settlements that were kept.
    pub(crate) fn probe(&mut self) {
        let batch: Vec<_> = std::mem::take(&mut self.unrecorded)
            .into_iter()
            .map(|unrecorded| {
                let record = encode(&unrecorded.settled, unrecorded.home, unrecorded.attempts);
                (record, Pending::Unrecorded(unrecorded))
            })
            .collect();
        let works = match batch.is_empty() {
            true => self.spool.ensure_head().map_err(Arc::new),
            false => self.write(batch),
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

    /// A last try to record what is kept in memory.
    pub(crate) fn probe_if_ailing(&mut self) {
        if self.is_ailing() {
            self.probe();
        }
    }

    /// Compacts and removes segments, while all that is in force is also recorded.
    pub(crate) fn maintain(&mut self) {
        if !self.unrecorded.is_empty() || self.shared.ailing().is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let moved = self.spool.compact(&mut |id| {
            let queue = shared.queue();
            let (place, state) = queue.current(id)?;
            let state = state.clone();
            Some(Current { place, state })
        });
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
        self.shared
            .telemetry
            .spool_segments(self.spool.segment_count());
    }

    /// Syncs what is written and not synced.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.spool.sync()
    }

    fn may_take(
        &self,
        accepting: &Result<(), NotAccepting>,
        message: &Prepared,
    ) -> Result<(), AcceptError> {
        accepting.clone()?;
        match self.shared.queue().contains(message.id) {
            true => Err(AcceptError::Known(message.id)),
            false => Ok(()),
        }
    }

    fn attempt(
        &self,
        id: MessageId,
        leg: u32,
        reply: oneshot::Sender<Result<(), StoreError>>,
    ) -> Option<(Encoded, Pending)> {
        let queue = self.shared.queue();
        let (Some(number), Some((place, _))) = (queue.next_attempt(id, leg), queue.current(id))
        else {
            drop(reply.send(Err(StoreError::UnknownClaim(id))));
            return None;
        };
        let home = place.segment;
        let pending = Pending::Attempt {
            id,
            leg,
            number,
            home,
            reply,
        };
        Some((record::attempt(id, home, leg, number), pending))
    }

    fn settle(
        &self,
        settled: Settled,
        reply: oneshot::Sender<Result<(), StoreError>>,
    ) -> Option<(Encoded, Pending)> {
        let queue = self.shared.queue();
        let current = queue.current(settled.id);
        let current = current.filter(|_| queue.is_claimed(settled.id, settled.leg));
        let Some((place, state)) = current else {
            drop(reply.send(Err(StoreError::UnknownClaim(settled.id))));
            return None;
        };
        let home = place.segment;
        let leg = state.legs.get(settled.leg as usize);
        let attempts = leg.map_or(0, |leg| leg.attempts);
        let record = encode(&settled, home, attempts);
        let pending = Pending::Settle {
            settled,
            home,
            attempts,
            reply,
        };
        Some((record, pending))
    }

    /// Writes a batch, twice if need be, and applies it.
    fn write(&mut self, batch: Vec<(Encoded, Pending)>) -> Result<(), Arc<io::Error>> {
        if batch.is_empty() {
            return Ok(());
        }
        let (records, pending): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let only_attempts = pending
            .iter()
            .all(|pending| matches!(pending, Pending::Attempt { .. }));
        let sync = if only_attempts {
            Sync::Later
        } else {
            Sync::Now
        };
        let started = self.shared.clock.monotonic();
        let written = self.spool.append(&records, sync).or_else(|error| {
            tracing::warn!(%error, "spool write failed, trying a new segment");
            self.spool.append(&records, sync)
        });
        match written {
            Ok(places) => {
                let took = self.shared.clock.monotonic().saturating_sub(started);
                self.applied(pending, &places, sync, took);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "spool write failed, mail is refused until it works");
                let error = Arc::new(error);
                self.shared.set_ailing(Some(Arc::clone(&error)));
                self.fail(pending, &error);
                Err(error)
            }
        }
    }

    fn applied(&mut self, batch: Vec<Pending>, places: &[Place], sync: Sync, took: Duration) {
        let accepts = |p: &&Pending| matches!(p, Pending::Accept { .. });
        if sync == Sync::Now {
            let messages = batch.iter().filter(accepts).count();
            self.shared.telemetry.spool_batch(messages, took);
        }
        for (pending, place) in batch.into_iter().zip(places) {
            match pending {
                Pending::Accept { message, reply } => {
                    let id = message.id;
                    self.take_in(message, place);
                    drop(reply.send(Ok(Committed { id })));
                }
                Pending::Attempt {
                    id,
                    leg,
                    number,
                    home,
                    reply,
                } => {
                    self.spool.refer(place.segment, home);
                    self.shared.queue().start_attempt(id, leg, number);
                    drop(reply.send(Ok(())));
                }
                Pending::Settle {
                    settled,
                    home,
                    reply,
                    ..
                } => {
                    self.spool.refer(place.segment, home);
                    self.put_in_force(&settled);
                    if let Some(notification) = settled.notification {
                        self.take_in(notification, place);
                    }
                    drop(reply.send(Ok(())));
                }
                Pending::Unrecorded(Unrecorded { settled, home, .. }) => {
                    self.spool.refer(place.segment, home);
                    if let Some(notification) = settled.notification {
                        self.take_in(notification, place);
                    }
                }
            }
        }
    }

    fn fail(&mut self, batch: impl IntoIterator<Item = Pending>, error: &Arc<io::Error>) {
        let failed = || StoreError::Disk(Arc::clone(error));
        for pending in batch {
            match pending {
                Pending::Accept { reply, .. } => {
                    drop(reply.send(Err(AcceptError::Disk(Arc::clone(error)))));
                }
                Pending::Attempt { reply, .. } => drop(reply.send(Err(failed()))),
                Pending::Settle {
                    settled,
                    home,
                    attempts,
                    reply,
                } => {
                    self.put_in_force(&settled);
                    self.unrecorded.push(Unrecorded {
                        settled,
                        home,
                        attempts,
                    });
                    drop(reply.send(Err(failed())));
                }
                Pending::Unrecorded(unrecorded) => self.unrecorded.push(unrecorded),
            }
        }
    }

    fn put_in_force(&mut self, settled: &Settled) {
        let done = self.shared.queue().settle(
            settled.id,
            settled.leg,
            &settled.results,
            settled.delay_warned,
        );
        if let Some(place) = done {
            self.spool.release(&place);
        }
    }

    fn take_in(&mut self, message: Prepared, place: &Place) {
        if message.state.is_finished() {
            return;
        }
        self.spool.hold(place);
        let now = self.shared.clock.wall();
        let envelope = Arc::clone(&message.envelope);
        let id = message.id;
        let entry = NewEntry {
            id,
            accepted: message.accepted,
            envelope: message.envelope,
            state: message.state,
            place: *place,
            body: Some(message.body),
        };
        let holding = self.shared.queue().insert(entry, now);
        if holding == Holding::Held {
            self.shared.tell_holding(id, &envelope, holding, now);
        }
    }
}

fn encode(settled: &Settled, home: u64, attempts: u32) -> Encoded {
    let notification = settled.notification.as_ref().map(Prepared::fields);
    record::settled(&SettledFields {
        id: settled.id,
        home,
        leg: settled.leg,
        attempts,
        delay_warned: settled.delay_warned,
        results: &settled.results,
        notification,
    })
}

impl Prepared {
    /// The fields to encode.
    pub(crate) fn fields(&self) -> MessageFields<'_> {
        MessageFields {
            id: self.id,
            accepted: self.accepted,
            state: &self.state,
            envelope: &self.envelope,
            body: &self.body,
        }
    }
}
