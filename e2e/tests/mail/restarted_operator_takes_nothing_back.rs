//! An operator that is killed, and one that starts in its place, take nothing back: what was Current
//! stays so in every version that there is, and mail goes on.

use postrider_e2e::peers::sink::Rules;
use serde_json::json;

use crate::{
    kstatus::{Health, health},
    recording::{Recording, version},
    support::{BOUND, DOMAIN, POOL, Stage, eventually, postrider},
};

/// The name of the SuppressionList.
const LIST: &str = "list";

#[tokio::test]
async fn restarted_operator_takes_nothing_back() {
    let stage = Stage::start("restarted", 21, Rules::default()).await;
    let entries = json!({"entries": [{"domain": "competitor.example"}]});
    stage
        .apply(postrider("SuppressionList", LIST, entries))
        .await;
    let pool = json!({"replicas": 2, "suppressionLists": [{"name": LIST}]});
    stage.apply(stage.pool(pool)).await;
    stage.apply(stage.sending_domain(json!({}))).await;
    stage.publish_wanted().await;
    let kinds = [
        ("SuppressionList", LIST),
        ("SendingDomain", DOMAIN),
        ("RelayPool", POOL),
    ];
    let _same = stage.same_definitions().await;
    let mut recordings = Vec::new();
    for (kind, name) in kinds {
        let since = version(&stage.current(kind, name).await);
        recordings.push((kind, since, Recording::start(stage.objects(kind)).await));
    }

    let asked = || stage.gate().asked(&format!("_dmarc.{}", stage.domain()));
    let before = asked();
    let killed = stage.kill_operator().await;
    let sent = stage.send("ada", "Nobody leads").await;
    stage.delivered(&sent).await;
    eventually("a new leader", async || {
        (stage.leader().await != killed || asked() > before).then_some(())
    })
    .await;
    eventually("its look at DNS", async || (asked() > before).then_some(())).await;
    // The new operator works: what comes after everything that it found has a status too.
    let orphan = json!({"domain": "orphan.example", "poolRef": {"name": "absent"}});
    stage
        .apply(postrider("SendingDomain", "orphan", orphan))
        .await;
    let object = ("SendingDomain", "orphan");
    stage
        .condition(object, "Ready", "False", "PoolNotFound")
        .await;
    let now = version(&stage.get("SendingDomain", "orphan").await);

    recordings[1].2.until(now, BOUND).await;
    for (kind, since, recording) in &recordings {
        for object in recording.versions() {
            let own = object["metadata"]["name"] != "orphan" && version(&object) > *since;
            assert!(
                !own || health(&object) == Health::Current,
                "{kind} is taken back: {object:#}"
            );
        }
    }
    stage.finish().await;
}
