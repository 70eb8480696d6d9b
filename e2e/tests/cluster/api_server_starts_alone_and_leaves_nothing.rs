//! An API server without nodes is ready by itself, takes objects, and ends when dropped.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use postrider_e2e::cluster::{ApiServer, wait_for};
use serde_json::json;

use crate::support::{BOUND, parse};

#[tokio::test]
async fn api_server_starts_alone_and_leaves_nothing() {
    let server = ApiServer::start().await.expect("started");
    let dir = server.dir().to_owned();
    let client = server.client().await.expect("a client");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = parse(json!({"metadata": {"name": "kept"}, "data": {"a": "b"}}));
    maps.create(&PostParams::default(), &map)
        .await
        .expect("created");
    assert_eq!(
        maps.get("kept").await.expect("kept").data.expect("data")["a"],
        "b"
    );

    drop(server);
    assert!(!dir.exists());
    wait_for("its end", BOUND, "-", async || {
        Ok(client.apiserver_version().await.err().map(drop))
    })
    .await
    .expect("nobody answers");
}
