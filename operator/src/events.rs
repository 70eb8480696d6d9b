//! Kubernetes events: what `kubectl describe` shows of the past.
//!
//! Promises: only transitions become events, so that an operator at rest writes none. A failed
//! event is logged and never fails a reconciliation. Nothing is remembered of what was published.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::apply::CALL_TIMEOUT;

/// Longest note an API server takes, in octets.
const MAX_NOTE: usize = 1024;

/// Something worth telling about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub severity: Severity,
    /// PascalCase reason, of [`postrider_crds::condition::reasons`] where one fits.
    pub reason: &'static str,
    /// What was done: a PascalCase verb.
    pub action: &'static str,
    /// For a person.
    pub note: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Worth a look.
    Warning,
}

/// Publishes [`Notice`]s.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
}

impl Events {
    /// Publishes through `client`, as `identity`.
    #[must_use]
    pub fn new(client: Client, identity: String) -> Self {
        let reporter = Reporter {
            controller: "postrider.dev/operator".into(),
            instance: Some(identity),
        };
        Self { client, reporter }
    }

    /// Publishes `notice` about `object`.
    pub async fn publish(&self, notice: &Notice, object: &ObjectReference) {
        let mut note = notice.note.clone();
        if note.len() > MAX_NOTE {
            note.truncate(note.floor_char_boundary(MAX_NOTE));
        }
        let event = Event {
            type_: match notice.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: notice.reason.into(),
            note: Some(note),
            action: notice.action.into(),
            secondary: None,
        };
        // A recorder looks through all it has published in the last minutes, each time: with thousands
        // of objects that is most of what the process would do. A transition is no repetition.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        let call = recorder.publish(&event, object);
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason = notice.reason, "event not written"),
            Err(_) => tracing::warn!(reason = notice.reason, "event not written in time"),
        }
    }
}
