//! What one relay pod needs of a StatefulSet controller and a kubelet, done at once: the pod exists,
//! has an address and is ready; documents that change are written where the relay looks for them;
//! the relay runs.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path, process::Command};

use futures::{StreamExt as _, future, stream};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Pod, Secret},
    },
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use postrider_e2e::peers::loopback;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    estate::POOL,
    ground::{Ground, NAMESPACE, make},
    process::{Programs, Running},
};

/// A node with one relay.
pub(crate) struct Node {
    relay: Running,
    mounts: Vec<JoinHandle<()>>,
}

impl Node {
    /// Runs the pool's first relay.
    pub(crate) async fn start(ground: &Ground, programs: &Programs) -> Self {
        let address = IpAddr::from(loopback(5));
        pod(&ground.client, address).await;
        let config = make(ground.dir.path(), "config");
        let spool = make(ground.dir.path(), "spool");
        let mut relay = Command::new(&programs.relay);
        relay
            .args(["--pod-name", &format!("{POOL}-0")])
            .arg("--config-dir")
            .arg(&config)
            .arg("--spool")
            .arg(&spool)
            .args(["--listen-address", &address.to_string()])
            .env("RUST_LOG", "info");
        let relay = programs.start("relay", &mut relay);
        let mounts = vec![
            tokio::spawn(mount(ground.client.clone(), config)),
            tokio::spawn(roll_out(ground.client.clone())),
        ];
        Self { relay, mounts }
    }

    /// Resident bytes of the relay.
    pub(crate) fn relay_memory(&mut self) -> u64 {
        self.relay.check();
        self.relay.usage().resident
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in &self.mounts {
            task.abort();
        }
    }
}

/// Makes the pod, ready at `address`.
async fn pod(client: &Client, address: IpAddr) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let name = format!("{POOL}-0");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"postrider.dev/pool": POOL}},
        "spec": {"containers": [{"name": "relay", "image": "relay"}]},
    });
    let pod = serde_json::from_value(pod).expect("a pod");
    let created = pods.create(&kube::api::PostParams::default(), &pod).await;
    created.expect("created");
    let status = json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let parameters = PatchParams::default();
    let patched = pods
        .patch_status(&name, &parameters, &Patch::Merge(&status))
        .await;
    patched.expect("ready");
}

/// Says of the pool's StatefulSet that it is rolled out, whenever it has changed.
async fn roll_out(client: Client) {
    let sets: Api<StatefulSet> = Api::namespaced(client, NAMESPACE);
    let events = watcher(sets.clone(), watcher::Config::default()).applied_objects();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let Ok(set) = event else { continue };
        let generation = set.metadata.generation;
        let status = set.status.as_ref();
        if status.and_then(|status| status.observed_generation) == generation {
            continue;
        }
        let status = json!({"status": {"observedGeneration": generation, "replicas": 1,
            "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1}});
        let (name, parameters) = (set.name_any(), PatchParams::default());
        let patch = Patch::Merge(&status);
        let patched = sets.patch_status(&name, &parameters, &patch).await;
        patched.expect("a StatefulSet");
    }
}

/// Writes the pool's documents below `config` as they change.
async fn mount(client: Client, config: std::path::PathBuf) {
    let of_pool = watcher::Config::default().labels("postrider.dev/pool");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let maps = watcher(maps, of_pool.clone()).applied_objects();
    let maps = maps.filter_map(|map| future::ready(map.ok())).map(|map| {
        let texts = map.data.clone().unwrap_or_default().into_iter();
        let data = texts.map(|(key, text)| (key, ByteString(text.into_bytes())));
        (map.name_any(), data.collect::<BTreeMap<_, _>>())
    });
    let secrets: Api<Secret> = Api::namespaced(client, NAMESPACE);
    let secrets = watcher(secrets, of_pool).applied_objects();
    let secrets = secrets
        .filter_map(|secret| future::ready(secret.ok()))
        .map(|secret| {
            let name = secret.name_any();
            (name, secret.data.unwrap_or_default())
        });
    let mut changed = stream::select(maps.boxed(), secrets.boxed());
    while let Some((name, data)) = changed.next().await {
        for (file, ByteString(octets)) in files(&name, data) {
            write(&config, &file, &octets);
        }
    }
}

/// The files of the object `name`, below the configuration directory.
fn files(name: &str, data: BTreeMap<String, ByteString>) -> Vec<(String, ByteString)> {
    let part = name.strip_prefix(&format!("{POOL}-")).unwrap_or_default();
    let place = |key: &str| match part {
        "config" => Some(format!("config/{key}")),
        "credentials" => Some(format!("credentials/{key}")),
        "tls" | "admin" => Some(format!("{part}/{key}")),
        shard => {
            let shard = shard.strip_prefix("keyring-")?;
            Some(format!("keyring/{shard}.yaml"))
        }
    };
    data.into_iter()
        .filter_map(|(key, octets)| Some((place(&key)?, octets)))
        .collect()
}

/// Writes a file whole: the relay never sees half of it.
fn write(config: &Path, file: &str, octets: &[u8]) {
    let place = config.join(file);
    let folder = place.parent().expect("below the directory");
    fs::create_dir_all(folder).expect("a directory");
    let fresh = folder.join(".fresh");
    fs::write(&fresh, octets).expect("written");
    fs::rename(&fresh, &place).expect("in its place");
}
