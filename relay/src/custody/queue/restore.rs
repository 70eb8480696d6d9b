//! Filling the queue from the spool while mail comes in already.
//!
//! Promises: none of what is restored is given out before all of it is, since a record that is not
//! read yet may say that it is done. Then it is scheduled a slice at a time.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Entry, Outline, Place, Queue, State, Wheel};
use crate::{custody::orders::Orders, mail::MessageId};

/// A message as the spool has it.
pub(crate) struct Restored<'a> {
    pub(crate) accepted: Timestamp,
    pub(crate) outline: Outline<'a>,
    pub(crate) state: &'a State,
    pub(crate) place: Place,
}

impl Queue {
    /// From now on messages are restored.
    pub(crate) fn begin_restore(&mut self) {
        self.restoring = true;
    }

    /// Adds a message as the spool has it, in the place of an older copy. The copy's place.
    pub(crate) fn restore(&mut self, id: MessageId, restored: Restored<'_>) -> Option<Place> {
        let older = self.remove(id);
        self.enter(Entry {
            id,
            accepted: restored.accepted,
            outline: restored.outline,
            state: restored.state,
            place: restored.place,
            hot: None,
        });
        older
    }

    /// A restored message is as far as `state` says. Its place, if that finished it.
    pub(crate) fn restate(&mut self, id: MessageId, state: &State) -> Option<Place> {
        if state.is_finished() {
            return self.remove(id);
        }
        let slot = self.find(id)?;
        let message = self.messages.get(slot)?;
        let keys = match self.extras.get_mut(message.extra) {
            Some(extra) if !extra.recipients.is_empty() => {
                for ((_, progress), now) in extra.recipients.iter_mut().zip(&state.recipients) {
                    *progress = *now;
                }
                extra.legs.clone()
            }
            Some(_) | None => vec![message.leg],
        };
        for (key, leg_state) in keys.into_iter().zip(&state.legs) {
            if let Some(leg) = self.legs.get_mut(key) {
                leg.attempts = leg_state.attempts;
                leg.delay_warned = leg_state.delay_warned;
                leg.due = super::due_second(leg_state.due);
                let number = leg.number;
                if !self.is_leg_pending(slot, number) {
                    self.end_leg(key);
                }
            }
        }
        self.classify(slot);
        None
    }

    /// All is restored, and these orders are in force: it is given out as it becomes due.
    pub(crate) fn end_restore(&mut self, orders: Arc<Orders>, now: Timestamp) {
        self.restoring = false;
        self.put_in_force(orders, now);
        Wheel::schedule_all(&mut self.legs);
    }

    fn is_leg_pending(&self, slot: u32, leg: u32) -> bool {
        let message = self.messages.get(slot);
        let extra = message.and_then(|message| self.extras.get(message.extra));
        extra.is_none_or(|extra| {
            let pending = (leg, super::Progress::Pending);
            extra.recipients.is_empty() || extra.recipients.contains(&pending)
        })
    }
}
