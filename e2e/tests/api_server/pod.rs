//! One relay of a pool where no kubelet is: what a StatefulSet's controller and a kubelet would do
//! for it, with the real program.
//!
//! Promises: the files it has are those that the StatefulSet's template mounts, and follow their objects.
//! One thing differs: port 25 of this machine is not for tests, so receivers are looked for at
//! [`SMTP_PORT`].

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use postrider_crds::relay_config::{Document as _, RelayConfig};
use postrider_e2e::cluster::wait_for;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    programs::{self, Running},
    strict,
};

/// Where relays look for receivers.
pub(crate) const SMTP_PORT: u16 = 2525;
/// Where the pod's metrics and probes are.
pub(crate) const METRICS_PORT: u16 = 9090;
/// How often mounted files are brought up to date; a kubelet that is nudged takes about a second.
const SYNC: Duration = Duration::from_millis(200);
/// How long the operator may take to make a StatefulSet, and a relay to answer.
const BOUND: Duration = Duration::from_secs(60);
/// Where the template mounts documents.
const CONFIG_DIR: &str = "/etc/postrider/";

/// A running pod. Dropped, its program is killed; the objects stay.
pub(crate) struct Pod {
    name: String,
    relay: Option<Running>,
    mounting: JoinHandle<()>,
}

impl Pod {
    /// Makes pod and volume of member 0 of the pool `pool` and starts it at `address`, with what it
    /// has and writes in `dir`.
    pub(crate) async fn start(client: &Client, pool: &str, address: Ipv4Addr, dir: &Path) -> Self {
        Self::member(client, (pool, 0), address, dir).await
    }

    /// The same for a member of another ordinal. A volume that is there is used again.
    pub(crate) async fn member(
        client: &Client,
        (pool, ordinal): (&str, usize),
        address: Ipv4Addr,
        dir: &Path,
    ) -> Self {
        let name = format!("{pool}-{ordinal}");
        let sets = objects(client, "apps", "StatefulSet");
        let set = wait_for("the StatefulSet", BOUND, "-", async || {
            Ok(sets.get_opt(pool).await.expect("an answer"))
        })
        .await
        .expect("made");
        let template = set.data["spec"]["template"].clone();
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": format!("spool-{name}"), "labels": set.data["spec"]
                ["volumeClaimTemplates"][0]["metadata"]["labels"].clone()},
            "spec": set.data["spec"]["volumeClaimTemplates"][0]["spec"].clone()});
        let claims = objects(client, "", "PersistentVolumeClaim");
        let claimed = claims.get_opt(&format!("spool-{name}")).await;
        if claimed.expect("an answer").is_none() {
            strict::create(client, &claim, "").await.expect("a volume");
        }
        let mut spec = template["spec"].clone();
        let spool = json!({"name": "spool",
            "persistentVolumeClaim": {"claimName": format!("spool-{name}")}});
        spec["volumes"].as_array_mut().expect("volumes").push(spool);
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": template["metadata"]["labels"].clone()},
            "spec": spec});
        strict::create(client, &pod, "").await.expect("a pod");
        let mounts = Mounts {
            client: client.clone(),
            template: template["spec"].clone(),
            dir: dir.join("config"),
        };
        mounts.bring_up_to_date().await;
        let relay = Some(run(&name, address, dir));
        let status = json!({"status": {"phase": "Running", "podIP": address.to_string(),
            "podIPs": [{"ip": address.to_string()}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        objects(client, "", "Pod")
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .expect("its status");
        let mounting = tokio::spawn(async move {
            loop {
                mounts.bring_up_to_date().await;
                tokio::time::sleep(SYNC).await;
            }
        });
        Self {
            name,
            relay,
            mounting,
        }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.relay.as_ref().expect("it runs").id()
    }

    /// Leaves the files it has as they are from now on.
    pub(crate) fn stop_mounting(&self) {
        self.mounting.abort();
    }

    /// Kills the relay, and leaves pod and volume as they are.
    pub(crate) fn kill(&mut self) {
        self.relay = None;
    }

    /// Ends the relay, and removes the pod and not its volume, as a scaling down does.
    pub(crate) async fn remove(self, client: &Client) {
        let pods = objects(client, "", "Pod");
        let now = kube::api::DeleteParams::default().grace_period(0);
        pods.delete(&self.name, &now).await.expect("removed");
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.mounting.abort();
    }
}

fn run(name: &str, address: Ipv4Addr, dir: &Path) -> Running {
    let log = |file: &str| File::create(dir.join(file)).expect("a log");
    Running::start(
        Command::new(programs::built("postrider-relay"))
            .arg("--config-dir")
            .arg(dir.join("config"))
            .arg("--spool")
            .arg(dir.join("spool"))
            .args(["--pod-name", name])
            .args(["--listen-address", &address.to_string()])
            .env("RUST_LOG", "trace")
            .stdout(log("relay.events"))
            .stderr(log("relay.log")),
    )
}

/// Objects of a kind in the one namespace; `group` is of version v1.
pub(crate) fn objects(client: &Client, group: &str, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, "v1", kind);
    Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind))
}

