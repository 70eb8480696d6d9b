//! Pods as the scheduler and the kubelet of Kubernetes 1.36 leave them in the API, and events as they and
//! the controller of volumes write them.

use postrider_crds::condition::reasons;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// When the pod was made.
fn made(after: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + after).unwrap()
}

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "shop-0", "namespace": "mail", "uid": "p0", "creationTimestamp": made(0)},
        "status": status,
    }))
    .unwrap()
}

/// A pod that the scheduler cannot place.
fn unscheduled(reason: &str, message: &str) -> Pod {
    pod(
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "lastTransitionTime": made(0), "reason": reason, "message": message}]}),
    )
}

/// A pod on its node, whose relay is as `container` says.
fn on_node(container: &Value) -> Pod {
    let mut relay = json!({"name": "relay", "image": "registry.example/relay:1", "imageID": "",
        "ready": false, "restartCount": 0});
    for (field, value) in container.as_object().unwrap() {
        relay[field] = value.clone();
    }
    pod(
        json!({"phase": "Pending", "containerStatuses": [relay], "conditions": [
        {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]}),
    )
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"state": {"waiting": {"reason": reason, "message": message}}})
}

fn ended(code: i32, reason: &str, from: i64, to: i64) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": made(from),
        "finishedAt": made(to), "containerID": "containerd://x"}})
}

fn claim(phase: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({"metadata": {"name": "spool-shop-0", "uid": "c0"},
        "status": {"phase": phase}}))
    .unwrap()
}

const LATER: i64 = 60;

fn told(pod: &Pod) -> Option<Refusal> {
    match judge(pod, Some(&claim("Bound")), made(LATER)) {
        Finding::Told(refusal, _) => Some(refusal),
        Finding::Nothing(_) | Finding::Unsaid(_) => None,
    }
}

#[rustfmt::skip]
const UNSCHEDULED: [(&str, &str); 7] = [
    (
        "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient cpu. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.",
        "Insufficient cpu, Insufficient memory, node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }; make room on a node, or lower spec.template.resources of the RelayPool",
    ),
    (
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        "node(s) didn't match Pod's node affinity/selector; give a node the labels that spec.template.nodeSelector and affinity of the RelayPool ask for, or change these",
    ),
    (
        "0/2 nodes are available: 2 node(s) had untolerated taint(s). preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        "node(s) had untolerated taint(s); add to spec.template.tolerations of the RelayPool, or take the taint off a node",
    ),
    (
        "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) were unschedulable.",
        "node(s) didn't match PersistentVolume's node affinity, node(s) were unschedulable; bring back a node that its volume can be reached from",
    ),
    (
        "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules.",
        "node(s) didn't match pod anti-affinity rules; add a node, or change spec.template.affinity of the RelayPool",
    ),
    ("no nodes available to schedule pods", "no nodes available to schedule pods; add a node"),
    (
        "Scheduling is blocked due to non-empty scheduling gates",
        "Scheduling is blocked due to non-empty scheduling gates; add a node that takes it, or change spec.template of the RelayPool",
    ),
];

#[test]
fn a_pod_that_no_node_takes_is_told_without_numbers() {
    for (said, wanted) in UNSCHEDULED {
        let refusal = told(&unscheduled("Unschedulable", said)).expect(said);
        let message = format!("Pod shop-0 cannot be scheduled: {wanted}");
        assert_eq!(
            (refusal.reason, refusal.message),
            (reasons::UNSCHEDULABLE, message)
        );
        assert_eq!(refusal.progress, Progress::Reconciling);
    }
}

