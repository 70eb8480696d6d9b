//! The plan of a RelayPool: a table of worlds and what should come of each, the rendered objects
//! as golden files, and a recorded sequence of statuses judged as kstatus would.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod hindered_pods;
mod keyrings;
mod rendered;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    ByteString,
    api::core::v1::{PersistentVolumeClaim, Pod, Secret},
};
use kube::ResourceExt as _;
use postrider_crds::{
    MemberConfig, RecordPurpose, RecordState, RelayPool, RelayPoolStatus, SendingDomain,
    condition::reasons,
    relay_config::{
        Admission, Credentials, DOCUMENT_VERSION, KeyAlgorithm, QueueReport, RefusedDocument,
        Report,
    },
};
use postrider_operator::conditions::Progress;
use postrider_operator::dns::reverse::{Expectation, Reverse};
use postrider_operator::keys::{DkimKey, KeyState, Life};
use postrider_operator::refusal::Refusal;
use postrider_operator::relay_pool::{
    QueueWritten,
    build::RelayImage,
    certificates::{Certificates, Submission, TlsProblem},
    credentials::Senders,
    dns::PoolLook,
    ehlo::EhloNames,
    loaded::{PodReport, PoolState, Rendered},
    observe::{Observation, Unread},
    plan::{MAX_DOCUMENT, Plan, plan},
};
use postrider_operator::stores::kept;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T00:00:00Z";

fn pool(spec: Value) -> Arc<RelayPool> {
    let mut object = json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
        "metadata": {"name": "default", "namespace": "mail", "uid": "pool-uid", "generation": 3},
        "spec": {"hostname": "mail.example.net", "replicas": 2},
    });
    let fields = object["spec"].as_object_mut().unwrap();
    for (key, value) in spec.as_object().unwrap() {
        if value.is_null() {
            fields.remove(key);
        } else {
            fields.insert(key.clone(), value.clone());
        }
    }
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A world with nothing but the pool.
fn bare(spec: Value) -> Observation {
    Observation {
        now: NOW.parse().unwrap(),
        pool: pool(spec),
        image: RelayImage {
            reference: "registry.example/postrider-relay:1".into(),
            pull_secrets: Vec::new(),
        },
        resolvers: vec!["10.96.0.10:53".parse().unwrap()],
        stateful_set: None,
        pods: Vec::new(),
        claims: Vec::new(),
        secrets: BTreeMap::new(),
        domains: Vec::new(),
        keys: Vec::new(),
        senders: Senders::default(),
        credentials: Credentials {
            version: DOCUMENT_VERSION,
            credentials: Vec::new(),
        },
        lists: ["global".to_owned()].into(),
        undecodable: Unread::default(),
        certificates: Certificates {
            digests: BTreeMap::from([("tls/tls.crt".into(), "c1".into())]),
            renew_at: "2026-03-01T00:00:00Z".parse().unwrap(),
            submission: Submission::Own,
        },
        look: PoolLook::default(),
        hindered_pods: None,
        state: PoolState::default(),
        allowance: usize::MAX,
        queue_written: None,
    }
}

