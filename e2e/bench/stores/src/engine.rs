//! What the workload needs of a key-value store, and the thread that commits to it in groups.
//!
//! Promises: the same rules as the relay's committer. What has gathered is one commit, synced once;
//! nobody is answered before; attempts alone are not synced.

use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::Failure;

/// Jobs of one commit, as in the relay.
const BATCH_JOBS: usize = 1024;
/// Bytes after which a commit is not extended, as in the relay.
const BATCH_BYTES: usize = 8 << 20;

/// One change of the store.
#[derive(Debug)]
pub(crate) enum Change {
    /// A message comes, to be kept with its head.
    Message {
        /// Its key.
        id: u128,
        /// Envelope and state.
        head: Vec<u8>,
        /// Its text.
        body: Bytes,
    },
    /// Envelope and state are now these.
    Head {
        /// The message's key.
        id: u128,
        /// Envelope and state.
        head: Vec<u8>,
        /// Whether it is an attempt, which need not be synced.
        is_attempt: bool,
    },
    /// Nothing more is to be done for it.
    Finished {
        /// The message's key.
        id: u128,
    },
}

/// Whether a commit is on stable storage at return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stable {
    /// It is.
    Now,
    /// With the next one that is.
    Later,
}

/// A key-value store with two tables: heads, which a start reads all of, and bodies.
pub(crate) trait Engine: Send {
    /// Makes the changes in one commit.
    fn commit(&mut self, changes: &[Change], stable: Stable) -> Result<(), Failure>;
    /// Reads every head; how many there are.
    fn heads(&self) -> Result<u64, Failure>;
}

type Job = (Change, oneshot::Sender<()>);

/// An engine and its committer.
pub(crate) struct GroupCommit {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl GroupCommit {
    /// Starts the committer.
    pub(crate) fn start(mut engine: Box<dyn Engine>) -> Self {
        let (jobs, mut waiting) = mpsc::channel(BATCH_JOBS);
        let thread = std::thread::spawn(move || {
            while let Some(first) = waiting.blocking_recv() {
                let (changes, replies) = gather(first, &mut waiting);
                engine.commit(&changes, stability(&changes))?;
                for reply in replies {
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                }
            }
            Ok(())
        });
        Self { jobs, thread }
    }

    /// Returns once the change is committed.
    pub(crate) async fn commit(&self, change: Change) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        let closed = "the committer has ended";
        self.jobs.send((change, reply)).await.map_err(|_| closed)?;
        Ok(answer.await.map_err(|_| closed)?)
    }

    /// Ends it.
    pub(crate) fn close(self) -> Result<(), Failure> {
        drop(self.jobs);
        self.thread.join().map_err(|_| "the committer panicked")?
    }
}

fn gather(
    first: Job,
    waiting: &mut mpsc::Receiver<Job>,
) -> (Vec<Change>, Vec<oneshot::Sender<()>>) {
    let (mut changes, mut replies) = (Vec::new(), Vec::new());
    let (mut next, mut bytes) = (Some(first), 0);
    while let Some((change, reply)) = next {
        if let Change::Message { body, .. } = &change {
            bytes += body.len();
        }
        changes.push(change);
        replies.push(reply);
        if changes.len() >= BATCH_JOBS || bytes >= BATCH_BYTES {
            break;
        }
        next = waiting.try_recv().ok();
    }
    (changes, replies)
}

fn stability(changes: &[Change]) -> Stable {
    let may_wait = |change: &Change| {
        matches!(
            change,
            Change::Head {
                is_attempt: true,
                ..
            }
        )
    };
    match changes.iter().all(may_wait) {
        true => Stable::Later,
        false => Stable::Now,
    }
}
