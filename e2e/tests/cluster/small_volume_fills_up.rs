//! A volume of the small class is full when its bytes are used, so that a full disk can be had.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use postrider_e2e::cluster::{SMALL_CLASS, SMALL_MIB};
use serde_json::json;

use crate::support::Trial;

#[tokio::test]
async fn small_volume_fills_up() {
    let trial = Trial::start("small-volume").await;
    let size = format!("{SMALL_MIB}Mi");
    let _: PersistentVolumeClaim = trial
        .create(json!({
            "metadata": {"name": "small"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": SMALL_CLASS,
                     "resources": {"requests": {"storage": size}}},
        }))
        .await;
    trial
        .pod_with_volume("filler", &["fill", "/data/file"], "small")
        .await;
    assert_eq!(trial.output("filler").await, "StorageFull\n");
    trial.finish().await;
}