fn pod(ordinal: i32, ready: &str) -> Arc<Pod> {
    let object = json!({
        "metadata": {"name": format!("default-{ordinal}"), "namespace": "mail",
                     "uid": format!("u{ordinal}")},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn claim(ordinal: i32) -> Arc<PersistentVolumeClaim> {
    let object = json!({"metadata": {"name": format!("spool-default-{ordinal}")}});
    Arc::new(serde_json::from_value(object).unwrap())
}

/// The world with `ready` of two pods up, the StatefulSet settled, and nobody asked yet.
fn running(ready: i32) -> Observation {
    let mut seen = bare(json!({}));
    let pods = (0..2).map(|n| pod(n, if n < ready { "True" } else { "False" }));
    seen.pods = pods.collect();
    seen.claims = (0..2).map(claim).collect();
    let set = json!({"metadata": {"generation": 1}, "spec": {"replicas": 2, "serviceName": "x",
        "selector": {}, "template": {}},
        "status": {"observedGeneration": 1, "updatedReplicas": 2, "replicas": 2}});
    seen.stateful_set = Some(Arc::new(serde_json::from_value(set).unwrap()));
    seen
}

/// What a relay that has loaded everything in `plan` reports.
fn report(ordinal: i32, plan: &Plan) -> (String, PodReport) {
    let name = format!("default-{ordinal}");
    let report = Report {
        pod: name.clone(),
        documents: plan.rendered.documents.clone(),
        refused: Vec::new(),
        queue: QueueReport::default(),
        remaining: BTreeMap::new(),
        not_ready: None,
    };
    let uid = format!("u{ordinal}");
    (
        name,
        PodReport {
            uid,
            report: Some(report),
        },
    )
}

fn answering(mut seen: Observation) -> Observation {
    let first = plan(&seen);
    seen.state.reports = (0..2).map(|n| report(n, &first)).collect();
    seen
}

fn first_report(seen: &mut Observation) -> &mut Report {
    seen.state
        .reports
        .get_mut("default-0")
        .unwrap()
        .report
        .as_mut()
        .unwrap()
}

/// `Type=Status/Reason` of every condition.
fn conditions(status: &RelayPoolStatus) -> Vec<String> {
    let text = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        assert_eq!(c.observed_generation, Some(3));
        format!("{}={}/{}", c.type_, c.status, c.reason)
    };
    status.conditions.iter().map(text).collect()
}

fn has(seen: &Observation, wanted: &[&str]) {
    let found = conditions(&plan(seen).status);
    for wanted in wanted {
        assert!(
            found.iter().any(|c| c == wanted),
            "{wanted} not in {found:?}"
        );
    }
}

#[test]
fn a_fresh_pool_says_all_it_knows_and_is_not_done() {
    let found = conditions(&plan(&bare(json!({}))).status);
    assert_eq!(
        found,
        [
            "Ready=False/MembersStarting",
            "Available=False/NoMembers",
            "Progressing=True/RollingOut",
            "ConfigApplied=False/WaitingForMembers",
            "SpoolsRetained=False/NoneRetained",
            "EHLOVerified=Unknown/NoEgressAddresses",
            "PTRVerified=Unknown/NoEgressAddresses",
            "Reconciling=True/MembersStarting",
        ]
    );
}

#[test]
fn a_refused_object_is_told_once_beside_all_that_is() {
    let mut seen = answering(running(2));
    let refusal = Refusal {
        reason: reasons::OBJECT_INVALID,
        message: "cannot apply StatefulSet default: spec.template: no; correct it".into(),
        progress: Progress::Stalled,
    };
    let told = plan(&seen).refused(&seen, &refusal);
    let found = conditions(&told.status);
    for wanted in [
        "Ready=False/ObjectInvalid",
        "Available=True/MembersAvailable",
        "ConfigApplied=True/Applied",
        "Stalled=True/ObjectInvalid",
    ] {
        assert!(
            found.iter().any(|c| c == wanted),
            "{wanted} not in {found:?}"
        );
    }
    assert!(
        !found.iter().any(|c| c.starts_with("Reconciling")),
        "{found:?}"
    );
    assert_eq!(told.status.conditions[0].message, refusal.message);
    let notices = |plan: &Plan| {
        let invalid = plan.notices.iter().filter(|n| n.reason == refusal.reason);
        invalid.count()
    };
    assert_eq!(notices(&told), 1);
    Arc::make_mut(&mut seen.pool).status = Some(told.status.clone());
    let again = plan(&seen).refused(&seen, &refusal);
    assert_eq!((notices(&again), &again.status), (0, &told.status));
    has(&seen, &["Ready=True/Ready"]);
}

#[test]
fn ready_needs_every_member_up_and_every_document_loaded() {
    has(
        &running(1),
        &[
            "Ready=False/MembersStarting",
            "Available=True/MembersAvailable",
        ],
    );
    has(
        &running(2),
        &[
            "Ready=False/WaitingForMembers",
            "Reconciling=True/WaitingForMembers",
        ],
    );
    let good = answering(running(2));
    let status = plan(&good).status;
    assert_eq!(
        conditions(&status).len(),
        7,
        "neither Reconciling nor Stalled"
    );
    has(
        &good,
        &[
            "Ready=True/Ready",
            "ConfigApplied=True/Applied",
            "Progressing=False/Stable",
        ],
    );
    assert!(
        status
            .members
            .iter()
            .all(|m| m.config == MemberConfig::Applied)
    );

    let mut stale = good.clone();
    first_report(&mut stale)
        .documents
        .insert("config/relay.yaml".into(), "old".into());
    has(&stale, &["Ready=False/WaitingForMembers"]);
    let mut old_certificate = good.clone();
    first_report(&mut old_certificate)
        .documents
        .insert("tls/tls.crt".into(), "c0".into());
    has(&old_certificate, &["Ready=False/WaitingForMembers"]);
    let mut replaced = good.clone();
    Arc::make_mut(&mut replaced.pods[0]).metadata.uid = Some("u9".into());
    has(&replaced, &["ConfigApplied=False/WaitingForMembers"]);
    let mut silent = good;
    silent.state.reports.get_mut("default-0").unwrap().report = None;
    let status = plan(&silent).status;
    assert_eq!(
        serde_json::to_value(&status.members).unwrap()[0]["state"],
        "Lost"
    );
}

#[test]
fn names_without_spf_are_told_of_and_decide_nothing() {
    let mut seen = answering(running(2));
    seen.pool = pool(json!({"egress": {"addresses": ["203.0.113.10"]}}));
    seen.look.ehlo = EhloNames(vec![("mail.example.net".parse().unwrap(), None)]);
    has(&seen, &["Ready=True/Ready", "EHLOVerified=Unknown/Pending"]);
    let records = plan(&seen).status.records;
    assert_eq!(records[0].name, "mail.example.net");
    assert_eq!(records[0].wanted, "v=spf1 ip4:203.0.113.10 -all");
    assert_eq!(records[0].purpose, RecordPurpose::EHLO);
}

#[test]
fn names_of_addresses_decide_nothing_and_what_is_lost_is_told_once() {
    let mut seen = answering(running(2));
    let egress = ["203.0.113.10".parse().unwrap()];
    let names = ["mail.example.net".parse().unwrap()];
    seen.look.reverse = Reverse::unseen(Expectation {
        egress: &egress,
        names: &names,
    });
    has(&seen, &["Ready=True/Ready", "PTRVerified=Unknown/Pending"]);
    let records = plan(&seen).status.records;
    let told: Vec<_> = records
        .iter()
        .map(|r| (&r.name[..], &r.wanted[..]))
        .collect();
    let expected = [
        ("mail.example.net", "203.0.113.10"),
        ("10.113.0.203.in-addr.arpa", "mail.example.net."),
    ];
    assert_eq!(told, expected);
    let set = |seen: &mut Observation, state, reason| {
        let Reverse { addresses, names } = &mut seen.look.reverse;
        let findings = addresses.iter_mut().map(|(_, finding)| finding);
        for finding in findings.chain(names.iter_mut().map(|(_, finding)| finding)) {
            (finding.state, finding.reason) = (state, reason);
        }
    };
    set(&mut seen, RecordState::Verified, reasons::VERIFIED);
    has(&seen, &["PTRVerified=True/Verified"]);
    Arc::make_mut(&mut seen.pool).status = Some(plan(&seen).status);
    set(&mut seen, RecordState::Missing, reasons::RECORD_MISSING);
    has(
        &seen,
        &["Ready=True/Ready", "PTRVerified=False/RecordMissing"],
    );
    let lost = plan(&seen);
    let notes: Vec<_> = lost
        .notices
        .iter()
        .map(|n| (n.reason, &n.note[..]))
        .collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].0 == reasons::RECORD_MISSING && notes[0].1.starts_with("PTRVerified is False")
    );
    Arc::make_mut(&mut seen.pool).status = Some(lost.status);
    assert_eq!(plan(&seen).notices, []);
}

