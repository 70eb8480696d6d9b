//! What orders keep back, and what they are about.
//!
//! Promises: a leg that an order keeps is given out no more from the moment the order is in force,
//! and stands in no line. Orders cost a message no memory: whether one keeps a leg is looked up when
//! the leg would move. After a change of the orders all messages are *reviewed*, a slice at each
//! claim, so that those kept leave their lines and are counted, and those let go come back.
//!
//! Caveats: a site is known once one of its domains was routed since the start; until then its
//! orders keep a leg back when it has been routed, before it is attempted.

use std::sync::Arc;

use super::{
    Class, End, Holding, Place, Progress, Queue, SWEEP, Sweep, due_second,
    entry::Message,
    legs::{Leg, NONE, Position},
    second,
};
use crate::{
    custody::orders::{About, Kept, Matter, Orders, Standing, is_about},
    mail::MessageId,
};
use jiff::Timestamp;

/// Messages one claim reviews.
const REVIEW: usize = 1024;

/// The orders in force, and how far the messages follow them.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    orders: Arc<Orders>,
    standing: Standing,
    /// The slot from which on messages are to be reviewed.
    review: Option<usize>,
    /// When a suspension ends by itself.
    next_end: Option<u32>,
    /// Orders may be in force that are not restored yet.
    awaited: bool,
}

impl Queue {
    /// Nothing is given out until the orders are known.
    pub(crate) fn await_orders(&mut self) {
        self.keeping.awaited = true;
    }

    pub(super) fn awaits_orders(&self) -> bool {
        self.keeping.awaited
    }

    /// These orders count from now on, and all messages are reviewed.
    pub(crate) fn put_in_force(&mut self, orders: Arc<Orders>, now: Timestamp) {
        let was_empty = self.keeping.standing.is_empty();
        let standing = Standing::of(&orders);
        let review = (!was_empty || !standing.is_empty()).then_some(0);
        self.keeping = Keeping {
            next_end: standing.next_end(second(now)),
            orders,
            standing,
            review,
            awaited: false,
        };
    }

    /// Orders in force.
    pub(crate) fn orders(&self) -> &Arc<Orders> {
        &self.keeping.orders
    }

    /// Whether an order keeps the leg back.
    pub(crate) fn keeps(&self, id: MessageId, leg: u32) -> bool {
        let key = self.leg_key(id, leg);
        key.is_some_and(|key| self.kept(key).is_some())
    }

    /// How orders keep a leg back.
    pub(super) fn kept(&self, key: u32) -> Option<Kept> {
        if self.keeping.standing.is_empty() {
            return None;
        }
        let leg = self.legs.get(key)?;
        let message = self.messages.get(leg.message)?;
        let matter = self.matter(message, leg)?;
        self.keeping.standing.keeps(matter, self.wheel.now())
    }

    /// Whether an order about its tenant keeps back what comes from an origin.
    pub(super) fn keeps_tenant(&self, origin: u32) -> bool {
        let tenant = self.origins.tenant_name(origin);
        let standing = &self.keeping.standing;
        tenant.is_some_and(|tenant| standing.keeps_tenant(tenant, self.wheel.now()))
    }

