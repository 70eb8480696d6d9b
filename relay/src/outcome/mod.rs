//! From what the remote said to what becomes of the message: classes, the retry schedule, and
//! what the sender is told.
//!
//! Promises: pure. Only a 5xx answer about a message or a recipient bounces it; everything that
//! happens to a connection defers. A notification is never answered with another.

mod classify;
mod decide;
mod notification;
mod retry;

pub use classify::Classifier;
pub use decide::{Leg, Notice, Ruling, Warned, decide, expiry};
pub use notification::{Action, Notification, Report};
pub use retry::next_attempt;
