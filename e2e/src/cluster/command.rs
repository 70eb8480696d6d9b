//! Programs run to their end, with their failure told in full.

use std::{ffi::OsStr, path::Path, process::Stdio};

use tokio::process::Command;

use super::error::Error;

/// How much of a failed program's standard error is shown, in bytes from its end.
const SHOWN: usize = 4096;

/// A program about to be run to its end.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    shown: String,
}

impl Program {
    /// A run of `program`, a path or a name looked up in `PATH`.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).kill_on_drop(true);
        Self { command, shown }
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.shown.push(' ');
            self.shown.push_str(&arg.as_ref().to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in `dir`.
    pub(crate) fn in_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it to its end and returns its standard output.
    pub(crate) async fn output(mut self) -> Result<String, Error> {
        let output = self.command.output().await.map_err(|source| Error::Spawn {
            program: self.shown.clone(),
            source,
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let from = stderr.floor_char_boundary(stderr.len().saturating_sub(SHOWN));
        let tail = stderr
            .get(from..)
            .map_or_else(String::new, |tail| tail.trim().to_owned());
        Err(Error::Exit {
            program: self.shown,
            status: output.status,
            output: tail,
        })
    }

    /// Runs it to its end; its output does not matter.
    pub(crate) async fn run(self) -> Result<(), Error> {
        self.output().await.map(drop)
    }
}
