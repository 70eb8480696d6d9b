//! What the facade and the committer both hold.
//!
//! Promises: the queue's lock is held for the time of one call, never across an await or the disk.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};

use super::{
    Limits, NotAccepting,
    arrivals::Arrivals,
    queue::{Holding, HoldingChange, Origin, Queue},
    spool::Aside,
};
use crate::{
    mail::MessageId,
    ports::{Clock, Disk},
    telemetry::{Event, Quarantine, Stage, Telemetry},
};

/// Files that an event names.
const NAMED: usize = 10;

pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// Something may have become due, or custody closes.
    pub(crate) wake: Notify,
    /// There may be an order to carry out, or custody closes.
    pub(crate) ordered: Notify,
    ailing: Mutex<Option<Arc<io::Error>>>,
    closing: AtomicBool,
    /// Segments that are not restored yet.
    restoring: AtomicUsize,
    /// Messages in the queue as of the last change of the committer's.
    queued: AtomicUsize,
    pub(crate) arrivals: Arrivals,
    /// Reads of messages.
    pub(crate) reads: Semaphore,
    /// When the write that is under way began, in milliseconds of the monotonic clock plus one; 0
    /// when there is none.
    writing: AtomicU64,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) limits: Limits,
}

impl Shared {
    pub(crate) fn new(
        queue: Queue,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        telemetry: Arc<Telemetry>,
        limits: Limits,
    ) -> Self {
        Self {
            queue: Mutex::new(queue),
            wake: Notify::new(),
            ordered: Notify::new(),
            ailing: Mutex::new(None),
            closing: AtomicBool::new(false),
            restoring: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            arrivals: Arrivals::default(),
            reads: Semaphore::new(READS),
            writing: AtomicU64::new(0),
            disk,
            clock,
            telemetry,
            limits,
        }
    }

    /// Counts what lies in the quarantine.
    pub(crate) fn count_aside(&self) -> Option<Aside> {
        let looked = Aside::look(self.disk.as_ref());
        let aside = looked
            .map_err(|error| tracing::warn!(%error, "quarantine cannot be looked at"))
            .ok()?;
        self.telemetry.aside(&aside);
        Some(aside)
    }

    /// Tells of damage that was put aside and that nobody has removed.
    pub(crate) fn tell_aside(&self) {
        let Some(aside) = self.count_aside().filter(|aside| !aside.damaged.is_empty()) else {
            return;
        };
        let (files, bytes) = (aside.damaged.len(), aside.damaged_bytes);
        let named = aside.damaged.iter().take(NAMED).cloned().collect();
        tracing::warn!(
            files,
            bytes,
            "damaged records lie in the quarantine of the spool"
        );
        self.telemetry.emit(&Event {
            time: self.clock.wall(),
            message: None,
            tenant: None,
            domain: None,
            stage: Stage::QuarantineHolds(Quarantine {
                files,
                bytes,
                named,
            }),
        });
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error that keeps custody from writing.
    pub(crate) fn ailing(&self) -> Option<Arc<io::Error>> {
        self.lock_ailing().clone()
    }

    pub(crate) fn set_ailing(&self, error: Option<Arc<io::Error>>) {
        *self.lock_ailing() = error;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// From now on nothing is accepted or given out.
    pub(crate) fn start_closing(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_waiters();
        self.wake.notify_one();
        self.ordered.notify_one();
    }

    /// Segments that are not restored yet.
    pub(crate) fn restoring(&self) -> usize {
        self.restoring.load(Ordering::Relaxed)
    }

    pub(crate) fn set_restoring(&self, segments: usize) {
        self.restoring.store(segments, Ordering::Relaxed);
    }

    /// So many messages are in the queue.
    pub(crate) fn set_queued(&self, messages: usize) {
        self.queued.store(messages, Ordering::Relaxed);
    }

    /// Something begins that everybody waits for: a write, or what is done between two.
    pub(crate) fn begin_write(&self) -> Duration {
        let now = self.clock.monotonic();
        self.writing.store(millis(now) + 1, Ordering::Relaxed);
        now
    }

    /// It has ended; how long it took.
    pub(crate) fn end_write(&self, began: Duration) -> Duration {
        self.writing.store(0, Ordering::Relaxed);
        self.clock.monotonic().saturating_sub(began)
    }

    /// Whether a message may be taken now.
    pub(crate) fn accepting(&self) -> Result<(), NotAccepting> {
        self.takes_more()?;
        let mark = self.limits.free_space_mark;
        match self.disk.free_space() {
            Ok(free) if free < mark => Err(NotAccepting::NoSpace { free, mark }),
            Ok(_) => Ok(()),
            Err(error) => Err(NotAccepting::Disk(Arc::new(error))),
        }
    }

    /// The same without a look at the disk.
    pub(crate) fn takes_more(&self) -> Result<(), NotAccepting> {
        if self.is_closing() {
            return Err(NotAccepting::Closing);
        }
        if let Some(error) = self.ailing() {
            return Err(NotAccepting::Disk(error));
        }
        if let Some(began) = self.writing.load(Ordering::Relaxed).checked_sub(1) {
            let since = millis(self.clock.monotonic()).saturating_sub(began);
            if u128::from(since) >= SLOW.as_millis() {
                let waited = Duration::from_millis(since);
                return Err(NotAccepting::Slow { waited });
            }
        }
        let (messages, limit) = (self.queued.load(Ordering::Relaxed), self.limits.messages);
        if messages >= limit {
            return Err(NotAccepting::QueueFull { messages, limit });
        }
        Ok(())
    }

    /// Tells that a message is held or free.
    pub(crate) fn tell_holding(&self, change: &HoldingChange, now: Timestamp) {
        let stage = match change.now {
            Holding::Held => Stage::Held,
            Holding::Free => Stage::Released,
        };
        self.tell(change.id, &change.origin, stage, now);
    }

    /// Tells what happened to a message.
    pub(crate) fn tell(&self, id: MessageId, origin: &Origin, stage: Stage, now: Timestamp) {
        self.telemetry.emit(&Event {
            time: now,
            message: Some(id),
            tenant: Some(origin.tenant.clone()),
            domain: origin.domain.clone(),
            stage,
        });
    }

    fn lock_ailing(&self) -> MutexGuard<'_, Option<Arc<io::Error>>> {
        self.ailing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages read at a time, each on a thread; a disk gains little from more.
const READS: usize = 16;
/// A disk that does not answer for longer than this keeps no more clients waiting: well below the
/// time after which they give up (RFC 5321 §4.5.3.2.6: ten minutes), well above a busy disk's sync.
const SLOW: Duration = Duration::from_secs(10);

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}