/// What the kubelet says of the relay's container, reason, who can cure it, and the message.
#[rustfmt::skip]
const NOT_STARTED: [(&str, &str, &str, Progress, &str); 9] = [
    (
        "ErrImagePull",
        "rpc error: code = NotFound desc = failed to pull and unpack image \"registry.example/relay:1\": failed to resolve reference \"registry.example/relay:1\": registry.example/relay:1: not found",
        reasons::IMAGE_PULL_BACK_OFF, Progress::Reconciling,
        "cannot pull image registry.example/relay:1 of container relay: failed to pull and unpack image \"registry.example/relay:1\": failed to resolve reference \"registry.example/relay:1\": registry.example/relay:1: not found; push it, or correct image.relay among the chart's values",
    ),
    (
        "ErrImagePull",
        "failed to pull and unpack image \"registry.example/relay:1\": failed to resolve reference \"registry.example/relay:1\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
        reasons::IMAGE_PULL_BACK_OFF, Progress::Reconciling,
        "cannot pull image registry.example/relay:1 of container relay: failed to pull and unpack image \"registry.example/relay:1\": failed to resolve reference \"registry.example/relay:1\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed; push it, or name a Secret in the pool's namespace that has credentials for its registry in image.relay.pullSecrets among the chart's values",
    ),
    (
        "ImagePullBackOff",
        "Back-off pulling image \"registry.example/relay:1\": ErrImagePull: failed to pull and unpack image \"registry.example/relay:1\": failed to copy: httpReadSeeker: failed open: unexpected status code https://registry.example/v2/relay/manifests/sha256:6f1ba1ba1ba16f1ba1ba1ba16f1ba1ba1ba16f1ba1ba1ba16f1ba1ba1ba10000: 429 Too Many Requests",
        reasons::IMAGE_PULL_BACK_OFF, Progress::Reconciling,
        "cannot pull image registry.example/relay:1 of container relay: failed to pull and unpack image \"registry.example/relay:1\": failed to copy: httpReadSeeker: failed open: unexpected status code https://registry.example/v2/relay/manifests/sha256:...: 429 Too Many Requests; pull it from a mirror of yours, or with credentials: image.relay among the chart's values",
    ),
    (
        "RegistryUnavailable",
        "image pull failed for registry.example/relay:1 because the registry is unavailable: dial tcp 192.0.2.1:443: connect: connection refused",
        reasons::IMAGE_PULL_BACK_OFF, Progress::Reconciling,
        "cannot pull image registry.example/relay:1 of container relay: image pull failed for registry.example/relay:1 because the registry is unavailable: dial tcp ...: connect: connection refused; see to it that nodes can pull it",
    ),
    (
        "ImagePullBackOff", "Back-off pulling image \"registry.example/relay:1\"",
        reasons::IMAGE_PULL_BACK_OFF, Progress::Reconciling,
        "cannot pull image registry.example/relay:1 of container relay: Back-off pulling image \"registry.example/relay:1\"; see to it that nodes can pull it",
    ),
    (
        "InvalidImageName",
        "Failed to apply default image tag \"registry.example/Relay:1\": couldn't parse image name \"registry.example/Relay:1\": invalid reference format: repository name (Relay) must be lowercase",
        reasons::INVALID_IMAGE_NAME, Progress::Stalled,
        "has container relay, whose image registry.example/relay:1 is no image name; correct image.relay among the chart's values",
    ),
    (
        "CreateContainerConfigError", "secret \"mesh-token\" not found",
        reasons::CREATE_CONTAINER_CONFIG_ERROR, Progress::Reconciling,
        "has container relay, which cannot be configured: secret \"mesh-token\" not found; create what is missing, or correct what asks for it",
    ),
    (
        "CreateContainerConfigError",
        "container has runAsNonRoot and image will run as root (pod: \"shop-0_mail(1f0e8400-e29b-41d4-a716-446655440000)\", container: relay)",
        reasons::CREATE_CONTAINER_CONFIG_ERROR, Progress::Reconciling,
        "has container relay, which cannot be configured: container has runAsNonRoot and image will run as root (pod: \"shop-0_mail(...)\", container: relay); create what is missing, or correct what asks for it",
    ),
    (
        "CreateContainerError",
        "failed to reserve container name \"relay_shop-0_mail_1f0e8400-e29b-41d4-a716-446655440000_0\": name \"relay_shop-0_mail_1f0e8400-e29b-41d4-a716-446655440000_0\" is reserved for \"4bd9ac0f4bd9ac0f4bd9ac0f4bd9ac0f4bd9ac0f4bd9ac0f4bd9ac0f4bd9ac0f\"",
        reasons::CREATE_CONTAINER_ERROR, Progress::Reconciling,
        "has container relay, which its node cannot make: failed to reserve container name \"relay_shop-0_mail_..._0\": name \"relay_shop-0_mail_..._0\" is reserved for \"...\"; see to its node",
    ),
];

#[test]
fn a_container_that_cannot_be_started_is_told_with_words_and_cure() {
    for (reason, said, wanted, progress, message) in NOT_STARTED {
        let refusal = told(&on_node(&waiting(reason, said))).expect(said);
        let message = format!("Pod shop-0 {message}");
        assert_eq!(
            (refusal.reason, refusal.progress, refusal.message),
            (wanted, progress, message)
        );
    }
}

