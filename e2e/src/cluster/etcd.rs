//! etcd: the store behind the API server. Never synced, since the cluster is thrown away.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use super::{
    daemon::{Enclosed, Spec},
    error::{Error, OnPath},
    paths::StateDir,
};

/// A port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).on("bind", "127.0.0.1:0")?;
    Ok(listener.local_addr().on("read", "127.0.0.1:0")?.port())
}

/// The URL at which an etcd on `port` serves.
pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// How to start it with its data below `state`.
pub(crate) fn spec(program: PathBuf, state: &StateDir, port: u16, peer_port: u16) -> Spec {
    let (client, peer) = (url(port), url(peer_port));
    Spec {
        name: "etcd".to_owned(),
        program,
        args: vec![
            format!("--data-dir={}", state.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ],
        env: Vec::new(),
        enclosed: Enclosed::No,
    }
}
