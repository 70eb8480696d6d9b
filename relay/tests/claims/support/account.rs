//! The account of a load: what was answered 250, what arrived, what the relays said of it.
//!
//! Each recipient's address occurs in one message only, so it names the message everywhere.

use std::collections::BTreeMap;

use super::{Events, Received, World};

/// A message that was answered 250.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) subject: String,
    pub(crate) recipients: Vec<String>,
}

/// All promises, and the logs of the relays that made them.
#[derive(Default)]
pub(crate) struct Account {
    promises: Vec<Promise>,
    lives: Vec<Life>,
}

/// One relay process.
struct Life {
    events: Events,
    /// Messages at the receiver when it ended.
    arrived: usize,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) recipients: usize,
    pub(crate) delivered: usize,
    pub(crate) bounced: usize,
    /// Arrivals beyond the first.
    pub(crate) duplicates: usize,
}

impl Account {
    /// Adds what was promised.
    pub(crate) fn promised(&mut self, promises: Vec<Promise>) {
        self.promises.extend(promises);
    }

    /// A relay ended.
    pub(crate) async fn life_ended(&mut self, world: &World, events: Events) {
        events.ended().await;
        let arrived = world.sink.received().len();
        self.lives.push(Life { events, arrived });
    }

    /// Nothing is queued any more: each recipient must have been delivered or bounced, and a relay
    /// that said `delivered` must be the last that delivered.
    pub(crate) fn close(&self, world: &World) -> Figures {
        let arrivals = Arrivals::of(&world.sink.received());
        let said = self.said_delivered();
        let mut figures = Figures::default();
        for promise in &self.promises {
            for recipient in &promise.recipients {
                let told = arrivals.told_of(recipient).len();
                let arrivals = arrivals.delivered_to(recipient);
                let subject = &promise.subject;
                let fate = (arrivals.len().min(1), told.min(1));
                assert!(
                    matches!(fate, (1, 0) | (0, 1)),
                    "{subject} for {recipient}: arrived {}, bounced {told}",
                    arrivals.len()
                );
                figures.recipients += 1;
                figures.delivered += fate.0;
                figures.bounced += fate.1;
                figures.duplicates += arrivals.len() + told - 1;
                if let Some(ended) = said.get(recipient.as_str()) {
                    let later = arrivals.iter().filter(|a| *a >= ended).count();
                    assert_eq!(later, 0, "{recipient} again after it was recorded");
                }
            }
        }
        figures
    }

    /// How much arrived again because a relay was killed: for each life that ended so, by its place, and
    /// each domain that the mail was for.
    pub(crate) fn repeats(&self, world: &World) -> BTreeMap<(usize, String), usize> {
        let arrivals = Arrivals::of(&world.sink.received());
        let life = |position: usize| self.lives.partition_point(|life| life.arrived <= position);
        let mut repeats = BTreeMap::new();
        for recipient in self.promises.iter().flat_map(|promise| &promise.recipients) {
            for (positions, to) in [
                (arrivals.delivered_to(recipient), recipient.as_str()),
                (arrivals.told_of(recipient), SENDER),
            ] {
                let (_, domain) = to.split_once('@').unwrap();
                for again in positions.windows(2) {
                    let killed = life(again[1]).checked_sub(1);
                    let killed = killed.unwrap_or_else(|| panic!("{to} again without a kill"));
                    // What a relay had sent when it was killed may be read after its end.
                    let killed = life(again[0]).min(killed);
                    *repeats.entry((killed, domain.to_owned())).or_default() += 1;
                }
            }
        }
        repeats
    }

    /// Of each recipient of which a relay that has ended said that it was delivered: how much had
    /// arrived by its end.
    fn said_delivered(&self) -> BTreeMap<String, usize> {
        let mut said = BTreeMap::new();
        for life in &self.lives {
            for event in life.events.all() {
                if event["stage"] == "delivered"
                    && let Some(recipient) = event["recipient"].as_str()
                {
                    let before = said.insert(recipient.to_owned(), life.arrived);
                    let bounce = recipient == SENDER;
                    assert!(before.is_none() || bounce, "{recipient} recorded twice");
                }
            }
        }
        said.remove(SENDER);
        said
    }
}

/// The places, in the order of arrival, of what came for each recipient and of what told of it.
#[derive(Default)]
struct Arrivals {
    delivered: BTreeMap<String, Vec<usize>>,
    told: BTreeMap<String, Vec<usize>>,
}

impl Arrivals {
    fn of(received: &[Received]) -> Self {
        let mut arrivals = Self::default();
        let note = |all: &mut BTreeMap<String, Vec<usize>>, recipient: &str, position| {
            all.entry(recipient.to_owned()).or_default().push(position);
        };
        for (position, message) in received.iter().enumerate() {
            if message.from.is_empty() {
                for recipient in final_recipients(&message.data) {
                    note(&mut arrivals.told, recipient, position);
                }
            }
            for recipient in &message.recipients {
                note(&mut arrivals.delivered, recipient, position);
            }
        }
        arrivals
    }

    fn delivered_to(&self, recipient: &str) -> &[usize] {
        self.delivered.get(recipient).map_or(&[], Vec::as_slice)
    }

    fn told_of(&self, recipient: &str) -> &[usize] {
        self.told.get(recipient).map_or(&[], Vec::as_slice)
    }
}

/// Whom notifications go to.
const SENDER: &str = "ann@example.com";

/// Whom a notification is about (RFC 3464 section 2.3.2).
fn final_recipients(notification: &str) -> impl Iterator<Item = &str> {
    let lines = notification.lines();
    lines.filter_map(|line| line.strip_prefix("Final-Recipient: rfc822;").map(str::trim))
}
