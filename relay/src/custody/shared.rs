//! What the facade and the committer both hold.
//!
//! Promises: the queue's lock is held for the time of one call, never across an await or the disk.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    Limits, NotAccepting,
    queue::{Holding, Queue},
};
use crate::{
    mail::{Envelope, MessageId},
    ports::{Clock, Disk},
    telemetry::{Event, Stage, Telemetry},
};

pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// Something may have become due, or custody closes.
    pub(crate) wake: Notify,
    ailing: Mutex<Option<Arc<io::Error>>>,
    closing: AtomicBool,
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
            ailing: Mutex::new(None),
            closing: AtomicBool::new(false),
            disk,
            clock,
            telemetry,
            limits,
        }
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
    }

    /// Whether a message may be taken now.
    pub(crate) fn accepting(&self) -> Result<(), NotAccepting> {
        if self.is_closing() {
            return Err(NotAccepting::Closing);
        }
        if let Some(error) = self.ailing() {
            return Err(NotAccepting::Disk(error));
        }
        let mark = self.limits.free_space_mark;
        match self.disk.free_space() {
            Ok(free) if free < mark => Err(NotAccepting::NoSpace { free, mark }),
            Ok(_) => Ok(()),
            Err(error) => Err(NotAccepting::Disk(Arc::new(error))),
        }
    }

    /// Tells that a message is held or free.
    pub(crate) fn tell_holding(
        &self,
        id: MessageId,
        envelope: &Envelope,
        holding: Holding,
        now: Timestamp,
    ) {
        let stage = match holding {
            Holding::Held => Stage::Held,
            Holding::Free => Stage::Released,
        };
        self.tell(id, envelope, stage, now);
    }

    /// Tells what happened to a message.
    pub(crate) fn tell(&self, id: MessageId, envelope: &Envelope, stage: Stage, now: Timestamp) {
        self.telemetry.emit(&Event {
            time: now,
            message: Some(id),
            tenant: Some(envelope.tenant.clone()),
            domain: envelope.domain.clone(),
            stage,
        });
    }

    fn lock_ailing(&self) -> MutexGuard<'_, Option<Arc<io::Error>>> {
        self.ailing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
