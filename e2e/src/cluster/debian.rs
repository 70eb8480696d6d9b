//! Programs out of Debian packages: downloaded, unpacked into the cache, never installed.
//!
//! Guarantees: no package script runs, no service starts, nothing outside the cache is written
//! except apt's own lists, which are fetched when they are missing.

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

/// The packages, each with the libraries it needs that a minimal Debian lacks.
const PACKAGES: &[&str] = &[
    "etcd-server",
    "containerd",
    "runc",
    "containernetworking-plugins",
    // What kube-proxy drives, and its libraries.
    "nftables",
    "libbsd0",
    "libedit2",
    "libgmp10",
    "libjansson4",
    "libmd0",
    "libmnl0",
    "libnftables1",
    "libnftnl11",
    "libxtables12",
];

/// The directory into which the cluster's packages are unpacked; fills it if it is not in `cache`.
pub(crate) async fn ready(cache: &Cache) -> Result<PathBuf, Error> {
    unpacked(cache, PACKAGES).await
}

/// The directory into which `packages` are unpacked; fills it if it is not in `cache`.
pub(crate) async fn unpacked(cache: &Cache, packages: &[&str]) -> Result<PathBuf, Error> {
    let entry = entry(packages);
    let unpack = async |dir: PathBuf| unpack(packages, &dir).await;
    cache.entry(&entry, unpack).await
}

/// The directory of the cluster's packages if it is in `cache`.
pub(crate) fn found(cache: &Cache) -> Option<PathBuf> {
    cache.find(&entry(PACKAGES))
}

/// Where in it the libraries lie.
pub(crate) fn library_path(dir: &Path) -> PathBuf {
    dir.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))
}

fn entry(packages: &[&str]) -> String {
    let digest = sha256(packages.join(" ").as_bytes());
    format!(
        "debian-{}-{}",
        release(),
        digest.get(..8).unwrap_or(&digest)
    )
}

async fn unpack(packages: &[&str], dir: &Path) -> Result<(), Error> {
    let archives = tempfile::tempdir().on("create", std::env::temp_dir())?;
    let download = || {
        Program::new("apt-get")
            .args(["download", "-q"])
            .args(packages)
    };
    if download().in_dir(archives.path()).run().await.is_err() {
        Program::new("apt-get").args(["update", "-q"]).run().await?;
        download().in_dir(archives.path()).run().await?;
    }
    for archive in fs::read_dir(archives.path()).on("list", archives.path())? {
        let archive = archive.on("list", archives.path())?.path();
        Program::new("dpkg")
            .args(["-x"])
            .args([archive.as_path(), dir])
            .run()
            .await?;
    }
    Ok(())
}

/// The release of this Debian, `12` or the like; packages of another would not link.
fn release() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_ID="))
        .map_or_else(
            || "unknown".to_owned(),
            |version| version.trim_matches('"').to_owned(),
        )
}
