//! The composition root: opens the sockets, builds every part from what it needs, stops them in
//! order. No globals.
//!
//! Flow: probes and the admin API answer first, so that a relay which cannot work can say why; the
//! spool is opened; the doors open and deliveries start once a first configuration is good. On
//! stop: readiness goes, the doors close, sessions get 421 and texts under way are finished, no
//! attempt is begun, what runs has the budget to end; then the spool is synced and released.
//!
//! Guarantees: stopping takes the budget and the last sync at most, whatever peers do.

mod doors;
mod facts;
mod resolver;

use std::{
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use aws_lc_rs::{hmac, rand};
use postrider_crds::{DomainName, relay_config::Admission};
use tokio::{net::TcpListener, sync::watch, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{
    doors::{DoorProblem, Doors},
    facts::RelayFacts,
    resolver::ConfiguredResolver,
};
use crate::{
    admin,
    config::{ConfigState, ConfigWatch, Follower, Pod, Settings},
    custody::{self, AdmissionOf, Custody, OpenError},
    flow::{
        intake::{self, Intake},
        outbound::{self, Outbound},
    },
    ports::{
        Clock, MountedDirectory, ResolverSetupError, SystemClock, SystemDisk, SystemRandom,
        TcpNetwork, listen,
    },
    submission::Authenticator,
    telemetry::{Event, Stage, Telemetry},
    transport::TlsClient,
};

/// What a relay is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory the documents are mounted in.
    pub config_dir: PathBuf,
    /// Directory of the spool.
    pub spool: PathBuf,
    /// Which pod this is.
    pub pod: Pod,
    /// Address the listeners bind to; `None` for all.
    pub address: Option<IpAddr>,
    /// Port of probes and metrics.
    pub metrics_port: u16,
    /// Port of the admin API.
    pub admin_port: u16,
    /// How long what is under way may take when the relay stops.
    pub shutdown_budget: Duration,
}

/// Why a relay cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A port cannot be opened.
    #[error("port {port} of {listener} cannot be opened: {source}")]
    Listen {
        /// Which listener.
        listener: &'static str,
        /// Its port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The spool directory cannot be used.
    #[error("spool {path}: {source}")]
    Spool {
        /// Where.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The spool cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No DNS.
    #[error(transparent)]
    Resolver(#[from] ResolverSetupError),
    /// No TLS towards receivers.
    #[error("TLS client cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The event log has no thread.
    #[error("the thread that writes the event log cannot be started: {0}")]
    Log(io::Error),
    /// No random key from the operating system.
    #[error("no random numbers from the operating system")]
    Random,
    /// A part ended on its own: a bug.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// The wait for whoever reads the event log at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// Runs a relay until `stop` is cancelled and what was under way has ended.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), AppError> {
    let probes = bind(&options, "probes and metrics", options.metrics_port).await?;
    let admin = bind(&options, "the admin API", options.admin_port).await?;
    let telemetry = Telemetry::behind_a_thread(Box::new(io::stdout()))
        .map(Arc::new)
        .map_err(AppError::Log)?;
    let result = serve(options, (probes, admin), &telemetry, stop).await;
    let flushed = spawn_blocking(move || telemetry.flush());
    if timeout(LOG_PATIENCE, flushed).await.is_err() {
        tracing::warn!("event log is not read, its last lines are lost");
    }
    result
}

async fn serve(
    options: Options,
    (probes, admin): (TcpListener, TcpListener),
    telemetry: &Arc<Telemetry>,
    stop: CancellationToken,
) -> Result<(), AppError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let config = follow(&options).await?;
    tokio::spawn(report_refusals(
        config.clone(),
        Arc::clone(telemetry),
        Arc::clone(&clock),
    ));
    let custody = open_custody(&options, &config, telemetry, &clock)?;
    let (report, reported) = watch::channel(None);
    let facts = Arc::new(RelayFacts {
        pod: options.pod.clone(),
        config: config.clone(),
        in_force: reported,
        custody: custody.clone(),
        telemetry: Arc::clone(telemetry),
        doors: DoorProblem::not_open_yet(),
        stopping: AtomicBool::new(false),
    });
    let (probe_facts, admin_facts) = (Arc::clone(&facts), Arc::clone(&facts));
    tokio::spawn(admin::serve_probes(probes, probe_facts));
    tokio::spawn(admin::serve_admin(admin, admin_facts, config.clone()));
    let settings = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        settings = in_force(config, custody.clone(), report) => settings,
    };
    if let Some(settings) = settings {
        let relay = Relay {
            options,
            telemetry: Arc::clone(telemetry),
            clock,
            custody: custody.clone(),
            settings,
        };
        relay.run(&facts, stop).await?;
    }
    facts.stop();
    custody.close().await;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(
    options: &Options,
    listener: &'static str,
    port: u16,
) -> Result<TcpListener, AppError> {
    listen(options.address, port)
        .await
        .map_err(|source| AppError::Listen {
            listener,
            port,
            source,
        })
}

/// Reads the configuration once and follows it from then on.
async fn follow(options: &Options) -> Result<watch::Receiver<ConfigState>, AppError> {
    let directory = MountedDirectory::new(options.config_dir.clone());
    let (mut follower, config) = Follower::new(directory, options.pod.clone());
    let follower = spawn_blocking(move || {
        follower.poll();
        follower
    })
    .await
    .map_err(|_| AppError::Ended("reading the configuration"))?;
    tokio::spawn(follower.run());
    Ok(config)
}

fn open_custody(
    options: &Options,
    config: &watch::Receiver<ConfigState>,
    telemetry: &Arc<Telemetry>,
    clock: &Arc<dyn Clock>,
) -> Result<Custody, AppError> {
    let disk = SystemDisk::open(&options.spool).map_err(|source| AppError::Spool {
        path: options.spool.display().to_string(),
        source,
    })?;
    Ok(Custody::open(custody::Parts {
        disk: Arc::new(disk),
        clock: Arc::clone(clock),
        random: Arc::new(SystemRandom),
        telemetry: Arc::clone(telemetry),
        limits: custody::Limits::default(),
        admission: admission(config.borrow().settings.clone()),
    })?)
}

/// What to do with a domain's mail in custody. Mail of a domain that is not, or no longer,
/// configured is kept.
fn admission(settings: Option<Arc<Settings>>) -> AdmissionOf {
    Arc::new(move |domain: Option<&DomainName>| {
        let known = settings.as_ref().map(|settings| &settings.domains);
        match (known, domain) {
            (None, _) => Admission::Hold,
            (Some(_), None) => Admission::Send,
            (Some(domains), Some(domain)) => domains
                .get(domain)
                .map_or(Admission::Hold, |known| known.entry.admission),
        }
    })
}

/// Waits for a first good configuration; from then on tells custody and the other parts of each, and
/// then `report`, since the operator takes what is reported to be in force everywhere.
async fn in_force(
    mut config: watch::Receiver<ConfigState>,
    custody: Custody,
    report: watch::Sender<Option<Arc<Settings>>>,
) -> Option<ConfigWatch> {
    let state = config.wait_for(|state| state.settings.is_some()).await;
    let first = state.ok()?.settings.clone()?;
    custody.apply_admission(admission(Some(Arc::clone(&first))));
    tracing::info!(documents = first.documents.len(), "configuration in force");
    let (sender, settings) = watch::channel(Arc::clone(&first));
    report.send_replace(Some(first));
    tokio::spawn(async move {
        while config.changed().await.is_ok() {
            let Some(new) = config.borrow_and_update().settings.clone() else {
                continue;
            };
            if Arc::ptr_eq(&new, &sender.borrow()) {
                continue;
            }
            // The doors learn first, so that no mail is accepted on terms that custody has left.
            sender.send_replace(Arc::clone(&new));
            tracing::info!(documents = new.documents.len(), "configuration in force");
            custody.apply_admission(admission(Some(Arc::clone(&new))));
            report.send_replace(Some(new));
        }
    });
    Some(settings)
}

/// Emits an event for each refused document.
async fn report_refusals(
    mut config: watch::Receiver<ConfigState>,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
) {
    let mut reported = 0;
    loop {
        let state = config.borrow_and_update().clone();
        if state.refusals > reported {
            reported = state.refusals;
            for document in state.refused {
                let (path, error) = (document.path, document.error);
                tracing::error!(path, error, "configuration refused");
                telemetry.emit(&Event {
                    time: clock.wall(),
                    message: None,
                    tenant: None,
                    domain: None,
                    stage: Stage::ConfigRefused { path, error },
                });
            }
        }
        if config.changed().await.is_err() {
            return;
        }
    }
}

/// A relay with a configuration.
struct Relay {
    options: Options,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
    custody: Custody,
    settings: ConfigWatch,
}

impl Relay {
    async fn run(self, facts: &RelayFacts, stop: CancellationToken) -> Result<(), AppError> {
        let budget = self.options.shutdown_budget;
        let stopping = CancellationToken::new();
        let intake = Arc::new(self.intake(stopping.clone())?);
        let outbound = self.outbound()?.run(stopping.clone(), budget);
        let doors = Doors::new(
            Arc::clone(&intake),
            self.options.address,
            facts.doors.clone(),
        );
        let doors = tokio::spawn(doors.keep(self.settings.clone(), stopping.clone()));
        let mut outbound = tokio::spawn(outbound);
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            _ = &mut outbound => true,
        };
        tracing::info!(budget = budget.as_secs(), "stopping");
        facts.stop();
        stopping.cancel();
        // The doors only have to drop their listeners.
        let closed = doors.await;
        if ended {
            return Err(AppError::Ended("deliveries"));
        }
        let (_, delivered) = tokio::join!(intake.drained(budget), outbound);
        match (closed, delivered) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(_), _) => Err(AppError::Ended("the doors")),
            (_, Err(_)) => Err(AppError::Ended("deliveries")),
        }
    }

    fn intake(&self, stop: CancellationToken) -> Result<Intake, AppError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|_| AppError::Random)?;
        let parts = intake::Parts {
            custody: self.custody.clone(),
            settings: self.settings.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::new(SystemRandom),
            telemetry: Arc::clone(&self.telemetry),
        };
        Ok(Intake::new(parts, Authenticator::new(key), stop))
    }

    fn outbound(&self) -> Result<Outbound, AppError> {
        Ok(Outbound::new(outbound::Parts {
            custody: self.custody.clone(),
            settings: self.settings.clone(),
            resolver: Arc::new(ConfiguredResolver::new(
                self.settings.clone(),
                Arc::clone(&self.clock),
            )?),
            network: Arc::new(TcpNetwork),
            clock: Arc::clone(&self.clock),
            random: Arc::new(SystemRandom),
            telemetry: Arc::clone(&self.telemetry),
            tls: TlsClient::with_public_roots()?,
        }))
    }
}
