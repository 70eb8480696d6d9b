//! A Containerfile of files on scratch is built without a builder, loaded, and runs with its
//! entry point, arguments and environment.

use std::fs;

use postrider_e2e::cluster::Archive;
use serde_json::json;

use crate::support::{Trial, probe};

#[tokio::test]
async fn containerfile_becomes_a_running_image() {
    let trial = Trial::start("containerfile").await;
    let context = tempfile::tempdir().expect("a directory");
    fs::copy(trial.cluster.tools().probe(), context.path().join("probe")).expect("copied");
    fs::write(context.path().join("words"), "built\n").expect("written");
    let file = context.path().join("Containerfile");
    let text = "FROM scratch\nCOPY probe /usr/bin/act\nCOPY words /etc/words/\n\
                USER 65532:65532\nENTRYPOINT [\"/usr/bin/act\"]\nCMD [\"print\", \"/etc/words/words\"]\n";
    fs::write(&file, text).expect("written");

    let name = "localhost/postrider-e2e/containerfile:1";
    let argument = format!("{name}={}", context.path().display());
    let image = Archive::of_argument(&argument).expect("an image");
    trial.cluster.load_image(&image).await.expect("loaded");
    let mut pod = probe("built", &[]);
    pod["spec"]["containers"][0]["image"] = json!(name);
    let _: k8s_openapi::api::core::v1::Pod = trial.create(pod).await;
    assert_eq!(trial.output("built").await, "built\n");
    trial.finish().await;
}
