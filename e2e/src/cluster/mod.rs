//! A real single-node Kubernetes, made from what package registries hold and taken down without
//! a trace.
//!
//! The way up, in the order of its files: `tools` finds or makes the programs (`go`,
//! `debian`, `small_programs`) in the cache of `paths`; `host` and `network` prepare the
//! machine, noting how it was; `enclosure` opens a mount namespace for the node; `pki` makes
//! the certificates; then come the parts, one file each: `etcd`, `api_server`,
//! `containerd`, `controllers`, `kubelet`, `proxy`, `dns`; `objects` and `storage`
//! fill it. `up` and `down` are the order of it all.
//!
//! Guarantees: all state is in one directory and one kernel bridge; no packet leaves the machine;
//! a system containerd, kubelet, kubeconfig or packet filter is not touched; [`Cluster::down`]
//! leaves the machine as it was found.
//!
//! Caveats: takes root; one cluster a machine at a time; a machine whose packet filter drops
//! forwarded packets by default drops those between pods.

use std::{
    env,
    path::{Path, PathBuf},
};

mod api_server;
mod audit;
pub(crate) mod clock;
pub(crate) mod command;
mod containerd;
mod containerfile;
mod controllers;
pub(crate) mod daemon;
pub(crate) mod debian;
pub(crate) mod digest;
mod dns;
mod down;
mod enclosure;
pub(crate) mod error;
pub(crate) mod etcd;
pub(crate) mod go;
mod host;
mod image;
mod kubeconfig;
mod kubelet;
mod network;
mod objects;
pub(crate) mod paths;
mod pki;
mod progress;
mod proxy;
mod small_programs;
mod status;
mod storage;
mod tools;
mod up;

pub use api_server::{ApiServer, client};
pub use audit::Write;
pub use clock::{Stopwatch, wait_for};
pub use containerd::PROBE_IMAGE;
pub use containerfile::Containerfile;
pub use dns::Dns;
pub use error::Error;
pub use image::Archive;
pub use kubeconfig::acting_as;
pub use kubelet::NODE;
pub use network::{BRIDGE, CIDR, DNS_SERVICE, HOST, SERVICE_CIDR, receivers};
pub use paths::{Cache, StateDir};
pub use progress::Progress;
pub use storage::{CLASS, SMALL_CLASS, SMALL_MIB};
pub use tools::Tools;

/// The variable with the kubeconfig of the cluster under test, ours or the user's.
pub const KUBECONFIG_VARIABLE: &str = "E2E_KUBECONFIG";
/// The variable with the state directory, set only if the cluster is ours.
pub const STATE_VARIABLE: &str = "E2E_STATE_DIR";

/// A cluster of ours that is up.
#[derive(Debug, Clone)]
pub struct Cluster {
    state: StateDir,
    tools: Tools,
}

impl Cluster {
    /// Brings up the cluster of `dir`, which is emptied first; if it is up, it is used as it is.
    ///
    /// # Errors
    /// Without root, when another cluster has the machine, or when a part does not come up.
    pub async fn up(dir: &Path, progress: &Progress) -> Result<Self, Error> {
        up::up(dir, progress).await
    }

    /// The cluster of `dir`, which must be up.
    ///
    /// # Errors
    /// When a part of it does not run.
    pub async fn attach(dir: &Path, progress: &Progress) -> Result<Self, Error> {
        let state = StateDir::new(dir)?;
        if !status::is_up(&state) {
            return Err(Error::Usage {
                field: "--dir",
                value: state.path().display().to_string(),
                remedy: "no cluster is up there; bring it up with e2e-cluster up".to_owned(),
            });
        }
        let tools = Tools::ready(&Cache::of_user()?, progress).await?;
        Ok(Self { state, tools })
    }

    /// Takes down what is or was in `dir`; to do so twice is no error.
    ///
    /// # Errors
    /// When something cannot be ended or removed.
    pub async fn down(dir: &Path) -> Result<(), Error> {
        down::down(&StateDir::new(dir)?).await
    }

    /// Each part of the cluster in `dir` with its pid, if it lives.
    ///
    /// # Errors
    /// When the path cannot be resolved.
    pub fn parts(dir: &Path) -> Result<Vec<(&'static str, Option<i32>)>, Error> {
        Ok(status::parts(&StateDir::new(dir)?))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.kubeconfig()
    }

    /// An administrator's client.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<kube::Client, Error> {
        client(&self.kubeconfig()).await
    }

    /// Its name server and test zones.
    pub fn dns(&self) -> Dns {
        Dns::of(&self.state)
    }

    /// Its programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Its directory.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// Puts an image into the node's store, for `imagePullPolicy: IfNotPresent`.
    ///
    /// # Errors
    /// When the image cannot be packed or imported.
    pub async fn load_image(&self, image: &Archive) -> Result<(), Error> {
        containerd::import(&self.tools, &self.state, image).await
    }

    /// Kills part `name`, `kubelet` or another of [`Cluster::parts`], with SIGKILL.
    ///
    /// # Errors
    /// When it does not run, or is not gone in ten seconds.
    pub async fn kill_part(&self, name: &str) -> Result<(), Error> {
        let found = daemon::Daemon::find(&self.state, name);
        let process = found.ok_or_else(|| daemon::Daemon::ended(&self.state, name))?;
        process.kill().await
    }

    /// Kills every process of a container with SIGKILL; `id` is the one in the pod's status,
    /// `containerd://...`. Returns how many there were.
    ///
    /// # Errors
    /// When a process is not gone in ten seconds.
    pub async fn kill_container(&self, id: &str) -> Result<usize, Error> {
        let processes = containerd::processes(id);
        for process in &processes {
            process.kill().await?;
        }
        Ok(processes.len())
    }

    /// The processes of a container, by their pids on this machine.
    pub fn container_pids(&self, id: &str) -> Vec<i32> {
        let processes = containerd::processes(id);
        processes.into_iter().map(daemon::Process::pid).collect()
    }

    /// What service accounts have written so far, by the API server's audit log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn writes(&self) -> Result<Vec<Write>, Error> {
        audit::read(&self.state)
    }

    /// Starts a killed part again, as it was.
    ///
    /// # Errors
    /// When there never was such a part, or it cannot be started.
    pub fn start_part(&self, name: &str) -> Result<(), Error> {
        daemon::Daemon::start_again(&self.state, name).map(drop)
    }

    /// The variables with which a command finds this cluster.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let kubeconfig = self.kubeconfig().display().to_string();
        let path = env::var("PATH").unwrap_or_default();
        vec![
            (KUBECONFIG_VARIABLE, kubeconfig.clone()),
            ("KUBECONFIG", kubeconfig),
            (STATE_VARIABLE, self.state.path().display().to_string()),
            ("PATH", self.tools.search_path(&path)),
        ]
    }
}
