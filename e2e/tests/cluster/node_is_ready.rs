//! The machine is a ready node of the version the go.mod pins.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use postrider_e2e::cluster::NODE;

use crate::support::Trial;

#[tokio::test]
async fn node_is_ready() {
    let trial = Trial::start("node-is-ready").await;
    let nodes: Api<Node> = Api::all(trial.client.clone());
    let status = nodes
        .get(NODE)
        .await
        .expect("the node")
        .status
        .expect("its status");
    let ready = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    assert_eq!(ready.expect("Ready is told").status, "True");
    let version = status.node_info.expect("told").kubelet_version;
    assert!(
        include_str!("../../tools/kubernetes/go.mod")
            .contains(&format!("k8s.io/kubernetes {version}")),
        "{version}"
    );
    trial.finish().await;
}
