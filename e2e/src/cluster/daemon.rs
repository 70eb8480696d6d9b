//! A part of the cluster that runs in the background: its process, its pid file, its log.
//!
//! Guarantees: a process is signalled only while its start time is the one noted when it was
//! started, so a reused pid is never hit. A part outlives the program that started it.
//!
//! Caveats: parts started in an [enclosure](super::enclosure) enter it through `nsenter`, which
//! becomes the part itself; the pid stays the same.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    clock::wait_for,
    error::{Error, OnPath},
    paths::StateDir,
};

/// How long a part may take to end after SIGTERM, before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long the kernel may take to remove a killed process.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// What to run; kept beside the pid file, so that a part can be started again.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Spec {
    /// Also the name of its pid file and log.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Variables on top of the ones of this process.
    pub(crate) env: Vec<(String, String)>,
    /// Whether it lives in the enclosure.
    pub(crate) enclosed: Enclosed,
}

/// Where a part lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Enclosed {
    /// In the cluster's mount namespace.
    Yes,
    /// In the machine's.
    No,
}

/// A process known by pid and start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: Pid,
    /// In clock ticks since boot, field 22 of `/proc/PID/stat`.
    start: u64,
}

impl Process {
    /// The living process `pid`; `None` when there is none, or only its unreaped remains.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let (start, state) = stat(pid)?;
        (state != 'Z').then_some(())?;
        Some(Self {
            pid: Pid::from_raw(pid)?,
            start,
        })
    }

    /// All living processes of the machine.
    pub(crate) fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        entries
            .flatten()
            .filter_map(pid)
            .filter_map(Self::find)
            .collect()
    }

    /// The living processes it has started itself.
    pub(crate) fn children(self) -> Vec<Self> {
        let parent = self.pid.to_string();
        let is_child = |process: &Self| {
            let text = fs::read_to_string(format!("/proc/{}/stat", process.pid));
            let text = text.unwrap_or_default();
            // As in `stat`: the name may hold anything.
            let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
            fields.split(' ').nth(1) == Some(&parent)
        };
        Self::all().into_iter().filter(is_child).collect()
    }

    /// Whether it still lives.
    pub(crate) fn lives(self) -> bool {
        Self::find(self.pid()) == Some(self)
    }

    /// Its pid.
    pub(crate) fn pid(self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends it `signal` if it still lives.
    pub(crate) fn signal(self, signal: Signal) {
        if self.lives() {
            // It may end in between; then there is nothing to signal.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Asks it to end, then ends it.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.signal(Signal::TERM);
        if self.gone(TERM_GRACE).await.is_ok() {
            return Ok(());
        }
        self.kill().await
    }

    /// Ends it at once.
    pub(crate) async fn kill(self) -> Result<(), Error> {
        self.signal(Signal::KILL);
        self.gone(KILL_GRACE).await
    }

    /// Waits until it is gone.
    pub(crate) async fn gone(self, bound: Duration) -> Result<(), Error> {
        let what = format!("the end of process {}", self.pid());
        wait_for(&what, bound, "ps", async || {
            Ok((!self.lives()).then_some(()))
        })
        .await
    }
}

/// Start time and state of a process.
fn stat(pid: i32) -> Option<(u64, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may itself hold spaces and parentheses.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

/// A part, started by this run or an earlier one.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    name: String,
    process: Process,
    log: PathBuf,
}

impl Daemon {
    /// Starts `spec` in the background.
    pub(crate) fn start(state: &StateDir, spec: &Spec) -> Result<Self, Error> {
        let name = spec.name.clone();
        state.make("logs")?;
        let log = state.join(format!("logs/{name}.log"));
        let out = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .on("create", &log)?;
        let err = out.try_clone().on("open", &log)?;
        let mut command = command(state, spec)?;
        command
            .args(&spec.args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let program = spec.program.display().to_string();
        let child = command
            .spawn()
            .map_err(|source| Error::Spawn { program, source })?;
        let process = i32::try_from(child.id()).ok().and_then(Process::find);
        let process = process.ok_or_else(|| died(&name, &log))?;
        let noted = format!("{} {}\n", process.pid(), process.start);
        state.write(&format!("pids/{name}"), &noted)?;
        let text = serde_json::to_string_pretty(spec).unwrap_or_default();
        state.write(&format!("specs/{name}.json"), &text)?;
        Ok(Self { name, process, log })
    }

    /// Starts part `name` again, as it was started before.
    pub(crate) fn start_again(state: &StateDir, name: &str) -> Result<Self, Error> {
        let path = state.join(format!("specs/{name}.json"));
        let text = fs::read_to_string(&path).on("read", &path)?;
        let spec = serde_json::from_str(&text)
            .map_err(io::Error::from)
            .on("read", &path)?;
        Self::start(state, &spec)
    }

    /// The living process of part `name`.
    pub(crate) fn find(state: &StateDir, name: &str) -> Option<Process> {
        read_pid_file(&state.join("pids").join(name))
    }

    /// All parts that have a pid file, alive or not.
    pub(crate) fn all(state: &StateDir) -> Vec<(String, Option<Process>)> {
        let Ok(entries) = fs::read_dir(state.join("pids")) else {
            return Vec::new();
        };
        let mut all: Vec<_> = entries
            .flatten()
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let process = read_pid_file(&entry.path());
                (name, process)
            })
            .collect();
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all
    }

    /// The error that part `name` has ended.
    pub(crate) fn ended(state: &StateDir, name: &str) -> Error {
        died(name, &state.join(format!("logs/{name}.log")))
    }

    /// The process behind it.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// Fails when it has ended, with the end of its log.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.process.lives() {
            Ok(())
        } else {
            Err(died(&self.name, &self.log))
        }
    }

    /// Waits until `ready` holds; fails as soon as the part ends.
    pub(crate) async fn wait_until(
        &self,
        what: &str,
        bound: Duration,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), Error> {
        wait_for(what, bound, &self.log.display().to_string(), async || {
            self.check()?;
            Ok(ready().await.then_some(()))
        })
        .await
    }
}

/// The program itself, or `nsenter`, which enters the enclosure and becomes it.
fn command(state: &StateDir, spec: &Spec) -> Result<Command, Error> {
    if spec.enclosed == Enclosed::No {
        return Ok(Command::new(&spec.program));
    }
    let holder = Daemon::find(state, ENCLOSURE).ok_or_else(|| Daemon::ended(state, ENCLOSURE))?;
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--mount=/proc/{}/ns/mnt", holder.pid()))
        .arg("--")
        .arg(&spec.program);
    Ok(command)
}

/// The part whose process holds the mount namespace open.
pub(crate) const ENCLOSURE: &str = "enclosure";

/// The living process a pid file names.
fn read_pid_file(path: &Path) -> Option<Process> {
    let text = fs::read_to_string(path).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let noted: u64 = start.parse().ok()?;
    Process::find(pid.parse().ok()?).filter(|process| process.start == noted)
}

fn died(name: &str, log: &Path) -> Error {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    let tail: Vec<_> = lines.into_iter().rev().collect();
    Error::Died {
        name: name.to_owned(),
        log: log.to_owned(),
        tail: tail.join("\n"),
    }
}
