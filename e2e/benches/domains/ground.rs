//! What everything stands on: an API server of its own, a name server that counts, and what both
//! say was asked of them.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use futures::{StreamExt as _, stream};
use kube::{
    Client,
    api::{GetParams, PostParams},
    core::Request,
};
use postrider_e2e::{
    cluster::{ApiServer, Cache, wait_for},
    peers::{
        StopOnDrop,
        dns::{Nameserver, Zone},
        loopback,
    },
};
use serde_json::{Value, json};

use crate::process::http_get;

/// The namespace everything is in.
pub(crate) const NAMESPACE: &str = "mail";
/// The kinds whose writes are counted: what an operator may write. The API server's own leases are
/// left out.
const WRITTEN: [&str; 11] = [
    "configmaps",
    "dnsendpoints",
    "events",
    "pods",
    "poddisruptionbudgets",
    "relaypools",
    "secrets",
    "sendingdomains",
    "serviceaccounts",
    "services",
    "statefulsets",
];
/// Objects that are created at a time.
const PARALLEL: usize = 32;
/// Where the name server tells its counters.
const COUNTERS_PORT: u16 = 9153;

/// API and DNS.
pub(crate) struct Ground {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    names: Nameserver,
    counters: SocketAddr,
    _stop: StopOnDrop,
    pub(crate) dir: tempfile::TempDir,
}

impl Ground {
    /// Starts both, defines our kinds, makes the namespace and serves `zone`.
    pub(crate) async fn start(zone: &Zone) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = ApiServer::start().await.expect("an API server");
        let client = server.client().await.expect("a client");
        let state = dir.path().join("names");
        let cache = Cache::of_user().expect("a cache");
        let listen = SocketAddr::from((loopback(53), 53));
        let counters = SocketAddr::new(listen.ip(), COUNTERS_PORT);
        let zones = std::slice::from_ref(zone);
        let names = Nameserver::start_counting(&state, &cache, (listen, counters), zones).await;
        let ground = Self {
            server,
            client,
            names: names.expect("a name server"),
            counters,
            _stop: StopOnDrop(state),
            dir,
        };
        ground.define().await;
        ground
    }

    /// Where DNS answers.
    pub(crate) fn resolver(&self) -> SocketAddr {
        self.names.address()
    }

    /// Serves `zone` in place of what it held before, some moments later.
    pub(crate) fn publish(&self, zone: &Zone) {
        self.names.replace(zone).expect("a zone file");
    }

    /// Questions the name server has been asked so far.
    pub(crate) async fn questions(&self) -> u64 {
        let text = http_get(self.counters, "/metrics").await;
        let text = text.expect("the name server's counters");
        sum(&text, "coredns_dns_requests_total", |_| true)
    }

    /// Writes the API server has been asked for so far, by kind.
    pub(crate) async fn writes(&self) -> BTreeMap<String, u64> {
        let text = get_text(&self.client, "/metrics").await;
        let text = text.expect("the API server's counters");
        let name = "apiserver_request_total";
        let mut writes = BTreeMap::new();
        for kind in WRITTEN {
            let of_kind = |labels: &str| {
                let label = |name: &str| label(labels, name);
                label("resource") == Some(kind)
                    && matches!(
                        label("verb"),
                        Some("POST" | "PUT" | "PATCH" | "APPLY" | "DELETE")
                    )
            };
            let count = sum(&text, name, of_kind);
            if count > 0 {
                writes.insert(kind.to_owned(), count);
            }
        }
        writes
    }

    /// Creates `objects` of the collection `path`, several at a time, and gives back what the API
    /// server made of them, in order.
    pub(crate) async fn create(&self, path: &str, objects: Vec<Value>) -> Vec<Value> {
        let created = objects.into_iter().map(|object| {
            let client = self.client.clone();
            async move {
                let body = serde_json::to_vec(&object).expect("plain data");
                let request = Request::new(path).create(&PostParams::default(), body);
                let created = client.request::<Value>(request.expect("a request")).await;
                created.expect("created")
            }
        });
        stream::iter(created).buffered(PARALLEL).collect().await
    }

    /// Creates one object.
    pub(crate) async fn create_one(&self, path: &str, object: Value) -> Value {
        self.create(path, vec![object]).await.remove(0)
    }

    async fn define(&self) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE}});
        self.create_one("/api/v1/namespaces", namespace).await;
        let definitions = postrider_crds::custom_resource_definitions();
        let definitions = definitions
            .iter()
            .map(|crd| serde_json::to_value(crd).expect("plain data"));
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.create(path, definitions.collect()).await;
        let bound = std::time::Duration::from_secs(60);
        wait_for("the kinds", bound, "-", async || {
            for plural in ["sendingdomains", "relaypools", "suppressionlists"] {
                let path = collection(plural);
                if get_json(&self.client, &path).await.is_err() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
        .expect("served");
    }
}

/// The path of a kind of ours.
pub(crate) fn collection(plural: &str) -> String {
    format!("/apis/postrider.dev/v1alpha1/namespaces/{NAMESPACE}/{plural}")
}

/// What the API server says at `path`.
async fn get_json(client: &Client, path: &str) -> Result<Value, kube::Error> {
    let text = get_text(client, path).await?;
    serde_json::from_str(&text).map_err(kube::Error::SerdeError)
}

async fn get_text(client: &Client, path: &str) -> Result<String, kube::Error> {
    let parameters = GetParams::default();
    let mut request = Request::new("").get("x", &parameters).expect("a request");
    *request.uri_mut() = path.parse().expect("a path");
    client.request_text(request).await
}

/// Bytes that objects of `kind` take, by name, as the API gives them.
pub(crate) async fn sizes(client: &Client, path: &str) -> BTreeMap<String, usize> {
    let list = get_json(client, path).await.expect("a list");
    let items = list.get("items").and_then(Value::as_array);
    let size = |item: &Value| {
        let name = item.pointer("/metadata/name").and_then(Value::as_str);
        (name.unwrap_or_default().to_owned(), item.to_string().len())
    };
    items.into_iter().flatten().map(size).collect()
}

/// The sum of the samples of `name` whose labels are as wanted, in the text format of Prometheus.
pub(crate) fn sum(text: &str, name: &str, wanted: impl Fn(&str) -> bool) -> u64 {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let value: f64 = value.trim().parse().ok()?;
        wanted(labels).then_some(value)
    });
    samples.sum::<f64>() as u64
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = labels.split("\",");
    pairs.find_map(|pair| {
        let (found, value) = pair.split_once("=\"")?;
        (found == name).then_some(value.trim_end_matches('"'))
    })
}

/// A directory in `dir`, made.
pub(crate) fn make(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(&path).expect("a directory");
    path
}
