//! The queue: every message in custody and what each of its legs waits for.
//!
//! Promises: pure, time is passed in. A leg is waiting, ready, claimed or done, and given out to
//! one claimer at a time. A message leaves when no recipient is pending. A held message keeps all
//! it has and gives out no leg; a leg already claimed when the hold begins is finished first.
//!
//! An idle message takes 48 bytes, 32 for each leg, and 5 to 11 in the index of ids: its envelope
//! and body are in the spool. Both are kept in memory, within bounds, only until the first attempt.

mod admission;
mod chunks;
mod entry;
mod figures;
mod ids;
mod kept;
mod lanes;
mod legs;
mod restore;
mod survey;
mod wheel;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use postrider_crds::DomainName;

use self::{
    admission::Origins,
    chunks::Chunks,
    entry::{Entry, Extra, Message, id_in},
    figures::Ages,
    ids::Ids,
    kept::Keeping,
    lanes::Lanes,
    legs::{End, Legs, NONE, Position},
    wheel::Wheel,
};
pub(crate) use self::{
    admission::{HoldingChange, Origin},
    restore::Restored,
    survey::Survey,
};
pub use self::{
    figures::QueueFigures,
    lanes::{Room, Trust},
};
use super::{
    AdmissionOf, RecipientResult,
    spool::{Place, record::Head},
    state::{LegState, Outline, Progress, State, due_second, second},
};
use crate::mail::{Envelope, MessageId, Site};

/// Legs one call looks at to see whether they are due, so that a queue that is due all at once
/// holds nobody up.
const SLICE: usize = 1024;
/// Messages one call looks at to see whether they are too old.
const SWEEP: usize = 4096;

/// All messages in custody.
pub(crate) struct Queue {
    messages: Chunks<Message>,
    ids: Ids,
    extras: Chunks<Extra>,
    legs: Legs,
    wheel: Wheel,
    lanes: Lanes,
    origins: Origins,
    keeping: Keeping,
    ready: Ages,
    due: u64,
    deferred: Ages,
    suspended: Ages,
    held: Ages,
    hot: usize,
    hot_limit: usize,
    restoring: bool,
    /// The last claim ended before it had seen all there is to claim.
    interrupted: bool,
}

/// What a search for what is too old came to.
pub(crate) enum Sweep {
    Found(Box<Taken>),
    /// Nothing yet.
    More,
    /// Nothing any more.
    End,
}

/// A leg that was given out.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: MessageId,
    pub(crate) leg: u32,
    pub(crate) attempts: u32,
    pub(crate) delay_warned: bool,
    pub(crate) recipients: Vec<usize>,
    pub(crate) domain: DomainName,
    pub(crate) place: Place,
    /// What need not be read back.
    pub(crate) hot: Option<Hot>,
}

/// What is kept of a message that was not attempted yet.
#[derive(Clone, Debug)]
pub(crate) struct Hot {
    pub(crate) accepted: Timestamp,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) body: Bytes,
}

/// Whether admission keeps a message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    Held,
    Free,
}

/// A message counts as what the most urgent of its legs is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Due,
    Deferred,
    Suspended,
    Held,
}

impl Queue {
    /// An empty queue that keeps up to `hot_limit` bytes of messages.
    pub(crate) fn new(admission: AdmissionOf, hot_limit: usize) -> Self {
        Self {
            messages: Chunks::default(),
            ids: Ids::default(),
            extras: Chunks::default(),
            legs: Legs::default(),
            wheel: Wheel::default(),
            lanes: Lanes::default(),
            origins: Origins::new(admission),
            keeping: Keeping::default(),
            ready: Ages::default(),
            due: 0,
            deferred: Ages::default(),
            suspended: Ages::default(),
            held: Ages::default(),
            hot: 0,
            hot_limit,
            restoring: false,
            interrupted: false,
        }
    }

    /// Adds a message with a pending recipient.
    pub(crate) fn insert(
        &mut self,
        head: Head,
        body: Bytes,
        place: Place,
        now: Timestamp,
    ) -> Holding {
        self.advance(now);
        let envelope = Arc::clone(&head.envelope);
        self.enter(Entry {
            id: head.id,
            accepted: head.accepted,
            outline: Outline::of(&envelope),
            state: &head.state,
            place,
            hot: Some(Hot {
                accepted: head.accepted,
                envelope: head.envelope,
                body,
            }),
        })
    }

