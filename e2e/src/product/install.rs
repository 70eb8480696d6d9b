//! Postrider installed by its Helm chart, as a user would.

use std::time::Duration;

use super::{Kubectl, OPERATOR_IMAGE, RELAY_IMAGE, root};
use crate::cluster::{Cluster, Error, command::Program, wait_for};

/// The Helm release.
pub const RELEASE: &str = "postrider";
/// Where the operator runs.
pub const OPERATOR_NAMESPACE: &str = "postrider-system";
/// How long the operator may take to be available.
const AVAILABLE_BOUND: Duration = Duration::from_secs(120);

/// Installs or upgrades the chart so that the operator watches `namespaces` and asks the cluster's
/// name server; waits until it is available.
///
/// # Errors
/// When Helm fails or the operator does not become available.
pub async fn install(cluster: &Cluster, namespaces: &[&str]) -> Result<(), Error> {
    let kubectl = Kubectl::of(cluster);
    for namespace in namespaces {
        if kubectl.get(&["namespace", namespace]).await?.is_none() {
            kubectl.run(&["create", "namespace", namespace]).await?;
        }
    }
    let resolver = cluster.dns().address();
    let (operator, relay) = (image(OPERATOR_IMAGE), image(RELAY_IMAGE));
    Program::new(cluster.tools().helm())
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["upgrade", "--install", RELEASE])
        .args([root().join("charts/postrider")])
        .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"])
        .args([
            "--set",
            &format!("watchNamespaces={{{}}}", namespaces.join(",")),
        ])
        .args([
            "--set",
            &format!("image.operator.repository={}", operator.0),
        ])
        .args(["--set", &format!("image.operator.tag={}", operator.1)])
        .args(["--set", &format!("image.relay.repository={}", relay.0)])
        .args(["--set", &format!("image.relay.tag={}", relay.1)])
        .args(["--set", &format!("resolvers={{{resolver}}}")])
        .run()
        .await?;
    let deployment = ["deployment", "-n", OPERATOR_NAMESPACE, "postrider-operator"];
    let log = format!("kubectl logs -n {OPERATOR_NAMESPACE} deployment/postrider-operator");
    wait_for("an available operator", AVAILABLE_BOUND, &log, async || {
        let condition = kubectl.condition(&deployment, "Available").await?;
        Ok(condition.filter(|(status, _)| status == "True").map(drop))
    })
    .await
}

/// Repository and tag of an image name.
fn image(name: &str) -> (&str, &str) {
    name.rsplit_once(':').unwrap_or((name, "latest"))
}
