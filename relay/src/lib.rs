//! The Postrider relay: takes custody of mail and delivers it.
//!
//! The folders are the stages of a message's journey, in order; a message walks them once. The two
//! loops in `flow` call the stages; stages never call each other.
//!
//! Promises: no 250 before the message is on stable storage, and from then on each recipient ends
//! as delivered, bounced, or still queued. Knows nothing of Kubernetes.

pub mod admin;
pub mod app;
pub mod config;
pub mod custody;
pub mod flow;
pub mod identity;
pub mod mail;
pub mod outcome;
pub mod ports;
pub mod routing;
pub mod submission;
pub mod suppression;
pub mod telemetry;
pub mod transport;
