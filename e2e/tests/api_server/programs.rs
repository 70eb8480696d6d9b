//! Our programs, built as this test is built.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A program that is killed when it is no longer needed.
pub(crate) struct Running(Child);

impl Running {
    /// Starts `command`.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it is ours");
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("it is ours")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it ends");
    }
}

/// The program `name`, built beside this test, and so of the same libraries: nothing but itself is
/// compiled for it.
pub(crate) fn built(name: &str) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--message-format=json", "--workspace"])
        .args(["--test", env!("CARGO_CRATE_NAME"), "--bin", name])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut built = lines.filter_map(|line: Value| line["executable"].as_str().map(PathBuf::from));
    built
        .find(|path| path.ends_with(name))
        .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
