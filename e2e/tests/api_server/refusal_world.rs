//! An API server and an operator that may not do all it needs, and what resources say of that.

use std::{fs::File, path::PathBuf, process::Command, time::Duration};

use k8s_openapi::{
    api::{core::v1::ResourceQuota, rbac::v1::Role},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use postrider_crds::{RelayPool, SendingDomain};
use postrider_e2e::{
    cluster::{ApiServer, Cache, Progress, Tools, acting_as, wait_for},
    peers::loopback,
};
use serde_json::{Value, json};

use crate::{
    crd_manifests::define,
    pod::objects,
    programs::{self, Running},
    strict,
};

/// How long a step may take on a busy machine; waits between attempts grow to minutes.
pub(crate) const BOUND: Duration = Duration::from_secs(300);
/// The name of the one quota.
const QUOTA: &str = "few";
/// The chart with one namespace to work in.
const CHART: &str = include_str!("../../../charts/postrider/tests/golden/one_namespace.yaml");
/// Who the operator is.
const USER: &str = "postrider-operator";

pub(crate) struct World {
    pub(crate) client: Client,
    log: PathBuf,
    operator: Option<Running>,
    host: u8,
    pub(crate) server: ApiServer,
}

/// What a resource says of itself.
pub(crate) struct Told {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) observed: Option<i64>,
    pub(crate) generation: Option<i64>,
    pub(crate) version: Option<String>,
}

impl Told {
    pub(crate) fn of(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.type_ == type_)
    }
}

