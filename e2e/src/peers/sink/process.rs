//! The sink as a process of its own, which outlives the program that started it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Rules, Transaction, record};
use crate::{
    cluster::{
        StateDir,
        daemon::{Daemon, Enclosed, Spec},
    },
    peers::error::Error,
};

/// How long it may take to listen.
const START_BOUND: Duration = Duration::from_secs(30);

/// A running `e2e-sink`.
#[derive(Debug)]
pub struct SinkProcess {
    dir: PathBuf,
    address: SocketAddr,
    daemon: Daemon,
}

impl SinkProcess {
    /// Starts `program`, the built `e2e-sink`, with its state in `dir`; one already running there
    /// is stopped.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub async fn start(
        dir: &Path,
        program: &Path,
        listen: SocketAddr,
        rules: &Rules,
    ) -> Result<Self, Error> {
        crate::peers::stop(dir).await?;
        let state = StateDir::new(dir)?;
        let text = serde_json::to_string_pretty(rules).map_err(|source| Error::Output {
            program: "e2e-sink",
            line: String::new(),
            source,
        })?;
        let rules = state.write("rules.json", &text)?;
        let args = [
            format!("--listen={listen}"),
            format!("--rules={}", rules.display()),
            format!("--dir={}", state.path().display()),
        ];
        let spec = Spec {
            name: "e2e-sink".to_owned(),
            program: program.to_owned(),
            args: args.to_vec(),
            env: Vec::new(),
            enclosed: Enclosed::No,
        };
        let daemon = Daemon::start(&state, &spec)?;
        let listening = async || tokio::net::TcpStream::connect(listen).await.is_ok();
        daemon
            .wait_until("the sink", START_BOUND, listening)
            .await?;
        Ok(Self {
            dir: state.path().to_owned(),
            address: listen,
            daemon,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All transactions that have ended.
    ///
    /// # Errors
    /// When its list cannot be read.
    pub fn transactions(&self) -> Result<Vec<Transaction>, Error> {
        record::read(&self.dir)
    }

    /// Stops it. What it wrote stays.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self) -> Result<(), Error> {
        self.daemon.process().stop().await?;
        Ok(())
    }
}
