//! A claim is bound to a volume that a pod without root can write, and what it wrote is there for
//! the pod that follows.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

use crate::support::Trial;

#[tokio::test]
async fn volume_outlives_its_pod() {
    let trial = Trial::start("volume").await;
    let _: PersistentVolumeClaim = trial
        .create(json!({
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"],
                     "resources": {"requests": {"storage": "1Gi"}}},
        }))
        .await;
    trial
        .pod_with_volume("first", &["append", "/data/file", "one"], "data")
        .await;
    assert_eq!(trial.output("first").await, "one\n");
    trial.delete_pod("first").await;
    trial
        .pod_with_volume("second", &["append", "/data/file", "two"], "data")
        .await;
    assert_eq!(trial.output("second").await, "one\ntwo\n");
    trial.finish().await;
}
