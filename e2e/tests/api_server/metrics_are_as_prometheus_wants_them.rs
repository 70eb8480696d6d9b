//! What a running operator and a running relay say at /metrics, judged by Prometheus's own rules.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use postrider_e2e::{
    cluster::{ApiServer, Cache, wait_for},
    peers::{MetricsJudge, loopback},
};
use serde_json::json;

use crate::{
    crd_manifests::define,
    programs::{self, Running},
    strict,
};

/// How long a program may take to serve what is waited for.
const BOUND: Duration = Duration::from_secs(60);
/// Last octets of the operator's and the relay's addresses.
const HOSTS: [u8; 2] = [93, 94];
/// The port of metrics.
const PORT: u16 = 9090;

fn silent(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

/// What `address` says at /metrics, or nothing while it does not.
fn metrics(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(BOUND)).ok()?;
    // HTTP/1.0 knows no chunks: the body ends with the connection.
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1);
    let is_typed = head.contains("content-type: text/plain; version=0.0.4");
    assert!(is_typed || status != Some("200"), "{head}");
    (status == Some("200")).then(|| body.to_owned())
}

/// Waits until `address` says `part`, and has all it says judged.
async fn judged(address: SocketAddr, part: &str) {
    let cache = Cache::of_user().expect("a cache");
    let judge = MetricsJudge::ready(&cache).await.expect("the judge");
    let text = wait_for(part, BOUND, "-", async || {
        Ok(metrics(address).filter(|text| text.contains(part)))
    })
    .await
    .expect("served");
    judge.judge(&text).await.expect("good metrics");
    let broken = format!("{text}# TYPE postrider_lost counter\npostrider_lost 1\n");
    judge.judge(&broken).await.expect_err("no _total, no help");
}

#[tokio::test]
async fn of_an_operator_at_work() {
    let program = programs::built("postrider-operator");
    let server = ApiServer::start().await.expect("an API server");
    let client = server.client().await.expect("a client");
    define(&client).await;
    for (kind, spec) in [
        ("RelayPool", json!({"hostname": "mail.shop.example"})),
        (
            "SendingDomain",
            json!({"domain": "shop.example", "poolRef": {"name": "default"}}),
        ),
    ] {
        let object = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "default", "namespace": "default"}, "spec": spec});
        strict::create(&client, &object, "").await.expect(kind);
    }
    let address = SocketAddr::from((loopback(HOSTS[0]), PORT));
    let _operator = Running::start(silent(
        Command::new(program)
            .env("KUBECONFIG", server.kubeconfig())
            .args(["--relay-image", "relay", "--watch-namespace", "default"])
            // Nobody answers there: verification stays open, which is as good here.
            .args(["--resolver", "127.0.0.1:9"])
            .args(["--metrics-address", &address.to_string()]),
    ));
    judged(address, "postrider_condition{kind=\"SendingDomain\"").await;
}

#[tokio::test]
async fn of_a_relay() {
    let program = programs::built("postrider-relay");
    let dir = tempfile::tempdir().expect("a directory");
    let address = SocketAddr::from((loopback(HOSTS[1]), PORT));
    let _relay = Running::start(silent(
        Command::new(program)
            .args(["--config-dir", "none", "--spool", "."])
            .args(["--listen-address", &address.ip().to_string()])
            .args(["--metrics-port", &PORT.to_string()])
            .current_dir(dir.path()),
    ));
    judged(address, "postrider_messages_rejected_total").await;
}
