//! What an attempt came to: into custody, then into events, with the notification to the sender.

use std::time::Duration;

use jiff::Timestamp;
use postrider_crds::{DomainName, Mailbox, relay_config::Admission};

use super::{Outbound, leg, nowhere};
use crate::{
    config::Settings,
    custody::{Claim, NewMessage, RecipientResult, Settlement},
    mail::{BodyKind, Envelope, MessageId, Outcome, Recipient, ReturnPath},
    outcome::{Action, Leg, Notice, Notification, Report, Ruling, decide},
    telemetry::{Event, NotificationKind, Remote, Stage},
};

/// A leg that has been judged, and what is told about it.
pub(super) struct Judged {
    pub(super) claim: Claim,
    pub(super) rulings: Vec<(usize, Ruling)>,
    pub(super) attempt: u32,
    pub(super) remote: Remote,
    pub(super) tls: Option<String>,
    pub(super) took: Duration,
}

impl Judged {
    /// Rulings that no attempt led to.
    pub(super) fn without_attempt(
        claim: Claim,
        rulings: Vec<(usize, Ruling)>,
        remote: Remote,
    ) -> Self {
        Self {
            attempt: claim.attempts,
            claim,
            rulings,
            remote,
            tls: None,
            took: Duration::ZERO,
        }
    }

    /// Whether an attempt led to the rulings.
    fn is_attempted(&self) -> bool {
        self.attempt > self.claim.attempts
    }
}

impl Outbound {
    /// Rules on the outcomes of an attempt.
    pub(super) fn judge(
        &self,
        claim: Claim,
        outcomes: Vec<(usize, Outcome)>,
        settings: &Settings,
    ) -> Judged {
        let attempt = claim.attempts + 1;
        let leg = Leg {
            attempts: attempt,
            ..leg(&claim)
        };
        let now = self.parts.clock.wall();
        let rule = |(index, outcome)| {
            let delivery = &settings.relay.delivery;
            let ruling = decide(outcome, &leg, delivery, now, &*self.parts.random);
            (index, ruling)
        };
        let rulings = outcomes.into_iter().map(rule).collect();
        let remote = nowhere(&claim);
        Judged {
            attempt,
            ..Judged::without_attempt(claim, rulings, remote)
        }
    }

    /// Records rulings and notification in one commit, then tells of them.
    pub(super) async fn settle(&self, judged: Judged, settings: &Settings) {
        let now = self.parts.clock.wall();
        let notification = self.notification(&judged, settings, now);
        let events = events(&judged, notification.as_ref(), now);
        let warned = notification.as_ref().is_some_and(|n| n.warns);
        let rulings = judged.rulings.iter();
        // Where there is nobody to tell, it is not looked at again.
        let is_late = |(_, ruling): &(usize, Ruling)| matches!(ruling, Ruling::Late { .. });
        let delay_warned = judged.claim.delay_warned || warned || rulings.clone().any(is_late);
        let settlement = Settlement {
            results: rulings
                .filter_map(|(i, r)| Some((*i, result(r)?)))
                .collect(),
            delay_warned,
            notification: notification.map(|n| n.message),
        };
        let id = judged.claim.id;
        if let Err(error) = self.parts.custody.settle(judged.claim, settlement).await {
            // It happened all the same: the remote has answered.
            tracing::error!(message.id = %id, %error, "result is not recorded yet");
        }
        for event in &events {
            self.parts.telemetry.emit(event);
        }
    }

    /// What the sender is told, if anything and anybody (RFC 5321 §6.1: never about `<>`).
    fn notification(
        &self,
        judged: &Judged,
        settings: &Settings,
        now: Timestamp,
    ) -> Option<Notified> {
        let claim = &judged.claim;
        let to = claim.envelope.return_path.mailbox()?;
        let reports: Vec<Report> = judged
            .rulings
            .iter()
            .filter_map(|(index, ruling)| report(judged, *index, ruling, (settings, now)))
            .collect();
        if reports.is_empty() {
            return None;
        }
        let warns = reports
            .iter()
            .any(|r| matches!(r.action, Action::Delayed { .. }));
        let (from, domain) = author(claim, settings)?;
        let random = &self.parts.random;
        let bits = (u128::from(random.next_u64()) << 64) | u128::from(random.next_u64());
        let notification = Notification {
            id: MessageId::new(now, bits),
            now,
            reporter: &settings.relay.hostname,
            from: &from,
            to,
            about: claim.id,
            accepted: claim.accepted,
            message: &claim.body,
            reports,
        };
        let kind = if notification.is_final() {
            NotificationKind::Failed
        } else {
            NotificationKind::Delayed
        };
        let message = NewMessage {
            id: notification.id,
            envelope: Envelope {
                return_path: ReturnPath::Null,
                recipients: vec![Recipient {
                    mailbox: to.clone(),
                }],
                body_kind: BodyKind::SevenBit,
                domain,
                tenant: claim.envelope.tenant.clone(),
                priority: claim.envelope.priority,
            },
            body: notification.write().into(),
            accepted: now,
            suppressed: Vec::new(),
        };
        Some(Notified {
            message,
            sender: to.clone(),
            kind,
            warns,
        })
    }
}

