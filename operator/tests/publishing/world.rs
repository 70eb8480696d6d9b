//! An API server with the definitions of Postrider, and an operator at work on it.

use std::{fs::File, net::SocketAddr, process::Stdio, time::Duration};

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use postrider_crds::SendingDomain;
use postrider_e2e::cluster::{ApiServer, wait_for};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// How long a step may take on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(180);

/// Every zone of the tests, below `test`, whose name server is the resolver.
const ZONES: [&str; 9] = [
    "shop", "foreign", "closed", "badkey", "down", "nosecret", "customer", "later", "keys",
];

/// What the tests run in. Dropping it ends the operator, then the API server.
pub(crate) struct World {
    _operator: Child,
    pub(crate) client: Client,
    _server: ApiServer,
}

impl World {
    /// Starts everything; the operator asks `resolver`.
    pub(crate) async fn start(resolver: SocketAddr, listen: &str) -> Self {
        let server = ApiServer::start().await.unwrap();
        let client = server.client().await.unwrap();
        for crd in postrider_crds::custom_resource_definitions() {
            define(&client, serde_json::to_value(&crd).unwrap()).await;
        }
        let domains: Api<SendingDomain> = Api::default_namespaced(client.clone());
        wait_for("the kinds", BOUND, "-", async || {
            Ok(domains.list(&Default::default()).await.ok())
        })
        .await
        .unwrap();
        let log = File::create(server.dir().join("operator.log")).unwrap();
        let operator = Command::new(env!("CARGO_BIN_EXE_postrider-operator"))
            .args(["--relay-image=relay:1", "--watch-namespace=default"])
            .arg(format!("--resolver={resolver}"))
            .args(ZONES.map(|zone| format!("--authority={zone}.test={resolver}")))
            .arg("--propagation-minimum=1s")
            .arg(format!("--metrics-address={listen}"))
            .env("KUBECONFIG", server.kubeconfig())
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            _operator: operator,
            client,
            _server: server,
        }
    }

    /// SendingDomains of the one namespace.
    pub(crate) fn domains(&self) -> Api<SendingDomain> {
        Api::default_namespaced(self.client.clone())
    }

    /// Objects of any kind in it.
    pub(crate) fn objects(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        Api::default_namespaced_with(self.client.clone(), &ApiResource::from_gvk(&kind))
    }

    /// Creates an object.
    pub(crate) async fn create(&self, object: Value) {
        let (version, kind) = (
            object["apiVersion"].as_str().unwrap(),
            object["kind"].as_str().unwrap(),
        );
        let api = self.objects(version, kind);
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// A pool whose mail leaves from `address`.
    pub(crate) async fn create_pool(&self, address: &str) {
        self.create(json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool", "metadata": {"name": "default"},
            "spec": {"hostname": "mail.relays.test", "egress": {"addresses": [address]}},
        }))
        .await;
    }

    /// A SendingDomain `name` of `domain` with this `publish`.
    pub(crate) async fn create_domain(&self, name: &str, domain: &str, publish: Value) {
        self.create(sending_domain(name, domain, publish)).await;
    }

    /// The same for a domain whose keys are aliases of names in the zone published in.
    pub(crate) async fn create_delegated(&self, name: &str, domain: &str, publish: Value) {
        let mut object = sending_domain(name, domain, publish);
        object["spec"]["dkim"]["delegation"] = "CNAME".into();
        self.create(object).await;
    }

    /// Merges `patch` into the SendingDomain `name`.
    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        let patch = Patch::Merge(&patch);
        self.domains()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Waits until the condition `Published` of `name` has this status and reason, and returns its
    /// message.
    pub(crate) async fn published(&self, name: &str, status: &str, reason: &str) -> String {
        let what = format!("{name}: Published={status} {reason}");
        let mut last = String::new();
        let found = wait_for(&what, BOUND, "-", async || {
            let domain = self.domains().get(name).await.unwrap();
            let conditions = domain.status.unwrap_or_default().conditions;
            let published = conditions.into_iter().find(|c| c.type_ == "Published");
            last = format!("{published:?}");
            let fits =
                published.filter(|c| (c.status.as_str(), c.reason.as_str()) == (status, reason));
            Ok(fits.map(|c| c.message))
        })
        .await;
        found.unwrap_or_else(|error| panic_with(&format!("{error}; last seen: {last}")))
    }

    /// Waits until the SendingDomain `name` is gone.
    pub(crate) async fn gone(&self, name: &str) {
        wait_for(&format!("the end of {name}"), BOUND, "-", async || {
            Ok(self
                .domains()
                .get_opt(name)
                .await
                .unwrap()
                .is_none()
                .then_some(()))
        })
        .await
        .unwrap();
    }
}

fn sending_domain(name: &str, domain: &str, publish: Value) -> Value {
    json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain", "metadata": {"name": name},
        "spec": {
            "domain": domain, "poolRef": {"name": "default"}, "publish": publish,
            "dkim": {"keys": [{"algorithm": "Ed25519"}]},
        },
    })
}

#[expect(clippy::panic, reason = "a failed step fails the test")]
fn panic_with(text: &str) -> ! {
    panic!("{text}")
}

/// Installs a definition.
pub(crate) async fn define(client: &Client, definition: Value) {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let object: DynamicObject = serde_json::from_value(definition).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}
