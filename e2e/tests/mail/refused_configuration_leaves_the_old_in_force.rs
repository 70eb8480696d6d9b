//! A configuration that relays refuse is told of on the pool, by document and reason, and mail goes
//! on with the one before; put right, it is applied. What somebody else writes into a rendered
//! object is put right by the operator itself.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use postrider_e2e::peers::sink::Rules;
use serde_json::{Map, Value, json};

use crate::{
    kstatus::{Health, health},
    support::{POOL, Stage, eventually},
};

/// The definition that refuses what relays refuse.
const DEFINITION: &str = "relaypools.postrider.dev";
/// Where in it the schema of retries is, with the rule that compares their times.
const RETRY: &str = "/schema/openAPIV3Schema/properties/spec/properties/delivery/properties/retry";
/// The field of a schema with its rules.
const RULES: &str = "x-kubernetes-validations";

#[tokio::test]
async fn refused_configuration_leaves_the_old_in_force() {
    let stage = Stage::start("refused", 17, Rules::default()).await;
    stage.ready_to_send().await;
    // Documents come into force together: from here on, that the domain may send is in force.
    let sent = stage.send("ada", "Before").await;
    stage.delivered(&sent).await;

    let other = stage.other_definitions().await;
    let rules = forget_the_rules(&stage).await;
    let told = AssertUnwindSafe(told_and_put_right(&stage))
        .catch_unwind()
        .await;
    remember_the_rules(&stage, rules).await;
    drop(other);
    told.unwrap_or_else(|panic| resume_unwind(panic));

    let config = format!("{POOL}-config");
    let rendered = stage.get("ConfigMap", &config).await;
    let nonsense = Patch::Merge(json!({"data": {"relay.yaml": "version: nonsense\n"}}));
    let maps = stage.objects("ConfigMap");
    let patched = maps
        .patch(&config, &PatchParams::default(), &nonsense)
        .await;
    patched.expect("patched");
    let restored = |map: &Value| map["data"] == rendered["data"];
    stage
        .until("ConfigMap", &config, "what was rendered", restored)
        .await;
    stage.current("RelayPool", POOL).await;
    let sent = stage.send("ada", "By the restored configuration").await;
    stage.delivered(&sent).await;
    stage.finish().await;
}

/// A pool that only its relays refuse, told of, survived and put right.
async fn told_and_put_right(stage: &Stage) {
    let as_owner = PatchParams::apply("e2e").force();
    eventually("a pool that only relays refuse", async || {
        apply_upside_down(stage, POOL, &as_owner).await.ok()
    })
    .await;
    let said = stage
        .condition(("RelayPool", POOL), "ConfigApplied", "False", "Refused")
        .await;
    println!("{said}");
    for part in ["pool-0", "config/relay.yaml", "delivery.retry.maximum"] {
        assert!(said.contains(part), "{said}");
    }
    let pool = stage.get("RelayPool", POOL).await;
    assert_eq!(health(&pool), Health::Failed, "{pool:#}");
    let sent = stage.send("ada", "By the old configuration").await;
    stage.delivered(&sent).await;

    stage.apply(stage.pool(json!({}))).await;
    stage.current("RelayPool", POOL).await;
}

/// Applies a pool whose times of retries are the wrong way round.
async fn apply_upside_down(stage: &Stage, name: &str, params: &PatchParams) -> kube::Result<()> {
    let retry = json!({"delivery": {"retry": {"initial": "1h", "maximum": "1s"}}});
    let mut pool = stage.pool(retry);
    pool["metadata"]["name"] = json!(name);
    let pools = stage.objects("RelayPool");
    let applied = pools.patch(name, params, &Patch::Apply(&pool)).await;
    applied.map(drop)
}

/// Leaves the refusal of such a pool to its relays, as an API server does that has the definitions of
/// an older release. Returns the rules that it had.
async fn forget_the_rules(stage: &Stage) -> Value {
    let mut rules = Value::Null;
    change_retry(stage, |retry| {
        let removed = retry.remove(RULES);
        rules = removed.expect("the rule is the API server's");
    })
    .await;
    rules
}

/// Gives the definition, which all claims share, its rules back, and waits until they are in force.
async fn remember_the_rules(stage: &Stage, rules: Value) {
    change_retry(stage, |retry| {
        retry.insert(RULES.to_owned(), rules);
    })
    .await;
    // What is there already would not be refused.
    let dry = PatchParams::apply("e2e").dry_run();
    eventually("the refusal of such a pool", async || {
        let refused = apply_upside_down(stage, "another", &dry).await.err()?;
        refused.to_string().contains("maximum").then_some(())
    })
    .await;
}

/// Changes the schema of retries in the definition.
async fn change_retry(stage: &Stage, change: impl FnOnce(&mut Map<String, Value>)) {
    let definitions: Api<CustomResourceDefinition> = Api::all(stage.client.clone());
    let definition = definitions.get(DEFINITION).await.expect("a definition");
    let mut definition = serde_json::to_value(definition).expect("JSON");
    let versions = &mut definition["spec"]["versions"];
    let retry = versions[0].pointer_mut(RETRY).expect("a retry");
    change(retry.as_object_mut().expect("a schema"));
    let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
    let patched = definitions
        .patch(DEFINITION, &PatchParams::default(), &patch)
        .await;
    patched.expect("patched");
}
