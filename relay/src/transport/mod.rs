//! The SMTP client: one connection to one address, and the transactions on it.
//!
//! [`session`] is the protocol without I/O: bytes and the time go in, actions come out. [`Link`]
//! runs it over a connection and does TLS.
//!
//! Promises: every transaction gives exactly one [`Verdict`] per recipient, whatever the remote
//! sends and whenever it goes away; what it sends is bounded; commands are built from parsed
//! addresses only; no wait is without a deadline (RFC 5321 §4.5.3.2).

mod capabilities;
mod exchange;
mod lines;
mod link;
mod payload;
pub mod session;
mod stage;
mod stuffing;
mod tls;
mod verdict;

pub use link::{Link, LinkOptions};
pub use payload::Payload;
pub use session::{Action, MAX_RECIPIENTS, Security, Session, Stage, Transaction};
pub use tls::{Certificate, TlsClient, TlsSession};
pub use verdict::{Failure, Verdict};
