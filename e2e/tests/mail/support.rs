//! The stage of a claim: the product installed once a process, a namespace with restricted pod
//! security, a zone to send from, a credential, and a receiver with a zone of its own.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
    runtime::wait::await_condition,
};
use postrider_e2e::{
    cluster::{Cluster, Progress, STATE_VARIABLE, receivers, wait_for},
    peers::{
        dns::Zone,
        sink::{Rules, Sink},
    },
    product::{Images, Installation, Kubectl, Programs, install},
};
use serde_json::{Value, json};
use tokio::{process::Command, sync::OnceCell};

use crate::{
    gate::Gate,
    kstatus::{Health, condition, health},
};

/// How long anything may take to come about, on a machine that many tests share.
pub(crate) const BOUND: Duration = Duration::from_secs(300);
/// The name of every claim's RelayPool.
pub(crate) const POOL: &str = "pool";
/// The name of every claim's SendingDomain.
pub(crate) const DOMAIN: &str = "domain";
/// The Secret of the one who may send.
pub(crate) const SENDER: &str = "app";
/// Their password.
pub(crate) const PASSWORD: &str = "a password of tests";
/// The API group of Roles.
pub(crate) const RBAC: &str = "rbac.authorization.k8s.io";
/// Which of the machine's addresses the product's resolver has; receivers have lower ones.
const GATE: usize = 48;

/// The installed product.
#[derive(Debug, Clone)]
struct Installed {
    programs: Programs,
    gate: Gate,
}

static INSTALLED: OnceCell<Installed> = OnceCell::const_new();

/// One claim's part of the cluster. Its name is that of the namespace and of the zone's first label.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) client: kube::Client,
    pub(crate) name: &'static str,
    pub(crate) sink: Sink,
    installed: Installed,
    pub(crate) directory: tempfile::TempDir,
}

impl Stage {
    /// Attaches, installs the product if no claim has, and makes the namespace, the credential, an
    /// empty zone `NAME.example`, and on the `nth` address a receiver of `to-NAME.example` that
    /// does what `rules` say.
    pub(crate) async fn start(name: &'static str, nth: usize, rules: Rules) -> Self {
        let dir = env::var_os(STATE_VARIABLE).unwrap_or_else(|| {
            panic!(
                "{STATE_VARIABLE} is not set; these tests kill what runs on the node, so they need \
                 the cluster that e2e-cluster run brings up (without E2E_KUBECONFIG)"
            )
        });
        let progress = Progress::nowhere();
        let cluster = Cluster::attach(Path::new(&dir), &progress).await;
        let cluster = cluster.expect("a cluster");
        let installed = INSTALLED.get_or_init(|| product(&cluster)).await.clone();
        let directory = tempfile::tempdir().expect("a directory");
        let address = receivers().nth(nth).expect("an address");
        let host = format!("mx.to-{name}.example");
        let listen = SocketAddr::from((address, 25));
        let sink = Sink::start(&directory.path().join("sink"), listen, &host, rules).await;
        let zone = Zone::new(&format!("to-{name}.example"))
            .mx("@", 10, &host)
            .address("mx", address.into());
        let served = cluster.dns().put_zone(zone.origin(), zone.records()).await;
        served.expect("served");
        let stage = Self {
            client: cluster.client().await.expect("a client"),
            cluster,
            name,
            sink: sink.expect("a sink"),
            installed,
            directory,
        };
        stage.publish("").await;
        let enforce = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": enforce}});
        stage.apply(namespace).await;
        stage.apply(stage.credential()).await;
        stage
    }

    /// The resolver that the product asks.
    pub(crate) fn gate(&self) -> &Gate {
        &self.installed.gate
    }

    /// The command.
    pub(crate) fn cli(&self) -> PathBuf {
        self.installed.programs.cli()
    }

    /// The sender's domain.
    pub(crate) fn domain(&self) -> String {
        format!("{}.example", self.name)
    }

    /// Serves the sender's zone with `records`; its mail exchange is the receiver's, which takes
    /// notifications of failure too.
    pub(crate) async fn publish(&self, records: &str) {
        let records = format!("@ IN MX 10 mx.to-{}.example.\n{records}", self.name);
        let served = self.cluster.dns().put_zone(&self.domain(), &records).await;
        served.expect("served");
    }

