//! What the cluster says of the volumes of a pod, and of the room it makes for it, in events alone.
//!
//! Promises: of several things that are said within [`LASTING`] the same is told, in whatever order they
//! are said again: first those that say most, by the table, then by their words.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod},
    events::v1::Event,
};
use kube::ResourceExt as _;
use postrider_crds::condition::reasons;

use super::refusal;
use crate::{refusal::Refusal, relay_pool::event_readings::last};

/// How long an event counts: those who say these things try again within five minutes.
const LASTING: SignedDuration = SignedDuration::from_mins(6);
/// What events about a claim may be for, those that say most first.
const OF_CLAIM: [&str; 6] = [
    "ClaimLost",
    "ClaimMisbound",
    "VolumeMismatch",
    "ProvisioningFailed",
    "FailedBinding",
    "ExternalProvisioning",
];
/// The same of a pod that is on its node.
const OF_POD: [&str; 4] = [
    "FailedAttachVolume",
    "FailedMount",
    "FailedMapVolume",
    "FailedCreatePodSandBox",
];
/// What says no more than that something else has failed.
const AND_SO: &str = "Unable to attach or mount volumes";
/// What is said of claims, and what to do; the first counts.
#[rustfmt::skip]
const CLAIM_REMEDIES: [(&str, &str); 3] = [
    ("no storage class is set", "make a StorageClass the default, or a volume that fits"),
    ("storageclass.storage.k8s.io ", "create that StorageClass, or another RelayPool with another spec.storage.storageClassName"),
    ("Waiting for a volume to be created", "see to the provisioner of the StorageClass"),
];
/// For what is not listed there.
const ANY_CLAIM_REMEDY: &str = "see to the StorageClass and its provisioner";

/// Trouble that events may tell of.
#[derive(Debug, PartialEq)]
pub(super) struct Unsaid {
    /// The UID of the object that they are about.
    pub(super) about: String,
    pod: String,
    kind: Kind,
}

#[derive(Debug, PartialEq)]
enum Kind {
    /// The volume of the pod is not there.
    Claim {
        name: String,
        /// The scheduler has said so.
        known: bool,
    },
    /// The pod is on its node, and none of its containers is made.
    Pod,
}

/// True once `claim` has its volume.
pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Bound")
}

impl Unsaid {
    /// Why `pod`, which is on its node, has no containers.
    pub(super) fn of_pod(pod: &Pod) -> Option<Self> {
        Some(Self {
            about: pod.uid()?,
            pod: pod.name_any(),
            kind: Kind::Pod,
        })
    }

    /// Why `claim`, the volume of `pod`, has nothing behind it; `known`: that `pod` waits for it.
    pub(super) fn of_claim(pod: &Pod, claim: &PersistentVolumeClaim, known: bool) -> Option<Self> {
        Some(Self {
            about: claim.uid()?,
            pod: pod.name_any(),
            kind: Kind::Claim {
                name: claim.name_any(),
                known,
            },
        })
    }

    /// What `events` tell of it.
    pub(super) fn judge(&self, events: &[Event], now: Timestamp) -> Option<Refusal> {
        match &self.kind {
            Kind::Claim { name, known } => {
                let said = told(&OF_CLAIM, events, now).map(|(_, said)| said);
                let why = said.or_else(|| known.then_some(""))?;
                let remedy = CLAIM_REMEDIES.iter().find(|(words, _)| why.contains(words));
                let remedy = remedy.map_or(ANY_CLAIM_REMEDY, |(_, remedy)| remedy);
                let cannot = format!("waits for its volume {name}");
                let told = (cannot.as_str(), why, remedy);
                Some(refusal(reasons::VOLUME_NOT_BOUND, &self.pod, told))
            }
            Kind::Pod => {
                let (reason, why) = told(&OF_POD, events, now)?;
                let (reason, cannot, remedy) = match reason {
                    "FailedCreatePodSandBox" => (
                        reasons::FAILED_CREATE_POD_SAND_BOX,
                        "finds no room on its node",
                        "see to the network and the container runtime of its node",
                    ),
                    _ => (
                        reasons::FAILED_MOUNT,
                        "cannot mount a volume",
                        "create what is missing, or see to the volume and its node",
                    ),
                };
                Some(refusal(reason, &self.pod, (cannot, why, remedy)))
            }
        }
    }
}

/// The reason, of those `known`, and the words of what `events` say that counts.
fn told<'a>(
    known: &[&'static str],
    events: &'a [Event],
    now: Timestamp,
) -> Option<(&'static str, &'a str)> {
    let told = events.iter().filter_map(|event| {
        let at = last(event)?;
        let reason = event.reason.as_deref()?;
        let rank = known.iter().position(|known| *known == reason)?;
        let words = event.note.as_deref()?;
        let lasts = now.duration_since(at) <= LASTING;
        lasts.then_some((words.contains(AND_SO), rank, words))
    });
    let (_, rank, words) = told.min()?;
    Some((known.get(rank)?, words))
}
