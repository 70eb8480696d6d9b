//! The account of a load: what was answered 250, what arrived, what the relays said of it.
//!
//! Each recipient's address occurs in one message only, so it names the message everywhere.

use std::collections::BTreeMap;

use super::{Events, World};

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
        let received = world.sink.received();
        let mut arrivals: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut told: BTreeMap<&str, usize> = BTreeMap::new();
        for (position, message) in received.iter().enumerate() {
            if message.from.is_empty() {
                for address in final_recipients(&message.data) {
                    *told.entry(address).or_default() += 1;
                }
            }
            for recipient in &message.recipients {
                arrivals.entry(recipient).or_default().push(position);
            }
        }
        let said = self.said_delivered();
        let mut figures = Figures::default();
        for promise in &self.promises {
            for recipient in &promise.recipients {
                let arrivals = arrivals.get(recipient.as_str()).map_or(&[][..], |a| a);
                let told = told.get(recipient.as_str()).copied().unwrap_or(0);
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

/// Whom notifications go to.
const SENDER: &str = "ann@example.com";

/// Whom a notification is about (RFC 3464 section 2.3.2).
fn final_recipients(notification: &str) -> impl Iterator<Item = &str> {
    let lines = notification.lines();
    lines.filter_map(|line| line.strip_prefix("Final-Recipient: rfc822;").map(str::trim))
}
