//! named-checkzone, of BIND: whether a real name server would load a zone, and what it makes of it.

use std::fs;

use super::{
    Error,
    bind::BindPrograms,
    programs::{LIBRARY_VARIABLE, library_path},
};
use crate::cluster::{Cache, command::Program, error::OnPath as _};

/// named-checkzone.
#[derive(Debug, Clone)]
pub struct ZoneChecker {
    programs: BindPrograms,
}

impl ZoneChecker {
    /// Finds it in `cache`; downloads it if it is missing, about 16 MB.
    ///
    /// # Errors
    /// When the packages cannot be had; the machine must be a Debian.
    pub async fn ready(cache: &Cache) -> Result<Self, Error> {
        let programs = BindPrograms::ready(cache).await?;
        Ok(Self { programs })
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
        let root = self.programs.root();
        let program = Program::new(root.join("usr/bin/named-checkzone"))
            .env(LIBRARY_VARIABLE, library_path(root))
            .args(["-i", "none", "-k", "fail", "-m", "fail", "-D", "-s", "full"])
            .args(["-o".as_ref(), dump.as_os_str(), origin.as_ref()])
            .args([&zone]);
        program.run().await?;
        Ok(fs::read_to_string(&dump).on("read", &dump)?)
    }
}
