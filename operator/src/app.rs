//! The composition root: opens everything once, builds a [`Context`] for each watched scope, runs
//! the controllers, stops in order.
//!
//! Flow: bind the metrics port, reach the API, wait for the Lease (if elected), fill the caches,
//! reconcile. On a signal: finish what is under way, give the Lease up, end. If the Lease is lost,
//! end at once with an error.

use std::{num::NonZero, sync::Arc, time::Duration};

use hyper::http;
use jiff::Timestamp;
use kube::{Client, Config};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Context,
    admin::{self, Phase},
    apply::{CALL_TIMEOUT, Writer},
    backoff::Backoff,
    clock::{Clock, SteadyTime, SystemClock},
    dns::{
        HickoryResolver, HttpsPolicyHosts, PolicyHosts, Resolver, SharedResolver,
        resolver::ResolverError,
    },
    events::Events,
    lease::{Candidate, Lost},
    looks::{Calendar, Looks},
    metrics::Metrics,
    queues::{Inboxes, Queues},
    relay_pool::{
        self, QueuesWritten, credentials::VerifierCache, event_readings::Readings, loaded::Loaded,
        observe, pace::Paces, reports, reverse::Told,
    },
    sending_domain::{self, makers::KeyMakers},
    settings::Settings,
    start::Start,
    stores::{Stores, Watches},
    suppression_list,
};

