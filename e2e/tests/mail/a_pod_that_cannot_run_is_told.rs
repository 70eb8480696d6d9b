//! A pod that no node takes, and one whose relay ends again and again, are told in the pool's status with
//! the words of the cluster's own scheduler and kubelet; the pool is Current once they run.

use postrider_e2e::peers::sink::Rules;
use serde_json::json;

use crate::{
    kstatus::{Health, condition, health},
    pods::container_of,
    support::{POOL, Stage, eventually},
};

const OBJECT: (&str, &str) = ("RelayPool", POOL);

#[tokio::test]
async fn a_pod_that_cannot_run_is_told() {
    let stage = Stage::start("stuck", 24, Rules::default()).await;
    let nowhere = json!({"template": {"nodeSelector": {"disk": "fast"}}});
    stage.apply(stage.pool(nowhere)).await;
    let said = stage.condition(OBJECT, "Ready", "False", "Unschedulable");
    assert_eq!(
        said.await,
        "Pod pool-0 cannot be scheduled: node(s) didn't match Pod's node affinity/selector; give a node \
         the labels that spec.template.nodeSelector and affinity of the RelayPool ask for, or change these"
    );
    let pool = stage.get("RelayPool", POOL).await;
    assert_eq!(health(&pool), Health::InProgress, "{pool:#}");

    stage.apply(stage.pool(json!({}))).await;
    stage.current("RelayPool", POOL).await;

    let ends = eventually("told of a relay that ends again and again", async || {
        kill_if_it_runs(&stage).await;
        let pool = stage.get("RelayPool", POOL).await;
        let ready = condition(&pool, "Ready").expect("always there");
        (ready["reason"] == "CrashLoopBackOff").then(|| ready["message"].clone())
    });
    assert_eq!(
        ends.await,
        "Pod pool-0 has container relay, which ends again and again: exit code 137 (Error); see \
         kubectl logs pool-0 -n stuck -c relay --previous"
    );
    stage.current("RelayPool", POOL).await;
    stage.finish().await;
}

/// Kills the relay as soon as it accepts mail again.
async fn kill_if_it_runs(stage: &Stage) {
    let pod = stage.get("Pod", &format!("{POOL}-0")).await;
    let status = &pod["status"]["containerStatuses"][0];
    if status["ready"] == true && status["state"]["running"].is_object() {
        let killed = stage.cluster.kill_container(&container_of(&pod)).await;
        killed.expect("killed");
    }
}
