//! One value per custody change: what the log, the metrics and later webhooks and traces read.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use postrider_crds::{
    DomainName, Mailbox,
    queue::{Command, Order},
};

use crate::mail::{Class, MessageId, Priority, Reply, Site};

/// Something that happened to a message.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// To which message; `None` where it was refused before it had a name.
    pub message: Option<MessageId>,
    /// Whom the message is counted for, where known.
    pub tenant: Option<String>,
    /// The domain it is sent as, where known.
    pub domain: Option<DomainName>,
    /// What.
    pub stage: Stage,
}

/// What happened. The flows emit these after custody has recorded the change; custody itself emits
/// `Held`, `Released`, `Quarantined`, `QuarantineHolds` and what it is ordered, which only it sees.
#[derive(Clone, Debug)]
pub enum Stage {
    /// On stable storage and answered 250.
    Accepted {
        /// Recipients of the envelope.
        recipients: usize,
        /// Octets of headers and body.
        bytes: u64,
        /// From MAIL to 250.
        took: Duration,
        /// The client.
        client: Option<IpAddr>,
        /// How urgent its sender says it is, if anything (RFC 6710 §4.1).
        priority: Option<Priority>,
    },
    /// Refused at the door; nothing was taken.
    Rejected {
        /// Kind of cause.
        reason: RejectReason,
        /// What the client was told.
        reply: Reply,
        /// The client.
        client: Option<IpAddr>,
    },
    /// Kept back by admission.
    Held,
    /// No longer kept back.
    Released,
    /// About to be dialed; recorded before.
    AttemptStarted {
        /// Domain of the leg.
        recipient_domain: DomainName,
        /// 1 for the first.
        attempt: u32,
        /// Where to.
        site: Site,
        /// Since the message was accepted.
        age: Duration,
    },
    /// The remote has taken it over.
    Delivered {
        /// For whom.
        recipient: Mailbox,
        /// Where.
        remote: Remote,
        /// 1 for the first.
        attempt: u32,
        /// What it said.
        reply: Reply,
        /// Protocol version of the session, such as `TLSv1.3`.
        tls: Option<String>,
        /// Since the message was accepted.
        age: Duration,
        /// The attempt itself.
        took: Duration,
    },
    /// It will be tried again.
    Deferred {
        /// For whom.
        recipient: Mailbox,
        /// Where.
        remote: Remote,
        /// 1 for the first.
        attempt: u32,
        /// Kind of cause.
        class: Class,
        /// The remote's reply or ours.
        reply: Reply,
        /// When it is due again.
        until: Timestamp,
        /// The attempt itself.
        took: Duration,
    },
    /// It will not be delivered.
    Bounced {
        /// For whom.
        recipient: Mailbox,
        /// Where.
        remote: Remote,
        /// 1 for the first.
        attempt: u32,
        /// Kind of cause.
        class: Class,
        /// The remote's reply or ours.
        reply: Reply,
        /// The attempt itself.
        took: Duration,
    },
    /// It grew too old.
    Expired {
        /// For whom.
        recipient: Mailbox,
        /// The domain's site, as last known.
        remote: Remote,
        /// Attempts made.
        attempts: u32,
        /// The last temporary failure.
        reply: Reply,
    },
    /// On a list of those never to be mailed.
    Suppressed {
        /// For whom.
        recipient: Mailbox,
        /// The list and the entry's reason.
        reason: String,
    },
    /// The sender is told; the notification is in custody under its own name.
    Notified {
        /// The notification.
        notification: MessageId,
        /// To whom.
        sender: Mailbox,
        /// Of what.
        kind: NotificationKind,
    },
    /// Its stored bytes are damaged; they were put aside and it is no longer attempted.
    Quarantined {
        /// The file they were put into, below the spool.
        file: String,
    },
    /// A relay has started whose quarantine holds damaged records. A person is to keep a copy and
    /// remove them.
    QuarantineHolds(Quarantine),
    /// Something came of an operator's order.
    Order(OrderChange),
    /// A document was found that cannot be used; what was in force before stays so.
    ConfigRefused {
        /// Path below the configuration directory.
        path: String,
        /// Why.
        error: String,
    },
}

/// What lies in a quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// How many files.
    pub files: usize,
    /// Their octets.
    pub bytes: u64,
    /// The first of them, below the spool.
    pub named: Vec<String>,
}

/// What came of an order.
#[derive(Clone, Debug)]
pub enum OrderChange {
    /// It is in force.
    Given(Order),
    /// It is not in force any more.
    Ended {
        /// Which.
        order: Order,
        /// What ended it.
        by: Command,
    },
    /// A flush or an expiry has come to its end.
    CarriedOut(Order),
}

/// The far end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The receivers that share limits.
    pub site: Site,
    /// The host spoken to, if it came so far.
    pub host: Option<String>,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// What a notification says (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationKind {
    /// It failed.
    Failed,
    /// It is late.
    Delayed,
}

/// Kinds of refusal at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// No or a wrong identity.
    Authentication,
    /// An identity that may not use the From domain, address or envelope sender.
    Sender,
    /// The domain is not verified and refuses mail meanwhile.
    Unverified,
    /// Commands, addresses, line ends or headers that are not mail.
    Syntax,
    /// Too big, too many recipients.
    Limit,
    /// Too little room on the spool volume.
    DiskFull,
    /// The spool volume fails.
    DiskError,
    /// The spool volume does not answer.
    DiskSlow,
    /// The queue holds all it may.
    QueueFull,
    /// The texts under way take all the memory they may.
    Memory,
    /// The relay is shutting down.
    Closing,
    /// None of these.
    Other,
}

impl RejectReason {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 12] = [
        Self::Authentication,
        Self::Sender,
        Self::Unverified,
        Self::Syntax,
        Self::Limit,
        Self::DiskFull,
        Self::DiskError,
        Self::DiskSlow,
        Self::QueueFull,
        Self::Memory,
        Self::Closing,
        Self::Other,
    ];

    /// The name in events and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Sender => "sender",
            Self::Unverified => "unverified",
            Self::Syntax => "syntax",
            Self::Limit => "limit",
            Self::DiskFull => "disk-full",
            Self::DiskError => "disk-error",
            Self::DiskSlow => "disk-slow",
            Self::QueueFull => "queue-full",
            Self::Memory => "memory",
            Self::Closing => "closing",
            Self::Other => "other",
        }
    }
}
