//! A Service's cluster IP is reached from a pod, by its short and its full name, and from the
//! machine.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use postrider_e2e::cluster::wait_for;
use serde_json::json;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::support::{BOUND, Trial};

#[tokio::test]
async fn service_is_reached_from_pod_and_machine() {
    let trial = Trial::start("service").await;
    trial
        .pod("server", &["serve", "8080", "hello from the server"])
        .await;
    let service: Service = trial
        .create(json!({
            "metadata": {"name": "greeting"},
            "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .await;
    let ip = service
        .spec
        .and_then(|spec| spec.cluster_ip)
        .expect("a cluster IP");

    let full = "greeting.service.svc.cluster.local";
    let acts = [
        "resolve",
        "greeting",
        ",",
        "resolve",
        full,
        ",",
        "fetch",
        "greeting:80",
    ];
    trial.pod("client", &acts).await;
    let expected = format!("{ip}\n{ip}\nhello from the server\n");
    assert_eq!(trial.output("client").await, expected);

    let answer = wait_for("an answer", BOUND, "kube-proxy.log", async || {
        Ok(ask(&ip).await)
    });
    assert_eq!(answer.await.expect("in time"), "hello from the server");
    trial.finish().await;
}

async fn ask(ip: &str) -> Option<String> {
    let connected = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect((ip, 80)));
    let mut text = String::new();
    connected
        .await
        .ok()?
        .ok()?
        .read_to_string(&mut text)
        .await
        .ok()?;
    Some(text)
}
