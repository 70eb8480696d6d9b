//! The pods of a pool, reached through the API server.
//!
//! Promises: every pod is asked, whatever the others say; each within [`PATIENCE`]. What proves the
//! caller to a pod is the client certificate in the pool's CA Secret, so whoever may read that
//! Secret and forward ports may order.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use http_body_util::Full;
use hyper::{Request, StatusCode, body::Bytes};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use postrider_crds::{RelayPool, relay_config::ports};
use postrider_operator::{
    names,
    relay_pool::{
        admin_client::{self, ClientError},
        certificates,
    },
};
use tokio_rustls::TlsConnector;

use super::Ask;
use crate::{cluster::Cluster, error::Error};

/// The wait for one pod.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pods asked at a time.
const PARALLEL: usize = 8;

/// A pool's pods, as far as they can be asked.
pub(crate) trait Pods {
    /// Asks every pod. An error means that none could be asked.
    async fn ask(&self, ask: &Ask) -> Result<Vec<Reached>, Error>;
}

/// What one pod answered: the body, or why there is none.
pub(crate) struct Reached {
    pub(crate) pod: String,
    pub(crate) answer: Result<Vec<u8>, Refusal>,
}

/// Why a pod did not do what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has no such message or order.
    NothingThere(String),
    /// Anything else.
    Other(String),
}

/// The pods of a pool in a cluster.
pub(crate) struct ClusterPods {
    cluster: Cluster,
    namespace: String,
    names: Vec<String>,
    server: String,
    connector: TlsConnector,
}

impl ClusterPods {
    /// The pods of `pool`, and the means to speak to them.
    pub(crate) async fn of(cluster: Cluster, namespace: &str, pool: &str) -> Result<Self, Error> {
        // Says so where there is no such pool.
        let _: RelayPool = cluster.get(namespace, pool).await?;
        let secret = names::ca_secret(pool);
        let secret: Secret = cluster.get(namespace, &secret).await?;
        let unusable = |problem: String| Error::Certificates {
            namespace: namespace.to_owned(),
            secret: secret.name_any(),
            problem,
        };
        let material = certificates::client_material(&secret)
            .ok_or_else(|| unusable("it is incomplete".into()))?;
        let connector =
            admin_client::connector(&material).map_err(|error| unusable(error.to_string()))?;
        let selector = selector(&names::pool_selector(pool));
        let pods = cluster.pods(namespace, &selector).await?;
        let mut pod_names: Vec<String> = pods.iter().map(Pod::name_any).collect();
        pod_names.sort_unstable();
        if pod_names.is_empty() {
            return Err(Error::NoPods {
                namespace: namespace.to_owned(),
                pool: pool.to_owned(),
            });
        }
        Ok(Self {
            cluster,
            namespace: namespace.to_owned(),
            names: pod_names,
            server: names::admin_server_name(namespace, pool),
            connector,
        })
    }

    async fn ask_one(&self, pod: &str, ask: &Ask) -> Result<Vec<u8>, Refusal> {
        let failed = |problem: String| Refusal::Other(problem);
        let stream = self.cluster.forward(&self.namespace, pod, ports::ADMIN);
        let stream = stream.await.map_err(failed)?;
        let request = match ask {
            Ask::Queue => Request::get(ask.path()).body(Full::default()),
            Ask::Order(body) => {
                Request::post(ask.path()).body(Full::new(Bytes::from(body.clone())))
            }
        };
        let request = request.map_err(|error| failed(error.to_string()))?;
        let answer = admin_client::exchange(stream, &self.server, &self.connector, request).await;
        let (status, body) = answer.map_err(|error: ClientError| failed(error.to_string()))?;
        judge(status, &body)
    }
}

impl Pods for ClusterPods {
    async fn ask(&self, ask: &Ask) -> Result<Vec<Reached>, Error> {
        let asked = stream::iter(&self.names).map(|pod| async move {
            let asked = tokio::time::timeout(PATIENCE, self.ask_one(pod, ask)).await;
            let late = || Refusal::Other(format!("no answer within {} s", PATIENCE.as_secs()));
            Reached {
                pod: pod.clone(),
                answer: asked.unwrap_or_else(|_| Err(late())),
            }
        });
        Ok(asked.buffered(PARALLEL).collect().await)
    }
}

/// What a pod's answer means.
pub(super) fn judge(status: StatusCode, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    if status == StatusCode::OK {
        return Ok(body.to_vec());
    }
    let told: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let told = told.as_ref().and_then(|told| told.get("error")?.as_str());
    let told = told.map_or_else(|| format!("answered {status}"), str::to_owned);
    Err(match status {
        StatusCode::NOT_FOUND => Refusal::NothingThere(told),
        _ => Refusal::Other(told),
    })
}

fn selector(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(",")
}
