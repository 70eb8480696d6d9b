//! Containers that cannot be started, or end again and again, by the word of the kubelet
//! (`status.containerStatuses`).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt as _;
use postrider_crds::condition::reasons;

use super::refusal;
use crate::{conditions::Progress, refusal::Refusal, relay_pool::build::RELAY};

/// A container that runs for so long is not one that ends again and again: the kubelet starts to count
/// anew then.
const LASTS: SignedDuration = SignedDuration::from_mins(10);
/// Why the kubelet says that it has no image.
const NOT_PULLED: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "ImageInspectError",
    "ErrImageNeverPull",
];
/// What registries and runtimes say of an image, in lower case, and what to do; the first counts.
#[rustfmt::skip]
const IMAGE_REMEDIES: [(&str, &str); 9] = [
    ("toomanyrequests", MIRROR),
    ("429 too many", MIRROR),
    ("unauthorized", AUTHORIZE),
    ("403 forbidden", AUTHORIZE),
    ("denied", AUTHORIZE),
    ("authorization failed", AUTHORIZE),
    ("authentication required", AUTHORIZE),
    ("not found", PUSH),
    ("manifest unknown", PUSH),
];
const PUSH: &str = "push it, or correct image.relay among the chart's values";
const MIRROR: &str =
    "pull it from a mirror of yours, or with credentials: image.relay among the chart's values";
const AUTHORIZE: &str = "push it, or name a Secret in the pool's namespace that has credentials for \
     its registry in image.relay.pullSecrets among the chart's values";
/// For what is not listed there.
const ANY_IMAGE_REMEDY: &str = "see to it that nodes can pull it";

/// What is wrong with the containers of `pod`, and how long that is so by time alone.
pub(super) fn judge(pod: &Pod, now: Timestamp) -> Option<(Refusal, Option<Duration>)> {
    let mut unready = statuses(pod).filter(|status| !status.ready);
    unready.find_map(|status| {
        let started = waiting(status).and_then(|(reason, message)| {
            let not_started = not_started(&pod.name_any(), status, reason, message)?;
            Some((not_started, None))
        });
        started.or_else(|| ends_again_and_again(pod, status, now))
    })
}

/// True while the kubelet has not come to containers of `pod` yet.
pub(super) fn are_awaited(pod: &Pod) -> bool {
    statuses(pod).any(|status| {
        waiting(status)
            .is_some_and(|(reason, _)| ["ContainerCreating", "PodInitializing"].contains(&reason))
    })
}

/// Of all containers, those first that the others wait for.
fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let first = status.and_then(|status| status.init_container_statuses.as_ref());
    let then = status.and_then(|status| status.container_statuses.as_ref());
    first.into_iter().chain(then).flatten()
}

/// Reason and message of a container that waits.
fn waiting(status: &ContainerStatus) -> Option<(&str, &str)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    Some((waiting.reason.as_deref()?, message))
}

/// Why a container of the pod `pod` is not there to be started.
fn not_started(
    pod: &str,
    status: &ContainerStatus,
    reason: &str,
    message: &str,
) -> Option<Refusal> {
    let (container, image) = (&status.name, &status.image);
    let told = |reason, cannot: String, why, remedy| refusal(reason, pod, (&cannot, why, remedy));
    match reason {
        "InvalidImageName" => {
            let cannot = format!("has container {container}, whose image {image} is no image name");
            let remedy = match container == RELAY {
                true => "correct image.relay among the chart's values",
                false => "correct it where it comes from",
            };
            Some(Refusal {
                progress: Progress::Stalled,
                ..told(reasons::INVALID_IMAGE_NAME, cannot, "", remedy)
            })
        }
        "CreateContainerConfigError" => Some(told(
            reasons::CREATE_CONTAINER_CONFIG_ERROR,
            format!("has container {container}, which cannot be configured"),
            message,
            "create what is missing, or correct what asks for it",
        )),
        "CreateContainerError" => Some(told(
            reasons::CREATE_CONTAINER_ERROR,
            format!("has container {container}, which its node cannot make"),
            message,
            "see to its node",
        )),
        reason if NOT_PULLED.contains(&reason) => {
            let why = pull_error(message);
            let said = why.to_ascii_lowercase();
            let mut remedies = IMAGE_REMEDIES.iter().filter(|_| container == RELAY);
            let remedy = remedies.find(|(words, _)| said.contains(words));
            Some(told(
                reasons::IMAGE_PULL_BACK_OFF,
                format!("cannot pull image {image} of container {container}"),
                why,
                remedy.map_or(ANY_IMAGE_REMEDY, |(_, remedy)| remedy),
            ))
        }
        _ => None,
    }
}

/// What the last attempt to pull ended with. While the kubelet waits for the next it says that, what kind
/// of error it was, and then the same words.
fn pull_error(message: &str) -> &str {
    let attempt = message
        .strip_prefix("Back-off pulling image ")
        .and_then(|waits| waits.split_once("\": "))
        .map_or(message, |(_, error)| error);
    let mut kinds = NOT_PULLED.iter();
    let error = kinds.find_map(|kind| attempt.strip_prefix(kind)?.strip_prefix(": "));
    error.unwrap_or(attempt)
}

/// Why a container of `pod` does not go on running. While it runs for a moment between two ends that is
/// told too, for as long as it has not outlasted [`LASTS`].
fn ends_again_and_again(
    pod: &Pod,
    status: &ContainerStatus,
    now: Timestamp,
) -> Option<(Refusal, Option<Duration>)> {
    let ended = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let (now_ended, last_ended) = (ended(&status.state), ended(&status.last_state));
    let running = status.state.as_ref().and_then(|s| s.running.as_ref());
    let (end, wait) = match (now_ended, running, waiting(status)) {
        (Some(end), _, _) => (Some(end).filter(|_| status.restart_count >= 1), None),
        (None, Some(running), _) => {
            let since = running.started_at.as_ref()?.0;
            let left = LASTS.checked_sub(now.duration_since(since))?;
            let again = status.restart_count >= 2 && left.is_positive();
            (last_ended.filter(|_| again), Some(left.unsigned_abs()))
        }
        (None, None, Some(("CrashLoopBackOff" | "RunContainerError", _))) => (last_ended, None),
        (None, None, _) => (None, None),
    };
    let end = end.filter(was_short)?;
    Some((told_of_end(pod, &status.name, &end), wait))
}

fn was_short(end: &ContainerStateTerminated) -> bool {
    let (started, finished) = (end.started_at.as_ref(), end.finished_at.as_ref());
    let lasted = started
        .zip(finished)
        .map(|(started, finished)| finished.0.duration_since(started.0));
    lasted.is_none_or(|lasted| lasted < LASTS)
}

fn told_of_end(pod: &Pod, container: &str, end: &ContainerStateTerminated) -> Refusal {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let cannot = format!("has container {container}, which ends again and again");
    let logs = format!("see kubectl logs {name} -n {namespace} -c {container} --previous");
    let (mut why, remedy) = match end.reason.as_deref().unwrap_or("Error") {
        "OOMKilled" if container == RELAY => (
            "OOMKilled".to_owned(),
            "raise limits.memory in spec.template.resources of the RelayPool".to_owned(),
        ),
        reason => (format!("exit code {} ({reason})", end.exit_code), logs),
    };
    if let Some(message) = end.message.as_deref().filter(|message| !message.is_empty()) {
        why = format!("{why}: {message}");
    }
    let told = (cannot.as_str(), why.as_str(), remedy.as_str());
    refusal(reasons::CRASH_LOOP_BACK_OFF, &name, told)
}
