//! The three programs, linked statically so that an image around one needs nothing else.

use std::path::PathBuf;

use super::root;
use crate::cluster::{Error, command::Program};

/// The target whose C library can be linked statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The cargo profile of images.
const PROFILE: &str = "image";

/// The built programs.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Builds what is not built yet.
    ///
    /// # Errors
    /// When a program does not compile.
    pub async fn ready() -> Result<Self, Error> {
        let target_dir = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root().join("target"), PathBuf::from);
        Program::new("cargo")
            .args(["build", "--quiet", "--profile", PROFILE, "--target", TARGET])
            .args(["-p", "postrider-operator"])
            .args(["-p", "postrider-relay"])
            .args(["-p", "postrider-cli"])
            // Only for our target: build scripts and macros stay as they are.
            .env(
                "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
                "-C target-feature=+crt-static",
            )
            .in_dir(&root())
            .run()
            .await?;
        Ok(Self {
            directory: target_dir.join(TARGET).join(PROFILE),
        })
    }

    /// `postrider-operator`.
    pub fn operator(&self) -> PathBuf {
        self.directory.join("postrider-operator")
    }

    /// `postrider-relay`.
    pub fn relay(&self) -> PathBuf {
        self.directory.join("postrider-relay")
    }

    /// `postrider`, the command.
    pub fn cli(&self) -> PathBuf {
        self.directory.join("postrider")
    }
}
