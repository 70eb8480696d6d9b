//! What a contender uses: CPU time, memory and bytes written, of all its processes, those that
//! have ended included.
//!
//! CPU time is that of the control group where there is one (version 2; `cpu.stat` needs no
//! controller), else the sum over the processes that live plus what the keeper reaped. Bytes
//! written are `write_bytes` of `/proc/PID/io`: what a process caused to be sent to the disk, with
//! the files of its log, without the journal of the filesystem. Caveat: a process whose parent
//! ignores SIGCHLD takes its bytes with it (Exim's delivery processes).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::param::clock_ticks_per_second;

/// What has been used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Bytes the processes had written to the disk.
    pub written: u64,
    /// Bytes the disk was sent by the whole machine.
    pub device: u64,
}

impl Usage {
    /// What was used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written.saturating_sub(before.written),
            device: self.device.saturating_sub(before.device),
        }
    }
}

/// The processes below a keeper.
#[derive(Debug, Clone)]
pub struct Tree {
    keeper: u32,
    group: Option<PathBuf>,
    /// The statistics of the disk below the spool.
    device: Option<PathBuf>,
}

impl Tree {
    /// Those of the keeper `keeper`, in the control group `group`, with their spools below `dir`.
    pub fn new(keeper: u32, group: Option<PathBuf>, dir: &Path) -> Self {
        Self {
            keeper,
            group,
            device: device(dir),
        }
    }

    /// What they have used.
    pub fn usage(&self) -> Usage {
        let members = self.members();
        let cpu = self
            .group
            .as_deref()
            .and_then(group_cpu)
            .unwrap_or_else(|| members.iter().map(|pid| process_cpu(*pid)).sum());
        Usage {
            cpu,
            written: members.iter().map(|pid| written(*pid)).sum(),
            device: self.device.as_deref().map_or(0, sent_to),
        }
    }

    /// Bytes of memory they hold, each shared page once (PSS).
    pub fn memory(&self) -> u64 {
        let members = self.members().into_iter();
        let contender = members.filter(|pid| *pid != self.keeper);
        contender.map(memory).sum()
    }

    /// The keeper and all its descendants.
    pub fn members(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
        let mut members = vec![self.keeper];
        let mut next = 0;
        while let Some(&member) = members.get(next) {
            let children = parents.iter().filter(|(_, parent)| *parent == member);
            members.extend(children.map(|(pid, _)| *pid));
            next += 1;
        }
        members
    }
}

/// A new control group for `name`; `None` where this process may not make one.
pub fn group(name: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then_some(())?;
        before.split(' ').nth(4)
    })?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = Path::new(mount)
        .join(own)
        .join(format!("postrider-bench-{name}-{}", std::process::id()));
    fs::create_dir_all(&group).ok()?;
    group.join("cpu.stat").exists().then_some(group)
}

/// All process ids.
fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of `/proc/PID/stat` from the third on: the second may hold spaces.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let number = |field: &str| field.parse().unwrap_or(0);
    Some(rest.split_ascii_whitespace().map(number).collect())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1).and_then(|p| u32::try_from(*p).ok())
}

/// User and system time of a process and of the children it has waited for.
fn process_cpu(pid: u32) -> Duration {
    let ticks: u64 = stat(pid).map_or(0, |fields| fields.iter().skip(11).take(4).sum());
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}

fn group_cpu(group: &Path) -> Option<Duration> {
    let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(Duration::from_micros(usage.parse().ok()?))
}

fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    field(&text, "write_bytes: ")
}

fn memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    field(&text, "Pss: ") * 1024
}

/// The first number of the line that begins with `name`.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// The statistics file of the disk below `dir`.
fn device(dir: &Path) -> Option<PathBuf> {
    let device = rustix::fs::stat(dir).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Some(PathBuf::from(format!(
        "/sys/dev/block/{major}:{minor}/stat"
    )))
    .filter(|p| p.exists())
}

/// Bytes a disk was sent: its seventh number counts sectors of 512.
fn sent_to(statistics: &Path) -> u64 {
    let text = fs::read_to_string(statistics).unwrap_or_default();
    let sectors = text.split_ascii_whitespace().nth(6);
    sectors.and_then(|s| s.parse::<u64>().ok()).unwrap_or(0) * 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_children_are_members() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let tree = Tree::new(std::process::id(), None, Path::new("/"));
        assert!(tree.members().contains(&child.id()));
        assert!(Tree::new(child.id(), None, Path::new("/")).memory() == 0);
        assert!(tree.memory() > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!tree.members().contains(&child.id()));
    }

    #[test]
    fn cpu_time_is_counted() {
        let tree = Tree::new(std::process::id(), None, Path::new("/"));
        let before = tree.usage().cpu;
        let start = crate::clock::now();
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(300) || tree.usage().cpu == before {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        assert!(
            tree.usage()
                .since(Usage {
                    cpu: before,
                    ..Usage::default()
                })
                .cpu
                > Duration::ZERO,
            "{sum}"
        );
    }

    #[test]
    fn fields_of_proc_are_found() {
        assert_eq!(field("Rss:  10 kB\nPss:   1234 kB\n", "Pss: "), 1234);
        assert_eq!(
            field("rchar: 1\nwrite_bytes: 4096\n", "write_bytes: "),
            4096
        );
        assert_eq!(field("", "Pss: "), 0);
    }
}