/// After a signal, reconciliations under way have this long: a little more than one API call.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Flags that do not go together.
    #[error("{0}")]
    Usage(&'static str),
    /// The metrics port could not be opened.
    #[error("--metrics-address {address}: {source}; choose a free port")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// No way to the API server is configured.
    #[error("no kubeconfig and not in a pod: {0}; set KUBECONFIG")]
    Config(String),
    /// The client could not be built.
    #[error("kubernetes client: {0}")]
    Client(#[source] Box<kube::Error>),
    /// A metric is defined wrongly.
    #[error("metrics: {0}")]
    Metrics(#[source] prometheus::Error),
    /// The resolver could not be set up.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// Somebody else leads now.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Runs the operator until `stop` is cancelled.
///
/// # Errors
///
/// When it cannot start, or has lost the Lease.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), AppError> {
    let metrics = Arc::new(Metrics::new().map_err(AppError::Metrics)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let address = settings.metrics_address;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| AppError::Bind { address, source })?;
    let resolver = HickoryResolver::new(&settings.resolvers, metrics.clone())?
        .with_authorities(settings.dns.authority());
    let resolver = SharedResolver::new(Arc::new(resolver), clock.clone());
    let config = client_config().await?;
    let (phase, phases) = watch::channel(Phase::Filling);
    let admin = admin::serve(
        listener,
        metrics.clone(),
        clock.clone(),
        phases,
        stop.child_token(),
    );
    let mut background = JoinSet::new();
    background.spawn(admin);

    let client = client(config.clone())?;
    let server_time = server_time(&client).await;
    if server_time.is_none() {
        tracing::warn!("the API server does not tell the time; this machine's clock is used");
    }
    let steady = SteadyTime::best(server_time, clock.now());

    let process = Process {
        settings: Arc::new(settings),
        metrics,
        steady: SteadyTime::new(steady, clock.monotonic()),
        clock,
        client,
        resolver: Arc::new(resolver),
        key_makers: key_makers(),
        policies: Arc::new(HttpsPolicyHosts::public()),
        phase,
        stop,
    };
    if process.settings.election.leader_elect {
        process.lead(config).await
    } else {
        process.work().await;
        Ok(())
    }
}

/// One for each core but one, which is left to everything else.
fn key_makers() -> (Arc<Semaphore>, usize) {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let count = cores.saturating_sub(1).max(1);
    (Arc::new(Semaphore::new(count)), count)
}

/// In a pod by its environment (a static binary needs no resolver for that), else by kubeconfig.
async fn client_config() -> Result<Config, AppError> {
    match Config::incluster_env() {
        Ok(config) => Ok(config),
        Err(_) => Config::infer()
            .await
            .map_err(|error| AppError::Config(error.to_string())),
    }
}

fn client(config: Config) -> Result<Client, AppError> {
    Client::try_from(config).map_err(|error| AppError::Client(Box::new(error)))
}

/// The API server's time, by the `Date` of an answer (RFC 9110 §6.6.1).
async fn server_time(client: &Client) -> Option<Timestamp> {
    let request = http::Request::get("/version").body(kube::client::Body::empty());
    let answer = client.send(request.ok()?);
    let answer = tokio::time::timeout(CALL_TIMEOUT, answer)
        .await
        .ok()?
        .ok()?;
    let date = answer.headers().get(http::header::DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(date)
        .ok()
        .map(|zoned| zoned.timestamp())
}

struct Process {
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    steady: SteadyTime,
    client: Client,
    resolver: Arc<dyn Resolver>,
    /// Who makes keys, and how many there are.
    key_makers: (Arc<Semaphore>, usize),
    policies: Arc<dyn PolicyHosts>,
    phase: watch::Sender<Phase>,
    stop: CancellationToken,
}

impl Process {
    /// Waits for the Lease, then works for as long as it is held.
    async fn lead(&self, mut config: Config) -> Result<(), AppError> {
        let election = &self.settings.election;
        let namespace = election.lease_namespace.as_deref().ok_or(AppError::Usage(
            "--leader-elect needs --lease-namespace or POD_NAMESPACE",
        ))?;
        config.default_retry = false;
        let clock = self.clock.clone();
        let mut candidate = Candidate::new(client(config)?, namespace, election, clock);
        self.phase.send_replace(Phase::Standby);
        tracing::info!(
            lease = election.lease_name,
            namespace,
            "waiting for the lease"
        );
        if self
            .stop
            .run_until_cancelled(candidate.acquire())
            .await
            .is_none()
        {
            return Ok(());
        }
        tracing::info!(identity = election.identity, "lease acquired");
        self.phase.send_replace(Phase::Filling);
        // The Lease is given up only after the last write.
        let worked = CancellationToken::new();
        let work = async {
            self.work().await;
            worked.cancel();
        };
        tokio::select! {
            biased;
            held = candidate.hold(worked.clone()) => Ok(held?),
            () = async { work.await; std::future::pending::<()>().await } => Ok(()),
        }
    }

    /// Runs all controllers until asked to stop.
    async fn work(&self) {
        let namespaces = &self.settings.watch_namespaces;
        let scopes: Vec<Option<String>> = if namespaces.is_empty() {
            vec![None]
        } else {
            namespaces.iter().cloned().map(Some).collect()
        };
        let mut watches = JoinSet::new();
        let mut controllers = JoinSet::new();
        let mut filled = Vec::new();
        for scope in scopes {
            let (context, inboxes) = self.open(scope, &mut watches);
            filled.push(context.clone());
            start_controllers(&context, inboxes, &mut controllers);
        }
        let fill = async {
            for context in &filled {
                if context.stores.filled().await.is_err() {
                    return;
                }
            }
            self.phase.send_replace(Phase::Working);
            tracing::info!("caches filled, reconciling");
        };
        self.stop.run_until_cancelled(fill).await;
        self.stop.cancelled().await;
        tracing::info!("stopping");
        let ended = async { while controllers.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, ended).await.is_err() {
            tracing::warn!("reconciliations under way were cut off");
        }
    }

    fn open(
        &self,
        namespace: Option<String>,
        watches: &mut JoinSet<()>,
    ) -> (Arc<Context>, Inboxes) {
        let (stores, writers) = Stores::new();
        let (queues, inboxes) = Queues::new();
        let watching = Watches {
            client: self.client.clone(),
            namespace: namespace.clone(),
            stores: stores.clone(),
            queues: queues.clone(),
        };
        watching.start(writers, watches);
        let makers = self.key_makers.clone();
        let key_makers = KeyMakers::new(makers, stores.clone(), queues.clone());
        let context = Context {
            namespace,
            settings: self.settings.clone(),
            clock: self.clock.clone(),
            steady: self.steady,
            stores,
            queues,
            writer: Writer::new(self.client.clone()),
            events: Events::new(self.client.clone(), self.settings.election.identity.clone()),
            metrics: self.metrics.clone(),
            backoff: Backoff::new(fastrand::u64(..)),
            resolver: self.resolver.clone(),
            looks: Looks::default(),
            calendar: Calendar::default(),
            policies: self.policies.clone(),
            pool_looks: Looks::default(),
            reverse_told: Told::default(),
            loaded: Loaded::default(),
            key_makers,
            paces: Paces::default(),
            refused_pods: Readings::default(),
            stuck_pods: Readings::default(),
            verifiers: VerifierCache::default(),
            queues_written: QueuesWritten::default(),
            start: Start::default(),
            stop: self.stop.clone(),
        };
        (Arc::new(context), inboxes)
    }
}

/// Starts every controller of a scope.
fn start_controllers(context: &Arc<Context>, inboxes: Inboxes, controllers: &mut JoinSet<()>) {
    controllers.spawn(relay_pool::run(context.clone(), inboxes.pools));
    controllers.spawn(after_pools(
        context.clone(),
        sending_domain::run(context.clone(), inboxes.domains),
    ));
    controllers.spawn(after_pools(
        context.clone(),
        suppression_list::run(context.clone(), inboxes.lists),
    ));
    controllers.spawn(reports::run(context.clone()));
}

/// Runs `controller` once every pool that there was at the start has been rendered.
async fn after_pools(context: Arc<Context>, controller: impl Future<Output = ()>) {
    if context.stores.filled().await.is_err() {
        return;
    }
    let pools = context.stores.pools.state();
    let pools: Vec<_> = pools.iter().map(|pool| observe::key(pool)).collect();
    let rendered = context.start.until_pools_tried(&pools);
    if context.stop.run_until_cancelled(rendered).await.is_some() {
        controller.await;
    }
}
