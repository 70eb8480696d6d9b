//! containerd, with runc and the bridge plugin, on paths of its own.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::json;

use super::{
    command::Program,
    daemon::{Enclosed, Process, Spec},
    error::Error,
    image::Archive,
    network,
    paths::StateDir,
    tools::Tools,
};

/// The image of each pod's first container.
pub(crate) const PAUSE_IMAGE: &str = "localhost/postrider-e2e/pause:1";
/// The image of the probe, see `src/bin/e2e-probe.rs`.
pub const PROBE_IMAGE: &str = "localhost/postrider-e2e/probe:1";

/// Its socket.
pub(crate) fn socket(state: &StateDir) -> PathBuf {
    state.join("containerd.sock")
}

/// How to start it; writes its configuration and that of the network plugins.
pub(crate) fn spec(tools: &Tools, state: &StateDir) -> Result<Spec, Error> {
    let config = state.write("containerd.toml", &config(tools, state))?;
    state.write("cni/10-postrider.conflist", &network_config(state))?;
    Ok(Spec {
        name: "containerd".to_owned(),
        program: tools.debian("usr/bin/containerd"),
        args: vec![
            format!("--config={}", config.display()),
            "--log-level=warn".to_owned(),
        ],
        // It looks for its shim and for mount and ip in PATH.
        env: vec![("PATH".to_owned(), tools.search_path(&path()))],
        enclosed: Enclosed::Yes,
    })
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())
}

fn config(tools: &Tools, state: &StateDir) -> String {
    let at = |path: &str| state.join(path).display().to_string();
    let socket = socket(state).display().to_string();
    let (runc, cni) = (tools.debian("usr/sbin/runc"), tools.debian("usr/lib/cni"));
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE a sandbox cannot lower its score, and runc
    // then dies with "can't get final child's PID from pipe: EOF".
    format!(
        r#"version = 2
root = "{root}"
state = "{run}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{conf}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
"#,
        root = at("containerd"),
        run = at("containerd-run"),
        opt = at("containerd-opt"),
        conf = at("cni"),
        cni = cni.display(),
        runc = runc.display(),
    )
}

fn network_config(state: &StateDir) -> String {
    let (first, last) = network::POD_RANGE;
    let bridge = json!({
        "type": "bridge",
        "bridge": network::BRIDGE,
        "isGateway": true,
        "ipMasq": false,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "dataDir": state.join("cni-addresses"),
            "ranges": [[{
                "subnet": network::CIDR,
                "rangeStart": first,
                "rangeEnd": last,
                "gateway": network::HOST,
            }]],
            // No default route: to a pod, the rest of the world is unreachable.
            "routes": [{"dst": network::SERVICE_CIDR}],
        },
    });
    let list = json!({"cniVersion": "0.4.0", "name": "postrider", "plugins": [bridge]});
    format!("{list:#}\n")
}

/// Whether it answers.
pub(crate) async fn ready(tools: &Tools, state: &StateDir) -> bool {
    ctr(tools, state).args(["version"]).run().await.is_ok()
}

/// Puts an image into its store.
pub(crate) async fn import(tools: &Tools, state: &StateDir, image: &Archive) -> Result<(), Error> {
    let dir = tempfile::tempdir_in(state.path()).map_err(|source| Error::File {
        action: "create",
        path: state.join("import"),
        source,
    })?;
    let archive = dir.path().join("image.tar");
    image.write(&archive).await?;
    ctr(tools, state)
        .args(["--namespace=k8s.io", "images", "import"])
        .args([archive])
        .run()
        .await
}

fn ctr(tools: &Tools, state: &StateDir) -> Program {
    Program::new(tools.debian("usr/bin/ctr"))
        .args([format!("--address={}", socket(state).display())])
        .args(["--timeout=60s"])
}

/// The shims of its containers. They outlive it, and the mount namespace's holder too.
pub(crate) fn shims(state: &StateDir) -> Vec<Process> {
    let socket = socket(state).into_os_string();
    let ours = |pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        program.ends_with(b"containerd-shim-runc-v2")
            && words.any(|word| word == socket.as_encoded_bytes())
    };
    Process::all()
        .into_iter()
        .filter(|process| ours(process.pid()))
        .collect()
}

/// The processes of the container `id`, which is as in a pod's status: those in its control group.
pub(crate) fn processes(id: &str) -> Vec<Process> {
    let id = id.rsplit('/').next().unwrap_or(id);
    // Any other id than a container's own would match strangers.
    if id.len() != CONTAINER_ID {
        return Vec::new();
    }
    let inside = |process: &Process| {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid()));
        groups.is_ok_and(|groups| groups.lines().any(|line| line.ends_with(id)))
    };
    Process::all().into_iter().filter(inside).collect()
}

/// The length of a container's id, a digest in hexadecimal.
const CONTAINER_ID: usize = 64;

/// How long until it answers.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
