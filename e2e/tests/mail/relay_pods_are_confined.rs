//! A relay's process, looked at on the node, has no right it does not need: restricted pod
//! security, no root, no capability, no way to more, a root file system that is read-only but for
//! the spool, and no token of the API.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use postrider_e2e::peers::sink::Rules;
use serde_json::{Value, json};

use crate::support::{POOL, Stage};

/// The user and group of relays.
const USER: &str = "65532";
/// Where a relay may write: its spool, and the memory that every container has to itself.
const WRITABLE: [&str; 2] = ["/var/spool/postrider", "/dev"];

#[tokio::test]
async fn relay_pods_are_confined() {
    // The namespace enforces the restricted standard, so an unrestricted pod would not be here.
    let stage = Stage::start("confined", 18, Rules::default()).await;
    stage.apply(stage.pool(json!({}))).await;
    stage.current("RelayPool", POOL).await;
    let pod = stage.get("Pod", &format!("{POOL}-0")).await;
    declares_no_token(&pod);

    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str();
    let pids = stage.cluster.container_pids(id.expect("a container"));
    assert_eq!(pids.len(), 1, "the relay is one process");
    let proc = format!("/proc/{}", pids[0]);
    has_no_rights(&proc);
    can_write_only_its_spool(&proc);
    let root = format!("{proc}/root");
    assert!(fs::exists(format!("{root}/etc/postrider/config")).expect("looked"));
    for absent in ["var/run/secrets", "run/secrets"] {
        let there = fs::exists(format!("{root}/{absent}")).expect("looked");
        assert!(!there, "{absent} is there");
    }
    stage.finish().await;
}

fn declares_no_token(pod: &Value) {
    assert_eq!(
        pod["spec"]["automountServiceAccountToken"], false,
        "{pod:#}"
    );
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    for volume in volumes {
        let sources = volume["projected"]["sources"].as_array();
        let token = |source: &Value| source.get("serviceAccountToken").is_some();
        assert!(
            !sources.is_some_and(|all| all.iter().any(token)),
            "{volume:#}"
        );
    }
}

/// By the kernel's own account (proc(5)).
fn has_no_rights(proc: &str) {
    let status = fs::read_to_string(format!("{proc}/status")).expect("a process");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let words = line
            .and_then(|line| line.strip_prefix(':'))
            .map(str::split_whitespace);
        words.expect("a field").collect::<Vec<_>>()
    };
    for name in ["Uid", "Gid"] {
        assert_eq!(field(name), [USER; 4], "{name}");
    }
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(name), ["0000000000000000"], "{name}");
    }
    assert_eq!(field("NoNewPrivs"), ["1"]);
    assert_eq!(field("Seccomp"), ["2"], "a filter");
}

/// Each mount is read-only, root's alone to change, or [`WRITABLE`]; that of `/` is read-only.
fn can_write_only_its_spool(proc: &str) {
    let mounts = fs::read_to_string(format!("{proc}/mountinfo")).expect("a process");
    let mut root = false;
    for line in mounts.lines() {
        // The mount point is the fifth field, its options the sixth.
        let fields: Vec<_> = line.split(' ').collect();
        let (point, options) = (fields[4], fields[5]);
        let read_only = options.split(',').any(|option| option == "ro");
        root |= point == "/" && read_only;
        let below = |dir: &&str| point == *dir || point.starts_with(&format!("{dir}/"));
        if read_only || WRITABLE.iter().any(below) {
            continue;
        }
        let there = fs::metadata(format!("{proc}/root{point}")).expect("a mount");
        if there.file_type().is_char_device() {
            // What of proc(5) is none of its business is covered by /dev/null.
            continue;
        }
        assert_eq!((there.uid(), there.mode() & 0o022), (0, 0), "{line}");
    }
    assert!(root, "{mounts}");
}
