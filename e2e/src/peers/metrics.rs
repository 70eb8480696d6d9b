//! What Prometheus thinks of metrics: the rules of `promtool check metrics`, by its own library.

use std::{fs, path::PathBuf};

use super::Error;
use crate::cluster::{Cache, command::Program, error::OnPath as _, go::PROMLINT};

/// The judge.
#[derive(Debug, Clone)]
pub struct MetricsJudge {
    program: PathBuf,
}

impl MetricsJudge {
    /// Finds it in `cache`; builds it if it is missing, which takes seconds.
    ///
    /// # Errors
    /// When it cannot be built.
    pub async fn ready(cache: &Cache) -> Result<Self, Error> {
        let program = PROMLINT.ready(cache).await?.join("promlint");
        Ok(Self { program })
    }

    /// Judges `text`, metrics in the text format.
    ///
    /// # Errors
    /// When the text cannot be read or breaks a rule, with the metrics and what is wrong.
    pub async fn judge(&self, text: &str) -> Result<(), Error> {
        let dir = tempfile::tempdir().on("create", std::env::temp_dir())?;
        let metrics = dir.path().join("metrics");
        fs::write(&metrics, text).on("write", &metrics)?;
        Ok(Program::new(&self.program).args([&metrics]).run().await?)
    }
}
