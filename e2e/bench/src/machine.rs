//! The machine a run was made on, in words.

use std::{fs, path::Path};

use crate::clock;

/// The date, UTC.
pub fn today() -> String {
    clock::wall().strftime("%Y-%m-%d").to_string()
}

/// CPUs, memory, kernel and the filesystem of `dir`.
pub fn words(dir: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let count = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let model = value(&cpus, "model name").unwrap_or("unknown");
    let memory = read("/proc/meminfo");
    let kib: u64 = value(&memory, "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let mounts = read("/proc/self/mounts");
    format!(
        "{count} CPUs ({model}), {} GiB of memory, Linux {}, {}",
        kib / (1 << 20),
        kernel.trim(),
        filesystem(&mounts, dir)
    )
}

/// What follows `name` and a colon.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// The kind of the filesystem that `dir` lies on: that of the longest mount point above it.
fn filesystem(mounts: &str, dir: &Path) -> String {
    let dir = fs::canonicalize(dir).unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (at, kind) = (words.nth(1)?, words.next()?);
        dir.starts_with(at).then_some((at.len(), kind))
    });
    above.max().map_or("unknown", |(_, kind)| kind).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "a / ext4 rw\nb /proc proc rw\nc /pro tmpfs rw\n";
        assert_eq!(filesystem(mounts, Path::new("/proc/self")), "proc");
        assert_eq!(filesystem(mounts, Path::new("/")), "ext4");
    }
}
