//! What goes into custody, what comes out to be attempted, and what is said about it afterwards.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use postrider_crds::DomainName;

use super::shared::Shared;
use crate::mail::{Envelope, MessageId};

/// A message to take custody of.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its name, new and unique.
    pub id: MessageId,
    /// Who it is from and for; one recipient at least.
    pub envelope: Envelope,
    /// Headers and body as they are sent, CRLF line ends.
    pub body: Bytes,
    /// When it was taken; age and expiry count from here.
    pub accepted: Timestamp,
    /// Indexes of recipients that are recorded as suppressed from the start.
    pub suppressed: Vec<usize>,
}

/// Proof that a message and its envelope are on stable storage. Only custody makes one, and only
/// from one may a 250 be made (RFC 5321 §6.1).
#[derive(Debug)]
#[must_use = "a committed message owes its client a 250"]
pub struct Committed {
    pub(super) id: MessageId,
}

impl Committed {
    /// The message's name.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        self.id
    }
}

/// One leg of a message, taken to be attempted: the pending recipients at one domain. Nobody else
/// has it until it is settled or put back. A claim that is dropped instead, as when its task
/// panicked, is due again a minute later.
#[derive(Debug)]
pub struct Claim {
    /// The message's name.
    pub id: MessageId,
    /// When the message was taken.
    pub accepted: Timestamp,
    /// Attempts recorded for this leg before this one.
    pub attempts: u32,
    /// The whole envelope.
    pub envelope: Arc<Envelope>,
    /// Indexes of this leg's pending recipients.
    pub recipients: Vec<usize>,
    /// Their domain.
    pub domain: DomainName,
    /// Headers and body.
    pub body: Bytes,
    /// Whether the sender has been told of the delay.
    pub delay_warned: bool,
    pub(super) ticket: Ticket,
}

/// The claim on a leg. Dropped without having been given up, it puts the leg back.
pub(super) struct Ticket {
    pub(super) shared: Arc<Shared>,
    pub(super) id: MessageId,
    pub(super) leg: u32,
    pub(super) given_up: bool,
}

/// After how long a leg is due again whose claim was dropped: long enough not to spin.
const DROPPED_DELAY: SignedDuration = SignedDuration::from_secs(60);

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.given_up {
            let due = self.shared.clock.wall() + DROPPED_DELAY;
            self.shared.queue().put_back(self.id, self.leg, Some(due));
            self.shared.wake.notify_one();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.leg)
    }
}

/// What became of a claim: one atomic record.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// By recipient index. A recipient of the claim without a result is due again when
    /// it was.
    pub results: Vec<(usize, RecipientResult)>,
    /// Whether the sender has now been told of the delay.
    pub delay_warned: bool,
    /// A notification to the sender, taken into custody by the same record.
    pub notification: Option<NewMessage>,
}

/// What became of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientResult {
    /// The remote has it.
    Delivered,
    /// The remote refused it for good.
    Bounced,
    /// It grew too old.
    Expired,
    /// Never to be mailed.
    Suppressed,
    /// Again, not before `until`.
    Deferred {
        /// When it is due again.
        until: Timestamp,
    },
}
