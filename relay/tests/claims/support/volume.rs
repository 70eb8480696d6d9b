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

/// Variable that leaves out the tests that mount a volume, for who may not.
const WITHOUT_VOLUMES: &str = "POSTRIDER_WITHOUT_VOLUMES";

/// Mounts a tmpfs of `$1` bytes on `$2` and keeps it until standard input is closed.
const KEEP: &str = "mount -t tmpfs -o size=$1 tmpfs \"$2\" && echo mounted && exec cat";

/// A mounted volume; gone with this value.
pub(crate) struct Volume {
    keeper: Child,
    path: PathBuf,
}

impl Volume {
    /// A volume of `bytes` on the directory `path`, made for it. `None` where [`WITHOUT_VOLUMES`] says
    /// that there are to be none.
    pub(crate) async fn mount(path: &Path, bytes: u64) -> Option<Self> {
        if std::env::var_os(WITHOUT_VOLUMES).is_some() {
            eprintln!("left out, since {WITHOUT_VOLUMES} is set");
            return None;
        }
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
        assert!(
            said.is_some(),
            "no volume was mounted; run this as root where a mount namespace can be made (unshare \
             --mount), or set {WITHOUT_VOLUMES}=1 to leave out the tests of full and read-only volumes"
        );
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
