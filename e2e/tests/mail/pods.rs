//! The relays' pods of a claim, and what they write.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, LogParams},
};
use postrider_e2e::peers::Reply;
use serde_json::Value;

use crate::support::{POOL, Stage};

impl Stage {
    /// The relay's pod.
    pub(crate) async fn pod(&self, ordinal: usize) -> Pod {
        let name = format!("{POOL}-{ordinal}");
        self.pods().get(&name).await.expect("a pod")
    }

    /// The events that the relay's container, or the one before it, has written.
    pub(crate) async fn events(&self, pod: &Pod, which: Container) -> Vec<Value> {
        let log = self.log(pod, which).await;
        log.expect("a log")
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|event: &Value| event["stage"].is_string())
            .collect()
    }

    /// What became of the messages that `replies` answer, for people: what the relays' logs say of
    /// the first few, in as few words as fit where only the end of an output is shown.
    pub(crate) async fn story(&self, replies: &[&Reply]) -> String {
        let mut events = Vec::new();
        let pods = self.pods().list(&ListParams::default()).await;
        for pod in pods.expect("pods").items {
            for which in [Container::Previous, Container::Present] {
                let log = self.log(&pod, which).await.unwrap_or_default();
                let log = log
                    .lines()
                    .filter_map(|line| serde_json::from_str(line).ok());
                events.extend(log.map(|event: Value| (pod.name_any(), event)));
            }
        }
        let told = replies.iter().take(3).map(|reply| {
            let about = |(_, event): &&(String, Value)| event["id"].as_str() == reply.id.as_deref();
            let lines = events.iter().filter(about).map(|(pod, event)| {
                let part = |name: &str| event[name].to_string().replace("null", "");
                let parts = ["time", "stage", "attempt", "code", "reply", "until"].map(part);
                format!("{pod}: {}", parts.join(" "))
            });
            let lines = lines.collect::<Vec<_>>().join("\n");
            format!("{:?} to {}:\n{lines}", reply.id, reply.to)
        });
        let told = told.collect::<Vec<_>>().join("\n");
        format!("{} missing, among them\n{told}", replies.len())
    }

    async fn log(&self, pod: &Pod, which: Container) -> kube::Result<String> {
        let params = LogParams {
            previous: which == Container::Previous,
            ..LogParams::default()
        };
        self.pods().logs(&pod.name_any(), &params).await
    }

    /// The pods of the namespace.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.name)
    }
}

/// Which container of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// The one that runs.
    Present,
    /// The one that ended before it.
    Previous,
}

/// The one container of a pod that runs, as the node calls it.
pub(crate) fn container_of(pod: &Value) -> String {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str();
    id.expect("a container").to_owned()
}