    fn matter(&self, message: &Message, leg: &Leg) -> Option<Matter<'_>> {
        Some(Matter {
            id: MessageId::from_u128(message.id),
            tenant: self.origins.tenant_name(message.origin)?,
            domain: self.lanes.domain(leg.lane)?,
            site: self.lanes.site(leg.lane),
        })
    }

    /// The class of a message that nobody has and that is in no lane: that of its most urgent leg.
    pub(super) fn class_at_rest(&self, slot: u32) -> Class {
        if self.keeping.standing.is_empty() {
            return Class::Deferred;
        }
        let mut class = None;
        self.each_key(slot, |key| {
            let of_leg = match self.kept(key) {
                None => Class::Deferred,
                Some(Kept::Suspended) => Class::Suspended,
                Some(Kept::Held) => Class::Held,
            };
            class = Some(class.map_or(of_leg, |class: Class| class.min(of_leg)));
        });
        class.unwrap_or(Class::Deferred)
    }

    /// Notices suspensions that have ended by themselves.
    pub(super) fn notice_ends(&mut self, now: u32) {
        if self.keeping.next_end.is_some_and(|end| end <= now) {
            self.keeping.next_end = self.keeping.standing.next_end(now);
            self.keeping.review = Some(0);
        }
    }

    /// When there is something to do for orders.
    pub(super) fn orders_next(&self) -> Option<u32> {
        match self.keeping.review {
            Some(_) => Some(self.wheel.now()),
            None => self.keeping.next_end,
        }
    }

    /// What orders keep back is to be looked at anew, if there are any.
    pub(super) fn review_all(&mut self) {
        if !self.keeping.standing.is_empty() {
            self.keeping.review = Some(0);
        }
    }

    /// Puts the next messages where the orders want them.
    pub(super) fn review(&mut self) {
        let Some(from) = self.keeping.review else {
            return;
        };
        let end = from + REVIEW;
        let mut keys = Vec::new();
        for slot in from..end {
            let slot = u32::try_from(slot).unwrap_or(NONE);
            keys.clear();
            self.each_key(slot, |key| keys.push(key));
            for key in &keys {
                self.review_leg(slot, *key);
            }
            if !keys.is_empty() {
                self.classify(slot);
            }
        }
        self.keeping.review = (end < self.messages.numbers()).then_some(end);
    }

    fn review_leg(&mut self, slot: u32, key: u32) {
        let holding = self.messages.get(slot).map(|m| m.holding);
        let position = self.legs.get(key).map(|leg| leg.position);
        match (holding, position, self.kept(key)) {
            (_, Some(Position::Waiting | Position::Ready), Some(_)) => self.keep(key),
            (Some(Holding::Free), Some(Position::Idle), None) => {
                self.stand_in_line(key, End::Back);
            }
            _ => {}
        }
    }

    /// Takes a leg out of its line, for an order.
    pub(super) fn keep(&mut self, key: u32) {
        self.take_from_line(key);
        if let Some(slot) = self.legs.get(key).map(|leg| leg.message) {
            self.cool(slot);
        }
    }

    /// The attempts of a leg that waits for its next one, a recipient of it, and where its message
    /// lives.
    pub(crate) fn put_off(&self, id: MessageId, leg: u32) -> Option<(u32, u32, Place)> {
        let key = self.leg_key(id, leg)?;
        let found = self.legs.get(key)?;
        if !self.is_put_off(found) {
            return None;
        }
        let message = self.messages.get(found.message)?;
        let extra = self.extras.get(message.extra);
        let recipients = extra.map_or(&[][..], |extra| &extra.recipients);
        let pending = (leg, Progress::Pending);
        let recipient = recipients.iter().position(|of| *of == pending).unwrap_or(0);
        let recipient = u32::try_from(recipient).unwrap_or(0);
        Some((found.attempts, recipient, message.place()))
    }

    fn is_put_off(&self, leg: &Leg) -> bool {
        let waits = matches!(leg.position, Position::Waiting | Position::Idle);
        waits && leg.due > self.wheel.now()
    }

    /// A leg that nobody has is due at `due`.
    pub(crate) fn hasten(&mut self, id: MessageId, leg: u32, due: Timestamp) {
        let Some(key) = self.leg_key(id, leg).filter(|key| !self.is_out(*key)) else {
            return;
        };
        self.take_from_line(key);
        if let Some(leg) = self.legs.get_mut(key) {
            leg.due = due_second(due);
        }
        self.replace(key, End::Back);
    }

    /// Legs of the next messages that are meant and that wait for their next attempt, at most
    /// `most` of them, and whether that was the end.
    pub(crate) fn put_off_legs(
        &self,
        about: About<'_>,
        from: &mut usize,
        most: usize,
    ) -> (Vec<(MessageId, u32)>, bool) {
        let mut found = Vec::new();
        let end = from.saturating_add(SWEEP).min(self.messages.numbers());
        while *from < end && found.len() < most {
            let slot = u32::try_from(*from).unwrap_or(NONE);
            self.each_about(slot, about, |message, leg| {
                if self.is_put_off(leg) {
                    found.push((MessageId::from_u128(message.id), leg.number));
                }
            });
            *from += 1;
        }
        (found, *from >= self.messages.numbers())
    }

    /// Gives out a leg that is meant and that nobody has, in whatever line it stands,
    /// searching from the message in slot `from` on, [`SWEEP`] of them at most.
    pub(crate) fn claim_ordered(&mut self, about: About<'_>, from: &mut usize) -> Sweep {
        if *from >= self.messages.numbers() {
            return Sweep::End;
        }
        let end = from.saturating_add(SWEEP);
        while *from < end {
            let slot = u32::try_from(*from).unwrap_or(NONE);
            let mut free = None;
            self.each_about(slot, about, |message, leg| {
                if leg.position != Position::Claimed && free.is_none() {
                    free = self.leg_key(MessageId::from_u128(message.id), leg.number);
                }
            });
            if let Some(taken) = free.and_then(|key| self.take_out(slot, key)) {
                return Sweep::Found(Box::new(taken));
            }
            *from += 1;
        }
        Sweep::More
    }

    /// Counts messages of the next slots that are meant. Whether that was the end.
    pub(crate) fn count_about(&self, about: About<'_>, from: &mut usize, count: &mut u64) -> bool {
        let end = from.saturating_add(SWEEP).min(self.messages.numbers());
        while *from < end {
            let slot = u32::try_from(*from).unwrap_or(NONE);
            let mut is_one = false;
            self.each_about(slot, about, |_, _| is_one = true);
            *count += u64::from(is_one);
            *from += 1;
        }
        *from >= self.messages.numbers()
    }

    /// Legs of a message that are meant.
    fn each_about(&self, slot: u32, about: About<'_>, mut found: impl FnMut(&Message, &Leg)) {
        let Some(message) = self.messages.get(slot) else {
            return;
        };
        let came = MessageId::from_u128(message.id).millis();
        if about.before.is_some_and(|before| came >= before) {
            return;
        }
        self.each_key(slot, |key| {
            let Some(leg) = self.legs.get(key) else {
                return;
            };
            let matter = self.matter(message, leg);
            if matter.is_some_and(|matter| is_about(about.scope, matter)) {
                found(message, leg);
            }
        });
    }

    /// The legs of a message that are not done.
    pub(super) fn each_key(&self, slot: u32, mut each: impl FnMut(u32)) {
        let Some(message) = self.messages.get(slot) else {
            return;
        };
        let extra = self.extras.get(message.extra);
        match extra.map(|extra| extra.legs.as_slice()) {
            None | Some([]) => each(message.leg),
            Some(keys) => keys
                .iter()
                .copied()
                .filter(|key| *key != NONE)
                .for_each(each),
        }
    }
}
