//! The stage of a cluster test: a namespace of its own, with restricted pod security, in the
//! shared cluster; pods of the probe in it.

use std::{env, path::Path, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, LogParams, PostParams},
    runtime::wait::await_condition,
};
use postrider_e2e::cluster::{Cluster, PROBE_IMAGE, Progress, STATE_VARIABLE};
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Of the claims that share the node, and of one that breaks a part of it: a pod that is being
/// started while its kubelet is killed may fail, which is no news.
static NODE: RwLock<()> = RwLock::const_new(());

/// How long a pod may take to get where it should be.
pub(crate) const BOUND: Duration = Duration::from_secs(90);

/// The cluster and the namespace of one test.
pub(crate) struct Trial {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    _node: Node,
}

/// Held while a claim is tried.
enum Node {
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

impl Trial {
    /// Attaches to the cluster and makes the namespace.
    pub(crate) async fn start(namespace: &str) -> Self {
        let _guard = NODE.read().await;
        Self::on(Node::Shared { _guard }, namespace).await
    }

    /// The same, while no other claim is tried.
    pub(crate) async fn start_alone(namespace: &str) -> Self {
        let _guard = NODE.write().await;
        Self::on(Node::Alone { _guard }, namespace).await
    }

    async fn on(node: Node, namespace: &str) -> Self {
        let Some(dir) = env::var_os(STATE_VARIABLE) else {
            panic!(
                "{STATE_VARIABLE} is not set; run the cluster tests by: cargo run -p \
                 postrider-e2e --bin e2e-cluster -- run -- cargo test -p postrider-e2e \
                 --test cluster"
            );
        };
        let progress = Progress::nowhere();
        let cluster = Cluster::attach(Path::new(&dir), &progress)
            .await
            .expect("a cluster");
        let client = cluster.client().await.expect("a client");
        let object: Namespace = parse(json!({"metadata": {
            "name": namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }}));
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .expect("a fresh namespace");
        Self {
            cluster,
            client,
            namespace: namespace.to_owned(),
            _node: node,
        }
    }

    /// Creates an object in the namespace.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        api.create(&PostParams::default(), &parse(object))
            .await
            .expect("created")
    }

    /// Starts a pod of the probe that does `acts`.
    pub(crate) async fn pod(&self, name: &str, acts: &[&str]) -> Pod {
        self.create(probe(name, acts)).await
    }

    /// Starts a pod of the probe with `claim` mounted on `/data`.
    pub(crate) async fn pod_with_volume(&self, name: &str, acts: &[&str], claim: &str) -> Pod {
        let mut pod = probe(name, acts);
        pod["spec"]["securityContext"]["fsGroup"] = json!(65532);
        pod["spec"]["volumes"] =
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "data", "mountPath": "/data"}]);
        self.create(pod).await
    }

    /// Waits until the pod has ended well; returns what it wrote.
    pub(crate) async fn output(&self, name: &str) -> String {
        let phase = self.reach(name, &["Succeeded", "Failed"]).await;
        let pods = self.pods();
        let log = pods
            .logs(name, &LogParams::default())
            .await
            .expect("its log");
        let pod = pods.get(name).await.expect("the pod");
        let ended = pod.status.and_then(|status| status.container_statuses);
        assert_eq!(phase, "Succeeded", "pod {name} wrote: {log}\n{ended:?}");
        log
    }

    /// Waits until the pod is in one of `phases`; returns it.
    pub(crate) async fn reach(&self, name: &str, phases: &[&str]) -> String {
        let reached = |pod: Option<&Pod>| phase(pod).is_some_and(|own| phases.contains(&own));
        let waited = await_condition(self.pods(), name, reached);
        let Ok(pod) = tokio::time::timeout(BOUND, waited).await else {
            let pod = self.pods().get(name).await.expect("the pod");
            panic!("pod {name} is not {phases:?} but {:?}", pod.status);
        };
        phase(pod.expect("watched").as_ref())
            .expect("a phase")
            .to_owned()
    }

    /// Deletes a pod and waits until it is gone.
    pub(crate) async fn delete_pod(&self, name: &str) {
        let params = DeleteParams::default().grace_period(0);
        self.pods().delete(name, &params).await.expect("deleted");
        let gone = await_condition(self.pods(), name, |pod: Option<&Pod>| pod.is_none());
        tokio::time::timeout(BOUND, gone)
            .await
            .expect("gone in time")
            .expect("watched");
    }

    /// The pods of the namespace.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Removes the namespace and what is in it.
    pub(crate) async fn finish(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
            .expect("deleted");
    }
}

/// An object from JSON.
pub(crate) fn parse<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object of this kind")
}

/// A pod of the probe that satisfies the restricted pod security standard.
pub(crate) fn probe(name: &str, acts: &[&str]) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "probe",
                "image": PROBE_IMAGE,
                "args": acts,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

fn phase(pod: Option<&Pod>) -> Option<&str> {
    pod?.status.as_ref()?.phase.as_deref()
}
