//! The cluster as a person with `kubectl` sees it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cluster::{Cluster, Error, command::Program};

/// `kubectl` with its kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// The one of `cluster`.
    pub fn of(cluster: &Cluster) -> Self {
        Self::new(cluster.tools().kubectl(), cluster.kubeconfig())
    }

    /// `program` with `kubeconfig`.
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self {
            program,
            kubeconfig,
        }
    }

    /// The program itself.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The kubeconfig it uses.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs it with `args`; returns what it prints.
    ///
    /// # Errors
    /// When it fails; the error holds what it wrote.
    pub async fn run(&self, args: &[&str]) -> Result<String, Error> {
        Program::new(&self.program)
            .env("KUBECONFIG", &self.kubeconfig)
            .args(args)
            .output()
            .await
    }

    /// The object that `args` name, as `get -o json` prints it; `None`: it does not exist.
    ///
    /// # Errors
    /// When it fails for another reason or prints no JSON.
    pub async fn get(&self, args: &[&str]) -> Result<Option<Value>, Error> {
        let full = [&["get", "-o", "json", "--ignore-not-found"], args].concat();
        let text = self.run(&full).await?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|source| Error::Usage {
                field: "kubectl get",
                value: args.join(" "),
                remedy: format!("it printed no JSON: {source}"),
            })
    }

    /// The condition `kind` of the object that `args` name: its status and message.
    ///
    /// # Errors
    /// Those of [`Kubectl::get`].
    pub async fn condition(
        &self,
        args: &[&str],
        kind: &str,
    ) -> Result<Option<(String, String)>, Error> {
        let Some(object) = self.get(args).await? else {
            return Ok(None);
        };
        let conditions = object
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let text = |value: &Value, key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let found = conditions
            .and_then(|all| all.iter().find(|c| text(c, "type") == kind))
            .map(|c| (text(c, "status"), text(c, "message")));
        Ok(found)
    }
}
