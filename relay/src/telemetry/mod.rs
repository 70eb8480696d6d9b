//! One event per custody change; the metrics and the log are its readers.

mod event;

pub use event::{Event, NotificationKind, RejectReason, Remote, Stage};

use crate::custody::QueueReport;

/// Where events go. Shared by reference.
#[derive(Debug)]
pub struct Telemetry {}

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
    pub fn new(_log: Box<dyn std::io::Write + Send>) -> Self {
        unimplemented!()
    }

    /// Writes the event's log line and counts it.
    pub fn emit(&self, _event: &Event) {
        unimplemented!()
    }

    /// Counts an outbound session.
    pub fn tls_session(&self, _policy: TlsPolicy, _result: TlsResult) {
        unimplemented!()
    }

    /// Counts a message that could not be signed.
    pub fn signing_failed(&self) {
        unimplemented!()
    }

    /// The metrics in Prometheus' text format 0.0.4, the queue gauges as of `queue`.
    pub fn render(&self, _queue: &QueueReport) -> String {
        unimplemented!()
    }
}
