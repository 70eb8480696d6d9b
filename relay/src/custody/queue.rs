//! The queue: every message in custody and what each of its legs waits for.
//!
//! Promises: pure, time is passed in. A leg is waiting, claimed or done, and given out to one
//! claimer at a time. A message leaves when no recipient is pending. A held message keeps all it
//! has and gives out no leg; a leg already claimed when the hold begins is finished first.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use postrider_crds::{
    DomainName,
    relay_config::{Admission, QueueReport},
};

use super::{
    AdmissionOf, RecipientResult,
    schedule::{Schedule, Slot},
    spool::Place,
    state::{State, leg_domains},
};
use crate::mail::{Envelope, MessageId};

/// All messages in custody.
pub(crate) struct Queue {
    entries: HashMap<MessageId, Entry>,
    schedule: Schedule,
    /// Messages by the most urgent of their legs; ids sort by age.
    due: BTreeSet<MessageId>,
    deferred: BTreeSet<MessageId>,
    held: BTreeSet<MessageId>,
    admission: AdmissionOf,
    hot: usize,
    hot_limit: usize,
}

/// A message to enter the queue, new or restored.
pub(crate) struct NewEntry {
    pub(crate) id: MessageId,
    pub(crate) accepted: Timestamp,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) state: State,
    pub(crate) place: Place,
    /// The body, to be kept while there is room and use for it.
    pub(crate) body: Option<Bytes>,
}

/// A leg that was given out.
pub(crate) struct Taken {
    pub(crate) id: MessageId,
    pub(crate) leg: u32,
    pub(crate) accepted: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) delay_warned: bool,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) recipients: Vec<usize>,
    pub(crate) domain: DomainName,
    pub(crate) place: Place,
    pub(crate) body: Option<Bytes>,
}

/// Whether admission keeps a message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    Held,
    Free,
}

/// A message whose holding changed.
#[derive(Clone, Debug)]
pub(crate) struct HoldingChange {
    pub(crate) id: MessageId,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) now: Holding,
}

/// Depths and ages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Depths, and how long the longest waiting due message has been due.
    pub report: QueueReport,
    /// Seconds since the oldest deferred message was accepted.
    pub oldest_deferred_seconds: u64,
    /// Seconds since the oldest held message was accepted.
    pub oldest_held_seconds: u64,
}

struct Entry {
    accepted: Timestamp,
    envelope: Arc<Envelope>,
    state: State,
    legs: Vec<Leg>,
    holding: Holding,
    urgency: Urgency,
    place: Place,
    body: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    Waiting,
    Due,
    Claimed,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    Due,
    Deferred,
    Held,
}

