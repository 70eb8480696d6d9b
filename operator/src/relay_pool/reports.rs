//! Asks every relay what it has loaded and how its queue is.
//!
//! Flow: at the start every pod is asked, before pools are judged. Then the schedule ([`schedule`])
//! says which pods are due; each is asked over its admin API with
//! mutual TLS by the pool's own CA. A changed answer wakes the pool, and its domains and lists when
//! it is about documents. Members that have just joined are then told of standing orders ([`joining`]).
//!
//! Guarantees: a pod that does not answer within [`ANSWER_TIMEOUT`] counts as silent, never as
//! agreeing.

mod schedule;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http_body_util::Full;
use hyper::{Request, StatusCode, body::Bytes};
use kube::ResourceExt as _;
use postrider_crds::{
    MemberConfig, RelayPool,
    relay_config::{Report, ports},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::schedule::{Awaited, Schedule};
use super::{
    admin_client::{self, ClientError},
    apply::wake_dependants,
    certificates, joining,
    loaded::{PodReport, PoolKey, PoolState},
    observe,
    status::config_of,
};
use crate::{Context, names, queues::Trigger, stores};

/// A relay answers from memory; longer means it is in trouble.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between looks at the schedule.
const TICK: Duration = Duration::from_millis(250);
/// Pods asked at a time.
pub(super) const PARALLEL: usize = 16;

/// Why a relay gave no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    #[error("connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("report: {0}")]
    Report(#[from] serde_json::Error),
    #[error("it is of pod {0}, which has had this address or has it now")]
    OtherPod(String),
    #[error("the pool's certificates cannot be used: {0}")]
    Certificates(String),
    #[error("it has no address, or did not answer just before")]
    Silent,
}

/// The way into the relays of a pool.
pub(super) struct Door {
    /// The name they prove.
    server: String,
    connector: TlsConnector,
}

impl Door {
    /// What the relay at `address` answers to `request`.
    ///
    /// # Errors
    ///
    /// When it does not answer 200 within [`ANSWER_TIMEOUT`].
    pub(super) async fn answer(
        &self,
        address: Option<IpAddr>,
        request: Request<Full<Bytes>>,
    ) -> Result<Bytes, AskError> {
        let address = address.ok_or(AskError::Silent)?;
        let exchange = async {
            let stream = TcpStream::connect((address, ports::ADMIN)).await?;
            let answer = admin_client::exchange(stream, &self.server, &self.connector, request);
            match answer.await? {
                (StatusCode::OK, body) => Ok(body),
                (status, _) => Err(AskError::Status(status)),
            }
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
        answer.unwrap_or(Err(AskError::Timeout))
    }
}

/// One pod to ask.
struct Visit {
    pool: Arc<RelayPool>,
    pod: String,
    uid: String,
    address: IpAddr,
}

/// A pool's TLS setup, kept for as long as its CA Secret stays the same.
type Connectors = HashMap<PoolKey, (String, TlsConnector)>;

/// Asks until the process stops.
pub async fn run(ctx: Arc<Context>) {
    if ctx.stores.filled().await.is_err() {
        return;
    }
    let mut schedule = Schedule::default();
    let mut tried: HashMap<PoolKey, Duration> = HashMap::new();
    let mut connectors = Connectors::new();
    loop {
        ask_due(&ctx, &mut schedule, &mut connectors).await;
        welcome(&ctx, &mut tried, &mut connectors).await;
        ctx.start.relays_asked();
        let pause = tokio::time::sleep(TICK);
        if ctx.stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Asks the pods that are due.
async fn ask_due(ctx: &Context, schedule: &mut Schedule, connectors: &mut Connectors) {
    let visits = due(ctx, schedule);
    let mut ready = Vec::with_capacity(visits.len());
    for visit in visits {
        match door(ctx, &visit.pool, connectors) {
            Ok(door) => ready.push((visit, door)),
            Err(error) => tracing::debug!(pod = visit.pod, %error, "relay not asked"),
        }
    }
    stream::iter(ready)
        .for_each_concurrent(PARALLEL, |(visit, door)| ask_one(ctx, visit, door))
        .await;
}

/// Tells members that join of standing orders, and notes which have gone.
async fn welcome(
    ctx: &Context,
    tried: &mut HashMap<PoolKey, Duration>,
    connectors: &mut Connectors,
) {
    let now = ctx.clock.monotonic();
    let pools = ctx.stores.pools.state();
    let staying = pools
        .iter()
        .filter(|pool| pool.metadata.deletion_timestamp.is_none());
    for pool in staying {
        let key = observe::key(pool);
        if !joining::is_due(ctx, pool) {
            tried.remove(&key);
            continue;
        }
        let last = tried.get(&key).copied();
        if last.is_some_and(|last| now.saturating_sub(last) < joining::AGAIN) {
            continue;
        }
        tried.insert(key, now);
        joining::note_absent(ctx, pool).await;
        match door(ctx, pool, connectors) {
            Ok(door) => joining::hand_on(ctx, pool, &door).await,
            Err(error) => tracing::debug!(pool = pool.name_any(), %error, "relays not told"),
        }
    }
}

/// The pods that are due.
fn due(ctx: &Context, schedule: &mut Schedule) -> Vec<Visit> {
    let now = ctx.clock.monotonic();
    let pools = ctx.stores.pools.state();
    let keys: Vec<PoolKey> = pools.iter().map(|pool| observe::key(pool)).collect();
    ctx.loaded.retain(&keys);
    ctx.refused_pods.retain(&keys);
    ctx.stuck_pods.retain(&keys);
    schedule.begin(&keys);
    let mut visits = Vec::new();
    for (pool, key) in pools.iter().zip(&keys) {
        let awaited = |state: &PoolState| (!settled(state)).then(|| Awaited::of(state));
        let awaited = ctx.loaded.with(key, awaited);
        let period = schedule.period(key, awaited, now);
        for pod in observe::of_pool(&ctx.stores.pods, key) {
            let address = pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ip.as_ref());
            let address = address.and_then(|address| address.parse().ok());
            let (Some(uid), Some(address)) = (pod.uid(), address) else {
                continue;
            };
            if schedule.is_due(&uid, period, now) {
                visits.push(Visit {
                    pool: pool.clone(),
                    pod: pod.name_any(),
                    uid,
                    address,
                });
            }
        }
    }
    schedule.end();
    visits
}

/// True when every member accepts mail and runs what is rendered, and no domain is on its way out:
/// nothing is expected to change.
fn settled(state: &PoolState) -> bool {
    !state.is_closing()
        && state.rendered.members.iter().all(|(pod, uid)| {
            let report = uid.as_ref().and_then(|uid| state.report(pod, uid));
            report.is_some_and(|report| {
                report.not_ready.is_none()
                    && config_of(report, &state.rendered) == MemberConfig::Applied
            })
        })
}

async fn ask_one(ctx: &Context, visit: Visit, door: Door) {
    let Visit {
        pool,
        pod,
        uid,
        address,
    } = visit;
    let key = observe::key(&pool);
    let answer = ask(address, &door).await.and_then(|report| {
        if report.pod == pod {
            Ok(report)
        } else {
            Err(AskError::OtherPod(report.pod))
        }
    });
    let report = match answer {
        Ok(report) => Some(report),
        Err(error) => {
            tracing::debug!(pod, %address, %error, "relay gave no report");
            None
        }
    };
    let news = ctx.loaded.set_report(&key, &pod, PodReport { uid, report });
    if let Some(news) = news {
        ctx.queues
            .send(Trigger::Pool(key.namespace, key.name))
            .await;
        wake_dependants(ctx, &pool, &news).await;
    }
}

async fn ask(address: IpAddr, door: &Door) -> Result<Report, AskError> {
    let request = Request::get("/v1/report").body(Full::default())?;
    let answer = door.answer(Some(address), request).await?;
    Ok(serde_json::from_slice(&answer)?)
}

fn door(ctx: &Context, pool: &RelayPool, connectors: &mut Connectors) -> Result<Door, AskError> {
    let PoolKey { namespace, name } = observe::key(pool);
    Ok(Door {
        server: names::admin_server_name(&namespace, &name),
        connector: connector(ctx, pool, connectors)?,
    })
}

fn connector(
    ctx: &Context,
    pool: &RelayPool,
    connectors: &mut Connectors,
) -> Result<TlsConnector, AskError> {
    let key = observe::key(pool);
    let name = names::ca_secret(&key.name);
    let secret = stores::get(&ctx.stores.secrets, &key.namespace, &name)
        .ok_or_else(|| AskError::Certificates(format!("Secret {name} does not exist yet")))?;
    let version = secret.resource_version().unwrap_or_default();
    if let Some((known, connector)) = connectors.get(&key)
        && *known == version
    {
        return Ok(connector.clone());
    }
    let material = certificates::client_material(&secret)
        .ok_or_else(|| AskError::Certificates(format!("Secret {name} is incomplete")))?;
    let connector = admin_client::connector(&material)?;
    connectors.insert(key, (version, connector.clone()));
    Ok(connector)
}
