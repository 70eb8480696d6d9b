//! The vocabulary of mail: what a message is made of and what can become of it. Pure.

mod envelope;
mod outcome;
mod priority;
mod reply;

pub use envelope::{BodyKind, Envelope, Recipient, ReturnPath};
pub use outcome::{Class, Outcome, Site};
pub use postrider_crds::MessageId;
pub use priority::{Priority, PriorityError};
pub use reply::{EnhancedCode, Reply, ReplyError};
