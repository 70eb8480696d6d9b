//! What can go wrong with the demo besides what it reports.

use crate::{cluster, peers};

/// The failure of a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step on the cluster failed.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A step with a receiver, a judge or the client failed.
    #[error(transparent)]
    Peer(#[from] peers::Error),
    /// Something in the cluster is not as expected.
    #[error("{what} is {found:?}; expected {expected}")]
    Unexpected {
        /// What was looked at.
        what: String,
        /// What it is.
        found: String,
        /// What it ought to be.
        expected: &'static str,
    },
}

impl Error {
    /// The exit code for it: 64 when the user can put it right by asking otherwise, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Cluster(error) => error.exit_code(),
            Self::Peer(_) | Self::Unexpected { .. } => 1,
        }
    }
}
