//! A real API server accepts every object the chart renders, with strict field validation.

use std::{fs, path::Path};

use postrider_e2e::cluster::ApiServer;
use serde_json::json;

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
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/postrider/tests/golden");
    let mut accepted = 0;
    for name in ["default", "one_namespace", "namespaces", "all_options"] {
        let text = fs::read_to_string(golden.join(format!("{name}.yaml"))).expect("rendered");
        for object in strict::documents(&text) {
            // Their definition belongs to the Prometheus operator, which is not here.
            if object["kind"] == "PodMonitor" {
                continue;
            }
            let result = strict::create(&client, &object, "&dryRun=All").await;
            result.unwrap_or_else(|e| {
                panic!(
                    "{name} {} {}: {e}",
                    object["kind"], object["metadata"]["name"]
                )
            });
            accepted += 1;
        }
    }
    assert!(accepted > 30, "{accepted}");
}
