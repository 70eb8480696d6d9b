//! The keeper: a small process between the benchmark and a contender, the parent of all that the
//! contender starts and leaves behind.
//!
//! Promises: it enters the control group before the contender exists, so nothing escapes the
//! account; it is the reaper of orphans, so their CPU time and bytes stay in its own `/proc` files;
//! it ends when the last of them has ended.
//!
//! A contender from Debian packages sees the machine as if it were installed: in a mount namespace
//! of its own its files lie over `/usr` and `/etc`, and `/var` and `/run` are its state directory.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{WaitOptions, set_child_subreaper, wait};
use serde::{Deserialize, Serialize};

use crate::error::{Error, OnPath as _};

/// What to keep.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables on top of the benchmark's own.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub dir: PathBuf,
    /// What it sees elsewhere than it lies.
    pub mounts: Vec<Mount>,
    /// The control group to enter, a directory.
    pub group: Option<PathBuf>,
    /// Where the contender's pid is written.
    pub pid_file: PathBuf,
    /// Where standard error goes; standard output is the keeper's.
    pub log: PathBuf,
}

/// A directory or file seen in another place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Mount {
    /// `from` instead of what lies at `at`.
    Bind {
        /// What is seen.
        from: PathBuf,
        /// Where.
        at: PathBuf,
    },
    /// The files of `from` among those that lie at `at`.
    Over {
        /// What is seen too.
        from: PathBuf,
        /// Where.
        at: PathBuf,
    },
}

/// Keeps the contender of the [`Spec`] in the file `spec` until all of it has ended.
///
/// # Errors
/// When it cannot be started.
pub fn keep(spec: &Path) -> Result<(), Error> {
    let text = fs::read_to_string(spec).on("read", spec)?;
    let spec: Spec = serde_json::from_str(&text)
        .map_err(std::io::Error::from)
        .on("read", spec)?;
    if let Some(group) = &spec.group {
        // 0 is the process that writes it.
        let procs = group.join("cgroup.procs");
        fs::write(&procs, "0").on("write", &procs)?;
    }
    // The pid says only that it is to be so, not for whom.
    set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(Into::into)
        .on("become the reaper in", "/proc")?;
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(&spec.log)
        .on("open", &spec.log)?;
    let mut command = command(&spec);
    command
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.dir)
        .stdin(Stdio::null())
        .stderr(log);
    let child = command.spawn().map_err(|source| Error::Program {
        program: spec.program.display().to_string(),
        reason: source.to_string(),
    })?;
    let mut pid_file = fs::File::create(&spec.pid_file).on("create", &spec.pid_file)?;
    writeln!(pid_file, "{}", child.id()).on("write", &spec.pid_file)?;
    // Until there is no child left.
    while wait(WaitOptions::empty()).is_ok() {}
    Ok(())
}

/// The contender itself, or a shell that mounts and then becomes it.
fn command(spec: &Spec) -> Command {
    if spec.mounts.is_empty() {
        let mut command = Command::new(&spec.program);
        command.args(&spec.args);
        return command;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-ec"]);
    command.arg(format!("{}exec \"$@\"", script(&spec.mounts)));
    command.arg("sh").arg(&spec.program).args(&spec.args);
    command
}

/// The mounts as lines of a shell.
fn script(mounts: &[Mount]) -> String {
    let line = |mount: &Mount| match mount {
        Mount::Bind { from, at } => format!("mount --bind {} {}\n", quoted(from), quoted(at)),
        Mount::Over { from, at } => {
            let (from, at) = (quoted(from), quoted(at));
            format!("mount -t overlay -o ro,lowerdir={from}:{at} none {at}\n")
        }
    };
    mounts.iter().map(line).collect()
}

/// A path in single quotes.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_become_shell_lines() {
        let mounts = [
            Mount::Bind {
                from: "/a'b".into(),
                at: "/var".into(),
            },
            Mount::Over {
                from: "/c/usr".into(),
                at: "/usr".into(),
            },
        ];
        assert_eq!(
            script(&mounts),
            "mount --bind '/a'\\''b' '/var'\n\
             mount -t overlay -o ro,lowerdir='/c/usr':'/usr' none '/usr'\n"
        );
    }
}
