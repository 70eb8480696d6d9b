//! BIND out of Debian packages: a name server that takes updates (RFC 2136) signed with TSIG
//! (RFC 8945).
//!
//! Guarantees: it runs on a free port of 127.0.0.1, since it listens on no address that no interface
//! has by name; it forwards nothing, answers for its zones and for no other name, and keeps all it
//! writes in its state directory.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    dns::Zone,
    error::Error,
    programs::{LIBRARY_VARIABLE, library_path},
};
use crate::cluster::{
    Cache, StateDir,
    daemon::{Daemon, Enclosed, Spec},
    debian,
    error::OnPath as _,
};

/// The packages, each with the libraries it needs that a minimal Debian lacks.
const PACKAGES: &[&str] = &[
    "bind9",
    "bind9-libs",
    "bind9-utils",
    "libcap2",
    "libcom-err2",
    "libfstrm0",
    "libgssapi-krb5-2",
    "libicu72",
    "libjemalloc2",
    "libjson-c5",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "liblmdb0",
    "libmaxminddb0",
    "libnghttp2-14",
    "libprotobuf-c1",
    "libssl3",
    "libuv1",
    "libxml2",
];
/// How long it may take to listen.
const START_BOUND: Duration = Duration::from_secs(60);

/// A secret that client and server share.
#[derive(Debug, Clone)]
pub struct TsigKey {
    /// Its name, without the last dot.
    pub name: String,
    /// The secret, base64.
    pub secret: String,
}

/// A zone and who may update it.
#[derive(Debug, Clone)]
pub struct DynamicZone {
    /// What is in it at first.
    pub zone: Zone,
    /// The name of the key that may update it; nobody without one.
    pub updater: Option<String>,
}

/// Where the programs lie.
#[derive(Debug, Clone)]
pub struct BindPrograms {
    root: PathBuf,
}

impl BindPrograms {
    /// Finds them in `cache`; downloads them if they are missing, about 16 MB.
    ///
    /// # Errors
    /// When the packages cannot be had; the machine must be a Debian.
    pub async fn ready(cache: &Cache) -> Result<Self, Error> {
        let root = debian::unpacked(cache, PACKAGES).await?;
        Ok(Self { root })
    }

    /// Where the packages are unpacked.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

/// A running BIND.
#[derive(Debug)]
pub struct Bind {
    address: SocketAddr,
    daemon: Daemon,
}

impl Bind {
    /// Starts one, on UDP and TCP, with its state in `dir`. What `dir` holds of an earlier one is
    /// served on.
    ///
    /// # Errors
    /// When it does not start, with the end of its log.
    pub async fn start(
        dir: &Path,
        programs: &BindPrograms,
        keys: &[TsigKey],
        zones: &[DynamicZone],
    ) -> Result<Self, Error> {
        let listen = free_port()?;
        super::stop(dir).await?;
        let state = StateDir::new(dir)?;
        for DynamicZone { zone, .. } in zones {
            let file = format!("zones/{}", zone.origin());
            if !state.join(&file).exists() {
                state.write(&file, &zone.file())?;
            }
        }
        // What it was not told of does not exist.
        let root = Zone::new("").address("localhost", Ipv4Addr::LOCALHOST.into());
        state.write("zones/root", &root.file())?;
        let config = state.write("named.conf", &configuration(&state, listen, keys, zones))?;
        let spec = Spec {
            name: "named".to_owned(),
            program: programs.root.join("usr/sbin/named"),
            args: ["-g", "-n", "1", "-c"]
                .map(str::to_owned)
                .into_iter()
                .chain([config.display().to_string()])
                .collect(),
            env: vec![(LIBRARY_VARIABLE.to_owned(), library_path(&programs.root))],
            enclosed: Enclosed::No,
        };
        let daemon = Daemon::start(&state, &spec)?;
        let listening = async || tokio::net::TcpStream::connect(listen).await.is_ok();
        daemon.wait_until("named", START_BOUND, listening).await?;
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

/// An address that nobody listens on at this moment.
fn free_port() -> Result<SocketAddr, Error> {
    let place = || Path::new("127.0.0.1").to_owned();
    let probe = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).on("listen on", place())?;
    Ok(probe.local_addr().on("listen on", place())?)
}

fn configuration(
    state: &StateDir,
    listen: SocketAddr,
    keys: &[TsigKey],
    zones: &[DynamicZone],
) -> String {
    let dir = state.path().display();
    let (ip, port) = (listen.ip(), listen.port());
    let mut text = format!(
        "options {{\n  directory \"{dir}\";\n  listen-on port {port} {{ {ip}; }};\n  listen-on-v6 {{ none; }};\n\
         \x20 pid-file none;\n  lock-file none;\n  session-keyfile \"{dir}/session.key\";\n\
         \x20 managed-keys-directory \"{dir}\";\n  recursion no;\n  dnssec-validation no;\n  notify no;\n}};\n\
         controls {{ }};\n"
    );
    // Writing to a String cannot fail.
    for key in keys {
        let _ = writeln!(
            text,
            "key \"{}\" {{ algorithm hmac-sha256; secret \"{}\"; }};",
            key.name, key.secret
        );
    }
    for DynamicZone { zone, updater } in zones {
        let who = updater
            .as_ref()
            .map_or_else(|| "none".to_owned(), |key| format!("key \"{key}\""));
        let origin = zone.origin();
        let _ = writeln!(
            text,
            "zone \"{origin}\" {{ type primary; file \"{dir}/zones/{origin}\"; allow-update {{ {who}; }}; }};"
        );
    }
    let _ = writeln!(
        text,
        "zone \".\" {{ type primary; file \"{dir}/zones/root\"; }};"
    );
    text
}
