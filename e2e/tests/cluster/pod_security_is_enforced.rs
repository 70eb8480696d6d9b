//! In a namespace with restricted pod security a pod that could become root is refused, and a
//! pod that keeps to the standard runs.

use kube::api::PostParams;
use serde_json::json;

use crate::support::{Trial, parse, probe};

#[tokio::test]
async fn restricted_pod_runs_and_a_looser_one_is_refused() {
    let trial = Trial::start("pod-security").await;
    trial.pod("kept", &["serve", "8080", "x"]).await;
    assert_eq!(trial.reach("kept", &["Running", "Failed"]).await, "Running");

    let mut loose = probe("loose", &["sleep"]);
    loose["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = trial
        .pods()
        .create(&PostParams::default(), &parse(loose))
        .await;
    let error = refused.expect_err("refused").to_string();
    assert!(
        error.contains("violates PodSecurity \"restricted:latest\""),
        "{error}"
    );
    trial.finish().await;
}
