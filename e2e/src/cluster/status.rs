//! Whether a cluster is up, and whose the machine is: its bridge and rules have fixed names, so
//! one machine carries one cluster at a time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    daemon::Daemon,
    error::{Error, OnPath},
    paths::StateDir,
};

/// Holds the state directory of the cluster that has the machine. Gone after a reboot, as the
/// cluster is.
const CLAIM: &str = "/run/postrider-e2e-cluster";

/// The parts every cluster has.
const PARTS: &[&str] = &[
    "containerd",
    "coredns",
    "enclosure",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
];

/// Each part and its pid, if it lives.
pub(crate) fn parts(state: &StateDir) -> Vec<(&'static str, Option<i32>)> {
    let running = Daemon::all(state);
    let pid = |name: &str| {
        let found = running.iter().find(|(part, _)| part == name);
        found
            .and_then(|(_, process)| *process)
            .map(super::daemon::Process::pid)
    };
    PARTS.iter().map(|name| (*name, pid(name))).collect()
}

/// Whether all parts live.
pub(crate) fn is_up(state: &StateDir) -> bool {
    parts(state).iter().all(|(_, pid)| pid.is_some())
}

/// Fails when a part that was started has ended.
pub(crate) fn check_parts(state: &StateDir) -> Result<(), Error> {
    let ended = parts(state).into_iter().find(|(_, pid)| pid.is_none());
    ended.map_or(Ok(()), |(name, _)| Err(Daemon::ended(state, name)))
}

/// Fails when a cluster of another directory has the machine.
pub(crate) fn claim_machine(state: &StateDir) -> Result<(), Error> {
    let Ok(text) = fs::read_to_string(CLAIM) else {
        return Ok(());
    };
    let other = PathBuf::from(text.trim());
    let lives = Daemon::all(&StateDir::new(&other)?)
        .iter()
        .any(|(_, process)| process.is_some());
    if other == state.path() || !lives {
        return Ok(());
    }
    Err(Error::Usage {
        field: "--dir",
        value: state.path().display().to_string(),
        remedy: format!(
            "a machine carries one cluster, and one is up in {other}; use it with --dir {other}, \
             or take it down first",
            other = other.display()
        ),
    })
}

/// Notes that the machine is this cluster's.
pub(crate) fn note_claim(state: &StateDir) -> Result<(), Error> {
    fs::write(CLAIM, format!("{}\n", state.path().display())).on("write", CLAIM)
}

/// Removes the note if it is this cluster's.
pub(crate) fn release_machine(state: &StateDir) -> Result<(), Error> {
    let Ok(text) = fs::read_to_string(CLAIM) else {
        return Ok(());
    };
    if Path::new(text.trim()) == state.path() {
        fs::remove_file(CLAIM).on("remove", CLAIM)?;
    }
    Ok(())
}
