//! A configuration that relays refuse is told of on the pool, by document and reason, and mail goes
//! on with the one before; put right, it is applied. What somebody else writes into a rendered
//! object is put right by the operator itself.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use postrider_e2e::peers::sink::Rules;
use serde_json::{Value, json};

use crate::{
    kstatus::{Health, health},
    support::{POOL, Stage, eventually},
};

/// The definition that refuses what relays refuse.
const DEFINITION: &str = "relaypools.postrider.dev";
/// Where in it the schema of retries is, with the rule that compares their times.
const RETRY: &str = "/schema/openAPIV3Schema/properties/spec/properties/delivery/properties/retry";

#[tokio::test]
async fn refused_configuration_leaves_the_old_in_force() {
    let stage = Stage::start("refused", 17, Rules::default()).await;
    stage.ready_to_send().await;
    // Documents come into force together: from here on, that the domain may send is in force.
    let sent = stage.send("ada", "Before").await;
    stage.delivered(&sent).await;

    forget_the_rules(&stage).await;
    let upside_down = json!({"delivery": {"retry": {"initial": "1h", "maximum": "1s"}}});
    let upside_down = stage.pool(upside_down);
    let pools = stage.objects("RelayPool");
    let as_owner = PatchParams::apply("e2e").force();
    eventually("a pool that only relays refuse", async || {
        let patch = Patch::Apply(&upside_down);
        pools.patch(POOL, &as_owner, &patch).await.ok()
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

/// Leaves the refusal of such a pool to its relays, as an API server does that has the definitions of
/// an older release.
async fn forget_the_rules(stage: &Stage) {
    let definitions: Api<CustomResourceDefinition> = Api::all(stage.client.clone());
    let definition = definitions.get(DEFINITION).await.expect("a definition");
    let mut definition = serde_json::to_value(definition).expect("JSON");
    let versions = &mut definition["spec"]["versions"];
    let retry = versions[0].pointer_mut(RETRY).expect("a retry");
    let rules = retry.as_object_mut().expect("a schema");
    let rules = rules.remove("x-kubernetes-validations");
    rules.expect("the rule is the API server's");
    let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
    let patched = definitions
        .patch(DEFINITION, &PatchParams::default(), &patch)
        .await;
    patched.expect("patched");
}