    /// The zone file that `postrider records` prints.
    pub(crate) async fn records(&self) -> String {
        let output = Command::new(self.cli())
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .args(["records", DOMAIN, "-n", self.name, "--format", "zone"])
            .output()
            .await
            .expect("run");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The Secret of the one who may send; their username is the claim's name.
    pub(crate) fn credential(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SENDER},
            "type": "kubernetes.io/basic-auth",
            "stringData": {"username": self.name, "password": PASSWORD}})
    }

    /// A RelayPool of one relay that tries again after seconds, with `more` merged into its spec.
    pub(crate) fn pool(&self, more: Value) -> Value {
        let host = format!("mail.{}", self.domain());
        let spec = json!({"replicas": 1, "hostname": host, "storage": {"size": "1Gi"},
            "egress": {"addresses": ["10.201.128.0/24"]},
            "delivery": {"retry": {"initial": "2s", "maximum": "4s"}}});
        postrider("RelayPool", POOL, merged(spec, more))
    }

    /// A SendingDomain of that pool, with `more` merged into its spec.
    pub(crate) fn sending_domain(&self, more: Value) -> Value {
        let spec = json!({"domain": self.domain(), "poolRef": {"name": POOL},
            "senders": [{"secretRef": {"name": SENDER}}]});
        postrider("SendingDomain", DOMAIN, merged(spec, more))
    }

    /// Applies a pool and a domain, publishes what the domain asks for, and waits until both are
    /// Current.
    pub(crate) async fn ready_to_send(&self) {
        self.apply(self.pool(json!({}))).await;
        self.apply(self.sending_domain(json!({}))).await;
        self.publish_wanted().await;
        self.current("RelayPool", POOL).await;
        self.current("SendingDomain", DOMAIN).await;
    }

    /// Publishes what the domain asks for, once its keys are there.
    pub(crate) async fn publish_wanted(&self) {
        self.publish(&self.wanted().await).await;
    }

    /// What the domain asks for, once its keys are there.
    pub(crate) async fn wanted(&self) -> String {
        let keys = |domain: &Value| {
            let ready = condition(domain, "KeysReady").is_some_and(|c| c["status"] == "True");
            ready && domain["status"]["records"].as_array().is_some()
        };
        self.until("SendingDomain", DOMAIN, "its keys", keys).await;
        self.records().await
    }

    /// The objects of a kind: those of Postrider, Roles and what binds them, and of the core those used
    /// here.
    pub(crate) fn objects(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&group_version_kind(kind));
        if kind == "Namespace" {
            return Api::all_with(self.client.clone(), &resource);
        }
        Api::namespaced_with(self.client.clone(), self.name, &resource)
    }

    /// Applies an object, in the claim's namespace if it is of one; returns what is stored.
    pub(crate) async fn apply(&self, object: Value) -> Value {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        let api = self.objects(kind.expect("a kind"));
        let params = PatchParams::apply("e2e").force();
        let applied = api
            .patch(name.expect("a name"), &params, &Patch::Apply(&object))
            .await;
        serde_json::to_value(applied.expect("applied")).expect("JSON")
    }

    /// An object as it is stored now.
    pub(crate) async fn get(&self, kind: &str, name: &str) -> Value {
        let object = self.objects(kind).get(name).await.expect("an object");
        serde_json::to_value(object).expect("JSON")
    }

    /// Waits until `holds` is true of an object; returns it. `what` is for people.
    pub(crate) async fn until(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let api = self.objects(kind);
        let value = |object: &DynamicObject| serde_json::to_value(object).expect("JSON");
        let condition = |object: Option<&DynamicObject>| object.is_some_and(|o| holds(&value(o)));
        // A watch ends when the kind's definition is changed, as one claim does.
        let condition = &condition;
        let waiting = eventually(what, async || {
            await_condition(api.clone(), name, condition).await.ok()
        });
        let Ok(found) = tokio::time::timeout(BOUND, waiting).await else {
            let now = self.get(kind, name).await;
            panic!("{kind} {name} does not come to {what}: {now:#}");
        };
        value(&found.expect("an object"))
    }

    /// Waits until an object is Current by kstatus; returns it.
    pub(crate) async fn current(&self, kind: &str, name: &str) -> Value {
        let is = |object: &Value| health(object) == Health::Current;
        self.until(kind, name, "Current", is).await
    }

    /// Waits until a condition has this status and reason; returns its message.
    pub(crate) async fn condition(
        &self,
        (kind, name): (&str, &str),
        type_: &str,
        status: &str,
        reason: &str,
    ) -> String {
        let what = format!("{type_} {status} {reason}");
        let is = |object: &Value| {
            condition(object, type_)
                .is_some_and(|one| one["status"] == status && one["reason"] == reason)
        };
        let object = self.until(kind, name, &what, is).await;
        let found = condition(&object, type_).expect("just seen");
        found["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Removes the namespace; what is in it goes in the background.
    pub(crate) async fn finish(self) {
        let deleted = self.objects("Namespace");
        let deleted = deleted.delete(self.name, &DeleteParams::default()).await;
        deleted.expect("deleted");
    }
}

/// Waits until `condition` yields something; returns it. `what` is for people.
pub(crate) async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    within(BOUND, what, condition).await
}

/// The same; tells what `explain` says when it does not come about.
pub(crate) async fn eventually_or<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
    explain: impl AsyncFnOnce() -> String,
) -> T {
    match wait_for(what, BOUND, "below", async || Ok(condition().await)).await {
        Ok(found) => found,
        Err(error) => panic!("{error}\n{}", explain().await),
    }
}

/// The same, for as long as `bound`.
pub(crate) async fn within<T>(
    bound: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let looked = wait_for(what, bound, "the logs", async || Ok(condition().await)).await;
    looked.expect("in time")
}

/// An object of Postrider's.
pub(crate) fn postrider(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "postrider.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": spec})
}

/// `base` with the fields of `more` in place of its own.
fn merged(mut base: Value, more: Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut base, more) else {
        panic!("both are objects");
    };
    fields.extend(more);
    base
}

fn group_version_kind(kind: &str) -> GroupVersionKind {
    match kind {
        "SendingDomain" | "RelayPool" | "SuppressionList" => {
            GroupVersionKind::gvk("postrider.dev", "v1alpha1", kind)
        }
        "Role" | "RoleBinding" => GroupVersionKind::gvk(RBAC, "v1", kind),
        _ => GroupVersionKind::gvk("", "v1", kind),
    }
}

async fn product(cluster: &Cluster) -> Installed {
    let programs = Programs::ready().await.expect("built programs");
    let load = async |image| cluster.load_image(&image).await;
    let images = Images::load(&programs, load).await.expect("images");
    let address = receivers().nth(GATE).expect("an address");
    let gate = Gate::start((address, 53).into(), cluster.dns().address()).await;
    let installation = Installation {
        helm: cluster.tools().helm(),
        images: &images,
        namespaces: &[],
        resolver: gate.address(),
    };
    let installed = install(&Kubectl::of(cluster), &installation).await;
    installed.expect("installed");
    Installed { programs, gate }
}