#[test]
fn an_image_that_cannot_be_pulled_reads_the_same_at_each_attempt() {
    let error = |id: &str| {
        format!(
            "failed to pull and unpack image \"r/relay:1\": failed to copy: Get \"https://blobs.example/x?sig={id}\": read tcp 10.0.0.7:4{id}->192.0.2.9:443: i/o timeout"
        )
    };
    let attempt = |id: &str| told(&on_node(&waiting("ErrImagePull", &error(id))));
    let pause = |id: &str| {
        let said = format!(
            "Back-off pulling image \"r/relay:1\": ErrImagePull: {}",
            error(id)
        );
        told(&on_node(&waiting("ImagePullBackOff", &said)))
    };
    let first = attempt("101");
    assert!(first.is_some());
    for again in [pause("101"), attempt("202"), pause("202"), attempt("303")] {
        assert_eq!(again, first);
    }
}

#[test]
fn what_somebody_else_put_into_the_pod_is_not_the_charts() {
    let mut container = waiting("ErrImagePull", "mesh: not found");
    container["name"] = json!("mesh");
    let message = told(&on_node(&container)).unwrap().message;
    assert!(
        message.ends_with("see to it that nodes can pull it"),
        "{message}"
    );
    let mut pod = on_node(&waiting("PodInitializing", ""));
    let mut first = waiting(
        "CrashLoopBackOff",
        "back-off 10s restarting failed container=mesh",
    );
    first["name"] = json!("mesh-init");
    first["lastState"] = ended(1, "Error", 0, 1);
    for (field, value) in [("image", ""), ("imageID", "")] {
        first[field] = json!(value);
    }
    (first["ready"], first["restartCount"]) = (json!(false), json!(1));
    let status = pod.status.as_mut().unwrap();
    status.init_container_statuses = Some(vec![serde_json::from_value(first).unwrap()]);
    let message = told(&pod).unwrap().message;
    assert_eq!(
        message,
        "Pod shop-0 has container mesh-init, which ends again and again: exit code 1 (Error); see kubectl logs shop-0 -n mail -c mesh-init --previous"
    );
}

/// The states of a container that ends after a second, as the kubelet shows them one after the other.
fn crashes(code: i32, reason: &str, times: i64) -> Vec<Value> {
    let mut states = Vec::new();
    let mut last = Value::Null;
    for count in 0..times {
        let (from, to) = (60 * count, 60 * count + 1);
        let running = json!({"running": {"startedAt": made(from)}});
        states.push(json!({"state": running, "lastState": last, "restartCount": count}));
        let end = ended(code, reason, from, to);
        states.push(json!({"state": end, "lastState": last, "restartCount": count}));
        if count > 0 {
            let said = format!(
                "back-off {}s restarting failed container=relay pod=shop-0_mail(p0)",
                10 << count
            );
            let waits = waiting("CrashLoopBackOff", &said)["state"].take();
            states.push(json!({"state": waits, "lastState": end, "restartCount": count}));
        }
        last = end;
    }
    states
}

#[test]
fn a_container_that_ends_again_and_again_is_told_all_along() {
    let message = "Pod shop-0 has container relay, which ends again and again: exit code 64 (Error); see kubectl logs shop-0 -n mail -c relay --previous";
    let found: Vec<_> = crashes(64, "Error", 6)
        .iter()
        .map(|s| told(&on_node(s)))
        .collect();
    let first = found.iter().position(Option::is_some).unwrap();
    assert_eq!(first, 3, "it has ended twice");
    for refusal in found.iter().skip(first) {
        let refusal = refusal.as_ref().expect("all along");
        assert_eq!(
            (refusal.reason, refusal.message.as_str()),
            (reasons::CRASH_LOOP_BACK_OFF, message)
        );
    }
    let last = crashes(137, "OOMKilled", 3).pop().unwrap();
    assert_eq!(
        told(&on_node(&last)).unwrap().message,
        "Pod shop-0 has container relay, which ends again and again: OOMKilled; raise limits.memory in spec.template.resources of the RelayPool"
    );
    let mut last = crashes(128, "StartError", 3).pop().unwrap();
    last["lastState"]["terminated"]["message"] = json!(
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/relay\": stat /relay: no such file or directory"
    );
    let message = told(&on_node(&last)).unwrap().message;
    assert!(
        message.contains("exit code 128 (StartError): failed to create containerd task"),
        "{message}"
    );
}

