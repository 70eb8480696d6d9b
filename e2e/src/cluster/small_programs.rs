//! The two small programs that run in containers of the cluster itself: the pause program that
//! holds a pod's namespaces and the probe the tests send into pods.
//!
//! They use the standard library only, so one `rustc` call links each statically in a second,
//! without the dependencies of this crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    command::Program,
    digest::sha256,
    error::{Error, OnPath},
    paths::Cache,
};

/// A program in one source file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmallProgram {
    name: &'static str,
    source: &'static str,
}

impl SmallProgram {
    /// Sleeps for ever.
    pub(crate) const PAUSE: Self = Self {
        name: "pause",
        source: include_str!("../bin/e2e-pause.rs"),
    };
    /// Serves, resolves, connects, reads and writes.
    pub(crate) const PROBE: Self = Self {
        name: "probe",
        source: include_str!("../bin/e2e-probe.rs"),
    };

    /// Its path; links it if it is not in `cache`.
    pub(crate) async fn ready(&self, cache: &Cache) -> Result<PathBuf, Error> {
        let digest = sha256(self.source.as_bytes());
        let entry = format!("{}-{}", self.name, digest.get(..8).unwrap_or(&digest));
        let build = async |dir: PathBuf| self.build(&dir).await;
        let dir = cache.entry(&entry, build).await?;
        Ok(dir.join(self.name))
    }

    async fn build(&self, dir: &Path) -> Result<(), Error> {
        let source = dir.join(format!("{}.rs", self.name));
        fs::write(&source, self.source).on("write", &source)?;
        Program::new("rustc")
            .args([
                "--edition=2024",
                "-Copt-level=2",
                "-Cstrip=symbols",
                "-Cpanic=abort",
            ])
            .args([
                "-Ctarget-feature=+crt-static",
                "--crate-name",
                self.name,
                "-o",
                self.name,
            ])
            .args([&source])
            .in_dir(dir)
            .run()
            .await
    }
}
