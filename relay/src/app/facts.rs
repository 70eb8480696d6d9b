//! What the relay says about itself, and what it is told: readiness, report, metrics, orders.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use postrider_crds::{
    DomainName,
    queue::{Command, OrderAnswer, QueueOverview},
    relay_config::{Intake, MAX_REMAINING, Report},
};
use tokio::sync::watch;

use super::doors::DoorProblem;
use crate::{
    admin::Facts,
    config::{ConfigState, Pod, Settings},
    custody::{Custody, OrderError, Overview},
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

    /// What there is of the domains that take no more mail.
    fn remaining(&self, settings: &Settings) -> BTreeMap<DomainName, u64> {
        let entries = settings.domains.values().map(|domain| &domain.entry);
        let closed: BTreeSet<&DomainName> = entries
            .filter(|entry| entry.intake == Intake::Closed)
            .map(|entry| &entry.domain)
            .collect();
        let counted = closed.into_iter().take(MAX_REMAINING).cloned();
        self.custody.remaining(counted).unwrap_or_default()
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
        let settings = in_force.as_deref();
        Report {
            pod: self.pod.name.clone(),
            documents: settings.map(|s| s.documents.clone()).unwrap_or_default(),
            refused: self.config.borrow().refused.clone(),
            queue: self.custody.report(),
            remaining: settings.map(|s| self.remaining(s)).unwrap_or_default(),
            not_ready: self.not_ready(),
        }
    }

    fn queue(&self) -> BoxFuture<'_, QueueOverview> {
        Box::pin(async move {
            let Overview {
                queue,
                orders,
                sites,
                domains,
                tenants,
            } = self.custody.overview().await;
            QueueOverview {
                pod: self.pod.name.clone(),
                queue,
                orders,
                sites,
                domains,
                tenants,
            }
        })
    }

    fn order(&self, command: Command) -> BoxFuture<'_, Result<OrderAnswer, OrderError>> {
        Box::pin(async move {
            // Afterwards some of it may be gone.
            let messages = self.custody.count(&command.scope).await;
            let obeyed = self.custody.order(command).await?;
            Ok(OrderAnswer {
                pod: self.pod.name.clone(),
                order: obeyed.order,
                ended: obeyed.ended,
                messages,
            })
        })
    }
}
