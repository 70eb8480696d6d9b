//! The vocabulary of mail: what a message is made of and what can become of it. Pure.

mod envelope;
mod message_id;
mod outcome;
mod reply;

pub use envelope::{BodyKind, Envelope, Recipient, ReturnPath};
pub use message_id::{MessageId, MessageIdError};
pub use outcome::{Class, Outcome, Site};
pub use reply::{EnhancedCode, Reply, ReplyError};
