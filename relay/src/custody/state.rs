//! How far a message has come: what is recorded about it, what a restart brings back.
//!
//! Promises: pure; applying the same record twice changes nothing the second time; a recipient
//! that is done never becomes pending again. Times are kept in whole microseconds, as stored, or
//! in whole seconds where that is enough.

use std::collections::HashMap;

use jiff::Timestamp;
use postrider_crds::DomainName;

use super::RecipientResult;
use crate::mail::{Envelope, Priority};

/// The state of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// By leg number.
    pub(crate) legs: Vec<LegState>,
    /// By recipient index.
    pub(crate) recipients: Vec<Progress>,
}

/// The state of one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// What queueing needs to know of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline<'a> {
    /// Whom the message is counted for.
    pub(crate) tenant: &'a str,
    /// The domain it is sent for.
    pub(crate) domain: &'a Option<DomainName>,
    /// The recipient domains in the order of their first appearance: leg `n` is the `n`th.
    pub(crate) legs: Vec<&'a DomainName>,
    /// The leg of each recipient. Empty: all have leg 0.
    pub(crate) leg_of: Vec<u32>,
    /// How urgent it is among the tenant's.
    pub(crate) priority: Priority,
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
        Self {
            legs: vec![LegState::first(accepted); Outline::of(envelope).legs.len()],
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
            match (
                Progress::of(*result),
                self.recipients.get_mut(*index as usize),
            ) {
                (Err(until), _) => due = due.max(Some(whole_micros(until))),
                (Ok(progress), Some(now @ Progress::Pending)) => *now = progress,
                (Ok(_), _) => {}
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

    /// Whether the state is one an envelope of this outline can have.
    pub(crate) fn fits(&self, recipients: usize, legs: usize) -> bool {
        self.recipients.len() == recipients && self.legs.len() == legs
    }

    /// By leg number, whether one of its recipients is pending.
    pub(crate) fn pending_legs(&self, leg_of: &[u32]) -> Vec<bool> {
        let mut pending = vec![false; self.legs.len()];
        for (index, progress) in self.recipients.iter().enumerate() {
            let leg = leg_of.get(index).copied().unwrap_or(0);
            if let Some(pending) = pending.get_mut(leg as usize) {
                *pending |= *progress == Progress::Pending;
            }
        }
        pending
    }
}

impl LegState {
    /// The state of a leg of a message just accepted: due at once.
    pub(crate) fn first(accepted: Timestamp) -> Self {
        Self {
            attempts: 0,
            delay_warned: false,
            due: whole_micros(accepted),
        }
    }
}

impl Progress {
    /// What a result makes of a pending recipient, or when to try again.
    pub(crate) fn of(result: RecipientResult) -> Result<Self, Timestamp> {
        match result {
            RecipientResult::Delivered => Ok(Self::Delivered),
            RecipientResult::Bounced => Ok(Self::Bounced),
            RecipientResult::Expired => Ok(Self::Expired),
            RecipientResult::Suppressed => Ok(Self::Suppressed),
            RecipientResult::Deferred { until } => Err(until),
        }
    }
}

impl<'a> Outline<'a> {
    /// What is needed of `envelope`.
    pub(crate) fn of(envelope: &'a Envelope) -> Self {
        let mut outline = Self {
            tenant: &envelope.tenant,
            domain: &envelope.domain,
            legs: Vec::new(),
            leg_of: Vec::new(),
            priority: envelope.priority.unwrap_or_default(),
        };
        if let [only] = envelope.recipients.as_slice() {
            outline.legs.push(only.mailbox.domain());
            return outline;
        }
        let mut seen = HashMap::new();
        for recipient in &envelope.recipients {
            let domain = recipient.mailbox.domain();
            let leg = *seen.entry(domain).or_insert_with(|| {
                outline.legs.push(domain);
                outline.legs.len() - 1
            });
            outline.leg_of.push(u32::try_from(leg).unwrap_or(u32::MAX));
        }
        outline
    }
}

/// The time in the precision that is stored.
pub(crate) fn whole_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// The second a time lies in, since 1970.
pub(crate) fn second(time: Timestamp) -> u32 {
    u32::try_from(time.as_microsecond().div_euclid(1_000_000).max(0)).unwrap_or(u32::MAX - 1)
}

/// The first whole second that is not before a time.
pub(crate) fn due_second(time: Timestamp) -> u32 {
    let seconds = time
        .as_microsecond()
        .saturating_add(999_999)
        .div_euclid(1_000_000);
    u32::try_from(seconds.max(0)).unwrap_or(u32::MAX - 1)
}