impl Queue {
    /// An empty queue that keeps up to `hot_limit` bytes of bodies.
    pub(crate) fn new(admission: AdmissionOf, hot_limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            schedule: Schedule::default(),
            due: BTreeSet::new(),
            deferred: BTreeSet::new(),
            held: BTreeSet::new(),
            admission,
            hot: 0,
            hot_limit,
        }
    }

    /// Adds a message with a pending recipient.
    pub(crate) fn insert(&mut self, new: NewEntry, now: Timestamp) -> Holding {
        let holding = self.holding_of(&new.envelope);
        let legs = leg_domains(&new.envelope)
            .into_iter()
            .map(|domain| match new.state.pending(&new.envelope, domain) {
                pending if pending.is_empty() => Leg::Done,
                _ => Leg::Waiting,
            })
            .collect();
        let fits = |body: &Bytes| self.hot.saturating_add(body.len()) <= self.hot_limit;
        let body = new
            .body
            .filter(|body| holding == Holding::Free && fits(body));
        self.hot += body.as_ref().map_or(0, Bytes::len);
        let entry = Entry {
            accepted: new.accepted,
            envelope: new.envelope,
            state: new.state,
            legs,
            holding,
            urgency: Urgency::Held,
            place: new.place,
            body,
        };
        if holding == Holding::Free {
            entry.slots(new.id).for_each(|slot| self.schedule.add(slot));
        }
        self.entries.insert(new.id, entry);
        self.held.insert(new.id);
        self.classify(new.id);
        self.advance(now);
        holding
    }

    /// Whether the message is in custody and not done.
    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.entries.contains_key(&id)
    }

    /// Gives out the leg that has been due the longest.
    pub(crate) fn claim(&mut self, now: Timestamp) -> Option<Taken> {
        self.advance(now);
        let slot = self.schedule.take()?;
        let entry = self.entries.get_mut(&slot.id)?;
        let leg = entry.state.legs.get(slot.leg as usize).copied()?;
        *entry.legs.get_mut(slot.leg as usize)? = Leg::Claimed;
        let domain = leg_domains(&entry.envelope)
            .get(slot.leg as usize)
            .copied()?
            .clone();
        Some(Taken {
            id: slot.id,
            leg: slot.leg,
            accepted: entry.accepted,
            attempts: leg.attempts,
            delay_warned: leg.delay_warned,
            envelope: Arc::clone(&entry.envelope),
            recipients: entry.state.pending(&entry.envelope, &domain),
            domain,
            place: entry.place,
            body: entry.body.clone(),
        })
    }

    /// When the next leg that is not due yet will be.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.schedule.next()
    }

    /// Takes a claimed leg back, due at `due` or when it was.
    pub(crate) fn put_back(&mut self, id: MessageId, leg: u32, due: Option<Timestamp>) {
        if self.is_claimed(id, leg) {
            if let Some(state) = self.leg_state(id, leg) {
                state.due = due.unwrap_or(state.due);
            }
            self.replace(id, leg);
        }
    }

    /// Whether somebody has the leg.
    pub(crate) fn is_claimed(&self, id: MessageId, leg: u32) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.legs.get(leg as usize) == Some(&Leg::Claimed))
    }

    /// The number of the attempt that is about to be made for a claimed leg, 1 for the first.
    pub(crate) fn next_attempt(&self, id: MessageId, leg: u32) -> Option<u32> {
        let state = self.entries.get(&id)?.state.legs.get(leg as usize)?;
        self.is_claimed(id, leg).then_some(state.attempts + 1)
    }

    /// Counts an attempt that was recorded.
    pub(crate) fn start_attempt(&mut self, id: MessageId, leg: u32, number: u32) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state.start_attempt(leg, number);
        }
    }

    /// Applies what became of a claimed leg. The message's place, if that finished it.
    pub(crate) fn settle(
        &mut self,
        id: MessageId,
        leg: u32,
        results: &[(u32, RecipientResult)],
        delay_warned: bool,
    ) -> Option<Place> {
        let entry = self.entries.get_mut(&id)?;
        entry.state.settle(leg, results, delay_warned);
        if entry.state.is_finished() {
            return self.remove(id);
        }
        // What is tried again later is read back then.
        self.hot -= entry.body.take().map_or(0, |body| body.len());
        self.replace(id, leg);
        None
    }

    /// Takes a message out; its place.
    pub(crate) fn remove(&mut self, id: MessageId) -> Option<Place> {
        let entry = self.entries.remove(&id)?;
        entry.slots(id).for_each(|slot| self.schedule.remove(&slot));
        self.hot -= entry.body.map_or(0, |body| body.len());
        self.due.remove(&id);
        self.deferred.remove(&id);
        self.held.remove(&id);
        Some(entry.place)
    }

    /// Where a message lives and how far it is.
    pub(crate) fn current(&self, id: MessageId) -> Option<(Place, &State)> {
        let entry = self.entries.get(&id)?;
        Some((entry.place, &entry.state))
    }

    /// A message lives elsewhere now.
    pub(crate) fn relocate(&mut self, id: MessageId, place: Place) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.place = place;
        }
    }

    /// Holds and frees messages as `admission` says from now on.
    pub(crate) fn apply_admission(
        &mut self,
        admission: AdmissionOf,
        now: Timestamp,
    ) -> Vec<HoldingChange> {
        self.admission = admission;
        let mut changes = Vec::new();
        for (id, entry) in &self.entries {
            let holding = self.holding_of(&entry.envelope);
            if holding != entry.holding {
                changes.push(HoldingChange {
                    id: *id,
                    envelope: Arc::clone(&entry.envelope),
                    now: holding,
                });
            }
        }
        changes.sort_unstable_by_key(|change| change.id);
        for change in &changes {
            self.set_holding(change.id, change.now);
        }
        self.advance(now);
        changes
    }

    /// Depths and ages.
    pub(crate) fn figures(&mut self, now: Timestamp) -> QueueFigures {
        self.advance(now);
        let since =
            |time: Timestamp| u64::try_from(now.duration_since(time).as_secs()).unwrap_or(0);
        let oldest = |ids: &BTreeSet<MessageId>| {
            let entry = ids.first().and_then(|id| self.entries.get(id));
            entry.map_or(0, |entry| since(entry.accepted))
        };
        QueueFigures {
            report: QueueReport {
                due: self.due.len() as u64,
                deferred: self.deferred.len() as u64,
                held: self.held.len() as u64,
                oldest_due_seconds: self.schedule.oldest_due().map_or(0, since),
            },
            oldest_deferred_seconds: oldest(&self.deferred),
            oldest_held_seconds: oldest(&self.held),
        }
    }

    fn holding_of(&self, envelope: &Envelope) -> Holding {
        match (self.admission)(envelope.domain.as_ref()) {
            Admission::Send => Holding::Free,
            Admission::Hold | Admission::Reject => Holding::Held,
        }
    }

    fn set_holding(&mut self, id: MessageId, holding: Holding) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.holding = holding;
        for slot in entry.slots(id) {
            match holding {
                Holding::Held => self.schedule.remove(&slot),
                Holding::Free => self.schedule.add(slot),
            }
        }
        for leg in &mut entry.legs {
            if *leg == Leg::Due {
                *leg = Leg::Waiting;
            }
        }
        if holding == Holding::Held {
            self.hot -= entry.body.take().map_or(0, |body| body.len());
        }
        self.classify(id);
    }

    /// Puts a leg that was claimed where it belongs now.
    fn replace(&mut self, id: MessageId, leg: u32) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let pending = leg_domains(&entry.envelope)
            .get(leg as usize)
            .is_some_and(|domain| !entry.state.pending(&entry.envelope, domain).is_empty());
        let due = entry.state.legs.get(leg as usize).map(|state| state.due);
        if let (Some(position), Some(due)) = (entry.legs.get_mut(leg as usize), due) {
            *position = if pending { Leg::Waiting } else { Leg::Done };
            if pending && entry.holding == Holding::Free {
                self.schedule.add(Slot { due, id, leg });
            }
        }
        self.classify(id);
    }

    fn leg_state(&mut self, id: MessageId, leg: u32) -> Option<&mut super::state::LegState> {
        self.entries.get_mut(&id)?.state.legs.get_mut(leg as usize)
    }

    fn advance(&mut self, now: Timestamp) {
        for slot in self.schedule.advance(now) {
            if let Some(entry) = self.entries.get_mut(&slot.id)
                && let Some(leg) = entry.legs.get_mut(slot.leg as usize)
            {
                *leg = Leg::Due;
                self.classify(slot.id);
            }
        }
    }

    /// Counts a message under the most urgent of its legs.
    fn classify(&mut self, id: MessageId) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let active = |leg: &Leg| matches!(leg, Leg::Due | Leg::Claimed);
        let urgency = match entry.holding {
            _ if entry.legs.iter().any(active) => Urgency::Due,
            Holding::Held => Urgency::Held,
            Holding::Free => Urgency::Deferred,
        };
        if urgency == entry.urgency {
            return;
        }
        match std::mem::replace(&mut entry.urgency, urgency) {
            Urgency::Due => self.due.remove(&id),
            Urgency::Deferred => self.deferred.remove(&id),
            Urgency::Held => self.held.remove(&id),
        };
        match urgency {
            Urgency::Due => self.due.insert(id),
            Urgency::Deferred => self.deferred.insert(id),
            Urgency::Held => self.held.insert(id),
        };
    }
}

impl Entry {
    /// The legs that wait, with their due times.
    fn slots(&self, id: MessageId) -> impl Iterator<Item = Slot> {
        let legs = self.legs.iter().zip(&self.state.legs).zip(0_u32..);
        legs.filter(|((leg, _), _)| matches!(leg, Leg::Waiting | Leg::Due))
            .map(move |((_, state), leg)| Slot {
                due: state.due,
                id,
                leg,
            })
    }
}
