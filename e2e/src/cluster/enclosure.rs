//! The mount namespace in which the node lives: containerd, kubelet, and all they mount.
//!
//! Guarantees: nothing mounted for a pod is ever seen by the machine, and all of it vanishes with
//! the last process inside. Directories with fixed names, `/var/lib/kubelet` and the like, are
//! covered by directories of the cluster, so that a system containerd or kubelet is not touched.
//!
//! It is held open by a sleeping process, so that the parts can be killed and started again.

use std::{fs, path::Path, time::Duration};

use super::{
    daemon::{Daemon, ENCLOSURE, Enclosed, Process, Spec},
    error::{Error, OnPath},
    host::FIXED_DIRS,
    paths::StateDir,
    storage,
};

/// Makes the namespace; returns the process that holds it.
pub(crate) async fn open(state: &StateDir) -> Result<Process, Error> {
    let ready = state.join("enclosure-ready");
    let holder = Daemon::start(
        state,
        &Spec {
            name: ENCLOSURE.to_owned(),
            program: "unshare".into(),
            args: [
                "--mount",
                "--propagation",
                "slave",
                "sh",
                "-euc",
                &script(state)?,
            ]
            .map(str::to_owned)
            .to_vec(),
            env: Vec::new(),
            enclosed: Enclosed::No,
        },
    )?;
    let made = async || ready.exists();
    holder
        .wait_until("the mount namespace", Duration::from_secs(10), made)
        .await?;
    Ok(holder.process())
}

fn script(state: &StateDir) -> Result<String, Error> {
    let mut script = String::from("mount --make-rshared /\n");
    for dir in FIXED_DIRS {
        let own = state.make(&format!("fixed{dir}"))?;
        script.push_str(&format!("mount --bind '{}' {dir}\n", own.display()));
        script.push_str(&format!("mount --make-shared {dir}\n"));
    }
    for volume in storage::small_volumes(state) {
        fs::create_dir_all(&volume).on("create", &volume)?;
        let size = storage::SMALL_MIB;
        let volume = volume.display();
        script.push_str(&format!(
            "mount -t tmpfs -o size={size}m,mode=0777 tmpfs '{volume}'\n"
        ));
    }
    script.push_str(&format!(
        "touch '{}'\n",
        state.join("enclosure-ready").display()
    ));
    script.push_str("exec sleep infinity\n");
    Ok(script)
}

/// Ends everything that lives in the namespace, its holder included.
pub(crate) async fn close(holder: Process) -> Result<(), Error> {
    let namespace = fs::read_link(format!("/proc/{}/ns/mnt", holder.pid()));
    let namespace = namespace.on("read", "/proc")?;
    let ours = fs::read_link("/proc/self/ns/mnt").on("read", "/proc/self/ns/mnt")?;
    if namespace == ours {
        // The holder had not got as far as leaving the machine's own namespace.
        return holder.stop().await;
    }
    for process in inhabitants(&namespace) {
        process.kill().await?;
    }
    Ok(())
}

/// All processes whose mount namespace is the given one.
fn inhabitants(namespace: &Path) -> Vec<Process> {
    let inside = |process: &Process| {
        let own = fs::read_link(format!("/proc/{}/ns/mnt", process.pid()));
        own.is_ok_and(|own| own == namespace)
    };
    Process::all().into_iter().filter(inside).collect()
}
