//! A contender that runs: started below a keeper, watched, stopped without a trace.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Contender, Dkim, Spool};
use crate::{
    clock,
    error::{Error, OnPath as _},
    measure::{Tree, Usage, group, keeper::Spec},
    world::World,
};

/// How long a contender may take to greet.
const START_BOUND: Duration = Duration::from_secs(60);
/// How long it may take to end.
const STOP_BOUND: Duration = Duration::from_secs(40);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);
/// Pause between two looks at its memory, which are not free.
const MEMORY_POLL: Duration = Duration::from_millis(500);

/// Who else watches.
#[derive(Debug, Clone)]
pub enum Watch {
    /// Nobody.
    Unwatched,
    /// `strace`, counting syncs into this file; slows the contender down.
    Syncs(PathBuf),
}

/// A running contender; killed when dropped.
#[derive(Debug)]
pub struct Running {
    keeper: Child,
    tree: Tree,
    group: Option<PathBuf>,
    log: PathBuf,
    pid_file: PathBuf,
    peak: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    /// From the start to the first greeting.
    pub listening_after: Duration,
}

impl Running {
    /// Starts `contender` and waits until it takes mail.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(
        contender: &dyn Contender,
        world: &World,
        (dkim, spool): (Dkim, Spool),
        watch: &Watch,
    ) -> Result<Self, Error> {
        let state = world.dir().join(contender.state());
        if spool == Spool::Empty && state.exists() {
            fs::remove_dir_all(&state).on("remove", &state)?;
        }
        fs::create_dir_all(&state).on("create", &state)?;
        let launch = contender.prepare(world, dkim)?;
        let group = group(contender.key());
        let spec = Spec {
            program: launch.program,
            args: launch.args,
            env: launch.env,
            dir: state.clone(),
            mounts: launch.mounts,
            group: group.clone(),
            pid_file: state.join("pid"),
            log: world.dir().join(format!("{}.log", contender.key())),
        };
        // What an earlier run wrote would be taken for this one's.
        let _ = fs::remove_file(&spec.pid_file);
        let _ = fs::remove_file(&spec.log);
        let begun = clock::now();
        let mut keeper = spawn(&spec, &state, watch)?;
        drain(&mut keeper);
        let mut running = Self {
            tree: Tree::new(keeper.id(), group.clone(), world.dir()),
            keeper,
            group,
            log: spec.log,
            pid_file: spec.pid_file,
            peak: Arc::default(),
            ended: Arc::default(),
            listening_after: Duration::ZERO,
        };
        running.wait("a greeting", START_BOUND, || Ok(contender.is_ready(world)))?;
        running.listening_after = begun.elapsed();
        running.watch_memory();
        Ok(running)
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        self.tree.usage()
    }

    /// The most memory it held since this was last asked, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let now = self.tree.memory();
        self.peak.swap(0, Ordering::Relaxed).max(now)
    }

    /// The memory it holds now, in bytes.
    pub fn memory_now(&self) -> u64 {
        self.tree.memory()
    }

    /// Waits until `done` holds; fails when the contender ends before.
    ///
    /// # Errors
    /// When it does not hold in time, or cannot be found out.
    pub fn wait(
        &mut self,
        what: &str,
        bound: Duration,
        mut done: impl FnMut() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let start = clock::now();
        while !done()? {
            let ended = self.keeper.try_wait().on("wait for", &self.log)?;
            if let Some(status) = ended {
                return Err(Error::Program {
                    program: self.log.display().to_string(),
                    reason: format!("ended ({status}): {}", tail(&self.log)),
                });
            }
            if start.elapsed() > bound {
                return Err(Error::Late {
                    what: what.to_owned(),
                    seconds: bound.as_secs(),
                    log: self.log.clone(),
                });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// When it has to be killed.
    pub fn stop(mut self) -> Result<(), Error> {
        let main = self.main();
        signal(main, Signal::TERM);
        let start = clock::now();
        while self.keeper.try_wait().on("wait for", &self.log)?.is_none() {
            let members = self.tree.members();
            if !members.iter().any(|member| Some(*member) == main) {
                // What it started and left behind.
                let others = members.into_iter().filter(|pid| *pid != self.keeper.id());
                others.for_each(|pid| signal(Some(pid), Signal::TERM));
            }
            if start.elapsed() > STOP_BOUND {
                return Err(Error::Late {
                    what: "the end of it".to_owned(),
                    seconds: STOP_BOUND.as_secs(),
                    log: self.log.clone(),
                });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The contender's main process.
    fn main(&self) -> Option<u32> {
        let pid = fs::read_to_string(&self.pid_file).ok()?;
        pid.trim().parse().ok()
    }

    fn watch_memory(&self) {
        let (tree, peak) = (self.tree.clone(), Arc::clone(&self.peak));
        let ended = Arc::clone(&self.ended);
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(tree.memory(), Ordering::Relaxed);
                thread::sleep(MEMORY_POLL);
            }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Ok(None) = self.keeper.try_wait() {
            for member in self.tree.members() {
                signal(Some(member), Signal::KILL);
            }
            let _ = self.keeper.wait();
        }
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Sends a process a signal; it may have ended.
fn signal(pid: Option<u32>, signal: Signal) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Starts the keeper: this program itself, with another command.
fn spawn(spec: &Spec, state: &Path, watch: &Watch) -> Result<Child, Error> {
    let path = state.join("keeper.json");
    let text = serde_json::to_vec_pretty(spec).map_err(io::Error::from);
    fs::write(&path, text.on("write", &path)?).on("write", &path)?;
    let keeper = keeper_program()?;
    let mut command = match watch {
        Watch::Unwatched => Command::new(&keeper),
        Watch::Syncs(counts) => {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-c", "-U", "name,calls", "-e"]);
            strace.arg("trace=fsync,fdatasync,sync_file_range,sync,syncfs");
            strace.arg("-o").arg(counts).arg(&keeper);
            strace
        }
    };
    command.arg("keeper").arg(&path);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().map_err(|source| Error::Program {
        program: command.get_program().to_string_lossy().into_owned(),
        reason: source.to_string(),
    })
}

/// `postrider-bench` itself, which lies beside the tests that drive it.
fn keeper_program() -> Result<PathBuf, Error> {
    let own = std::env::current_exe().on("find", "/proc/self/exe")?;
    let folder = own.parent().unwrap_or_else(|| Path::new("/"));
    let beside = [folder, folder.parent().unwrap_or(folder)];
    let found = beside.map(|folder| folder.join("postrider-bench"));
    Ok(found.into_iter().find(|path| path.exists()).unwrap_or(own))
}

/// Reads and forgets what the contender writes to standard output, as a container's runtime reads
/// and keeps it.
fn drain(keeper: &mut Child) {
    if let Some(mut output) = keeper.stdout.take() {
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while io::Read::read(&mut output, &mut buffer).is_ok_and(|count| count > 0) {}
        });
    }
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last: Vec<_> = text.lines().rev().take(5).collect();
    last.into_iter().rev().collect::<Vec<_>>().join("\n")
}
