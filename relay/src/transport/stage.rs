//! The steps of a session and how long each may take.

use std::{fmt, time::Duration};

/// What is being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The server's first line.
    Greeting,
    /// The answer to EHLO or HELO.
    Hello,
    /// The answer to STARTTLS, or the handshake.
    StartTls,
    /// Nothing: between transactions.
    Idle,
    /// The answer to RSET.
    Reset,
    /// The answer to MAIL.
    Mail,
    /// The answer to a RCPT.
    Recipient,
    /// The answer to DATA.
    Data,
    /// The message being taken by the network.
    Body,
    /// The answer to the message.
    End,
    /// The answer to QUIT.
    Quit,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Stage {
    /// Longest wait (RFC 5321 §4.5.3.2, which gives minimums; these are they).
    #[must_use]
    pub const fn limit(self) -> Duration {
        match self {
            Self::Greeting
            | Self::Hello
            | Self::StartTls
            | Self::Idle
            | Self::Reset
            | Self::Mail
            | Self::Recipient => MINUTE.saturating_mul(5),
            Self::Data => MINUTE.saturating_mul(2),
            Self::Body => MINUTE.saturating_mul(3),
            Self::End => MINUTE.saturating_mul(10),
            // Everything is settled by now; waiting is mere politeness.
            Self::Quit => Duration::from_secs(5),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "before the greeting",
            Self::Hello => "after EHLO",
            Self::StartTls => "after STARTTLS",
            Self::Idle => "between transactions",
            Self::Reset => "after RSET",
            Self::Mail => "after MAIL",
            Self::Recipient => "after RCPT",
            Self::Data => "after DATA",
            Self::Body => "while sending the message",
            Self::End => "after the message",
            Self::Quit => "after QUIT",
        })
    }
}
