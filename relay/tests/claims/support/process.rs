//! The relay process and its endpoints.

use std::{process::Stdio, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use postrider_crds::{
    queue::{OrderAnswer, QueueOverview, paths},
    relay_config::Report,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
};
use tokio_rustls::TlsConnector;

use super::{World, client, within};

/// Pause between two looks at an endpoint.
const POLL: Duration = Duration::from_millis(50);

/// A running relay.
pub(crate) struct Relay {
    child: Child,
    pub(crate) events: Events,
    address: std::net::IpAddr,
}

/// The events it wrote.
#[derive(Clone)]
pub(crate) struct Events(watch::Receiver<Vec<Value>>);

impl Relay {
    /// Starts the binary on `world`.
    pub(crate) async fn start(world: &World) -> Self {
        let program = env!("CARGO_BIN_EXE_postrider-relay");
        let mut command = match &world.volume {
            Some(volume) => volume.command(program),
            None => Command::new(program),
        };
        let mut child = command
            .arg("--config-dir")
            .arg(world.config_dir())
            .arg("--spool")
            .arg(world.spool())
            .args(["--pod-name", "default-1", "--shutdown-budget", "10s"])
            .args(["--listen-address", &world.address.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, events) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let event: Value = serde_json::from_str(&line).expect("events are JSON");
                sender.send_modify(|all: &mut Vec<Value>| all.push(event));
            }
        });
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                // Shown with a test that fails.
                eprintln!("{line}");
            }
        });
        Self {
            child,
            events: Events(events),
            address: world.address,
        }
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        within("readiness", self.readyz_says(|status, _| status == 200)).await;
    }

    /// Waits until `/readyz` gives what `wanted` holds for; gives the body.
    pub(crate) async fn readyz_says(&self, wanted: impl Fn(u16, &str) -> bool) -> String {
        loop {
            if let Some((status, body)) = get(self.address, "/readyz").await
                && wanted(status, &body)
            {
                return body;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for a process that ends by itself; gives its exit code.
    pub(crate) async fn exits(mut self) -> Option<i32> {
        let status = within("the relay's exit", self.child.wait()).await.unwrap();
        status.code()
    }

    /// SIGKILL; the process gets no chance to do anything.
    pub(crate) async fn kill(mut self) -> Events {
        self.child.kill().await.unwrap();
        self.events
    }

    /// SIGTERM; gives the exit code and all events.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, Events) {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = within("the relay's exit", self.child.wait()).await.unwrap();
        self.events.ended().await;
        (status.code(), self.events)
    }
}

impl Events {
    /// Waits for an event of `stage` that `wanted` holds for.
    pub(crate) async fn wait(&self, stage: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut events = self.0.clone();
        let matches = |event: &Value| event["stage"] == stage && wanted(event);
        let found = within(stage, events.wait_for(|all| all.iter().any(matches))).await;
        found.unwrap().iter().find(|e| matches(e)).unwrap().clone()
    }

    /// Waits for the event of `stage` of message `id`.
    pub(crate) async fn of(&self, stage: &str, id: &str) -> Value {
        self.wait(stage, |event| event["id"] == id).await
    }

    /// Those seen so far.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.0.borrow().clone()
    }

    /// Waits until standard output is closed.
    pub(crate) async fn ended(&self) {
        let mut events = self.0.clone();
        within("the end of events", async {
            while events.changed().await.is_ok() {}
        })
        .await;
    }
}

impl World {
    /// The report, as the operator gets it.
    pub(crate) async fn report(&self) -> Report {
        let identity = self.certificate("operator.example");
        let (status, report) = get_report(self, Some(identity)).await.expect("answers");
        assert_eq!(status, 200);
        report
    }

    /// The first report that `wanted` holds for.
    pub(crate) async fn report_where(&self, wanted: impl Fn(&Report) -> bool) -> Report {
        within("a report", async {
            loop {
                let report = self.report().await;
                if wanted(&report) {
                    return report;
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await
    }
}

impl World {
    /// Waits until nothing is due or deferred, however long that takes, as long as it goes on;
    /// gives the report.
    pub(crate) async fn drained(&self) -> Report {
        let left = |report: &Report| report.queue.due + report.queue.deferred;
        let mut report = self.report().await;
        while left(&report) > 0 {
            let before = left(&report);
            report = self.report_where(|report| left(report) < before).await;
        }
        report
    }
}

/// GET of the probes' listener: status and body; `None` when nobody answers.
pub(crate) async fn get(address: std::net::IpAddr, path: &str) -> Option<(u16, String)> {
    let stream = TcpStream::connect((address, 9090)).await.ok()?;
    request(stream, path, None).await
}

/// GET of the admin listener with the client certificate, or without one.
pub(crate) async fn get_report(
    world: &World,
    identity: Option<(String, String)>,
) -> Option<(u16, Report)> {
    let (status, body) = admin(world, identity, "/v1/report", None).await?;
    Some((status, serde_json::from_str(&body).unwrap()))
}

/// GET of the admin listener, or POST where there is a body.
async fn admin(
    world: &World,
    identity: Option<(String, String)>,
    path: &str,
    body: Option<String>,
) -> Option<(u16, String)> {
    let stream = TcpStream::connect((world.address, 9443)).await.ok()?;
    let connector = TlsConnector::from(client::tls(world, identity));
    let name = "mail.example.net".try_into().unwrap();
    let stream = connector.connect(name, stream).await.ok()?;
    request(stream, path, body).await
}

impl World {
    /// What an order is answered.
    pub(crate) async fn ask(&self, order: Value) -> (u16, Value) {
        let identity = Some(self.certificate("operator.example"));
        let answer = admin(self, identity, paths::ORDERS, Some(order.to_string())).await;
        let (status, body) = answer.expect("answers");
        (status, serde_json::from_str(&body).unwrap())
    }

    /// An order that must be obeyed: the answer.
    pub(crate) async fn order(&self, order: Value) -> OrderAnswer {
        let (status, answer) = self.ask(order).await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_value(answer).unwrap()
    }

    /// The queue in detail.
    pub(crate) async fn queue(&self) -> QueueOverview {
        let identity = Some(self.certificate("operator.example"));
        let answer = admin(self, identity, paths::QUEUE, None).await;
        serde_json::from_str(&answer.expect("answers").1).unwrap()
    }
}

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
    body: Option<String>,
) -> Option<(u16, String)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = match body {
        Some(_) => Request::post(path),
        None => Request::get(path),
    };
    let body = Full::<bytes::Bytes>::from(body.unwrap_or_default());
    let request = request.header("host", "relay").body(body).unwrap();
    let response = sender.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}
