//! One store behind what sessions and deliveries ask of custody.

use bytes::Bytes;
use postrider_relay::custody::Claim;
use tokio::sync::{Mutex, mpsc};

use crate::{
    Failure, Load, Store,
    engine::{Change, Engine, GroupCommit},
    engines,
    segment_log::SegmentLog,
};

/// The envelope of every message but for its recipient.
pub(crate) const RETURN_PATH: &str = "app@example.com";
pub(crate) const DOMAIN: &str = "example.com";
pub(crate) const TENANT: &str = "apps/app";

/// A store under load.
pub(crate) enum Candidate {
    /// Ours, which has its own queue.
    SegmentLog(SegmentLog),
    /// Another one, with the least of a queue before it.
    Engine {
        store: GroupCommit,
        ready: mpsc::UnboundedSender<u128>,
        next: Mutex<mpsc::UnboundedReceiver<u128>>,
    },
}

/// A message to be attempted.
pub(crate) enum Work {
    Claim(Box<Claim>),
    Id(u128),
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Delivered,
    Deferred,
}

/// The recipient of a message.
pub(crate) fn recipient(id: u128) -> String {
    format!("person{}@site{}.example.org", id % 100_000, id % 4)
}

impl Candidate {
    /// Opens a store.
    pub(crate) fn open(store: Store, load: &Load) -> Result<Self, Failure> {
        Ok(match store {
            Store::SegmentLog => Self::SegmentLog(SegmentLog::open(&load.dir)?),
            _ => {
                let (ready, next) = mpsc::unbounded_channel();
                Self::Engine {
                    store: GroupCommit::start(engine(store, load)?),
                    ready,
                    next: Mutex::new(next),
                }
            }
        })
    }

    /// Returns once the message is on stable storage.
    pub(crate) async fn accept(&self, id: u128, body: Bytes) -> Result<(), Failure> {
        match self {
            Self::SegmentLog(log) => log.accept(id, body).await,
            Self::Engine { store, ready, .. } => {
                let head = head(id, 0);
                store.commit(Change::Message { id, head, body }).await?;
                Ok(ready.send(id)?)
            }
        }
    }

    /// What is to be attempted next.
    pub(crate) async fn next(&self) -> Result<Work, Failure> {
        Ok(match self {
            Self::SegmentLog(log) => Work::Claim(Box::new(log.next().await?)),
            Self::Engine { next, .. } => {
                Work::Id(next.lock().await.recv().await.ok_or("nothing comes")?)
            }
        })
    }

    /// Records an attempt and then, on stable storage, what came of it.
    pub(crate) async fn deliver(&self, work: Work, outcome: Outcome) -> Result<(), Failure> {
        match (self, work) {
            (Self::SegmentLog(log), Work::Claim(claim)) => log.deliver(*claim, outcome).await,
            (Self::Engine { store, .. }, Work::Id(id)) => {
                let state = |is_attempt| Change::Head {
                    id,
                    head: head(id, 1),
                    is_attempt,
                };
                store.commit(state(true)).await?;
                store
                    .commit(match outcome {
                        Outcome::Delivered => Change::Finished { id },
                        Outcome::Deferred => state(false),
                    })
                    .await
            }
            _ => Err("the work of another store".into()),
        }
    }

    /// Ends it.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::SegmentLog(log) => {
                log.close().await;
                Ok(())
            }
            Self::Engine { store, .. } => store.close(),
        }
    }
}

/// Opens a store and reads what a queue is made of; how many messages wait.
pub(crate) async fn reopen(store: Store, load: &Load) -> Result<(Box<dyn Send>, u64), Failure> {
    if store == Store::SegmentLog {
        let log = SegmentLog::open(&load.dir)?;
        let waiting = log.waiting().await;
        return Ok((Box::new(log), waiting));
    }
    let engine = engine(store, load)?;
    let waiting = engine.heads()?;
    Ok((Box::new(engine), waiting))
}

fn engine(store: Store, load: &Load) -> Result<Box<dyn Engine>, Failure> {
    Ok(match store {
        Store::Fjall => Box::new(engines::Fjall::open(&load.dir)?),
        Store::Redb => Box::new(engines::Redb::open(&load.dir)?),
        Store::SegmentLog => return Err("the segment log is no engine".into()),
    })
}

/// Envelope and state, about as compact as the relay's.
fn head(id: u128, attempts: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(96);
    // When accepted, when due.
    head.extend([0; 16]);
    head.extend(attempts.to_le_bytes());
    for text in [RETURN_PATH, &recipient(id), DOMAIN, TENANT] {
        head.extend(u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
        head.extend(text.as_bytes());
    }
    head
}
