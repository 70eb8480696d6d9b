//! The programs under test: started, watched by what `/proc` says of them, stopped.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use postrider_e2e::{cluster::wait_for, peers::loopback, product};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::Arguments;

/// How long a program may take to end, or to answer.
const BOUND: Duration = Duration::from_secs(60);

/// Where the programs lie.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) operator: PathBuf,
    pub(crate) relay: PathBuf,
    logs: Option<PathBuf>,
}

impl Programs {
    /// Those of the images, linked statically; builds what is not built yet.
    pub(crate) async fn ready(arguments: &Arguments) -> Self {
        let logs = arguments.logs.clone();
        if let (Some(operator), Some(relay)) = (&arguments.operator, &arguments.relay) {
            let (operator, relay) = (operator.clone(), relay.clone());
            return Self {
                operator,
                relay,
                logs,
            };
        }
        let built = product::Programs::ready().await.expect("the programs");
        Self {
            operator: arguments
                .operator
                .clone()
                .unwrap_or_else(|| built.operator()),
            relay: arguments.relay.clone().unwrap_or_else(|| built.relay()),
            logs,
        }
    }

    /// Starts `command`, its log under `name`.
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> Running {
        let log = self.logs.as_ref().map(|dir| {
            fs::create_dir_all(dir).expect("a directory of logs");
            let path = dir.join(format!("{name}.log"));
            fs::File::create(path).expect("a log")
        });
        let output = |log: Option<&fs::File>| {
            log.map_or_else(Stdio::null, |log| {
                log.try_clone().expect("a handle of the log").into()
            })
        };
        command.stdin(Stdio::null()).stdout(output(log.as_ref()));
        let child = command.stderr(output(log.as_ref())).spawn();
        Running(child.expect("the program starts"))
    }
}

/// A program at work; killed when dropped.
pub(crate) struct Running(Child);

/// What a process has used and holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    /// CPU seconds, user and system.
    pub(crate) cpu: f64,
    /// Resident bytes.
    pub(crate) resident: u64,
    /// The most resident bytes there ever were.
    pub(crate) peak: u64,
}

impl Running {
    /// What it has used so far.
    pub(crate) fn usage(&self) -> Use {
        let base = Path::new("/proc").join(self.0.id().to_string());
        let status = fs::read_to_string(base.join("status")).unwrap_or_default();
        let stat = fs::read_to_string(base.join("stat")).unwrap_or_default();
        let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
        Use {
            cpu: ticks / rustix::param::clock_ticks_per_second() as f64,
            resident: kib(&status, "VmRSS:") * 1024,
            peak: kib(&status, "VmHWM:") * 1024,
        }
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
        let ended = wait_for("its end", BOUND, "-", async || {
            Ok(self.0.try_wait().expect("it is ours"))
        });
        ended.await.expect("it ends");
    }

    /// Panics when it has ended although it should run.
    pub(crate) fn check(&mut self) {
        let ended = self.0.try_wait().expect("it is ours");
        assert!(ended.is_none(), "the program ended: {ended:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Where the operator tells its metrics.
pub(crate) fn metrics() -> SocketAddr {
    (loopback(9), 9090).into()
}

/// The body that `address` answers with at `path`; nothing while it does not.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        // HTTP/1.0 knows no chunks: the body ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        String::from_utf8(answer).ok()
    };
    let answer = tokio::time::timeout(BOUND, exchange).await.ok()??;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1);
    (status == Some("200")).then(|| body.to_owned())
}
