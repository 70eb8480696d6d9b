//! Why a pod of a pool does not run stands in the pool's status: which pod, what the scheduler, the
//! controller of volumes and the kubelet say, and what to do; it is told as an event once, stays as it is
//! while they say it again with other numbers, and goes when the pod runs.
//!
//! Scheduler and controllers are Kubernetes' own; nodes are made up, and the words of their kubelet are
//! written for it.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use postrider_e2e::cluster::wait_for;
use serde_json::{Value, json};

use crate::refusal_world::{BOUND, Told, World};

/// Last octet of the operator's address.
const HOST: u8 = 95;
const CONTROLLERS: &str = "statefulset-controller,persistentvolume-binder-controller";

#[tokio::test]
async fn with_words_and_cure_until_they_run() {
    let world = World::start(HOST).await;
    world.give_all_rights().await;
    let _controllers = world.controllers(CONTROLLERS).await;
    let _scheduler = world.scheduler().await;
    let template = json!({"template": {"nodeSelector": {"disk": "fast"}}});
    world.pool("stuck", template).await;
    let wanted = "Pod stuck-0 cannot be scheduled: no nodes available to schedule pods; add a node";
    told(&world, "Unschedulable", wanted, 1).await;

    node(&world, "one").await;
    let wanted = "Pod stuck-0 waits for its volume spool-stuck-0: no persistent volumes available for \
        this claim and no storage class is set; make a StorageClass the default, or a volume that fits";
    told(&world, "VolumeNotBound", wanted, 1).await;

    volume(&world).await;
    let wanted = "Pod stuck-0 cannot be scheduled: node(s) didn't match Pod's node affinity/selector; \
        give a node the labels that spec.template.nodeSelector and affinity of the RelayPool ask for, \
        or change these";
    let before = told(&world, "Unschedulable", wanted, 2).await;
    node(&world, "two").await;
    scheduler_says(&world, "0/2 nodes are available").await;
    stays(&world, &before).await;

    let labels = json!({"metadata": {"labels": {"disk": "fast"}}});
    patch::<Node>(&Api::all(world.client.clone()), "one", &labels).await;
    images_are_not_there(&world).await;
    kubelet_says(&world, &json!({"running": {}}), "True").await;
    let running = world.not_ready("RelayPool", "stuck", "WaitingForMembers");
    running.await;
}

/// What the kubelet says of an image goes on, in turn, for as long as it is not there.
async fn images_are_not_there(world: &World) {
    let error = "failed to pull and unpack image \"relay:1\": failed to resolve reference \"relay:1\": not found";
    let wanted = format!(
        "Pod stuck-0 cannot pull image relay:1 of container relay: {error}; push it, or correct image.relay among the chart's values"
    );
    let failed = json!({"waiting": {"reason": "ErrImagePull", "message": error}});
    kubelet_says(world, &failed, "False").await;
    let before = told(world, "ImagePullBackOff", &wanted, 1).await;
    let message = format!("Back-off pulling image \"relay:1\": ErrImagePull: {error}");
    let waits = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
    kubelet_says(world, &waits, "False").await;
    kubelet_says(world, &failed, "False").await;
    stays(world, &before).await;
}

/// Waits until the pool says `wanted`; `events`: so often it has been told.
async fn told(world: &World, reason: &str, wanted: &str, events: usize) -> Told {
    let told = world.not_ready("RelayPool", "stuck", reason).await;
    let ready = told.of("Ready").expect("waited for");
    assert_eq!(ready.message, wanted);
    let why = told.of("Reconciling").map(|c| c.reason.as_str());
    assert_eq!(why, Some(reason), "{:?}", told.conditions);
    assert!(told.of("Stalled").is_none());
    assert_eq!(told.observed, told.generation);
    let published = wait_for("an event", BOUND, "-", async || {
        let count = world.events("RelayPool", "stuck", reason).await;
        Ok((count == events).then_some(()))
    });
    published.await.expect(reason);
    told
}

/// The status is what it was, also after the operator has looked at the pool once more.
async fn stays(world: &World, before: &Told) {
    // It writes the status after the pod; the second look comes after both.
    for _ in 0..2 {
        is_looked_at(world).await;
    }
    let after = world.told("RelayPool", "stuck").await;
    assert_eq!(after.version, before.version, "{:?}", after.conditions);
}

/// Waits until the operator has looked at the pool: it sets right what is done to its pod here.
async fn is_looked_at(world: &World) {
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let (annotation, digest) = ("postrider.dev/config-digest", "none");
    let spoiled = json!({"metadata": {"annotations": {annotation: digest}}});
    patch(&pods, "stuck-0", &spoiled).await;
    let looked = wait_for("a look at the pool", BOUND, "-", async || {
        let pod = pods.get("stuck-0").await.expect("a pod");
        let annotations = pod.metadata.annotations.unwrap_or_default();
        let now = annotations.get(annotation);
        Ok(now.filter(|now| *now != digest).map(|_| ()))
    });
    looked.await.expect("a look");
}

async fn scheduler_says(world: &World, words: &str) {
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let said = wait_for(words, BOUND, "-", async || {
        let pod = pods.get("stuck-0").await.expect("a pod");
        let conditions = pod.status.and_then(|status| status.conditions);
        let mut conditions = conditions.into_iter().flatten();
        let said = conditions.any(|c| c.message.is_some_and(|message| message.contains(words)));
        Ok(said.then_some(()))
    });
    said.await.expect("said");
}

/// Writes what the kubelet says of the relay, once its pod is on a node.
async fn kubelet_says(world: &World, state: &Value, ready: &str) {
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let placed = wait_for("a node for the pod", BOUND, "-", async || {
        let pod = pods.get("stuck-0").await.expect("a pod");
        let node = pod.spec.and_then(|spec| spec.node_name);
        Ok(node.map(|_| ()))
    });
    placed.await.expect("placed");
    let relay = json!({"name": "relay", "image": "relay:1", "imageID": "", "ready": ready == "True",
        "restartCount": 0, "state": state});
    let conditions = json!([{"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": ready}]);
    let status = json!({"status": {"containerStatuses": [relay], "conditions": conditions}});
    let (status, parameters) = (Patch::Merge(&status), PatchParams::default());
    let written = pods.patch_status("stuck-0", &parameters, &status).await;
    written.expect("written");
}

/// A node that takes pods, or seems to.
async fn node(world: &World, name: &str) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let node = json!({"metadata": {"name": name}});
    let node = serde_json::from_value(node).expect("a node");
    let made = nodes.create(&PostParams::default(), &node).await;
    made.expect("a node");
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let status = json!({"status": {"capacity": room, "allocatable": room}});
    let (status, parameters) = (Patch::Merge(&status), PatchParams::default());
    let room = nodes.patch_status(name, &parameters, &status).await;
    room.expect("room");
    // A fresh node is kept from pods until its kubelet has come.
    patch(&nodes, name, &json!({"spec": {"taints": null}})).await;
}

/// A volume that the claim of the pod fits.
async fn volume(world: &World) {
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    let volume = json!({"metadata": {"name": "disk"}, "spec": {"capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}}});
    let volume = serde_json::from_value(volume).expect("a volume");
    let made = volumes.create(&PostParams::default(), &volume).await;
    made.expect("a volume");
}

async fn patch<K>(api: &Api<K>, name: &str, with: &Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patched = api
        .patch(name, &PatchParams::default(), &Patch::Merge(with))
        .await;
    patched.expect(name);
}
