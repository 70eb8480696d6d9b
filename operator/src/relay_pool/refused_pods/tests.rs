//! Events of a StatefulSet, as its controller writes them.

use postrider_crds::condition::reasons;
use serde_json::{Value, json};

use super::*;
use crate::conditions::Progress;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn event(note: &str, more: Value) -> Event {
    let mut event = json!({"metadata": {"name": "e", "namespace": "mail"}, "note": note,
        "reason": "FailedCreate", "regarding": {"kind": "StatefulSet", "name": "shop"}});
    for (field, value) in more.as_object().unwrap() {
        event[field] = value.clone();
    }
    serde_json::from_value(event).unwrap()
}

/// An event as today's controllers write it, last seen at `second`.
fn failed(pod: &str, why: &str, second: i64) -> Event {
    let note = format!("Create Pod {pod} in StatefulSet shop failed error: {why}");
    event(&note, json!({"deprecatedLastTimestamp": at(second)}))
}

fn said(events: &[Event], missing: &[&str], second: i64) -> Option<Refusal> {
    let missing: Vec<String> = missing.iter().map(|pod| (*pod).to_owned()).collect();
    judge(events, &missing, at(second))
}

/// What the controller was told, reason, whether it may pass by itself, and the message.
#[rustfmt::skip]
const REFUSED: [(&str, &str, Progress, &str); 7] = [
    (
        "pods \"shop-0\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2",
        reasons::QUOTA_EXCEEDED, Progress::Reconciling,
        "cannot create Pod shop-0: exceeded quota: few, requested: pods=1, limited: pods=2; raise the ResourceQuota, or delete what is not needed",
    ),
    (
        "failed to create PVC spool-shop-0: persistentvolumeclaims \"spool-shop-0\" is forbidden: exceeded quota: disk, requested: requests.storage=10Gi, used: requests.storage=0, limited: requests.storage=5Gi",
        reasons::QUOTA_EXCEEDED, Progress::Reconciling,
        "cannot create Pod shop-0: exceeded quota: disk, requested: requests.storage=10Gi, limited: requests.storage=5Gi; raise the ResourceQuota, or delete what is not needed",
    ),
    (
        "pods \"shop-0\" is forbidden: failed quota: cpus: must specify limits.cpu for: relay",
        reasons::ADMISSION_DENIED, Progress::Stalled,
        "cannot create Pod shop-0: failed quota: cpus: must specify limits.cpu for: relay; say in spec.template.resources of the RelayPool what the ResourceQuota asks for",
    ),
    (
        "pods \"shop-0\" is forbidden: [maximum memory usage per Container is 1Gi, but limit is 2Gi, maximum cpu usage per Container is 1, but limit is 2]",
        reasons::ADMISSION_DENIED, Progress::Stalled,
        "cannot create Pod shop-0: [maximum memory usage per Container is 1Gi, but limit is 2Gi, maximum cpu usage per Container is 1, but limit is 2]; change spec.template.resources of the RelayPool, or the LimitRange",
    ),
    (
        "failed to create PVC spool-shop-0: persistentvolumeclaims \"spool-shop-0\" is forbidden: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi",
        reasons::ADMISSION_DENIED, Progress::Stalled,
        "cannot create Pod shop-0: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi; change spec.storage.size of the RelayPool, or the LimitRange",
    ),
    (
        "pods \"shop-0\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true (container \"mesh\" must set securityContext.runAsNonRoot=true)",
        reasons::ADMISSION_DENIED, Progress::Stalled,
        "cannot create Pod shop-0: violates PodSecurity \"restricted:latest\": runAsNonRoot != true (container \"mesh\" must set securityContext.runAsNonRoot=true); change what it objects to, or have it make an exception",
    ),
    (
        "Internal error occurred: failed calling webhook \"mesh.example\": failed to call webhook: Post \"https://10.96.0.7:443/\": dial tcp 10.96.0.7:443: connect: connection refused",
        reasons::ADMISSION_UNAVAILABLE, Progress::Reconciling,
        "cannot create Pod shop-0: admission webhook \"mesh.example\" cannot be called; see to it that it answers",
    ),
];

#[test]
fn each_refusal_is_told_with_words_and_cure() {
    for (why, reason, progress, message) in REFUSED {
        let refusal = said(&[failed("shop-0", why, 0)], &["shop-0"], 1).expect(why);
        assert_eq!(
            (refusal.reason, refusal.progress, refusal.message.as_str()),
            (reason, progress, message)
        );
    }
}

#[test]
fn trouble_that_is_not_about_the_pod_is_none_of_it() {
    for why in [
        "etcdserver: request timed out",
        "Post \"https://10.0.0.1:6443/api/v1/namespaces/mail/pods\": context deadline exceeded",
        "pods \"shop-0\" is forbidden: unable to create new content in namespace mail because it is being terminated",
    ] {
        assert_eq!(
            said(&[failed("shop-0", why, 0)], &["shop-0"], 1),
            None,
            "{why}"
        );
    }
}

const DENIED: &str = "pods \"x\" is forbidden: denied by ";

#[test]
fn it_is_the_last_word_about_the_first_that_is_missing() {
    let words = |pod: &str, who: &str, second| failed(pod, &format!("{DENIED}{who}"), second);
    let events = [
        words("shop-1", "a", 30),
        words("shop-2", "b", 20),
        words("shop-1", "c", 10),
        words("shop-0", "d", 40),
    ];
    let who = |missing: &[&str], second| {
        let message = said(&events, missing, second)?.message;
        let (_, rest) = message.split_once("denied by ")?;
        rest.chars().next()
    };
    assert_eq!(who(&["shop-1", "shop-2"], 41), Some('a'));
    assert_eq!(who(&["shop-2"], 41), Some('b'));
    assert_eq!(
        who(&["shop-3", "shop-2"], 41),
        Some('b'),
        "of which it speaks"
    );
    assert_eq!(who(&["shop-3"], 41), None);
    assert_eq!(who(&["shop-1"], 30 + 20 * 60), Some('a'));
    assert_eq!(who(&["shop-1"], 31 + 20 * 60), None, "too long ago");
    assert_eq!(
        who(&["shop-1"], -600),
        Some('a'),
        "by a clock that is ahead"
    );
}

#[test]
fn every_way_in_which_controllers_write_it_is_read() {
    let note = |verb| format!("{verb} Pod shop-0 in StatefulSet shop failed error: {DENIED}p");
    let alike = format!("(combined from similar events): {}", note("create"));
    let series = json!({"series": {"count": 3, "lastObservedTime": "2027-01-15T08:00:00.000001Z"},
        "eventTime": "2027-01-15T07:00:00.000000Z"});
    let once = json!({"eventTime": "2027-01-15T08:00:00.000000Z"});
    let counted = json!({"deprecatedLastTimestamp": "2027-01-15T08:00:00Z", "deprecatedCount": 7});
    for (note, time) in [
        (note("Create"), &counted),
        (note("create"), &counted),
        (alike, &counted),
        (note("Create"), &series),
        (note("Create"), &once),
    ] {
        let told = said(&[event(&note, time.clone())], &["shop-0"], 1);
        assert!(told.is_some(), "{note} {time}");
    }
    for note in [
        "Create Claim spool-shop-0 for Pod shop-0 in StatefulSet shop failed error: denied by p",
        "Delete Pod shop-0 in StatefulSet shop failed error: denied by p",
        "Create Pod shop-0 in StatefulSet shop successful",
    ] {
        assert_eq!(
            said(&[event(note, counted.clone())], &["shop-0"], 1),
            None,
            "{note}"
        );
    }
}
