//! What the API server refuses to take from the operator stands in the status of the resource that needs
//! it, with the server's words and what to do; is told as an event once; is tried again at a pace that
//! slows down; and goes when it is cured.

use std::{fs::File, path::PathBuf, process::Command, time::Duration};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        core::v1::ResourceQuota,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use postrider_crds::{RelayPool, SendingDomain};
use postrider_e2e::{
    cluster::{ApiServer, wait_for},
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
const BOUND: Duration = Duration::from_secs(300);
/// Last octet of the operator's address.
const HOST: u8 = 91;
/// Who the operator is.
const USER: &str = "postrider-operator";

struct World {
    client: Client,
    log: PathBuf,
    _operator: Running,
    _server: ApiServer,
}

/// What a resource says of itself.
struct Told {
    conditions: Vec<Condition>,
    observed: Option<i64>,
    generation: Option<i64>,
    version: Option<String>,
}

impl Told {
    fn of(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.type_ == type_)
    }
}

impl World {
    /// An operator that may do all it needs but write PodDisruptionBudgets.
    async fn start() -> Self {
        let server = ApiServer::start().await.expect("an API server");
        let client = server.client().await.expect("a client");
        define(&client).await;
        let all = json!({"apiGroups": ["", "apps", "events.k8s.io", "externaldns.k8s.io",
            "postrider.dev"], "resources": ["*"], "verbs": ["*"]});
        let budgets = json!({"apiGroups": ["policy"], "resources": ["*"],
            "verbs": ["get", "list", "watch"]});
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": USER}, "rules": [all, budgets]});
        strict::create(&client, &role, "").await.expect("a role");
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": USER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": USER},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]});
        strict::create(&client, &binding, "")
            .await
            .expect("a binding");
        let log = server.dir().join("operator.log");
        let operator = Running::start(
            Command::new(programs::built("postrider-operator"))
                .args(["--relay-image=relay:1", "--watch-namespace=default"])
                // Nobody answers there.
                .args(["--resolver", "127.0.0.1:9"])
                .arg(format!("--metrics-address={}:9090", loopback(HOST)))
                .env("KUBECONFIG", kubeconfig_of_operator(&server))
                // The log is read.
                .env("NO_COLOR", "1")
                .stderr(File::create(&log).expect("a log")),
        );
        Self {
            client,
            log,
            _operator: operator,
            _server: server,
        }
    }

    async fn create(&self, kind: &str, name: &str, spec: Value) {
        let object = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec});
        strict::create(&self.client, &object, "").await.expect(name);
    }

    async fn pool(&self, name: &str, more: Value) {
        let mut spec = json!({"hostname": "mail.shop.test"});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        self.create("RelayPool", name, spec).await;
    }

    async fn told(&self, kind: &str, name: &str) -> Told {
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
    async fn not_ready(&self, kind: &str, name: &str, reason: &str) -> Told {
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
    async fn tried(&self, kind: &str, name: &str, count: usize) {
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
    async fn events(&self, kind: &str, name: &str, reason: &str) -> usize {
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
    async fn refused(
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
    async fn in_force(&self, dry: &Value, words: &str) {
        let refused = wait_for(words, BOUND, "-", async || {
            let answer = strict::create(&self.client, dry, "&dryRun=All").await;
            Ok(answer
                .is_err_and(|error| error.to_string().contains(words))
                .then_some(()))
        });
        refused.await.expect("in force");
    }
}

/// The administrator's kubeconfig, with the rights of the operator.
fn kubeconfig_of_operator(server: &ApiServer) -> PathBuf {
    let text = std::fs::read_to_string(server.kubeconfig()).expect("a kubeconfig");
    let mut config: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    config["users"][0]["user"]["as"] = USER.into();
    let path = server.dir().join("operator.kubeconfig");
    std::fs::write(&path, serde_yaml::to_string(&config).expect("YAML")).expect("written");
    path
}

#[tokio::test]
async fn with_words_and_cure_once_and_not_for_ever() {
    let world = World::start().await;
    a_right_that_the_operator_lacks(&world).await;
    a_template_that_is_invalid(&world).await;
    a_quota_without_room(&world).await;
    a_policy_that_says_no(&world).await;
}

async fn a_right_that_the_operator_lacks(world: &World) {
    world.pool("plain", json!({})).await;
    let parts = [
        "cannot apply PodDisruptionBudget plain",
        "User \"postrider-operator\" cannot patch resource \"poddisruptionbudgets\"",
        "give the operator's Role that right",
    ];
    let wanted = ("Forbidden", "Stalled");
    world.refused("RelayPool", "plain", wanted, &parts).await;
    // One object that is refused keeps no other from being written.
    let sets = objects(&world.client, "apps", "StatefulSet");
    sets.get("plain").await.expect("the StatefulSet is there");

    let roles: Api<k8s_openapi::api::rbac::v1::Role> =
        Api::default_namespaced(world.client.clone());
    let mut role = roles.get(USER).await.expect("a role");
    for rule in role.rules.iter_mut().flatten() {
        rule.verbs = vec!["*".into()];
    }
    roles
        .replace(USER, &PostParams::default(), &role)
        .await
        .expect("more rights");
    let cured = world
        .not_ready("RelayPool", "plain", "MembersStarting")
        .await;
    assert!(cured.of("Stalled").is_none());
}

async fn a_template_that_is_invalid(world: &World) {
    let template = json!({"tolerations": [{"key": "mail", "operator": "Same"}]});
    world.pool("odd", json!({"template": template})).await;
    let parts = [
        "cannot apply StatefulSet odd: spec.template.spec.tolerations[0].operator: Unsupported value: \"Same\"",
        "correct spec.template.tolerations[0].operator of the RelayPool",
    ];
    let wanted = ("ObjectInvalid", "Stalled");
    world.refused("RelayPool", "odd", wanted, &parts).await;

    let pools: Api<RelayPool> = Api::default_namespaced(world.client.clone());
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "mail", "operator": "Near"}]}]}}});
    for (template, part) in [
        (
            json!({"tolerations": null, "affinity": affinity}),
            "correct spec.template.affinity.nodeAffinity.",
        ),
        (
            json!({"affinity": null, "metadata": {"labels": {"team": "a b"}}}),
            "correct spec.template.metadata.labels of the RelayPool",
        ),
    ] {
        let patch = json!({"spec": {"template": template}});
        let patched = pools
            .patch("odd", &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let generation = patched.expect("taken").metadata.generation;
        wait_for(part, BOUND, "-", async || {
            let told = world.not_ready("RelayPool", "odd", "ObjectInvalid").await;
            let says = told
                .of("Ready")
                .is_some_and(|ready| ready.message.contains(part));
            Ok((says && told.observed == generation).then_some(()))
        })
        .await
        .expect(part);
    }
    let patch = json!({"spec": {"template": null}});
    let patched = pools
        .patch("odd", &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    patched.expect("taken");
    let cured = world.not_ready("RelayPool", "odd", "MembersStarting").await;
    assert!(cured.of("Stalled").is_none());
}

async fn a_quota_without_room(world: &World) {
    let quotas: Api<ResourceQuota> = Api::default_namespaced(world.client.clone());
    allow_no_secrets(world, &quotas).await;
    a_pool_without_room(world).await;
    a_domain_without_room(world).await;
    quotas
        .delete("few", &DeleteParams::default())
        .await
        .expect("deleted");
    world
        .not_ready("RelayPool", "full", "MembersStarting")
        .await;
    wait_for("the keys", BOUND, "-", async || {
        let domain = world.told("SendingDomain", "full").await;
        let keys = domain.of("KeysReady").filter(|keys| keys.status == "True");
        let told = domain.of("Ready").map(|ready| ready.reason.as_str()) == Some("QuotaExceeded");
        Ok(keys.filter(|_| !told).map(drop))
    })
    .await
    .expect("made");
}

async fn allow_no_secrets(world: &World, quotas: &Api<ResourceQuota>) {
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"secrets": "0"}}});
    let quota = serde_json::from_value(quota).expect("a quota");
    quotas
        .create(&PostParams::default(), &quota)
        .await
        .expect("a quota");
    // What the controller of quotas would count.
    let status = json!({"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}});
    let counted = quotas
        .patch_status("few", &PatchParams::default(), &Patch::Merge(&status))
        .await;
    counted.expect("counted");
    let dry = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dry"}});
    world.in_force(&dry, "exceeded quota").await;
}

async fn a_pool_without_room(world: &World) {
    world.pool("full", json!({})).await;
    let wanted = ("QuotaExceeded", "Reconciling");
    let parts = [
        "Secret full-ca",
        "exceeded quota: few",
        "raise the ResourceQuota",
    ];
    world.refused("RelayPool", "full", wanted, &parts).await;
    let pool = world.told("RelayPool", "full").await;
    for type_ in [
        "Available",
        "Progressing",
        "ConfigApplied",
        "SpoolsRetained",
        "PTRVerified",
    ] {
        assert_eq!(
            pool.of(type_).map(|c| c.status.as_str()),
            Some("Unknown"),
            "{type_}"
        );
    }
}

/// Which is told beside all else that is known of it.
async fn a_domain_without_room(world: &World) {
    let spec = json!({"domain": "shop.test", "poolRef": {"name": "plain"}});
    world.create("SendingDomain", "full", spec).await;
    let parts = ["cannot create Secret full-", "exceeded quota: few"];
    world
        .not_ready("SendingDomain", "full", "QuotaExceeded")
        .await;
    world.tried("SendingDomain", "full", 3).await;
    let domain = world
        .not_ready("SendingDomain", "full", "QuotaExceeded")
        .await;
    let ready = domain.of("Ready").expect("waited for");
    assert!(
        parts.iter().all(|part| ready.message.contains(part)),
        "{}",
        ready.message
    );
    assert_eq!(
        domain.of("Reconciling").map(|c| c.reason.as_str()),
        Some("QuotaExceeded")
    );
    assert_eq!(
        domain.of("KeysReady").map(|c| c.reason.as_str()),
        Some("Pending")
    );
    assert!(domain.of("DKIMVerified").is_some());
    assert_eq!(
        world.events("SendingDomain", "full", "QuotaExceeded").await,
        1
    );
    let made = world.events("SendingDomain", "full", "KeysGenerated");
    assert_eq!(made.await, 0, "none is made");
}

async fn a_policy_that_says_no(world: &World) {
    let policy = json!({"metadata": {"name": "guard"}, "spec": {"failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"], "resources": ["services"]}]},
        "validations": [{"expression": "object.metadata.name != 'guarded'",
            "message": "ask the network people first"}]}});
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    let policy = serde_json::from_value(policy).expect("a policy");
    policies
        .create(&PostParams::default(), &policy)
        .await
        .expect("a policy");
    let binding = json!({"metadata": {"name": "guard"},
        "spec": {"policyName": "guard", "validationActions": ["Deny"]}});
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let binding = serde_json::from_value(binding).expect("a binding");
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .expect("a binding");
    let dry = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "guarded"},
        "spec": {"ports": [{"port": 25}]}});
    world.in_force(&dry, "ask the network people first").await;

    world.pool("guarded", json!({})).await;
    let parts = [
        "cannot apply Service guarded: ValidatingAdmissionPolicy 'guard' with binding 'guard' denied request",
        "ask the network people first; change what it objects to, or have it make an exception",
    ];
    let wanted = ("AdmissionDenied", "Stalled");
    world.refused("RelayPool", "guarded", wanted, &parts).await;
    bindings
        .delete("guard", &DeleteParams::default())
        .await
        .expect("deleted");
    let cured = world
        .not_ready("RelayPool", "guarded", "MembersStarting")
        .await;
    assert!(cured.of("Stalled").is_none());
}
