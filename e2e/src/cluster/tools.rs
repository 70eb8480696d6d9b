//! The programs a cluster is made of: which versions, where from, where they lie in the cache.
//!
//! Guarantees: after [`Tools::ready`] every program is there; nothing was installed on the
//! machine, no service started, and a second call is a look at the cache.

use std::path::{Path, PathBuf};

use super::{
    debian, error::Error, go, paths::Cache, progress::Progress, small_programs::SmallProgram,
};

/// All programs, by path.
#[derive(Debug, Clone)]
pub struct Tools {
    kubernetes: PathBuf,
    coredns: PathBuf,
    helm: PathBuf,
    debian: PathBuf,
    pause: PathBuf,
    probe: PathBuf,
}

impl Tools {
    /// Finds them in `cache`; builds or downloads what is missing.
    ///
    /// # Errors
    /// When a build or a download fails.
    pub async fn ready(cache: &Cache, progress: &Progress) -> Result<Self, Error> {
        let kubernetes = go::KUBERNETES;
        let (coredns, helm) = (go::COREDNS, go::HELM);
        Ok(Self {
            debian: progress
                .step("Debian packages", debian::ready(cache))
                .await?,
            kubernetes: progress
                .step(&kubernetes.title()?, kubernetes.ready(cache))
                .await?,
            coredns: progress
                .step(&coredns.title()?, coredns.ready(cache))
                .await?,
            helm: progress.step(&helm.title()?, helm.ready(cache)).await?,
            pause: progress
                .step("pause program", SmallProgram::PAUSE.ready(cache))
                .await?,
            probe: progress
                .step("probe program", SmallProgram::PROBE.ready(cache))
                .await?,
        })
    }

    /// Only what an API server without nodes takes.
    ///
    /// # Errors
    /// When a build or a download fails.
    pub(crate) async fn api_server_only(cache: &Cache) -> Result<(PathBuf, PathBuf), Error> {
        let debian = debian::ready(cache).await?;
        let kubernetes = go::KUBERNETES.ready(cache).await?;
        Ok((
            debian.join("usr/bin/etcd"),
            kubernetes.join("kube-apiserver"),
        ))
    }

    /// A command of Kubernetes, `kubelet` or another.
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }

    /// `kubectl`.
    pub fn kubectl(&self) -> PathBuf {
        self.kubernetes("kubectl")
    }

    /// `coredns`.
    pub fn coredns(&self) -> PathBuf {
        self.coredns.join("coredns")
    }

    /// `helm`.
    pub fn helm(&self) -> PathBuf {
        self.helm.join("helm")
    }

    /// A file of a Debian package, by its path below `/`.
    pub fn debian(&self, path: &str) -> PathBuf {
        self.debian.join(path)
    }

    /// Where the libraries of the Debian programs lie.
    pub(crate) fn library_path(&self) -> PathBuf {
        debian::library_path(&self.debian)
    }

    /// The program of the pause container, linked statically.
    pub(crate) fn pause(&self) -> &Path {
        &self.pause
    }

    /// The probe that the tests run in pods, linked statically.
    pub fn probe(&self) -> &Path {
        &self.probe
    }

    /// The directories of the commands a person wants at hand, then `tail`: a value for `PATH`.
    pub fn search_path(&self, tail: &str) -> String {
        let dirs = [
            self.kubernetes.clone(),
            self.helm.clone(),
            self.debian("usr/bin"),
            self.debian("usr/sbin"),
        ];
        let mut path: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        path.push(tail.to_owned());
        path.join(":")
    }
}
