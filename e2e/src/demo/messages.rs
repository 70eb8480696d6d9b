//! The twenty messages, and what should become of each.

use super::journal::Journal;

/// Who sends.
pub(crate) const FROM: &str = "noreply@shop.example";

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// For whom.
    pub(crate) to: String,
    /// Its subject.
    pub(crate) subject: String,
    /// What should become of it.
    pub(crate) fate: Fate,
}

/// What should become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// At the first attempt.
    Delivered,
    /// Kept until the domain is verified, then delivered.
    HeldThenDelivered,
    /// Greylisted, then delivered.
    DeferredThenDelivered,
    /// Refused for good; the sender is told.
    Bounced,
    /// Never attempted.
    Suppressed,
}

/// A message that the relay took.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// The message.
    pub(crate) message: Message,
    /// What the relay calls it.
    pub(crate) id: String,
}

impl Fate {
    /// The stages it shows in the event log, in order; others may lie between them.
    pub(crate) fn stages(self) -> &'static [&'static str] {
        match self {
            Self::Delivered => &["accepted", "attempt-started", "delivered"],
            Self::HeldThenDelivered => &[
                "accepted",
                "held",
                "released",
                "attempt-started",
                "delivered",
            ],
            Self::DeferredThenDelivered => &[
                "accepted",
                "attempt-started",
                "deferred",
                "attempt-started",
                "delivered",
            ],
            Self::Bounced => &["accepted", "bounced", "notified"],
            Self::Suppressed => &["accepted", "suppressed"],
        }
    }

    /// Stages it must not show.
    pub(crate) fn forbidden(self) -> &'static [&'static str] {
        match self {
            Self::Delivered | Self::HeldThenDelivered | Self::DeferredThenDelivered => {
                &["bounced", "expired", "suppressed"]
            }
            Self::Bounced => &["delivered", "suppressed"],
            Self::Suppressed => &["attempt-started", "delivered", "bounced"],
        }
    }

    /// Whether it arrives.
    pub(crate) fn arrives(self) -> bool {
        match self {
            Self::Delivered | Self::HeldThenDelivered | Self::DeferredThenDelivered => true,
            Self::Bounced | Self::Suppressed => false,
        }
    }

    /// Whether its sender is told of a failure.
    pub(crate) fn is_told_of(self) -> bool {
        self == Self::Bounced
    }

    /// How much arrives because of it, at its recipient or back at its sender.
    pub(crate) fn arrivals(self) -> usize {
        usize::from(self.arrives()) + usize::from(self.is_told_of())
    }
}

impl Sent {
    /// Whether its stages are those of its fate, and the sender has been told where that belongs to it.
    pub(crate) fn has_met_its_fate(&self, journal: &Journal) -> bool {
        let stages = journal.stages(&self.id);
        let mut rest = stages.iter();
        let fate = self.message.fate;
        fate.stages()
            .iter()
            .all(|wanted| rest.any(|stage| stage == wanted))
            && !stages
                .iter()
                .any(|stage| fate.forbidden().contains(&stage.as_str()))
            && (!fate.is_told_of() || self.sender_is_told(journal))
    }

    /// Whether the notification about it has been delivered.
    pub(crate) fn sender_is_told(&self, journal: &Journal) -> bool {
        let notification = journal.notification(&self.id);
        let stages = notification.map(|id| journal.stages(id));
        stages.is_some_and(|stages| stages.iter().any(|stage| stage == "delivered"))
    }
}

/// The messages: most to a Postfix, some to a greylisting receiver, one each that is suppressed,
/// unknown, to a domain without mail, and sent too early.
pub(crate) fn all() -> Vec<Message> {
    let people = ["ada", "barbara", "grace"];
    let ordinary = (0..13).zip(people.iter().cycle()).map(|(number, person)| {
        message(
            &format!("{person}@mailbox.example"),
            number,
            Fate::Delivered,
        )
    });
    let greylisted = (13..16).map(|number| {
        message(
            "patient@greylist.example",
            number,
            Fate::DeferredThenDelivered,
        )
    });
    ordinary
        .chain(greylisted)
        .chain([
            message("unsubscribed@customers.example", 16, Fate::Suppressed),
            message("nobody@mailbox.example", 17, Fate::Bounced),
            message("anyone@nomail.example", 18, Fate::Bounced),
            message("ada@mailbox.example", 19, Fate::HeldThenDelivered),
        ])
        .collect()
}

fn message(to: &str, number: usize, fate: Fate) -> Message {
    Message {
        to: to.to_owned(),
        subject: format!("Your order {}", 1000 + number),
        fate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twenty_with_different_subjects() {
        let all = all();
        let subjects: std::collections::BTreeSet<_> = all.iter().map(|m| &m.subject).collect();
        assert_eq!((all.len(), subjects.len()), (20, 20));
    }

    #[test]
    fn a_fate_is_met_by_its_stages_in_order_only() {
        let sent = Sent {
            message: message("a@b.example", 1, Fate::Delivered),
            id: "x".into(),
        };
        let line = |stage: &str| format!("{{\"id\":\"x\",\"stage\":\"{stage}\"}}\n");
        let met = |stages: &[&str]| {
            sent.has_met_its_fate(&Journal::parse(
                &stages.iter().map(|s| line(s)).collect::<String>(),
            ))
        };
        assert!(met(&["accepted", "attempt-started", "delivered"]));
        assert!(!met(&["accepted", "attempt-started"]));
        assert!(!met(&["accepted", "delivered", "attempt-started"]));
        assert!(!met(&[
            "accepted",
            "attempt-started",
            "delivered",
            "bounced"
        ]));
    }

    #[test]
    fn a_bounce_is_over_when_its_notification_is_delivered() {
        let sent = Sent {
            message: message("a@b.example", 1, Fate::Bounced),
            id: "x".into(),
        };
        let bounced = r#"{"id":"x","stage":"accepted"}
            {"id":"x","stage":"bounced"}
            {"id":"x","stage":"notified","notification":"n"}
        "#;
        let delivered = r#"{"id":"n","stage":"delivered"}"#;
        assert!(!sent.has_met_its_fate(&Journal::parse(bounced)));
        assert!(sent.has_met_its_fate(&Journal::parse(&[bounced, delivered].concat())));
    }
}
