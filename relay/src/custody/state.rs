//! How far a message has come: what is recorded about it, what a restart brings back.
//!
//! Promises: pure; applying the same record twice changes nothing the second time; a recipient
//! that is done never becomes pending again. Times are kept in whole microseconds, as stored.

use std::collections::HashMap;

use jiff::Timestamp;
use postrider_crds::DomainName;

use super::RecipientResult;
use crate::mail::Envelope;

/// The state of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// By leg number.
    pub(crate) legs: Vec<LegState>,
    /// By recipient index.
    pub(crate) recipients: Vec<Progress>,
}

/// The state of one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegState {
    /// Attempts started.
    pub(crate) attempts: u32,
    /// Whether the sender was told that it is late.
    pub(crate) delay_warned: bool,
    /// Not to be tried before.
    pub(crate) due: Timestamp,
}

/// How far one recipient is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// To be tried.
    Pending,
    /// The remote has it.
    Delivered,
    /// Refused for good.
    Bounced,
    /// Grew too old.
    Expired,
    /// Never to be mailed.
    Suppressed,
}

impl State {
    /// The state of a message just accepted: all legs due at once, `suppressed` recipients done.
    pub(crate) fn new(envelope: &Envelope, accepted: Timestamp, suppressed: &[usize]) -> Self {
        let mut recipients = vec![Progress::Pending; envelope.recipients.len()];
        for index in suppressed {
            if let Some(progress) = recipients.get_mut(*index) {
                *progress = Progress::Suppressed;
            }
        }
        let leg = LegState {
            attempts: 0,
            delay_warned: false,
            due: whole_micros(accepted),
        };
        Self {
            legs: vec![leg; leg_domains(envelope).len()],
            recipients,
        }
    }

    /// Records that attempt `number` of a leg was started.
    pub(crate) fn start_attempt(&mut self, leg: u32, number: u32) {
        if let Some(leg) = self.legs.get_mut(leg as usize) {
            leg.attempts = leg.attempts.max(number);
        }
    }

    /// Records what became of recipients of a leg. The leg is due when the last of its deferred
    /// recipients is.
    pub(crate) fn settle(
        &mut self,
        leg: u32,
        results: &[(u32, RecipientResult)],
        delay_warned: bool,
    ) {
        let mut due = None;
        for (index, result) in results {
            let Some(progress) = self.recipients.get_mut(*index as usize) else {
                continue;
            };
            match result {
                RecipientResult::Deferred { until } => due = due.max(Some(whole_micros(*until))),
                _ if *progress != Progress::Pending => {}
                RecipientResult::Delivered => *progress = Progress::Delivered,
                RecipientResult::Bounced => *progress = Progress::Bounced,
                RecipientResult::Expired => *progress = Progress::Expired,
                RecipientResult::Suppressed => *progress = Progress::Suppressed,
            }
        }
        if let Some(leg) = self.legs.get_mut(leg as usize) {
            leg.due = due.unwrap_or(leg.due);
            leg.delay_warned |= delay_warned;
        }
    }

    /// Whether no recipient is pending.
    pub(crate) fn is_finished(&self) -> bool {
        !self.recipients.contains(&Progress::Pending)
    }

    /// Whether the state is one this envelope can have.
    pub(crate) fn fits(&self, envelope: &Envelope) -> bool {
        self.recipients.len() == envelope.recipients.len()
            && self.legs.len() == leg_domains(envelope).len()
    }

    /// Indexes of the pending recipients of a leg.
    pub(crate) fn pending(&self, envelope: &Envelope, domain: &DomainName) -> Vec<usize> {
        envelope
            .recipients
            .iter()
            .zip(&self.recipients)
            .enumerate()
            .filter(|(_, (recipient, progress))| {
                **progress == Progress::Pending && recipient.mailbox.domain() == domain
            })
            .map(|(index, _)| index)
            .collect()
    }
}

/// The recipient domains of a message in the order of their first appearance: leg `n` is the `n`th.
pub(crate) fn leg_domains(envelope: &Envelope) -> Vec<&DomainName> {
    let mut seen = HashMap::new();
    let mut domains = Vec::new();
    for recipient in &envelope.recipients {
        let domain = recipient.mailbox.domain();
        if seen.insert(domain, ()).is_none() {
            domains.push(domain);
        }
    }
    domains
}

/// The time in the precision that is stored.
pub(crate) fn whole_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
