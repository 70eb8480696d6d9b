//! A small volume of a test's own: a tmpfs in a mount namespace that a keeper process holds, so
//! that nothing outside sees it and nothing is left behind.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::within;

/// Mounts a tmpfs of `$1` bytes on `$2` and keeps it until standard input is closed.
const KEEP: &str = "mount -t tmpfs -o size=$1 tmpfs \"$2\" && echo mounted && exec cat";

/// A mounted volume; gone with this value.
pub(crate) struct Volume {
    keeper: Child,
    path: PathBuf,
}

impl Volume {
    /// A volume of `bytes` on the directory `path`, made for it. `None`, with the reason on
    /// standard error, where this user may not mount.
    pub(crate) async fn mount(path: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mut keeper = Command::new("unshare")
            .args(["--mount", "sh", "-c", KEEP, "sh", &bytes.to_string()])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(keeper.stdout.take().unwrap()).lines();
        let said = within("the mount", lines.next_line()).await.unwrap();
        if said.is_none() {
            eprintln!("skipped: mounting a volume takes root and a mount namespace");
            return None;
        }
        let path = path.to_owned();
        Some(Self { keeper, path })
    }

    /// A command that sees the volume.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let keeper = self.keeper.id().unwrap();
        command.args([&format!("--mount=/proc/{keeper}/ns/mnt"), "--", program]);
        command
    }

    /// Writes zeros until the volume is full.
    pub(crate) async fn fill(&self) {
        let mut fill = self.command("dd");
        fill.args(["if=/dev/zero", "bs=64k"]);
        fill.arg(format!("of={}", self.ballast().display()));
        fill.stderr(Stdio::null());
        let ended = within("the ballast", fill.status()).await.unwrap();
        assert!(!ended.success(), "the volume never filled up");
    }

    /// Takes the zeros away.
    pub(crate) async fn free(&self) {
        self.run("rm", &[&self.ballast().display().to_string()])
            .await;
    }

    /// Mounts it read-only or writable.
    pub(crate) async fn remount(&self, how: &str) {
        let path = self.path.display().to_string();
        self.run("mount", &["-o", &format!("remount,{how}"), &path])
            .await;
    }

    async fn run(&self, program: &str, arguments: &[&str]) {
        let ended = self.command(program).args(arguments).status();
        assert!(within(program, ended).await.unwrap().success());
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}