/// The volumes of a pod's documents.
struct Mounts {
    client: Client,
    template: Value,
    dir: PathBuf,
}

impl Mounts {
    /// Writes what differs, one file after the other, each at once.
    async fn bring_up_to_date(&self) {
        let mounts = self.template["containers"][0]["volumeMounts"].as_array();
        for mount in mounts.into_iter().flatten() {
            let path = mount["mountPath"].as_str().unwrap_or_default();
            let Some(folder) = path.strip_prefix(CONFIG_DIR) else {
                continue;
            };
            let volumes = self.template["volumes"].as_array().into_iter().flatten();
            let mut named = volumes.filter(|volume| volume["name"] == mount["name"]);
            let volume = named.next().expect("a mounted volume is there");
            write(&self.dir.join(folder), &self.files(volume).await);
        }
    }

    /// The files of a volume, by name.
    async fn files(&self, volume: &Value) -> BTreeMap<String, Vec<u8>> {
        if let Some(name) = volume["configMap"]["name"].as_str() {
            let map = objects(&self.client, "", "ConfigMap").get_opt(name).await;
            let map = map.expect("an answer").unwrap_or_else(none);
            let data = map.data["data"].as_object().into_iter().flatten();
            let texts = data.filter_map(|(key, text)| Some((key.clone(), text.as_str()?)));
            return texts.map(|(key, text)| (key, ported(text))).collect();
        }
        if let Some(name) = volume["secret"]["secretName"].as_str() {
            return self.secret(name, &volume["secret"]["items"]).await;
        }
        let mut files = BTreeMap::new();
        let sources = volume["projected"]["sources"].as_array();
        for source in sources.into_iter().flatten() {
            let name = source["secret"]["name"].as_str().expect("of Secrets");
            files.extend(self.secret(name, &source["secret"]["items"]).await);
        }
        files
    }

    async fn secret(&self, name: &str, items: &Value) -> BTreeMap<String, Vec<u8>> {
        let secret = objects(&self.client, "", "Secret").get_opt(name).await;
        let secret = secret.expect("an answer").unwrap_or_else(none);
        let data = secret.data["data"].as_object().into_iter().flatten();
        let octets = |text: &Value| STANDARD.decode(text.as_str().unwrap_or_default());
        let all = data.map(|(key, text)| (key.clone(), octets(text).expect("base64")));
        let Some(items) = items.as_array() else {
            return all.collect();
        };
        all.filter_map(|(key, octets)| {
            let item = items.iter().find(|item| item["key"] == key.as_str())?;
            Some((item["path"].as_str()?.to_owned(), octets))
        })
        .collect()
    }
}

fn none() -> DynamicObject {
    DynamicObject::new(
        "none",
        &ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()),
    )
}

/// The RelayConfig `text` with the receivers' port of the tests.
fn ported(text: &str) -> Vec<u8> {
    let mut config = RelayConfig::from_yaml(text).expect("a RelayConfig");
    config.delivery.port = SMTP_PORT;
    config.to_yaml().into_bytes()
}

/// Makes `dir` hold `files` and no others.
fn write(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    fs::create_dir_all(dir).expect("a folder");
    for (name, octets) in files {
        let path = dir.join(name);
        if fs::read(&path).ok().as_ref() != Some(octets) {
            // The relay does not look at names that start with a dot.
            let part = dir.join(format!(".{name}"));
            fs::write(&part, octets).expect("written");
            fs::rename(&part, &path).expect("in place");
        }
    }
    for entry in fs::read_dir(dir).expect("listed") {
        let entry = entry.expect("an entry");
        if !files.contains_key(&*entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
}
