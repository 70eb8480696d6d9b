//! What a transaction came to for one recipient, in the remote's words.

use super::Stage;
use crate::mail::Reply;

/// What became of one recipient in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The remote took the message for it (RFC 5321 §4.1.1.4).
    Accepted(Reply),
    /// The remote refused it, now or for good, or lacks what the message needs.
    Refused(Reply),
    /// The connection failed before there was an answer.
    Broken(Failure),
}

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The address could not be connected to.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The remote went away, or the network did.
    #[error("connection lost {stage}: {cause}")]
    Lost {
        /// When.
        stage: Stage,
        /// How.
        cause: String,
    },
    /// The remote did not answer in time.
    #[error("no answer in time {0}")]
    TimedOut(Stage),
    /// The remote said something that is no SMTP.
    #[error("remote broke the protocol {stage}: {cause}")]
    Protocol {
        /// When.
        stage: Stage,
        /// How.
        cause: String,
    },
    /// The remote does not want to talk at all: its greeting, its answer to EHLO, or a 421
    /// (RFC 5321 §3.8).
    #[error("remote refused the session {stage}: {reply}")]
    Refused {
        /// When.
        stage: Stage,
        /// What it said.
        reply: Reply,
    },
    /// No TLS where there has to be, or a failed handshake.
    #[error("no TLS: {0}")]
    Tls(String),
}
