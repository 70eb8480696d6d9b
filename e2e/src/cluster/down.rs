//! Taking a cluster down and leaving the machine as it was.
//!
//! Guarantees: may be repeated, and works on what a killed run left. Only processes that the pid
//! files name (by pid and start time), that live in the cluster's own mount namespace, or in its
//! control groups are ended. The logs stay, everything else in the state directory goes.

use super::{
    containerd,
    daemon::Daemon,
    debian, enclosure,
    error::Error,
    host, network,
    paths::{Cache, StateDir},
    status,
};

/// The order in which parts are ended: who would start something anew comes first.
const ORDER: &[&str] = &[
    "kubelet",
    "kube-proxy",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
    "kube-apiserver",
    "etcd",
];

/// Takes down the cluster of `state`.
pub(crate) async fn down(state: &StateDir) -> Result<(), Error> {
    let parts = Daemon::all(state);
    for name in ORDER {
        let found = parts.iter().find(|(part, _)| part == name);
        if let Some((_, Some(process))) = found {
            process.stop().await?;
        }
    }
    host::clear_cgroups().await?;
    let holder = parts.iter().find(|(name, _)| name == "enclosure");
    if let Some((_, Some(holder))) = holder {
        enclosure::close(*holder).await?;
    }
    for (_, process) in Daemon::all(state) {
        if let Some(process) = process {
            process.stop().await?;
        }
    }
    for shim in containerd::shims(state) {
        shim.kill().await?;
    }
    network::down(debian::found(&Cache::of_user()?).as_deref()).await?;
    host::restore(state)?;
    state.empty_but_logs()?;
    status::release_machine(state)
}
