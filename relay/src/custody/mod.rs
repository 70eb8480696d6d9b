//! Custody: the spool (stable storage), the queue (what is due) and the schedule (when again).

mod error;
mod message;

use std::sync::Arc;

use postrider_crds::{DomainName, relay_config::Admission};

pub use error::{AcceptError, NotAccepting, OpenError, StoreError};
pub use message::{Claim, Committed, NewMessage, RecipientResult, Settlement};
pub use postrider_crds::relay_config::QueueReport;

use crate::{
    ports::{Clock, Disk, Random},
    telemetry::Telemetry,
};

/// What a sending domain's mail is done with; `None` is mail the relay wrote itself.
pub type AdmissionOf = Arc<dyn Fn(Option<&DomainName>) -> Admission + Send + Sync>;

/// What custody is built from.
pub struct Parts {
    /// The spool directory.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where `Held`, `Released`, `Quarantined` and the spool's figures go.
    pub telemetry: Arc<Telemetry>,
    /// Sizes.
    pub limits: Limits,
    /// What each domain's mail is done with from the start.
    pub admission: AdmissionOf,
}

/// Sizes that bound custody.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that must stay free on the volume; below, nothing is accepted.
    pub free_space_mark: u64,
    /// Bytes after which a new segment is begun.
    pub segment_bytes: u64,
    /// Bytes of bodies kept in memory for messages not yet attempted.
    pub hot_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            free_space_mark: 256 << 20,
            segment_bytes: 64 << 20,
            hot_bytes: 64 << 20,
        }
    }
}

/// The owner of every accepted message. Cheap to clone.
#[derive(Clone)]
pub struct Custody {}

impl Custody {
    /// Opens the spool, restores the queue, starts the committer. Blocks on the disk.
    pub fn open(_parts: Parts) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Takes custody; returns once the message is on stable storage.
    pub async fn accept(&self, _message: NewMessage) -> Result<Committed, AcceptError> {
        unimplemented!()
    }

    /// Waits for a leg that is due. `None` once closed.
    pub async fn next_due(&self) -> Option<Claim> {
        unimplemented!()
    }

    /// Records that the claim's remote is about to be dialed.
    pub async fn attempt_started(&self, _claim: &Claim) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Records what became of the claim, and the notification, in one commit.
    pub async fn settle(&self, _claim: Claim, _settlement: Settlement) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Gives back a claim that was not attempted.
    pub async fn put_back(&self, _claim: Claim) {
        unimplemented!()
    }

    /// Moves mail between held and due as `admission` says, now and for what comes.
    pub fn apply_admission(&self, _admission: AdmissionOf) {
        unimplemented!()
    }

    /// How much waits for what.
    pub fn report(&self) -> QueueReport {
        unimplemented!()
    }

    /// Whether mail is accepted now.
    pub fn accepting(&self) -> Result<(), NotAccepting> {
        unimplemented!()
    }

    /// Stops accepting and claiming, syncs, releases the lock.
    pub async fn close(&self) {
        unimplemented!()
    }
}
