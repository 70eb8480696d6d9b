//! named-checkzone, of BIND: whether a real name server would load a zone, and what it makes of it.

use std::{fs, path::PathBuf};

use super::{
    Error,
    programs::{LIBRARY_VARIABLE, library_path},
};
use crate::cluster::{Cache, command::Program, debian, error::OnPath as _};

/// The package, with the libraries it needs that a Debian with apt may lack.
const PACKAGES: &[&str] = &[
    "bind9-utils",
    "bind9-libs",
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

/// named-checkzone.
#[derive(Debug, Clone)]
pub struct ZoneChecker {
    root: PathBuf,
}

impl ZoneChecker {
    /// Finds it in `cache`; downloads it if it is missing, about 15 MB.
    ///
    /// # Errors
    /// When the packages cannot be had; the machine must be a Debian.
    pub async fn ready(cache: &Cache) -> Result<Self, Error> {
        let root = debian::unpacked(cache, PACKAGES).await?;
        Ok(Self { root })
    }

    /// Loads `text` as the zone `origin` and gives its records back, one a line, owner names
    /// complete (RFC 1035 section 5.1). Servers that the zone names are not looked up.
    ///
    /// # Errors
    /// When the zone would not load, with the reasons.
    pub async fn load(&self, origin: &str, text: &str) -> Result<String, Error> {
        let dir = tempfile::tempdir().on("create", std::env::temp_dir())?;
        let zone = dir.path().join("zone");
        fs::write(&zone, text).on("write", &zone)?;
        let dump = dir.path().join("dump");
        let program = Program::new(self.root.join("usr/bin/named-checkzone"))
            .env(LIBRARY_VARIABLE, library_path(&self.root))
            .args(["-i", "none", "-k", "fail", "-m", "fail", "-D", "-s", "full"])
            .args(["-o".as_ref(), dump.as_os_str(), origin.as_ref()])
            .args([&zone]);
        program.run().await?;
        Ok(fs::read_to_string(&dump).on("read", &dump)?)
    }
}
