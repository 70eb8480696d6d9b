//! Pods that are refused, which the controller that makes them is told and the operator is not.

use kube::api::ListParams;
use postrider_e2e::cluster::wait_for;
use serde_json::json;

use crate::{
    pod::objects,
    refusal_world::{BOUND, World},
};

pub(super) async fn without_room(world: &World) {
    let dry = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dry"},
        "spec": {"containers": [{"name": "dry", "image": "dry"}]}});
    world.allow_no("pods", &dry).await;
    world.pool("short", json!({})).await;
    let _controller = world.controllers("statefulset-controller").await;
    let told = world.not_ready("RelayPool", "short", "QuotaExceeded").await;
    let ready = told.of("Ready").expect("waited for");
    for part in [
        "cannot create Pod short-0: exceeded quota: few, requested: pods=1",
        "raise the ResourceQuota",
    ] {
        assert!(ready.message.contains(part), "{}", ready.message);
    }
    let why = told.of("Reconciling").map(|c| c.reason.as_str());
    assert_eq!(why, Some("QuotaExceeded"));
    assert!(told.of("Stalled").is_none());
    assert_eq!(told.observed, told.generation);
    // However often it is tried again.
    let before = attempts(world, "short").await;
    let again = wait_for("attempts", BOUND, "-", async || {
        Ok((attempts(world, "short").await >= before + 2).then_some(()))
    });
    again.await.expect("tried again");
    let later = world.told("RelayPool", "short").await;
    assert_eq!(later.version, told.version, "{:?}", later.conditions);
    let events = world.events("RelayPool", "short", "QuotaExceeded");
    assert_eq!(events.await, 1);

    world.allow_all().await;
    world
        .not_ready("RelayPool", "short", "MembersStarting")
        .await;
    let pods = objects(&world.client, "", "Pod");
    pods.get("short-0").await.expect("made");
}

/// How often the pods of the StatefulSet `name` were refused, by its controller's events.
async fn attempts(world: &World, name: &str) -> u64 {
    let events = objects(&world.client, "events.k8s.io", "Event");
    let about = format!("regarding.kind=StatefulSet,regarding.name={name},reason=FailedCreate");
    let about = ListParams::default().fields(&about);
    let all = events.list(&about).await.expect("events").items;
    let counts = all.iter().map(|e| e.data["deprecatedCount"].as_u64());
    counts.map(|count| count.unwrap_or(1)).sum()
}