#[test]
fn a_container_that_has_ended_once_in_a_long_time_is_none_of_it() {
    let hours = 3_600 * 50;
    let old = ended(137, "Error", 0, hours);
    let running = json!({"running": {"startedAt": made(LATER - 5)}});
    let quick = ended(1, "Error", 0, 1);
    for container in [
        json!({"state": running, "lastState": old, "restartCount": 7}),
        json!({"state": old, "lastState": quick, "restartCount": 7}),
        json!({"state": running, "lastState": quick, "restartCount": 1}),
        json!({"state": running, "restartCount": 0}),
    ] {
        assert_eq!(told(&on_node(&container)), None, "{container}");
    }
    // One that has run for ten minutes since is slow to become ready, and no more.
    let container = json!({"state": running, "lastState": quick, "restartCount": 2});
    let at = |second| judge(&on_node(&container), None, made(second));
    let Finding::Told(_, Some(wait)) = at(LATER) else {
        panic!("{:?}", at(LATER))
    };
    assert_eq!(wait.as_secs(), 595);
    assert_eq!(at(LATER + 595), Finding::Nothing(None));
}

#[test]
fn a_pod_on_its_way_is_left_alone() {
    let pod = on_node(&waiting("ErrImagePull", "not found"));
    let at = |second| judge(&pod, None, made(second));
    let wait = |seconds| Finding::Nothing(Some(Duration::from_secs(seconds)));
    assert_eq!(at(0), wait(30));
    assert_eq!(at(29), wait(1));
    assert_eq!(at(-600), wait(30), "by a clock that is behind");
    assert!(matches!(at(30), Finding::Told(..)));
    let mut going = pod.clone();
    going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
    assert_eq!(judge(&going, None, made(LATER)), Finding::Nothing(None));
    let mut ready = pod;
    for condition in ready.status.as_mut().unwrap().conditions.as_mut().unwrap() {
        condition.status = "True".into();
    }
    assert_eq!(judge(&ready, None, made(LATER)), Finding::Nothing(None));
}

fn event(reason: &str, note: &str, second: i64) -> k8s_openapi::api::events::v1::Event {
    serde_json::from_value(
        json!({"metadata": {"name": "e"}, "reason": reason, "note": note,
        "deprecatedLastTimestamp": made(second)}),
    )
    .unwrap()
}

/// What `events` tell of `pod`, whose volume is in `phase`.
fn said(pod: &Pod, phase: &str, events: &[(&str, &str)]) -> Option<Refusal> {
    let events: Vec<_> = events
        .iter()
        .map(|(reason, note)| event(reason, note, LATER))
        .collect();
    match judge(pod, Some(&claim(phase)), made(LATER)) {
        Finding::Unsaid(unsaid) => unsaid.judge(&events, made(LATER + 1)),
        finding => panic!("{finding:?}"),
    }
}

