//! The images of operator and relay, as their Containerfiles say.
//!
//! Promises: a tag is the digest of the program, so that a rebuilt program is a new image to the
//! cluster and an old one is never taken for it.

use std::{fs, path::Path};

use super::{Programs, root};
use crate::cluster::{Archive, Error, digest::sha256, error::OnPath as _};

/// An image in the cluster.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name without the tag.
    pub repository: &'static str,
    /// Its tag.
    pub tag: String,
}

/// The images of Postrider.
#[derive(Debug, Clone)]
pub struct Images {
    /// The operator's.
    pub operator: Image,
    /// The relay's.
    pub relay: Image,
}

impl Images {
    /// Packs both by their Containerfiles and hands them to `load`, which puts an image into a
    /// cluster.
    ///
    /// # Errors
    /// When an image cannot be packed or loaded.
    pub async fn load(
        programs: &Programs,
        load: impl AsyncFn(Archive) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let operator = Image::of("localhost/postrider-operator", &programs.operator())?;
        load(operator.pack(&programs.operator(), "operator/Containerfile")?).await?;
        let relay = Image::of("localhost/postrider-relay", &programs.relay())?;
        load(relay.pack(&programs.relay(), "relay/Containerfile")?).await?;
        Ok(Self { operator, relay })
    }
}

impl Image {
    fn of(repository: &'static str, program: &Path) -> Result<Self, Error> {
        let digest = sha256(&fs::read(program).on("read", program)?);
        Ok(Self {
            repository,
            tag: digest.chars().take(12).collect(),
        })
    }

    fn pack(&self, program: &Path, containerfile: &str) -> Result<Archive, Error> {
        let context = program.parent().unwrap_or(program);
        let name = format!("{}:{}", self.repository, self.tag);
        Archive::of_containerfile(&name, &root().join(containerfile), context)
    }
}
