//! Why custody could not do what it was asked. All of it is the disk's or the shutdown's doing,
//! none of it the client's: every refusal is temporary.

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;
use postrider_crds::queue::{Scope, Verb};

use crate::mail::MessageId;

/// Why a message was not taken. The client is told 452 4.3.1 and keeps the message.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AcceptError {
    /// Custody takes nothing now.
    #[error(transparent)]
    NotAccepting(#[from] NotAccepting),
    /// The write or the sync failed; the message is not in custody.
    #[error("spool write failed: {0}; the message was not taken")]
    Disk(Arc<io::Error>),
    /// Envelope and body exceed what a record may hold.
    #[error("message of {bytes} bytes exceeds the {limit} a record may hold; send a smaller one")]
    TooLarge {
        /// Size of the record.
        bytes: u64,
        /// Largest record.
        limit: u64,
    },
    /// The id is in custody already.
    #[error("message {0} is in custody already; give every message an id of its own")]
    Known(MessageId),
    /// The envelope names no recipient, or a suppressed index that is none.
    #[error(
        "envelope of {0} recipients cannot be stored; give one at least and only their indexes"
    )]
    Recipients(usize),
}

impl AcceptError {
    /// Stable name of the cause.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotAccepting(why) => why.reason(),
            Self::Disk(_) => "DiskError",
            Self::TooLarge { .. } => "TooLarge",
            Self::Known(_) => "KnownId",
            Self::Recipients(_) => "BadEnvelope",
        }
    }
}

/// Why no mail is accepted now: what `/readyz` says and 452 is answered with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotAccepting {
    /// Free space is below the mark.
    #[error(
        "{free} bytes free on the spool volume, {mark} are needed; free space or grow the volume"
    )]
    NoSpace {
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        mark: u64,
    },
    /// The last write failed; a later one that works ends this.
    #[error("spool volume fails: {0}; check the volume")]
    Disk(Arc<io::Error>),
    /// The volume does not come to an end with what it was asked for.
    #[error("spool volume has not answered for {} s; check the volume", .waited.as_secs())]
    Slow {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The queue holds all it may.
    #[error("{messages} messages are queued, {limit} may be; wait or add relays")]
    QueueFull {
        /// Messages in the queue.
        messages: usize,
        /// Most there may be.
        limit: usize,
    },
    /// Custody is closing.
    #[error("shutting down; try again or try a peer")]
    Closing,
}

impl NotAccepting {
    /// Stable name of the cause.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoSpace { .. } => "NoSpace",
            Self::Disk(_) => "DiskError",
            Self::Slow { .. } => "SlowDisk",
            Self::QueueFull { .. } => "QueueFull",
            Self::Closing => "Closing",
        }
    }
}

/// Why a change could not be recorded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The write failed. An attempt must not be made; a settlement is kept in memory and written as
    /// soon as the disk takes it.
    #[error("spool write failed: {0}")]
    Disk(Arc<io::Error>),
    /// Custody is closed.
    #[error("custody is closed")]
    Closed,
    /// An operator's order keeps it back since it was given out: put it back.
    #[error("message {0} is kept back by an order")]
    Kept(MessageId),
    /// The claim is not one custody has given out, or was settled before.
    #[error("message {0} has no such claim")]
    UnknownClaim(MessageId),
}

/// Why an order is not obeyed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OrderError {
    /// No such message.
    #[error(
        "message {0} is not in this relay's queue; it is done, or another relay of the pool has it"
    )]
    UnknownMessage(MessageId),
    /// There is nothing to release or resume.
    #[error(
        "nothing to {verb}: no such order of {scope} is in force; the queue's orders show those that are"
    )]
    NothingToEnd {
        /// What was asked.
        verb: Verb,
        /// About what.
        scope: Scope,
    },
    /// A suspension that would end before it begins.
    #[error("until: {until} has passed, it is {now} here; give a later time")]
    Past {
        /// When it would end.
        until: Timestamp,
        /// The relay's time.
        now: Timestamp,
    },
    /// The table is full.
    #[error("{limit} orders are in force, no more may be; release or resume some", limit = super::orders::MAX_ORDERS)]
    TooMany,
    /// What is in force is not known yet.
    #[error("the spool is being read after a start; try again in a moment")]
    Restoring,
    /// What is in force may be in a segment that could not be read.
    #[error(
        "a segment of the spool that may hold the orders in force could not be read at the start; check the volume, the log names the segment, and restart the relay"
    )]
    LeftOut,
    /// The write failed; the order is not in force.
    #[error("spool write failed: {0}; the order is not in force, check the volume and try again")]
    Disk(Arc<io::Error>),
    /// Custody is closed.
    #[error("the relay is shutting down; try again when it is back")]
    Closed,
}

/// Why the spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the spool.
    #[error("spool is locked by another process; one relay at a time may own it")]
    Locked,
    /// A newer relay wrote it.
    #[error(
        "segment {segment} has format version {version}, this relay reads up to {supported}; run the newer relay"
    )]
    NewerFormat {
        /// Name of the segment.
        segment: String,
        /// Its version.
        version: u16,
        /// Newest version known.
        supported: u16,
    },
    /// An older relay wrote it, in a format that is not read any more.
    #[error(
        "segment {segment} has format version {version}, this relay reads {supported} and later; let the relay that wrote it deliver what it holds first"
    )]
    OlderFormat {
        /// Name of the segment.
        segment: String,
        /// Its version.
        version: u16,
        /// The oldest version known.
        supported: u16,
    },
    /// The disk failed.
    #[error("spool cannot be opened: {doing}: {source}")]
    Disk {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}
