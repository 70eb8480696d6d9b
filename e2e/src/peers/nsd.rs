//! NSD, an authoritative name server of its own make, out of Debian packages: it refuses what it does
//! not serve, fails what it cannot load and cuts answers that do not fit.

use std::{fmt::Write as _, net::SocketAddr, path::Path, time::Duration};

use super::{dns::Zone, error::Error, programs::LIBRARY_VARIABLE};
use crate::cluster::{
    Cache, StateDir,
    daemon::{Daemon, Enclosed, Spec},
    debian,
};

/// The packages, each with the libraries it needs that a minimal Debian lacks.
const PACKAGES: &[&str] = &[
    "nsd",
    "libevent-2.1-7",
    "libfstrm0",
    "libprotobuf-c1",
    "libssl3",
];
/// How long it may take to listen.
const START_BOUND: Duration = Duration::from_secs(30);

/// A running NSD.
#[derive(Debug)]
pub struct Nsd {
    address: SocketAddr,
    daemon: Daemon,
}

impl Nsd {
    /// Starts one on `listen`, UDP and TCP, with its state in `dir`, serving `zones`.
    ///
    /// # Errors
    /// When the packages cannot be had or it does not listen.
    pub async fn start(
        dir: &Path,
        cache: &Cache,
        listen: SocketAddr,
        zones: &[Zone],
    ) -> Result<Self, Error> {
        super::stop(dir).await?;
        let state = StateDir::new(dir)?;
        let packages = debian::unpacked(cache, PACKAGES).await?;
        let mut configuration = server_section(&state, listen);
        for zone in zones {
            let origin = zone.origin();
            let file = state.write(&format!("zones/zone_{origin}"), &zone.file())?;
            // Writing to a String cannot fail.
            let _ = writeln!(
                configuration,
                "zone:\n  name: \"{origin}.\"\n  zonefile: \"{}\"",
                file.display()
            );
        }
        let configuration = state.write("nsd.conf", &configuration)?;
        let library_path = debian::library_path(&packages);
        let spec = Spec {
            name: "nsd".to_owned(),
            program: packages.join("usr/sbin/nsd"),
            args: vec![
                "-d".to_owned(),
                "-c".to_owned(),
                configuration.display().to_string(),
            ],
            env: vec![(
                LIBRARY_VARIABLE.to_owned(),
                library_path.display().to_string(),
            )],
            enclosed: Enclosed::No,
        };
        let daemon = Daemon::start(&state, &spec)?;
        let listening = async || tokio::net::TcpStream::connect(listen).await.is_ok();
        daemon
            .wait_until("the name server", START_BOUND, listening)
            .await?;
        Ok(Self {
            address: listen,
            daemon,
        })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self) -> Result<(), Error> {
        self.daemon.process().stop().await?;
        Ok(())
    }
}

fn server_section(state: &StateDir, listen: SocketAddr) -> String {
    let dir = state.join("");
    let dir = dir.display();
    format!(
        "server:\n  ip-address: {}@{}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n\
         \x20 pidfile: \"\"\n  database: \"\"\n  zonelistfile: \"{dir}/zone.list\"\n\
         \x20 xfrdfile: \"{dir}/xfrd.state\"\n  xfrdir: \"{dir}\"\n  rrl-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n",
        listen.ip(),
        listen.port(),
    )
}