#[test]
fn a_refusal_stalls_only_while_it_is_about_what_is_rendered() {
    let mut seen = answering(running(2));
    let digest = plan(&seen).rendered.documents["config/relay.yaml"].clone();
    let refused = |digest: String| RefusedDocument {
        path: "config/relay.yaml".into(),
        digest,
        error: "limits: bad".into(),
    };
    first_report(&mut seen).refused = vec![refused("history".into())];
    has(&seen, &["Ready=True/Ready"]);
    first_report(&mut seen).refused = vec![refused(digest)];
    has(
        &seen,
        &[
            "Ready=False/Refused",
            "ConfigApplied=False/Refused",
            "Stalled=True/Refused",
        ],
    );
    let result = plan(&seen);
    let ready = &result.status.conditions[0].message;
    assert!(
        ready.contains("default-0 refused config/relay.yaml"),
        "{ready}"
    );
    assert!(ready.contains("limits: bad"), "{ready}");
    assert_eq!(
        result
            .notices
            .iter()
            .filter(|n| n.reason == "Refused")
            .count(),
        1
    );
}

#[test]
fn a_bad_certificate_reference_names_secret_and_key() {
    let mut seen = answering(running(2));
    seen.certificates.submission = Submission::Unusable(TlsProblem::KeyMissing {
        secret: "mail-tls".into(),
        key: "tls.key",
    });
    has(
        &seen,
        &[
            "Ready=False/ReferenceNotFound",
            "Reconciling=True/ReferenceNotFound",
        ],
    );
    let message = plan(&seen).status.conditions[0].message.clone();
    assert!(
        message.contains("mail-tls") && message.contains("tls.key"),
        "{message}"
    );
}

