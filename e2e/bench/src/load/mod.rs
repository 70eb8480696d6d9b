//! Load: the [source](send) that submits, the [sink](Sink) that receives, and what each knows of
//! which message.
//!
//! Both are one thread over epoll, so that neither is the limit of what is measured between them;
//! source straight into sink is measured in every run as the ceiling.

mod ledger;
mod poll;
mod sink;
mod source;
mod wire;

pub use ledger::{Ledger, NumberSet};
pub use sink::{Behaviour, Sink};
pub use source::{Connection, Load, Login, Sent, Until, send, tls_trusting};