impl World {
    /// An operator that may do what the chart lets it do but write PodDisruptionBudgets; `host` is
    /// the last octet of its address.
    pub(crate) async fn start(host: u8) -> Self {
        let server = ApiServer::start().await.expect("an API server");
        let client = server.client().await.expect("a client");
        define(&client).await;
        let mut rules = rules_of_chart();
        let budgets = rules
            .iter_mut()
            .find(|rule| rule["apiGroups"][0] == "policy");
        budgets.expect("a rule")["verbs"] = json!(["get", "list", "watch"]);
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": USER}, "rules": rules});
        strict::create(&client, &role, "").await.expect("a role");
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": USER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": USER},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]});
        strict::create(&client, &binding, "")
            .await
            .expect("a binding");
        let log = server.dir().join("operator.log");
        let mut world = Self {
            client,
            log,
            operator: None,
            host,
            server,
        };
        world.start_operator();
        world
    }

    /// Ends the operator.
    pub(crate) fn stop_operator(&mut self) {
        self.operator = None;
    }

    /// Starts the operator.
    pub(crate) fn start_operator(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log);
        let kubeconfig = self.server.dir().join("operator.kubeconfig");
        let kubeconfig = acting_as(self.server.kubeconfig(), USER, kubeconfig);
        let operator = Running::start(
            Command::new(programs::built("postrider-operator"))
                .args(["--relay-image=relay:1", "--watch-namespace=default"])
                // Nobody answers there.
                .args(["--resolver", "127.0.0.1:9"])
                .arg(format!("--metrics-address={}:9090", loopback(self.host)))
                .env("KUBECONFIG", kubeconfig.expect("written"))
                // The log is read.
                .env("NO_COLOR", "1")
                .stderr(log.expect("a log")),
        );
        self.operator = Some(operator);
    }

    /// Gives the operator all the rights that it has by the chart.
    pub(crate) async fn give_all_rights(&self) {
        let roles: Api<Role> = Api::default_namespaced(self.client.clone());
        let mut role = roles.get(USER).await.expect("a role");
        role.rules = serde_json::from_value(rules_of_chart().into()).expect("rules");
        let given = roles.replace(USER, &PostParams::default(), &role).await;
        given.expect("more rights");
    }

    /// Starts these of Kubernetes' controllers, and no others.
    pub(crate) async fn controllers(&self, names: &str) -> Running {
        let names = format!("--controllers={names}");
        self.kubernetes("kube-controller-manager", &[&names]).await
    }

    /// Starts Kubernetes' scheduler.
    pub(crate) async fn scheduler(&self) -> Running {
        self.kubernetes("kube-scheduler", &[]).await
    }

    async fn kubernetes(&self, program: &str, arguments: &[&str]) -> Running {
        let cache = Cache::of_user().expect("a cache");
        let tools = Tools::ready(&cache, &Progress::nowhere()).await;
        let log = self.server.dir().join(format!("{program}.log"));
        Running::start(
            Command::new(tools.expect("programs").kubernetes(program))
                .arg("--kubeconfig")
                .arg(self.server.kubeconfig())
                .args(["--leader-elect=false", "--secure-port=0"])
                .arg("--profiling=false")
                .args(arguments)
                .stderr(File::create(log).expect("a log")),
        )
    }

    pub(crate) async fn create(&self, kind: &str, name: &str, spec: Value) {
        let object = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec});
        strict::create(&self.client, &object, "").await.expect(name);
    }

    pub(crate) async fn pool(&self, name: &str, more: Value) {
        let mut spec = json!({"hostname": "mail.shop.test"});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        self.create("RelayPool", name, spec).await;
    }

    /// Merges `template` into that of the pool `name`; the generation it has then.
    pub(crate) async fn template(&self, name: &str, template: Value) -> Option<i64> {
        let pools: Api<RelayPool> = Api::default_namespaced(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"template": template}}));
        let patched = pools.patch(name, &PatchParams::default(), &patch).await;
        patched.expect("taken").metadata.generation
    }

    pub(crate) async fn told(&self, kind: &str, name: &str) -> Told {
        let (metadata, conditions, observed) = match kind {
            "RelayPool" => {
                let pools: Api<RelayPool> = Api::default_namespaced(self.client.clone());
                let pool = pools.get(name).await.expect(name);
                let status = pool.status.unwrap_or_default();
                (pool.metadata, status.conditions, status.observed_generation)
            }
            _ => {
                let domains: Api<SendingDomain> = Api::default_namespaced(self.client.clone());
                let domain = domains.get(name).await.expect(name);
                let status = domain.status.unwrap_or_default();
                (
                    domain.metadata,
                    status.conditions,
                    status.observed_generation,
                )
            }
        };
        Told {
            conditions,
            observed,
            generation: metadata.generation,
            version: metadata.resource_version,
        }
    }

    /// Waits until `Ready` is False with `reason`.
    pub(crate) async fn not_ready(&self, kind: &str, name: &str, reason: &str) -> Told {
        let mut last = Vec::new();
        let what = format!("{kind} {name}: Ready=False {reason}");
        let found = wait_for(&what, BOUND, "-", async || {
            let told = self.told(kind, name).await;
            last.clone_from(&told.conditions);
            let ready = told.of("Ready");
            let is_so =
                ready.is_some_and(|c| (c.status.as_str(), c.reason.as_str()) == ("False", reason));
            Ok(is_so.then_some(told))
        })
        .await;
        found.unwrap_or_else(|error| {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            panic!("{error}; last seen: {last:#?}; {log}")
        })
    }

    /// Waits until `name` has been tried `count` times in vain.
    pub(crate) async fn tried(&self, kind: &str, name: &str, count: usize) {
        let parts = [format!("kind=\"{kind}\""), format!("name=\"{name}\"")];
        let tried = wait_for("attempts", BOUND, "-", async || {
            let log = std::fs::read_to_string(&self.log).expect("a log");
            let failed = log.lines().filter(|line| {
                line.contains("reconciliation failed")
                    && parts.iter().all(|part| line.contains(part))
            });
            Ok((failed.count() >= count).then_some(()))
        });
        tried.await.expect(name);
    }

    /// How many events tell of `reason` about the object of this kind and name.
    pub(crate) async fn events(&self, kind: &str, name: &str, reason: &str) -> usize {
        let events = objects(&self.client, "events.k8s.io", "Event");
        let all = events.list(&Default::default()).await.expect("events");
        let about = |event: &&DynamicObject| {
            let regarding = &event.data["regarding"];
            (&regarding["kind"], &regarding["name"]) == (&kind.into(), &name.into())
                && event.data["reason"] == reason
        };
        all.items.iter().filter(about).count()
    }

    /// `Ready` is False with `reason` and says `parts`; by the rules of kstatus; told once, and quiet
    /// however often it is tried again.
    pub(crate) async fn refused(
        &self,
        kind: &str,
        name: &str,
        (reason, progress): (&str, &str),
        parts: &[&str],
    ) {
        let first = self.not_ready(kind, name, reason).await;
        let ready = first.of("Ready").expect("waited for");
        for part in parts {
            assert!(
                ready.message.contains(part),
                "{part} not in {}",
                ready.message
            );
        }
        let other = ["Stalled", "Reconciling"]
            .into_iter()
            .find(|other| *other != progress);
        let why = first
            .of(progress)
            .unwrap_or_else(|| panic!("{:?}", first.conditions));
        assert_eq!((why.status.as_str(), why.reason.as_str()), ("True", reason));
        assert!(other.is_some_and(|other| first.of(other).is_none()));
        assert_eq!(first.observed, first.generation);
        self.tried(kind, name, 3).await;
        let later = self.told(kind, name).await;
        assert_eq!(later.version, first.version, "{:?}", later.conditions);
        assert_eq!(self.events(kind, name, reason).await, 1);
    }

    /// Waits until `dry` is refused with `words`: policies and quotas come into force some time after
    /// they are written.
    pub(crate) async fn in_force(&self, dry: &Value, words: &str) {
        let refused = wait_for(words, BOUND, "-", async || {
            let answer = strict::create(&self.client, dry, "&dryRun=All").await;
            Ok(answer
                .is_err_and(|error| error.to_string().contains(words))
                .then_some(()))
        });
        refused.await.expect("in force");
    }

    /// Puts a quota into force that has no room for `what`, of which `dry` is one.
    pub(crate) async fn allow_no(&self, what: &str, dry: &Value) {
        let quota = json!({"metadata": {"name": QUOTA}, "spec": {"hard": {what: "0"}}});
        let quota = serde_json::from_value(quota).expect("a quota");
        let quotas: Api<ResourceQuota> = Api::default_namespaced(self.client.clone());
        let created = quotas.create(&PostParams::default(), &quota).await;
        created.expect("a quota");
        // What the controller of quotas would count.
        let status = json!({"status": {"hard": {what: "0"}, "used": {what: "0"}}});
        let (status, parameters) = (Patch::Merge(&status), PatchParams::default());
        let counted = quotas.patch_status(QUOTA, &parameters, &status).await;
        counted.expect("counted");
        self.in_force(dry, "exceeded quota").await;
    }

    /// Takes the quota away.
    pub(crate) async fn allow_all(&self) {
        let quotas: Api<ResourceQuota> = Api::default_namespaced(self.client.clone());
        let deleted = quotas.delete(QUOTA, &DeleteParams::default()).await;
        deleted.expect("deleted");
    }
}

/// What the operator may do by the chart in a namespace that it works in.
fn rules_of_chart() -> Vec<Value> {
    let mut objects = strict::documents(CHART).into_iter();
    let role = |object: &Value| {
        object["kind"] == "Role" && object["metadata"]["namespace"] != "postrider-system"
    };
    let role = objects.find(role).expect("a Role");
    role["rules"].as_array().expect("rules").clone()
}
