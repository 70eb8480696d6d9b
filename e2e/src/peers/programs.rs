//! Postfix and OpenDKIM out of Debian packages: unpacked into the cache, never installed, and run
//! with their libraries from there.

use std::path::{Path, PathBuf};

use super::error::Error;
use crate::cluster::{Cache, debian};

/// The packages, each with the libraries it needs that a Debian with apt may lack.
const PACKAGES: &[&str] = &[
    "postfix",
    "opendkim",
    "libbsd0",
    "libcom-err2",
    "libdb5.3",
    "libevent-2.1-7",
    "libgssapi-krb5-2",
    "libhashkit2",
    "libicu72",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblua5.3-0",
    "libmd0",
    "libmemcached11",
    "libmilter1.0.1",
    "libnghttp2-14",
    "libnsl2",
    "libopendbx1",
    "libopendkim11",
    "librbl1",
    "libsasl2-2",
    "libssl3",
    "libtirpc3",
    "libunbound8",
    "libvbr2",
];

/// The variable that names where libraries are.
pub(crate) const LIBRARY_VARIABLE: &str = "LD_LIBRARY_PATH";

/// Where Postfix and OpenDKIM lie.
#[derive(Debug, Clone)]
pub struct Programs {
    root: PathBuf,
}

impl Programs {
    /// Finds them in `cache`; downloads them if they are missing, about 14 MB.
    ///
    /// # Errors
    /// When the packages cannot be had; the machine must be a Debian.
    pub async fn ready(cache: &Cache) -> Result<Self, Error> {
        let root = debian::unpacked(cache, PACKAGES).await?;
        Ok(Self { root })
    }

    /// A path in the unpacked packages.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The value of [`LIBRARY_VARIABLE`] with which they run.
    pub(crate) fn library_path(&self) -> String {
        library_path(&self.root)
    }
}

/// The value of [`LIBRARY_VARIABLE`] with which programs of the packages unpacked at `root` run.
pub(super) fn library_path(root: &Path) -> String {
    let arch = std::env::consts::ARCH;
    let dirs = [
        root.join("usr/lib/postfix"),
        root.join(format!("usr/lib/{arch}-linux-gnu")),
        root.join(format!("lib/{arch}-linux-gnu")),
        root.join("usr/lib"),
    ];
    dirs.map(|dir| dir.display().to_string()).join(":")
}
