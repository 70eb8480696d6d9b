//! A message's place in the queue, and how it comes there.

use jiff::Timestamp;

use super::{
    Class, Holding, Hot, Queue,
    chunks::Chunks,
    lanes::cost_of,
    legs::{End, Leg, NONE},
};
use crate::{
    custody::{
        spool::Place,
        state::{Outline, Progress, State, due_second, second},
    },
    mail::{MessageId, Priority},
};

/// A message to enter the queue, whose outline and state fit each other.
pub(super) struct Entry<'a> {
    pub(super) id: MessageId,
    pub(super) accepted: Timestamp,
    pub(super) outline: Outline<'a>,
    pub(super) state: &'a State,
    pub(super) place: Place,
    /// To be kept while there is room and use for it. `None` for what is restored.
    pub(super) hot: Option<Hot>,
}

/// A message: 48 bytes.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: u128,
    /// In whole seconds since 1970.
    pub(super) accepted: u32,
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
    /// Tenant and sending domain.
    pub(super) origin: u32,
    /// Its leg, where there is but one.
    pub(super) leg: u32,
    /// What most messages need not have, or [`NONE`].
    pub(super) extra: u32,
    pub(super) holding: Holding,
    pub(super) class: Class,
    pub(super) priority: Priority,
    /// Whether its legs wait for the end of the restoring, while it lasts.
    pub(super) restored: bool,
}

/// What is known of a message that is hot or has several recipients.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) hot: Option<Hot>,
    /// By leg number, [`NONE`] for those that are done. Empty: the one leg is in the message.
    pub(super) legs: Vec<u32>,
    /// By recipient. Empty: there is one.
    pub(super) recipients: Vec<(u32, Progress)>,
}

impl Queue {
    /// Adds a message.
    pub(super) fn enter(&mut self, new: Entry<'_>) -> Holding {
        let Entry {
            id,
            accepted,
            outline,
            state,
            place,
            hot,
        } = new;
        let (origin, holding) = self.origins.enter(&outline, &mut self.lanes);
        let mut message = Message {
            id: id.to_u128(),
            accepted: second(accepted),
            segment: 0,
            offset: 0,
            length: 0,
            origin,
            leg: NONE,
            extra: NONE,
            holding,
            class: Class::Held,
            priority: outline.priority,
            restored: hot.is_none(),
        };
        message.set_place(place);
        self.held.add(message.accepted);
        let slot = self.messages.insert(message);
        self.ids.insert(id.to_u128(), slot, id_in(&self.messages));
        self.enter_legs(slot, &outline, state, place);
        let hot = hot.filter(|hot| holding == Holding::Free && self.fits(hot));
        if let Some(hot) = hot {
            self.hot += hot.size();
            self.extra_of(slot).hot = Some(hot);
        }
        self.classify(slot);
        let class = self.messages.get(slot).map(|message| message.class);
        if matches!(class, Some(Class::Suspended | Class::Held)) {
            // Nobody asks for it soon.
            self.cool(slot);
        }
        holding
    }

    fn enter_legs(&mut self, slot: u32, outline: &Outline<'_>, state: &State, place: Place) {
        let accepted = self.messages.get(slot).map_or(0, |m| m.accepted);
        let pending = state.pending_legs(&outline.leg_of);
        let mut keys = Vec::with_capacity(outline.legs.len());
        for ((number, domain), leg_state) in (0..).zip(&outline.legs).zip(&state.legs) {
            if !pending.get(number as usize).is_some_and(|pending| *pending) {
                keys.push(NONE);
                continue;
            }
            let lane = self.lanes.enter(domain);
            // What is due at once does not wait for the next whole second.
            let due = match second(leg_state.due) {
                due if due <= accepted => due,
                _ => due_second(leg_state.due),
            };
            let mut leg = Leg::new(slot, number, lane);
            leg.due = due;
            leg.attempts = leg_state.attempts;
            leg.delay_warned = leg_state.delay_warned;
            leg.cost = cost_of(place.length);
            let key = self.legs.insert(leg);
            keys.push(key);
            self.stand_in_line(key, End::Back);
        }
        if state.recipients.len() > 1 {
            let leg_of = |index: usize| outline.leg_of.get(index).copied().unwrap_or(0);
            let recipients = state.recipients.iter().enumerate();
            let recipients = recipients.map(|(index, progress)| (leg_of(index), *progress));
            let recipients = recipients.collect();
            let extra = self.extra_of(slot);
            extra.recipients = recipients;
            extra.legs = keys;
        } else if let (Some(message), [key]) = (self.messages.get_mut(slot), keys.as_slice()) {
            message.leg = *key;
        }
    }

    fn extra_of(&mut self, slot: u32) -> &mut Extra {
        let message = self.messages.get_mut(slot);
        let mut key = message.as_ref().map_or(NONE, |message| message.extra);
        if self.extras.get(key).is_none() {
            key = self.extras.insert(Extra::default());
            if let Some(message) = message {
                message.extra = key;
            }
        }
        let extra = self.extras.get_mut(key);
        extra.expect("it is there or was added just now")
    }

    fn fits(&self, hot: &Hot) -> bool {
        self.hot.saturating_add(hot.size()) <= self.hot_limit
    }
}

impl Message {
    pub(super) fn place(&self) -> Place {
        Place {
            segment: self.segment.into(),
            offset: self.offset.into(),
            length: self.length,
        }
    }

    pub(super) fn set_place(&mut self, place: Place) {
        self.segment = u32::try_from(place.segment).expect("segments are numbered by 32 bits");
        self.offset = u32::try_from(place.offset).expect("a segment is shorter than 4 GiB");
        self.length = place.length;
    }
}

/// What tells the id of the message in a slot.
pub(super) fn id_in(messages: &Chunks<Message>) -> impl Fn(u32) -> Option<u128> {
    move |slot: u32| messages.get(slot).map(|message| message.id)
}

impl Hot {
    /// Bytes it takes, about.
    pub(super) fn size(&self) -> usize {
        HOT_SIZE + self.body.len() + self.envelope.recipients.len() * RECIPIENT_SIZE
    }
}

/// What a hot message takes beside its text and its recipients, about: the room in front of the text
/// that its trace fields did not need, the envelope, and a table's entry.
const HOT_SIZE: usize = 1024;
/// What a recipient takes in memory, about.
const RECIPIENT_SIZE: usize = 128;

#[cfg(test)]
mod tests {
    use super::{super::chunks::size_of_entry, *};

    #[test]
    fn a_message_takes_48_bytes() {
        assert_eq!(size_of::<Message>(), 48);
        assert_eq!(size_of_entry::<Message>(), 48);
    }
}