    /// Whether the message is in custody and not done.
    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.find(id).is_some()
    }

    /// Messages in custody.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Gives out the leg whose turn it is.
    pub(crate) fn claim(&mut self, now: Timestamp) -> Option<Taken> {
        self.advance(now);
        self.review();
        self.interrupted = false;
        if self.awaits_orders() {
            return None;
        }
        for _ in 0..SLICE {
            let picked = self.lanes.pick(&mut self.legs)?;
            let leg = self.legs.get(picked)?;
            let slot = leg.message;
            self.ready.remove(leg.due);
            if self.kept(picked).is_none() {
                return self.taken(picked);
            }
            self.keep(picked);
            self.classify(slot);
        }
        self.interrupted = true;
        None
    }

    /// Gives out a leg of a message that was accepted before `before`, searching from the message
    /// in slot `from` on, [`SWEEP`] of them at most.
    pub(crate) fn claim_overdue(&mut self, before: Timestamp, from: &mut usize) -> Sweep {
        let before = second(before);
        let end = from.saturating_add(SWEEP);
        if *from >= self.messages.numbers() {
            return Sweep::End;
        }
        while *from < end {
            let slot = u32::try_from(*from).unwrap_or(NONE);
            let message = self.messages.get(slot);
            let free = |m: &&Message| !(self.restoring && m.restored);
            if message
                .filter(free)
                .is_some_and(|message| message.accepted < before)
                && let Some(key) = self
                    .keys_of(slot)
                    .into_iter()
                    .find(|key| !self.is_out(*key))
                && let Some(taken) = self.take_out(slot, key)
            {
                return Sweep::Found(Box::new(taken));
            }
            *from += 1;
        }
        Sweep::More
    }

    /// Claims a leg from wherever it waits.
    fn take_out(&mut self, slot: u32, key: u32) -> Option<Taken> {
        self.take_from_line(key);
        self.lanes.claim(&mut self.legs, key);
        self.classify(slot);
        self.taken(key)
    }

    fn taken(&self, key: u32) -> Option<Taken> {
        let leg = self.legs.get(key)?;
        let message = self.messages.get(leg.message)?;
        let extra = self.extras.get(message.extra);
        let recipients = match extra.map(|extra| extra.recipients.as_slice()) {
            None | Some([]) => vec![0],
            Some(recipients) => (0..)
                .zip(recipients)
                .filter(|(_, recipient)| **recipient == (leg.number, Progress::Pending))
                .map(|(index, _)| index)
                .collect(),
        };
        Some(Taken {
            id: MessageId::from_u128(message.id),
            leg: leg.number,
            attempts: leg.attempts,
            delay_warned: leg.delay_warned,
            recipients,
            domain: self.lanes.domain(leg.lane)?.clone(),
            place: message.place(),
            hot: extra.and_then(|extra| extra.hot.clone()),
        })
    }

    /// When something may become due by time alone.
    pub(crate) fn next(&mut self) -> Option<Timestamp> {
        let waiting = self.wheel.next(&self.legs);
        let soon = self.interrupted.then(|| self.wheel.now());
        let next = [waiting, soon, self.orders_next()];
        let next = next.into_iter().flatten().min()?;
        Timestamp::from_second(next.into()).ok()
    }

    /// Takes a claimed leg back, due at `due` or when it was.
    pub(crate) fn put_back(&mut self, id: MessageId, leg: u32, due: Option<Timestamp>) {
        let Some(key) = self.claimed(id, leg) else {
            return;
        };
        let end = match (self.legs.get_mut(key), due) {
            (Some(leg), Some(due)) => {
                leg.due = due_second(due);
                End::Back
            }
            // It was its turn, and is again.
            (_, None) | (None, _) => End::Front,
        };
        self.replace(key, end);
    }

    /// Attempts of a claimed leg so far, and where its message lives.
    pub(crate) fn attempts(&self, id: MessageId, leg: u32) -> Option<(u32, Place)> {
        let leg = self.legs.get(self.claimed(id, leg)?)?;
        let message = self.messages.get(leg.message)?;
        Some((leg.attempts, message.place()))
    }

    /// Counts an attempt that was recorded.
    pub(crate) fn start_attempt(&mut self, id: MessageId, leg: u32, number: u32) {
        if let Some(leg) = self.leg_key(id, leg).and_then(|key| self.legs.get_mut(key)) {
            leg.attempts = leg.attempts.max(number);
        }
    }

    /// Applies what became of a claimed leg, which is due again when the last of its deferred
    /// recipients is. The message's place, if that finished it.
    pub(crate) fn settle(
        &mut self,
        id: MessageId,
        leg: u32,
        results: &[(u32, RecipientResult)],
        delay_warned: bool,
    ) -> Option<Place> {
        let key = self.claimed(id, leg)?;
        let slot = self.legs.get(key)?.message;
        let message = self.messages.get(slot)?;
        let recipients = match self.extras.get_mut(message.extra) {
            Some(extra) => extra.recipients.as_mut_slice(),
            None => &mut [],
        };
        let mut only = [(leg, Progress::Pending)];
        let recipients = match recipients.is_empty() {
            true => only.as_mut_slice(),
            false => recipients,
        };
        let mut due = None;
        for (index, result) in results {
            match (Progress::of(*result), recipients.get_mut(*index as usize)) {
                (Err(until), _) => due = due.max(Some(due_second(until))),
                (Ok(progress), Some((_, now @ Progress::Pending))) => *now = progress,
                (Ok(_), _) => {}
            }
        }
        if recipients.contains(&(leg, Progress::Pending)) {
            if let Some(leg) = self.legs.get_mut(key) {
                leg.due = due.unwrap_or(leg.due);
                leg.delay_warned |= delay_warned;
            }
            // What is tried again later is read back then.
            self.cool(slot);
            self.replace(key, End::Back);
            return None;
        }
        self.end_leg(key);
        match self.has_legs(slot) {
            true => {
                self.classify(slot);
                None
            }
            false => self.remove(id),
        }
    }

    /// Takes a message out; its place.
    pub(crate) fn remove(&mut self, id: MessageId) -> Option<Place> {
        let slot = self.find(id)?;
        for key in self.keys_of(slot) {
            self.end_leg(key);
        }
        self.cool(slot);
        self.ids.remove(id.to_u128(), slot);
        let message = self.messages.remove(slot)?;
        self.uncount(message.class, message.accepted);
        self.origins.leave(message.origin);
        self.extras.remove(message.extra);
        Some(message.place())
    }

    /// Where a message lives.
    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        let message = self.messages.get(self.find(id)?)?;
        Some(message.place())
    }

    /// Where a message lives and how far it is.
    pub(crate) fn current(&self, id: MessageId) -> Option<(Place, State)> {
        let message = self.messages.get(self.find(id)?)?;
        let extra = self.extras.get(message.extra);
        let only = [message.leg];
        let keys = match extra.map(|extra| extra.legs.as_slice()) {
            None | Some([]) => only.as_slice(),
            Some(keys) => keys,
        };
        let leg = |key: &u32| {
            let leg = self.legs.get(*key)?;
            Some(LegState {
                attempts: leg.attempts,
                delay_warned: leg.delay_warned,
                due: Timestamp::from_second(leg.due.into()).unwrap_or_default(),
            })
        };
        let recipients = match extra.map(|extra| extra.recipients.as_slice()) {
            None | Some([]) => vec![Progress::Pending],
            Some(recipients) => recipients.iter().map(|(_, progress)| *progress).collect(),
        };
        let legs = keys.iter().map(|key| leg(key).unwrap_or_default());
        let legs = legs.collect();
        Some((message.place(), State { legs, recipients }))
    }

    /// Whom a message is counted for.
    pub(crate) fn origin(&self, id: MessageId) -> Option<Arc<Origin>> {
        let message = self.messages.get(self.find(id)?)?;
        self.origins.get(message.origin)
    }

    /// Recipient domains with legs whose site is not known yet.
    pub(crate) fn unrouted(&self) -> Vec<DomainName> {
        self.lanes.unrouted()
    }

    /// A message lives elsewhere now.
    pub(crate) fn relocate(&mut self, id: MessageId, place: Place) {
        let slot = self.find(id);
        if let Some(message) = slot.and_then(|slot| self.messages.get_mut(slot)) {
            message.set_place(place);
        }
    }

    /// What may be claimed for a domain is what may be claimed for its site.
    pub(crate) fn bind(
        &mut self,
        domain: &DomainName,
        site: &Site,
        limit: u32,
        trust: Trust,
    ) -> Room {
        self.lanes.bind(domain, site, limit, trust)
    }

    /// Lets go of what can be read back.
    fn cool(&mut self, slot: u32) {
        let Some(message) = self.messages.get_mut(slot) else {
            return;
        };
        let key = message.extra;
        if let Some(extra) = self.extras.get_mut(key) {
            self.hot -= extra.hot.take().map_or(0, |hot| hot.size());
            if extra.recipients.is_empty() {
                self.extras.remove(key);
                message.extra = NONE;
            }
        }
    }

    fn find(&self, id: MessageId) -> Option<u32> {
        self.ids.find(id.to_u128(), id_in(&self.messages))
    }

    /// The legs of a message that are not done.
    fn keys_of(&self, slot: u32) -> Vec<u32> {
        let mut keys = Vec::new();
        self.each_key(slot, |key| keys.push(key));
        keys
    }

    fn leg_key(&self, id: MessageId, leg: u32) -> Option<u32> {
        let message = self.messages.get(self.find(id)?)?;
        let extra = self.extras.get(message.extra);
        let key = match extra.map(|extra| extra.legs.as_slice()) {
            None | Some([]) => (leg == 0).then_some(message.leg)?,
            Some(keys) => *keys.get(leg as usize)?,
        };
        (key != NONE).then_some(key)
    }

    fn claimed(&self, id: MessageId, leg: u32) -> Option<u32> {
        let key = self.leg_key(id, leg)?;
        (self.legs.get(key)?.position == Position::Claimed).then_some(key)
    }

    /// Whether a leg of the message is not done.
    fn has_legs(&self, slot: u32) -> bool {
        let message = self.messages.get(slot);
        message.is_some_and(|message| match self.extras.get(message.extra) {
            Some(extra) if !extra.legs.is_empty() => extra.legs.iter().any(|key| *key != NONE),
            Some(_) | None => message.leg != NONE,
        })
    }

    /// A leg is done, wherever it stands.
    fn end_leg(&mut self, key: u32) {
        self.take_from_line(key);
        let Some(leg) = self.legs.remove(key) else {
            return;
        };
        self.lanes.leave(leg.lane);
        let Some(message) = self.messages.get_mut(leg.message) else {
            return;
        };
        let extra = self.extras.get_mut(message.extra);
        match extra.and_then(|extra| extra.legs.get_mut(leg.number as usize)) {
            Some(key) => *key = NONE,
            None => message.leg = NONE,
        }
    }

    /// Puts a leg that was claimed where it belongs now.
    fn replace(&mut self, key: u32, end: End) {
        self.take_from_line(key);
        self.stand_in_line(key, end);
        if let Some(slot) = self.legs.get(key).map(|leg| leg.message) {
            self.classify(slot);
        }
    }

    /// Takes a leg from wherever it waits.
    fn take_from_line(&mut self, key: u32) {
        self.legs.unlink(key);
        let Some(leg) = self.legs.get_mut(key) else {
            return;
        };
        match std::mem::replace(&mut leg.position, Position::Idle) {
            Position::Ready => self.ready.remove(leg.due),
            Position::Claimed => self.lanes.release(leg.lane, leg.cost),
            Position::Idle | Position::Waiting => {}
        }
    }

    /// Puts an idle leg where it belongs.
    fn stand_in_line(&mut self, key: u32, end: End) {
        let is_kept = self.kept(key).is_some();
        let Some(leg) = self.legs.get_mut(key) else {
            return;
        };
        let Some(message) = self.messages.get(leg.message) else {
            return;
        };
        if message.holding == Holding::Held || is_kept {
            return;
        }
        leg.position = Position::Waiting;
        if self.restoring && message.restored {
            Wheel::set_aside(&mut self.legs, key);
        } else if leg.due <= self.wheel.now() {
            self.make_ready(key, end);
        } else {
            self.wheel.add(&mut self.legs, key);
        }
    }

    fn make_ready(&mut self, key: u32, end: End) {
        if self.kept(key).is_some() {
            return self.keep(key);
        }
        let Some(leg) = self.legs.get(key) else {
            return;
        };
        self.ready.add(leg.due);
        let slot = leg.message;
        let Some(message) = self.messages.get(slot) else {
            return;
        };
        let whose = (self.origins.tenant(message.origin), message.priority);
        self.lanes.push(&mut self.legs, key, whose, end);
    }

    fn advance(&mut self, now: Timestamp) {
        let now = second(now);
        self.wheel.advance(&mut self.legs, now);
        self.notice_ends(now);
        let mut patience = SLICE;
        while let Some(key) = self.wheel.expired(&mut self.legs, now, &mut patience) {
            self.make_ready(key, End::Back);
            if let Some(slot) = self.legs.get(key).map(|leg| leg.message) {
                self.classify(slot);
            }
        }
    }
}
