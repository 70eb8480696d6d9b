//! What a cluster changes on the machine outside its state directory and its network: kernel
//! settings, directories to mount upon, control groups. Noted before, put back after.
//!
//! Guarantees: [`restore`] works from the note alone, so that a later run can clean up after one
//! that was killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    clock::wait_for,
    daemon::Process,
    error::{Error, OnPath},
    paths::StateDir,
};

/// The control group, in every hierarchy, below which kubelet puts the pods.
pub(crate) const CGROUP: &str = "postrider-e2e";

/// Settings that kubelet, kube-proxy, the bridge plugin or we ourselves change.
const SETTINGS: &[&str] = &[
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// Settings the cluster cannot do without.
const NEEDED: &[(&str, &str)] = &[
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/ipv4/ip_forward", "1"),
];

/// Directories that containerd, kubelet and the plugins use under names that cannot be
/// configured; in the enclosure, directories of ours are mounted over them.
pub(crate) const FIXED_DIRS: &[&str] = &[
    "/run/mount",
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
];

/// The note of what was there before.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Before {
    settings: Vec<(String, String)>,
    made_dirs: Vec<PathBuf>,
}

/// Notes how things are, then makes the changes.
pub(crate) fn prepare(state: &StateDir) -> Result<(), Error> {
    let made_dirs = FIXED_DIRS
        .iter()
        .map(PathBuf::from)
        .filter(|dir| !dir.exists())
        .collect();
    let settings = SETTINGS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), fs::read_to_string(setting(name)).ok()?)))
        .collect();
    let before = Before {
        settings,
        made_dirs,
    };
    let text = serde_json::to_string_pretty(&before).unwrap_or_default();
    state.write("before.json", &text)?;
    for dir in FIXED_DIRS {
        fs::create_dir_all(dir).on("create", *dir)?;
    }
    for (name, value) in NEEDED {
        let path = setting(name);
        fs::write(&path, value).on("write", path)?;
    }
    for dir in hierarchies() {
        let dir = dir.join(CGROUP);
        fs::create_dir_all(&dir).on("create", &dir)?;
        inherit_cpuset(&dir)?;
    }
    Ok(())
}

/// Puts back what the note says and removes it.
pub(crate) fn restore(state: &StateDir) -> Result<(), Error> {
    let path = state.join("before.json");
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(());
    };
    let Ok(before) = serde_json::from_str::<Before>(&text) else {
        return Ok(());
    };
    for (name, value) in &before.settings {
        let path = setting(name);
        if fs::read_to_string(&path).ok().as_ref() != Some(value) {
            fs::write(&path, value).on("write", path)?;
        }
    }
    for dir in &before.made_dirs {
        // Not empty means that somebody else has taken to it meanwhile.
        let _ = fs::remove_dir(dir);
    }
    fs::remove_file(&path).on("remove", path)
}

/// Ends every process in the pods' control groups and removes the groups.
pub(crate) async fn clear_cgroups() -> Result<(), Error> {
    let roots: Vec<_> = hierarchies()
        .into_iter()
        .map(|dir| dir.join(CGROUP))
        .collect();
    wait_for(
        "the end of the pods",
        Duration::from_secs(20),
        "ps",
        async || {
            let mut left = false;
            for root in roots.iter().filter(|root| root.is_dir()) {
                for dir in below(root) {
                    for process in members(&dir) {
                        process.signal(Signal::KILL);
                    }
                    left |= fs::remove_dir(&dir).is_err();
                }
            }
            Ok((!left).then_some(()))
        },
    )
    .await
}

/// A group and all below it, the deepest first.
fn below(group: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Ok(entries) = fs::read_dir(group) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            all.extend(below(&entry.path()));
        }
    }
    all.push(group.to_owned());
    all
}

fn members(group: &Path) -> Vec<Process> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| Process::find(line.parse().ok()?))
        .collect()
}

/// The mount points of the control group hierarchies: one with version 2, several with version 1.
fn hierarchies() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
        })
        .collect()
}

/// A new version 1 cpuset group is empty and admits no process until it is told its share.
fn inherit_cpuset(group: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = group.join(file);
        let Some(above) = group.parent().map(|parent| parent.join(file)) else {
            continue;
        };
        let (true, Ok(value)) = (own.exists(), fs::read_to_string(above)) else {
            continue;
        };
        fs::write(&own, value).on("write", own)?;
    }
    Ok(())
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}
