//! What the relay says about itself: readiness, report, metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use postrider_crds::relay_config::Report;
use tokio::sync::watch;

use super::doors::DoorProblem;
use crate::{
    admin::Facts,
    config::{ConfigState, Pod, Settings},
    custody::Custody,
    telemetry::Telemetry,
};

/// The parts that know.
pub(super) struct RelayFacts {
    pub(super) pod: Pod,
    pub(super) config: watch::Receiver<ConfigState>,
    /// What all parts go by.
    pub(super) in_force: watch::Receiver<Option<Arc<Settings>>>,
    pub(super) custody: Custody,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) doors: DoorProblem,
    pub(super) stopping: AtomicBool,
}

impl RelayFacts {
    /// From now on not ready.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Facts for RelayFacts {
    fn metrics(&self) -> String {
        self.telemetry.render(&self.custody.figures())
    }

    fn not_ready(&self) -> Option<String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Some("shutting down".into());
        }
        let config = self.config.borrow();
        if config.settings.is_none() {
            let refused = config.refused.iter();
            let problems: Vec<String> = refused
                .map(|document| format!("{}: {}", document.path, document.error))
                .collect();
            return Some(match problems.is_empty() {
                true => "no configuration was read yet".into(),
                false => format!("no usable configuration yet: {}", problems.join("; ")),
            });
        }
        drop(config);
        match self.custody.accepting() {
            Err(error) => Some(error.to_string()),
            Ok(()) => self.doors.current(),
        }
    }

    fn report(&self) -> Report {
        let in_force = self.in_force.borrow().clone();
        Report {
            pod: self.pod.name.clone(),
            documents: in_force.map_or_else(Default::default, |s| s.documents.clone()),
            refused: self.config.borrow().refused.clone(),
            queue: self.custody.report(),
            not_ready: self.not_ready(),
        }
    }
}
