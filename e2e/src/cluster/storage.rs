//! Volumes: made beforehand as directories of the machine, bound by the scheduler when a pod
//! first asks.
//!
//! They are `local` volumes and not `hostPath`, since kubelet gives `local` ones to the pod's
//! `fsGroup`, as a cloud's volumes are. A volume whose claim is gone is not used again.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::{Value, json};

use super::{
    error::{Error, OnPath},
    kubelet::NODE,
    paths::StateDir,
};

/// The default storage class: 10 GiB a volume by its word, in truth what the disk holds.
pub const CLASS: &str = "postrider-local";
/// The storage class of small volumes that really fill up.
pub const SMALL_CLASS: &str = "postrider-small";
/// What a small volume holds, in MiB.
pub const SMALL_MIB: u32 = 16;

/// How many of [`CLASS`]: more than all the tests of one cluster together claim.
const VOLUMES: usize = 64;
/// How many of [`SMALL_CLASS`].
const SMALL_VOLUMES: usize = 4;

/// The directories of the small volumes, upon which the enclosure mounts memory.
pub(crate) fn small_volumes(state: &StateDir) -> Vec<PathBuf> {
    (0..SMALL_VOLUMES)
        .map(|nth| state.join(format!("volumes/small-{nth}")))
        .collect()
}

/// Makes the directories; returns the objects that offer them.
pub(crate) fn prepare(state: &StateDir) -> Result<Vec<Value>, Error> {
    let mut objects = vec![class(CLASS, "true"), class(SMALL_CLASS, "false")];
    for nth in 0..VOLUMES {
        let dir = state.make(&format!("volumes/local-{nth}"))?;
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&dir, open).on("chmod", &dir)?;
        objects.push(volume(&format!("local-{nth}"), CLASS, "10Gi", dir));
    }
    for (nth, dir) in small_volumes(state).into_iter().enumerate() {
        let size = format!("{SMALL_MIB}Mi");
        objects.push(volume(&format!("small-{nth}"), SMALL_CLASS, &size, dir));
    }
    Ok(objects)
}

fn class(name: &str, default: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": default},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Retain",
    })
}

fn volume(name: &str, class: &str, size: &str, dir: PathBuf) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": class,
            "local": {"path": dir},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{
                "key": "kubernetes.io/hostname", "operator": "In", "values": [NODE],
            }]}]}},
        },
    })
}
