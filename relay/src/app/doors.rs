//! Opens and closes the submission doors as the configuration says.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use postrider_crds::relay_config::Listeners;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{config::ConfigWatch, flow::intake::Intake, ports::listen, submission::Door};

/// Wait before a port that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why a door that should be open is not; shared with the readiness check.
#[derive(Clone, Debug)]
pub(super) struct DoorProblem(Arc<Mutex<Option<String>>>);

impl DoorProblem {
    /// Before the doors were opened for the first time.
    pub(super) fn not_open_yet() -> Self {
        let problem = "submission doors are not open yet".to_owned();
        Self(Arc::new(Mutex::new(Some(problem))))
    }

    pub(super) fn current(&self) -> Option<String> {
        let problem = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        problem.clone()
    }

    fn set(&self, problem: Option<String>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|_| *current != problem) {
            tracing::error!(problem, "submission door stays closed");
        }
        *current = problem;
    }
}

/// The open doors.
pub(super) struct Doors {
    intake: Arc<Intake>,
    address: Option<IpAddr>,
    open: HashMap<u16, (Door, CancellationToken)>,
    problem: DoorProblem,
}

impl Doors {
    pub(super) fn new(intake: Arc<Intake>, address: Option<IpAddr>, problem: DoorProblem) -> Self {
        Self {
            intake,
            address,
            open: HashMap::new(),
            problem,
        }
    }

    /// Keeps the doors as configured until `stop` is cancelled, then closes all. Sessions that run
    /// are left alone.
    pub(super) async fn keep(mut self, mut settings: ConfigWatch, stop: CancellationToken) {
        loop {
            let wanted = settings.borrow_and_update().relay.listeners.clone();
            let problem = self.arrange(&wanted).await;
            let failed = problem.is_some();
            self.problem.set(problem);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = settings.changed() => if changed.is_err() {
                    break;
                },
                () = sleep(RETRY), if failed => {}
            }
        }
        for (_, closed) in self.open.into_values() {
            closed.cancel();
        }
    }

    /// Closes what is no longer wanted, opens what is missing; gives what went wrong.
    async fn arrange(&mut self, wanted: &Listeners) -> Option<String> {
        let wanted: HashMap<u16, Door> = [
            (wanted.submission, Door::StartTls),
            (wanted.submissions, Door::ImplicitTls),
        ]
        .into_iter()
        .filter_map(|(port, door)| Some((port?, door)))
        .collect();
        self.open.retain(|port, (door, closed)| {
            let keep = wanted.get(port) == Some(door);
            if !keep {
                closed.cancel();
            }
            keep
        });
        let mut problem = None;
        for (port, door) in wanted {
            if self.open.contains_key(&port) {
                continue;
            }
            match listen(self.address, port).await {
                Ok(listener) => {
                    let closed = CancellationToken::new();
                    let intake = Arc::clone(&self.intake);
                    tokio::spawn(intake.serve(door, listener, closed.clone()));
                    self.open.insert(port, (door, closed));
                    tracing::info!(port, ?door, "submission door open");
                }
                Err(error) => {
                    problem = Some(format!("port {port} of the submission listeners: {error}"));
                }
            }
        }
        problem
    }
}