#[test]
fn replicas_are_the_specs_whatever_is_live() {
    for expected in [3, 0] {
        let mut seen = bare(json!({"replicas": expected}));
        seen.stateful_set = running(2).stateful_set;
        let set = plan(&seen).children.stateful_set;
        assert_eq!(set.spec.unwrap().replicas, Some(expected));
    }
}

#[test]
fn volumes_of_former_members_are_kept_and_told_of_once() {
    let mut seen = answering(running(2));
    seen.pool = pool(json!({"replicas": 0}));
    seen.claims = [10, 2, 0].map(claim).to_vec();
    let first = plan(&seen);
    let names = ["spool-default-0", "spool-default-2", "spool-default-10"];
    assert_eq!(first.status.retained_spools, names);
    has(&seen, &["SpoolsRetained=True/VolumesRetained"]);
    let told = |plan: &Plan| {
        plan.notices
            .iter()
            .filter(|n| n.reason == "VolumesRetained")
            .count()
    };
    assert_eq!(told(&first), 1);
    Arc::make_mut(&mut seen.pool).status = Some(first.status);
    assert_eq!(told(&plan(&seen)), 0);
}

#[test]
fn the_queue_is_written_once_a_minute() {
    let mut seen = answering(running(2));
    first_report(&mut seen).queue = QueueReport {
        due: 1,
        deferred: 2,
        suspended: 4,
        held: 3,
        oldest_due_seconds: 95,
    };
    let first = plan(&seen).status;
    let queue = serde_json::to_value(&first.queue).unwrap();
    assert_eq!(
        queue,
        json!({"queued": 10, "due": 1, "deferred": 2, "suspended": 4, "held": 3, "oldestDue": "1m"})
    );
    let written = |at: &str| {
        let (at, depth) = (at.parse().unwrap(), first.queue.clone().unwrap());
        Some(QueueWritten { at, depth })
    };
    // Also while the cache does not show it yet.
    for shown in [None, Some(first.clone())] {
        Arc::make_mut(&mut seen.pool).status = shown;
        seen.queue_written = written("2025-12-31T23:59:30Z");
        first_report(&mut seen).queue.due = 1;
        assert_eq!(plan(&seen).status.queue, first.queue);
        first_report(&mut seen).queue.due = 50;
        let early = plan(&seen);
        assert_eq!(early.status.queue, first.queue);
        assert_eq!(early.look_again.as_secs(), 30);
        seen.queue_written = written("2025-12-31T23:59:00Z");
        assert_eq!(plan(&seen).status.queue.unwrap().due, 50);
    }
}

