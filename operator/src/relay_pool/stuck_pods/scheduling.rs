//! Pods that no node takes, by the word of the scheduler (condition `PodScheduled`).

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt as _;
use postrider_crds::condition::reasons;

use super::refusal;
use crate::refusal::Refusal;

/// What the scheduler says of nodes, and what to do. Where it says several things, the first counts: nodes
/// that are kept for others are there in most clusters.
#[rustfmt::skip]
const REMEDIES: [(&str, &str); 11] = [
    ("Insufficient ", "make room on a node, or lower spec.template.resources of the RelayPool"),
    ("Too many pods", "make room on a node"),
    ("node affinity/selector", "give a node the labels that spec.template.nodeSelector and affinity of the RelayPool ask for, or change these"),
    ("pod affinity rules", "add a node, or change spec.template.affinity of the RelayPool"),
    ("anti-affinity rules", "add a node, or change spec.template.affinity of the RelayPool"),
    ("topology spread", "add a node, or change spec.template.topologySpreadConstraints of the RelayPool"),
    ("PersistentVolume", "bring back a node that its volume can be reached from"),
    ("volume", "see to the volumes of the nodes"),
    ("were unschedulable", "uncordon a node"),
    ("taint", "add to spec.template.tolerations of the RelayPool, or take the taint off a node"),
    ("no nodes available", "add a node"),
];
/// For what is not listed there.
const ANY_REMEDY: &str = "add a node that takes it, or change spec.template of the RelayPool";

/// What `scheduled` has against `pod`.
pub(super) fn judge(pod: &Pod, scheduled: &PodCondition) -> Option<Refusal> {
    if scheduled.status != "False" {
        return None;
    }
    let said = without_counts(scheduled.message.as_deref().unwrap_or_default());
    let remedy = REMEDIES.iter().find(|(words, _)| said.contains(words));
    let remedy = remedy.map_or(ANY_REMEDY, |(_, remedy)| remedy);
    let told = ("cannot be scheduled", said.as_str(), remedy);
    Some(refusal(reasons::UNSCHEDULABLE, &pod.name_any(), told))
}

/// True where a volume is what the scheduler waits for.
pub(super) fn is_about_volume(scheduled: &PodCondition) -> bool {
    let said = scheduled.message.as_deref().unwrap_or_default();
    let said = said.to_ascii_lowercase();
    said.contains("persistentvolumeclaim") || said.contains("volumebinding")
}

/// What is said of nodes, each thing once, in an order of its own: "0/3 nodes are available: 1 Insufficient
/// cpu, 2 node(s) were unschedulable. preemption: ..." comes with other numbers whenever other people's
/// pods or nodes come and go.
fn without_counts(said: &str) -> String {
    let Some((_, why)) = said.split_once(" nodes are available: ") else {
        return said.to_owned();
    };
    let why = why.split_once(". ").map_or(why, |(why, _)| why);
    let mut reasons: Vec<String> = Vec::new();
    for part in why.trim_end_matches('.').split(", ") {
        match (counted(part), reasons.last_mut()) {
            (Some(reason), _) => reasons.push(reason.to_owned()),
            (None, Some(last)) => *last = format!("{last}, {part}"),
            (None, None) => reasons.push(part.to_owned()),
        }
    }
    reasons.sort();
    reasons.dedup();
    reasons.join(", ")
}

/// What follows the number that `part` begins with.
fn counted(part: &str) -> Option<&str> {
    let (count, reason) = part.split_once(' ')?;
    count.parse::<u32>().is_ok().then_some(reason)
}
