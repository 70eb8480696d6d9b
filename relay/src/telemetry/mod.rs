//! One event per custody change; the metrics and the log are its readers.
//!
//! Promises: every line of the log is one JSON object with the field names of `docs/events.md`;
//! every metric is on a registry of its own; label values come from enums or a bounded table, never
//! from an address. Never: fails or blocks custody for want of a reader.

mod event;
mod log;
mod metrics;

use std::{
    fmt,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub use event::{Event, NotificationKind, RejectReason, Remote, Stage};

use self::metrics::Metrics;
use crate::custody::QueueFigures;

/// Where events go. Shared by reference.
pub struct Telemetry {
    metrics: Metrics,
    log: Mutex<Box<dyn Write + Send>>,
}

/// How a connection's transport security was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Used where offered.
    Opportunistic,
    /// No mail without it.
    Required,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsResult {
    /// Encrypted.
    Encrypted,
    /// Not offered, sent in the clear.
    Plaintext,
    /// Failed, nothing was sent over it.
    Failed,
}

impl Telemetry {
    /// Telemetry on a registry of its own, with its log lines written to `log` (standard output).
    #[must_use]
    pub fn new(log: Box<dyn Write + Send>) -> Self {
        Self {
            metrics: Metrics::new(),
            log: Mutex::new(log),
        }
    }

    /// Writes the event's log line and counts it. A log that cannot be written is no reason to
    /// stop: the line is lost and counted.
    pub fn emit(&self, event: &Event) {
        self.metrics.count(event);
        let line = log::line(event);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.write_all(&line).and_then(|()| log.flush()).is_err() {
            self.metrics.log_line_lost();
        }
    }

    /// Counts an outbound session.
    pub fn tls_session(&self, policy: TlsPolicy, result: TlsResult) {
        self.metrics.tls_session(policy, result);
    }

    /// Counts a message that could not be signed.
    pub fn signing_failed(&self) {
        self.metrics.signing_failed();
    }

    /// The metrics in Prometheus' text format 0.0.4, the queue gauges as of `queue`.
    #[must_use]
    pub fn render(&self, queue: &QueueFigures) -> String {
        self.metrics.render(queue)
    }

    /// Records a write and sync of the spool that took in this many messages.
    pub(crate) fn spool_batch(&self, messages: usize, took: Duration) {
        self.metrics.spool_batch(messages, took);
    }

    /// Records how many segments the spool has.
    pub(crate) fn spool_segments(&self, segments: usize) {
        self.metrics.spool_segments(segments);
    }

    /// Counts damaged records that were put aside.
    pub(crate) fn quarantined(&self) {
        self.metrics.quarantined();
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl TlsPolicy {
    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opportunistic => "opportunistic",
            Self::Required => "required",
        }
    }
}

impl TlsResult {
    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Plaintext => "plaintext",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests;
