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
mod claims;
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
    claims::{Sweep, Taken},
    restore::Restored,
    survey::Survey,
};
pub use self::{
    figures::QueueFigures,
    lanes::{Room, Trust},
};
use super::{
    AdmissionOf,
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

    /// When something may become due by time alone.
    pub(crate) fn next(&mut self) -> Option<Timestamp> {
        let waiting = self.wheel.next(&self.legs);
        let soon = self.interrupted.then(|| self.wheel.now());
        let next = [waiting, soon, self.orders_next()];
        let next = next.into_iter().flatten().min()?;
        Timestamp::from_second(next.into()).ok()
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
        let is_moved = self.lanes.site_of(domain).is_some_and(|was| was != site);
        if is_moved {
            // An order about the old site keeps nothing of it back any more.
            self.review_all();
        }
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
