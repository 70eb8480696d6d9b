//! A configuration that relays refuse is told of on the pool, by document and reason, and mail goes
//! on with the one before; put right, it is applied. What somebody else writes into a rendered
//! object is put right by the operator itself.

use kube::api::{Patch, PatchParams};
use postrider_e2e::peers::sink::Rules;
use serde_json::{Value, json};

use crate::{
    kstatus::{Health, health},
    support::{POOL, Stage},
};

#[tokio::test]
async fn refused_configuration_leaves_the_old_in_force() {
    let stage = Stage::start("refused", 17, Rules::default()).await;
    stage.ready_to_send().await;
    // Documents come into force together: from here on, that the domain may send is in force.
    let sent = stage.send("ada", "Before").await;
    stage.delivered(&sent).await;

    // What the schema cannot compare, the relay does.
    let upside_down = json!({"delivery": {"retry": {"initial": "1h", "maximum": "1s"}}});
    stage.apply(stage.pool(upside_down)).await;
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
