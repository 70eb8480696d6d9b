//! Claims: a leg is given out, attempted, and comes back with what became of it.
//!
//! Promises: pure. A leg is given out to one claimer at a time; what is deferred is due again when
//! the last of its recipients is, and lets go of what can be read back.

use jiff::Timestamp;
use postrider_crds::DomainName;

use super::{
    Hot, Place, Progress, Queue, SLICE, SWEEP, due_second,
    entry::Message,
    legs::{End, Leg, NONE, Position},
    second,
};
use crate::{custody::RecipientResult, mail::MessageId};

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

/// What a search for what is too old came to.
pub(crate) enum Sweep {
    Found(Box<Taken>),
    /// Nothing yet.
    More,
    /// Nothing any more.
    End,
}

impl Queue {
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
        self.claim_older(before, from, |_, _, leg| leg.position != Position::Claimed)
    }

    /// The same of legs that are kept back and whose sender was not told that they are late. Where
    /// the tenant is, what its sender is told would be too, and is left for later.
    pub(crate) fn claim_late(&mut self, before: Timestamp, from: &mut usize) -> Sweep {
        self.claim_older(before, from, |queue, message, leg| {
            leg.position == Position::Idle
                && !leg.delay_warned
                && !queue.keeps_tenant(message.origin)
        })
    }

    fn claim_older(
        &mut self,
        before: Timestamp,
        from: &mut usize,
        is_meant: impl Fn(&Self, &Message, &Leg) -> bool,
    ) -> Sweep {
        let before = second(before);
        let end = from.saturating_add(SWEEP);
        if *from >= self.messages.numbers() {
            return Sweep::End;
        }
        while *from < end {
            let slot = u32::try_from(*from).unwrap_or(NONE);
            let message = self.messages.get(slot);
            let is_older = |message: &&Message| {
                message.accepted < before && !(self.restoring && message.restored)
            };
            if let Some(message) = message.filter(is_older) {
                let is_meant = |key: &u32| {
                    let leg = self.legs.get(*key);
                    leg.is_some_and(|leg| is_meant(self, message, leg))
                };
                let found = self.keys_of(slot).into_iter().find(is_meant);
                if let Some(taken) = found.and_then(|key| self.take_out(slot, key)) {
                    return Sweep::Found(Box::new(taken));
                }
            }
            *from += 1;
        }
        Sweep::More
    }

    /// Claims a leg from wherever it waits.
    pub(super) fn take_out(&mut self, slot: u32, key: u32) -> Option<Taken> {
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
}