/// A notification and what it is about.
struct Notified {
    message: NewMessage,
    sender: Mailbox,
    kind: NotificationKind,
    warns: bool,
}

/// Since acceptance; zero when the clock went back.
pub(super) fn age(accepted: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(accepted).try_into().unwrap_or_default()
}

/// The domain a notification comes from, and the one whose keys sign it: the return path domain
/// and the sending domain. A domain that is no longer ours, or may not send now, is not spoken for;
/// then it comes from this relay, unsigned, and is not held with the domain's mail.
fn author(claim: &Claim, settings: &Settings) -> Option<(DomainName, Option<DomainName>)> {
    let name = claim.envelope.domain.as_ref();
    let domain = name.and_then(|name| settings.domain(name));
    match domain.filter(|domain| domain.entry.admission == Admission::Send) {
        Some(domain) => Some((
            domain.entry.return_path.clone(),
            Some(domain.entry.domain.clone()),
        )),
        None => Some((settings.relay.hostname.parse().ok()?, None)),
    }
}

/// What becomes of the recipient; `None` when nothing does.
fn result(ruling: &Ruling) -> Option<RecipientResult> {
    match ruling {
        Ruling::Delivered { .. } => Some(RecipientResult::Delivered),
        Ruling::Deferred { until, .. } => Some(RecipientResult::Deferred { until: *until }),
        Ruling::Bounced { .. } => Some(RecipientResult::Bounced),
        Ruling::Expired { .. } => Some(RecipientResult::Expired),
        Ruling::Late { .. } => None,
    }
}

/// What the sender is told of one recipient.
fn report(
    judged: &Judged,
    index: usize,
    ruling: &Ruling,
    (settings, now): (&Settings, Timestamp),
) -> Option<Report> {
    let (action, reply) = match ruling {
        Ruling::Delivered { .. }
        | Ruling::Deferred {
            notice: Notice::None,
            ..
        } => return None,
        Ruling::Deferred {
            reply,
            notice: Notice::Due,
            ..
        }
        | Ruling::Late { reply } => {
            let until = crate::outcome::expiry(judged.claim.accepted, &settings.relay.delivery);
            (Action::Delayed { until }, reply)
        }
        Ruling::Bounced { reply, .. } => (Action::Failed, reply),
        Ruling::Expired { reply } => (Action::Expired, reply),
    };
    let recipient = judged.claim.envelope.recipients.get(index)?;
    Some(Report {
        recipient: recipient.mailbox.clone(),
        action,
        reply: reply.clone(),
        remote: judged.remote.host.clone(),
        attempted: judged.is_attempted().then_some(now),
    })
}

fn events(judged: &Judged, notified: Option<&Notified>, now: Timestamp) -> Vec<Event> {
    let claim = &judged.claim;
    let recipients = claim.envelope.recipients.as_slice();
    let stages = judged.rulings.iter().filter_map(|(index, ruling)| {
        let recipient = recipients.get(*index)?;
        stage(judged, recipient.mailbox.clone(), ruling, now)
    });
    let told = notified.map(|notified| Stage::Notified {
        notification: notified.message.id,
        sender: notified.sender.clone(),
        kind: notified.kind,
    });
    let event = |stage| Event {
        time: now,
        message: Some(claim.id),
        tenant: Some(claim.envelope.tenant.clone()),
        domain: claim.envelope.domain.clone(),
        stage,
    };
    stages.chain(told).map(event).collect()
}

fn stage(judged: &Judged, recipient: Mailbox, ruling: &Ruling, now: Timestamp) -> Option<Stage> {
    let (remote, attempt, took) = (judged.remote.clone(), judged.attempt, judged.took);
    Some(match ruling.clone() {
        Ruling::Delivered { reply } => Stage::Delivered {
            recipient,
            remote,
            attempt,
            reply,
            tls: judged.tls.clone(),
            age: age(judged.claim.accepted, now),
            took,
        },
        Ruling::Deferred {
            class,
            reply,
            until,
            ..
        } => Stage::Deferred {
            recipient,
            remote,
            attempt,
            class,
            reply,
            until,
            took,
        },
        Ruling::Bounced { class, reply } => Stage::Bounced {
            recipient,
            remote,
            attempt,
            class,
            reply,
            took,
        },
        Ruling::Expired { reply } => Stage::Expired {
            recipient,
            remote,
            attempts: attempt,
            reply,
        },
        Ruling::Late { .. } => return None,
    })
}
