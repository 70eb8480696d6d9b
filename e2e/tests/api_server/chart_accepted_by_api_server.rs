//! A real API server accepts every object the chart renders, with strict field validation.

use std::{fs, path::Path, time::Duration};

use kube::Client;
use postrider_e2e::{
    cluster::{ApiServer, Cache, wait_for},
    peers,
};
use serde_json::{Value, json};

use crate::strict;

#[tokio::test]
async fn every_rendered_object_is_accepted() {
    let server = ApiServer::start().await.expect("an API server");
    let client = server.client().await.expect("a client");
    for name in ["postrider-system", "mail", "marketing", "billing"] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        strict::create(&client, &namespace, "")
            .await
            .expect("a namespace");
    }
    define_pod_monitor(&client).await;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/postrider/tests/golden");
    let (mut accepted, mut monitors) = (0, 0);
    for name in ["default", "one_namespace", "namespaces", "all_options"] {
        let text = fs::read_to_string(golden.join(format!("{name}.yaml"))).expect("rendered");
        for object in strict::documents(&text) {
            let result = strict::create(&client, &object, "&dryRun=All").await;
            result.unwrap_or_else(|e| {
                panic!(
                    "{name} {} {}: {e}",
                    object["kind"], object["metadata"]["name"]
                )
            });
            accepted += 1;
            monitors += usize::from(object["kind"] == "PodMonitor");
        }
    }
    assert!(accepted > 30, "{accepted}");
    assert_eq!(monitors, 2, "one for the operator, one for the relays");
    let mut wrong = monitor();
    wrong["spec"]["podMetricsEndpoints"][0]["every"] = "30s".into();
    let refused = strict::create(&client, &wrong, "&dryRun=All").await;
    let refused = refused.expect_err("there is no such field").to_string();
    assert!(
        refused.contains("podMetricsEndpoints[0].every"),
        "{refused}"
    );
}

/// The least there is of the kind.
fn monitor() -> Value {
    json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor",
        "metadata": {"name": "least"},
        "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "metrics"}]}})
}

/// Installs the definition that the Prometheus operator comes with, and waits until it is served.
async fn define_pod_monitor(client: &Client) {
    let cache = Cache::of_user().expect("a cache");
    let definition = peers::pod_monitor(&cache).await.expect("the definition");
    for object in strict::documents(&definition) {
        strict::create(client, &object, "")
            .await
            .expect("installed");
    }
    let bound = Duration::from_secs(30);
    wait_for("PodMonitor", bound, "-", async || {
        let least = strict::create(client, &monitor(), "&dryRun=All").await;
        Ok(least.is_ok().then_some(()))
    })
    .await
    .expect("served");
}
