//! One event per custody change; the metrics and the log are its readers.
//!
//! Promises: every line of the log is one JSON object with the field names of `docs/events.md`;
//! every metric is on a registry of its own; label values come from enums or a bounded table, never
//! from an address. Never: fails or blocks custody for want of a reader.

mod event;
mod log;
mod metrics;
mod writer;

use std::{
    fmt,
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub use event::{Event, NotificationKind, OrderChange, Quarantine, RejectReason, Remote, Stage};

use self::{metrics::Metrics, writer::LogWriter};
use crate::custody::{Aside, QueueFigures};

/// Where events go. Shared by reference.
pub struct Telemetry {
    metrics: Metrics,
    log: Mutex<Log>,
}

struct Log {
    output: Box<dyn Write + Send>,
    /// The line being written, kept for its memory.
    line: Vec<u8>,
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
    /// Telemetry on a registry of its own, with each log line written to `log` as it comes.
    #[must_use]
    pub fn new(log: Box<dyn Write + Send>) -> Self {
        Self::with(Metrics::new(), log)
    }

    /// The same with a thread that writes to `log`, so that nothing waits for its reader; call
    /// [`Telemetry::flush`] at the end. Errors when the thread cannot be started.
    pub fn behind_a_thread(log: Box<dyn Write + Send>) -> io::Result<Self> {
        let metrics = Metrics::new();
        let lost = metrics.log_lines_lost();
        let lost = move |lines| lost.inc_by(u64::try_from(lines).unwrap_or(u64::MAX));
        let writer = LogWriter::start(log, lost)?;
        Ok(Self::with(metrics, Box::new(writer)))
    }

    fn with(metrics: Metrics, output: Box<dyn Write + Send>) -> Self {
        let line = Vec::new();
        Self {
            metrics,
            log: Mutex::new(Log { output, line }),
        }
    }

    /// Writes the event's log line and counts it. A log that cannot be written is no reason to
    /// stop: the line is lost and counted.
    pub fn emit(&self, event: &Event) {
        self.metrics.count(event);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let Log { output, line } = &mut *log;
        line.clear();
        log::line(event, line);
        if output.write_all(line).is_err() {
            self.metrics.log_lines_lost().inc();
        }
    }

    /// Waits until every line has been written. Blocks; for the end.
    pub fn flush(&self) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.output.flush().is_err() {
            self.metrics.log_lines_lost().inc();
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

    /// Records what lies in the quarantine of the spool.
    pub(crate) fn aside(&self, aside: &Aside) {
        self.metrics.aside(aside);
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
