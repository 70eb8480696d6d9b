//! Postrider installed by its Helm chart, as a user would.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::{Images, Kubectl, root};
use crate::cluster::{Error, command::Program, wait_for};

/// The Helm release.
pub const RELEASE: &str = "postrider";
/// Where the operator runs.
pub const OPERATOR_NAMESPACE: &str = "postrider-system";
/// How long the operator may take to be available.
const AVAILABLE_BOUND: Duration = Duration::from_secs(120);

/// Test zones are served by one name server whose answers nobody keeps for longer than 1 s.
const PROPAGATION_MINIMUM: &str = "1s";

/// What to install.
#[derive(Debug)]
pub struct Installation<'a> {
    /// Helm.
    pub helm: PathBuf,
    /// The images, which the cluster must have.
    pub images: &'a Images,
    /// The namespaces the operator watches; none: all.
    pub namespaces: &'a [&'a str],
    /// The name server that it and its relays ask.
    pub resolver: SocketAddr,
}

/// Installs or upgrades the chart in the cluster of `kubectl`; waits until it is available.
///
/// # Errors
/// When Helm fails or the operator does not become available.
pub async fn install(kubectl: &Kubectl, installation: &Installation<'_>) -> Result<(), Error> {
    let Installation {
        helm,
        images,
        namespaces,
        resolver,
    } = installation;
    for namespace in *namespaces {
        if kubectl.get(&["namespace", namespace]).await?.is_none() {
            kubectl.run(&["create", "namespace", namespace]).await?;
        }
    }
    Program::new(helm)
        .env("KUBECONFIG", kubectl.kubeconfig())
        .args(["upgrade", "--install", RELEASE])
        .args([root().join("charts/postrider")])
        .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"])
        // What --set makes of an empty list is a list of one empty name, and of a tag that is all
        // digits a number.
        .args([
            "--set-json",
            &format!("watchNamespaces={}", json!(namespaces)),
        ])
        .args([
            "--set-string",
            &format!("image.operator.repository={}", images.operator.repository),
        ])
        .args([
            "--set-string",
            &format!("image.operator.tag={}", images.operator.tag),
        ])
        .args([
            "--set-string",
            &format!("image.relay.repository={}", images.relay.repository),
        ])
        .args([
            "--set-string",
            &format!("image.relay.tag={}", images.relay.tag),
        ])
        .args(["--set", &format!("resolvers={{{resolver}}}")])
        .args([
            "--set-string",
            &format!("propagationMinimum={PROPAGATION_MINIMUM}"),
        ])
        .run()
        .await?;
    let deployment = ["deployment", "-n", OPERATOR_NAMESPACE, "postrider"];
    let log = format!("kubectl logs -n {OPERATOR_NAMESPACE} deployment/postrider");
    wait_for("an available operator", AVAILABLE_BOUND, &log, async || {
        let object = kubectl.get(&deployment).await?.unwrap_or_default();
        Ok(is_rolled_out(&object).then_some(()))
    })
    .await
}

/// Whether all pods of a Deployment are of its present template and available.
fn is_rolled_out(deployment: &Value) -> bool {
    let number = |path: &str| deployment.pointer(path).and_then(Value::as_i64);
    let wanted = number("/spec/replicas");
    number("/status/observedGeneration") == number("/metadata/generation")
        && [
            "/status/updatedReplicas",
            "/status/availableReplicas",
            "/status/replicas",
        ]
        .iter()
        .all(|path| wanted.is_some() && number(path) == wanted)
}