#[test]
fn nothing_changes_while_the_facts_are_the_same() {
    let mut seen = answering(running(2));
    let first = plan(&seen);
    Arc::make_mut(&mut seen.pool).status = Some(first.status.clone());
    seen.now = "2026-01-05T00:00:00Z".parse().unwrap();
    let second = plan(&seen);
    assert_eq!(second.status, first.status);
    assert_eq!(second.notices, []);
    assert_eq!(second.config_digest, first.config_digest);
}

#[test]
fn keys_of_a_list_are_withdrawn_only_when_it_is_named_or_exists_no_more() {
    for (named, exists, withdrawn) in [
        (true, true, false),
        (true, false, true),
        (false, true, true),
    ] {
        let lists = if named {
            json!([{"name": "global"}])
        } else {
            json!([])
        };
        let mut seen = bare(json!({"suppressionLists": lists}));
        seen.lists.retain(|_| exists);
        let mut secret = Secret::default();
        secret.metadata.name = Some("default-suppression-3".into());
        let labels = [("postrider.dev/suppression-shard".to_owned(), "3".to_owned())];
        secret.metadata.labels = Some(labels.into());
        secret.data = Some([("global.3".to_owned(), ByteString(b"text".to_vec()))].into());
        seen.secrets.insert(secret.name_any(), Arc::new(secret));
        let plan = plan(&seen);
        assert_eq!(
            plan.withdrawals.len(),
            usize::from(withdrawn),
            "{named} {exists}"
        );
        let rendered = plan.rendered.documents.contains_key("suppression/global.3");
        assert_eq!(rendered, !withdrawn);
        for withdrawal in plan.withdrawals {
            assert_eq!(withdrawal.manager, "postrider/suppression/global");
            assert!(withdrawal.secret.data.unwrap().is_empty());
        }
    }
}

/// kstatus: an object is done when its generation was observed, nothing is Reconciling or Stalled,
/// and Ready is True.
fn kstatus(status: &RelayPoolStatus) -> &'static str {
    let is = |type_: &str| {
        status
            .conditions
            .iter()
            .any(|c| c.type_ == type_ && c.status == "True")
    };
    match status.observed_generation {
        Some(3) if is("Stalled") => "Failed",
        Some(3) if is("Reconciling") => "InProgress",
        Some(3) if is("Ready") => "Current",
        _ => "InProgress",
    }
}

#[test]
fn a_pool_coming_up_is_in_progress_until_it_is_done() {
    let unseen: RelayPoolStatus =
        serde_json::from_value(json!({"observedGeneration": -1})).unwrap();
    let mut recorded = vec![unseen];
    for mut world in [
        bare(json!({})),
        running(0),
        running(1),
        running(2),
        answering(running(2)),
    ] {
        Arc::make_mut(&mut world.pool).status = recorded.last().cloned();
        recorded.push(plan(&world).status);
    }
    let judged: Vec<&str> = recorded.iter().map(kstatus).collect();
    let progress = "InProgress";
    assert_eq!(
        judged,
        [progress, progress, progress, progress, progress, "Current"]
    );
}
