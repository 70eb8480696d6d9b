//! `rotate` writes the trigger as a field manager of its own and never takes one that Git holds; it
//! follows until the new keys sign, or says that they do not yet. Who may not
//! write is told what to ask for.
//!
//! The API server is real; the operator's part in the status is played by the test.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
};

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use postrider_crds::SendingDomain;
use postrider_e2e::cluster::{ApiServer, wait_for};
use serde_json::{Value, json};

use crate::support::{BOUND, define, postrider, text};

fn key(selector: &str, state: &str) -> Value {
    json!({"selector": selector, "algorithm": "Ed25519", "secret": "s", "state": state, "since": "2026-01-01T00:00:00Z"})
}

async fn show(client: &Client, dkim: Value) {
    let api: Api<SendingDomain> = Api::default_namespaced(client.clone());
    let generation = api.get("shop").await.unwrap().metadata.generation;
    let status = json!({"status": {"observedGeneration": generation, "records": [], "conditions": [], "dkim": dkim}});
    let patch = Patch::Merge(&status);
    api.patch_status("shop", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn trigger(client: &Client) -> Option<String> {
    let api: Api<SendingDomain> = Api::default_namespaced(client.clone());
    api.get("shop").await.unwrap().spec.dkim.rotation.trigger
}

/// An API server that knows the kinds and holds the domain `shop`, which signs with `pr-1`.
async fn server_with_shop() -> (ApiServer, Client) {
    let server = ApiServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    for crd in postrider_crds::custom_resource_definitions() {
        define(&client, serde_json::to_value(&crd).unwrap()).await;
    }
    let api: Api<SendingDomain> = Api::default_namespaced(client.clone());
    let domain: SendingDomain = serde_json::from_value(json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain", "metadata": {"name": "shop"},
        "spec": {"domain": "shop.test", "poolRef": {"name": "default"}, "dkim": {"keys": [{"algorithm": "Ed25519"}]}},
    }))
    .unwrap();
    wait_for("the kind", BOUND, "-", async || {
        Ok(api.create(&PostParams::default(), &domain).await.ok())
    })
    .await
    .unwrap();
    show(
        &client,
        json!({"active": [key("pr-1", "Active")], "pending": [], "retiring": []}),
    )
    .await;
    (server, client)
}

/// Rotates `shop` by the trigger `t1`, plays the operator, and gives what the command said at its
/// end.
async fn rotate_to_the_end(client: &Client, kubeconfig: &str) -> Output {
    let follower = tokio::process::Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["rotate", "shop", "--kubeconfig", kubeconfig])
        .args(["--trigger", "t1", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    wait_for("the trigger", BOUND, "-", async || {
        Ok(trigger(client).await.filter(|t| t == "t1"))
    })
    .await
    .unwrap();
    show(client, json!({"active": [key("pr-1", "Active")], "pending": [key("pr-2", "Published")], "retiring": []})).await;
    show(client, json!({"active": [key("pr-2", "Active")], "pending": [], "retiring": [key("pr-1", "Retiring")], "trigger": "t1"})).await;
    follower.wait_with_output().await.unwrap()
}

#[tokio::test]
async fn a_rotation_is_followed_to_its_end() {
    let (server, client) = server_with_shop().await;
    let kubeconfig = server.kubeconfig().display().to_string();
    let output = rotate_to_the_end(&client, &kubeconfig).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("postrider-rotate") && told.contains("pr-2 (Ed25519): Active"),
        "{told}"
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&answer["done"], &answer["active"][0]["selector"]),
        (&json!(true), &json!("pr-2"))
    );
    assert_eq!(answer["retiring"][0]["selector"], "pr-1");
}

#[tokio::test]
async fn out_of_time_is_not_done() {
    let (server, _client) = server_with_shop().await;
    let kubeconfig = server.kubeconfig().display().to_string();
    // Nobody is at work.
    let arguments = [
        "rotate",
        "shop",
        "--kubeconfig",
        &kubeconfig,
        "--trigger",
        "t2",
        "--timeout",
        "1s",
    ];
    let output = postrider(&arguments).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("do not sign yet"));
}

#[tokio::test]
async fn a_trigger_that_a_manifest_holds_is_left_to_it() {
    let (server, client) = server_with_shop().await;
    let kubeconfig = server.kubeconfig().display().to_string();
    let manifest = json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
        "spec": {"domain": "shop.test", "poolRef": {"name": "default"}, "dkim": {"rotation": {"trigger": "git"}}},
    });
    let params = PatchParams::apply("argocd").force();
    let api: Api<SendingDomain> = Api::default_namespaced(client.clone());
    api.patch("shop", &params, &Patch::Apply(&manifest))
        .await
        .unwrap();
    let output = postrider(&["rotate", "shop", "--kubeconfig", &kubeconfig]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("belongs to somebody else") && told.contains("argocd"),
        "{told}"
    );
    assert_eq!(trigger(&client).await.as_deref(), Some("git"));
}

/// A kubeconfig of somebody who may read SendingDomains and no more.
async fn reader(server: &ApiServer, client: &Client) -> PathBuf {
    let group = "rbac.authorization.k8s.io";
    let version = "rbac.authorization.k8s.io/v1";
    let role = json!({
        "apiVersion": version, "kind": "ClusterRole",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": ["postrider.dev"], "resources": ["sendingdomains"], "verbs": ["get", "list"]}],
    });
    let binding = json!({
        "apiVersion": version, "kind": "ClusterRoleBinding",
        "metadata": {"name": "reader"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "reader"}],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "reader"},
    });
    for (kind, object) in [("ClusterRole", role), ("ClusterRoleBinding", binding)] {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let text = fs::read_to_string(server.kubeconfig()).unwrap();
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    config["users"][0]["user"]["as"] = "reader".into();
    let path = server.dir().join("reader.kubeconfig");
    fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn who_may_only_read_is_told_what_to_ask_for() {
    let (server, client) = server_with_shop().await;
    let kubeconfig = reader(&server, &client).await.display().to_string();
    let rotate = ["rotate", "shop", "--kubeconfig", &kubeconfig];
    // Rights are there a moment after their objects are.
    let told = wait_for("the right to read", BOUND, "-", async || {
        let output = postrider(&rotate).await;
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((!told.contains("not allowed to read")).then_some(told))
    })
    .await
    .unwrap();
    let wanted = "not allowed to write spec.dkim.rotation.trigger of SendingDomain default/shop: ";
    assert!(told.contains(wanted), "{told}");
    assert!(told.contains("ask for the verb patch"), "{told}");
    assert_eq!(trigger(&client).await, None);
}