#[test]
fn a_volume_that_is_not_there_is_told_in_the_words_of_who_makes_it() {
    let unbound = unscheduled(
        "Unschedulable",
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    let failed =
        "running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded";
    let late = unscheduled("SchedulerError", failed);
    let external = "Waiting for a volume to be created either by the external provisioner 'disk.example' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.";
    for (pod, events, message) in [
        (
            &unbound,
            &[(
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set",
            )][..],
            "no persistent volumes available for this claim and no storage class is set; make a StorageClass the default, or a volume that fits",
        ),
        (
            &unbound,
            &[(
                "ProvisioningFailed",
                "storageclass.storage.k8s.io \"fast\" not found",
            )],
            "storageclass.storage.k8s.io \"fast\" not found; create that StorageClass, or another RelayPool with another spec.storage.storageClassName",
        ),
        (
            &late,
            &[
                ("ExternalProvisioning", external),
                (
                    "ProvisioningFailed",
                    "failed to provision volume with StorageClass \"disk\": rpc error: code = ResourceExhausted desc = no space for pvc-1f0e8400-e29b-41d4-a716-446655440000",
                ),
            ],
            "failed to provision volume with StorageClass \"disk\": no space for pvc-...; see to the StorageClass and its provisioner",
        ),
    ] {
        let refusal = said(pod, "Pending", events).unwrap();
        let message = format!("Pod shop-0 waits for its volume spool-shop-0: {message}");
        assert_eq!(
            (refusal.reason, refusal.message),
            (reasons::VOLUME_NOT_BOUND, message)
        );
    }
    let message = said(&unbound, "Pending", &[("ExternalProvisioning", external)])
        .unwrap()
        .message;
    assert!(
        message.ends_with("; see to the provisioner of the StorageClass"),
        "{message}"
    );
    let silent = said(&unbound, "Pending", &[("Provisioning", "under way")]).unwrap();
    assert_eq!(
        silent.message,
        "Pod shop-0 waits for its volume spool-shop-0; see to the StorageClass and its provisioner"
    );
    // Nobody has said anything of the pod yet.
    let fresh = pod(json!({"phase": "Pending"}));
    assert_eq!(said(&fresh, "Pending", &[]), None);
    assert!(said(&fresh, "Pending", &[("FailedBinding", "no")]).is_some());
    assert!(told(&unbound).is_some(), "the volume is there by now");
}

#[test]
fn a_volume_that_cannot_be_mounted_is_told_whichever_was_said_last() {
    let pod = on_node(&json!({"state": {"waiting": {"reason": "ContainerCreating"}}}));
    assert_eq!(said(&pod, "Bound", &[]), None);
    assert_eq!(
        said(&pod, "Bound", &[("Pulling", "Pulling image \"x\"")]),
        None
    );
    let and_so = (
        "FailedMount",
        "Unable to attach or mount volumes: unmounted volumes=[tls], unattached volumes=[], failed to process volumes=[]: context deadline exceeded",
    );
    let tls = (
        "FailedMount",
        "MountVolume.SetUp failed for volume \"tls\" : secret \"mail-tls\" not found",
    );
    for events in [[and_so, tls], [tls, and_so]] {
        let refusal = said(&pod, "Bound", &events).unwrap();
        assert_eq!(
            (refusal.reason, refusal.message.as_str()),
            (
                reasons::FAILED_MOUNT,
                "Pod shop-0 cannot mount a volume: MountVolume.SetUp failed for volume \"tls\" : secret \"mail-tls\" not found; create what is missing, or see to the volume and its node",
            )
        );
    }
    assert!(said(&pod, "Bound", &[and_so]).is_some());
    let sandbox = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \"4bd9ac0f4bd9ac0f\": plugin type=\"bridge\" failed (add): no IP addresses available in range set: 10.244.0.1-10.244.0.254";
    let refusal = said(&pod, "Bound", &[("FailedCreatePodSandBox", sandbox)]).unwrap();
    assert_eq!(refusal.reason, reasons::FAILED_CREATE_POD_SAND_BOX);
    assert!(
        refusal.message.contains("for sandbox \"...\": plugin"),
        "{}",
        refusal.message
    );
    let Finding::Unsaid(unsaid) = judge(&pod, None, made(LATER)) else {
        panic!("not asked")
    };
    let old = [event(tls.0, tls.1, LATER)];
    assert!(unsaid.judge(&old, made(LATER + 360)).is_some());
    assert_eq!(unsaid.judge(&old, made(LATER + 361)), None, "too long ago");
}

#[test]
fn what_a_status_tells_comes_before_what_events_may() {
    let refused = |message: &str| Refusal {
        reason: reasons::UNSCHEDULABLE,
        message: message.into(),
        progress: Progress::Reconciling,
    };
    let wait = |seconds| Finding::Nothing(Some(Duration::from_secs(seconds)));
    let unsaid = |name: &str| {
        let mut pod = on_node(&json!({}));
        (pod.metadata.name, pod.metadata.uid) = (Some(name.into()), Some(name.into()));
        Unsaid::of_pod(&pod).unwrap()
    };
    let told = |message| Finding::Told(refused(message), None);
    for (findings, wanted) in [
        (vec![], Finding::Nothing(None)),
        (vec![wait(9), Finding::Nothing(None), wait(7)], wait(7)),
        (
            vec![
                wait(9),
                Finding::Unsaid(unsaid("a")),
                Finding::Unsaid(unsaid("b")),
            ],
            Finding::Unsaid(unsaid("a")),
        ),
        (
            vec![Finding::Unsaid(unsaid("a")), told("b"), told("c")],
            told("b"),
        ),
    ] {
        assert_eq!(first(findings), wanted);
    }
}

proptest! {
    #[test]
    fn numbers_of_nodes_make_no_difference(
        counts in proptest::collection::vec(1_u32..5_000, 6),
        swapped in any::<bool>(),
    ) {
        let said = |counts: &[u32], swapped: bool| {
            let mut reasons = [
                format!("{} Insufficient cpu", counts[0]),
                format!("{} node(s) had untolerated taint {{a: b, c}}", counts[1]),
            ];
            if swapped {
                reasons.reverse();
            }
            let message = format!("0/{} nodes are available: {}. preemption: 0/{} nodes are available.",
                counts[2], reasons.join(", "), counts[3]);
            told(&unscheduled("Unschedulable", &message))
        };
        prop_assert_eq!(said(&counts, swapped), said(&[1, 2, 3, 3], false));
    }
}
