//! The doors: who are you, may you, and is this mail. SMTP submission (RFC 6409, RFC 8314) as a
//! state machine without I/O.
//!
//! Promises: default deny. Nothing passes without an authenticated username that is allowed the
//! domain of the From header and the envelope sender. A line ends in CRLF and in nothing else, so
//! two parties never disagree on where a message ends (RFC 5321 §2.3.8). What comes after a
//! refusal is read in step with the client. Never touches a socket, a clock or the spool.

mod auth;
mod brake;
mod command;
mod data;
mod headers;
mod policy;
mod refusal;
mod sasl;
mod session;
mod stamp;
mod text;

pub use auth::{Attempt, Authenticator, Login, Proof, Verdict};
pub use brake::{Brake, Passage};
pub use headers::Headers;
pub use policy::authorise;
pub use refusal::Refusal;
pub use session::{Action, Door, Session, Submission};
pub use stamp::{Arrival, Transmission, stamp};
pub use text::Message;

#[cfg(test)]
mod session_tests;
