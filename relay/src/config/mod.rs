//! What the relay is told: the documents of [`postrider_crds::relay_config`], read from the mounted
//! directory, checked as a whole, and followed while the relay runs.
//!
//! Promises: a set of documents comes into force whole or not at all. One that cannot be used is
//! refused by path and reason, and what was in force stays so. Nothing here opens a socket.

mod follow;
mod settings;
mod shelf;
mod tls;

pub use follow::{ConfigState, Follower, POLL_INTERVAL};
pub use settings::{Credential, Domain, Pod, Settings};

use std::sync::Arc;

use tokio::sync::watch;

/// The settings in force; they change while the relay runs.
pub type ConfigWatch = watch::Receiver<Arc<Settings>>;

#[cfg(test)]
pub(crate) mod sample;
