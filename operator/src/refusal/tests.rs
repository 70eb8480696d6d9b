//! Answers of API servers, and what is made of them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::conditions;

fn asked(kind: &str) -> Asked {
    Asked {
        verb: "apply",
        kind: kind.into(),
        name: "shop".into(),
    }
}

fn answer(code: u16, message: &str, causes: Value) -> ApiStatus {
    let status = json!({"status": "Failure", "code": code, "message": message,
        "details": {"causes": causes}});
    serde_json::from_value(status).unwrap()
}

fn refusal(kind: &str, code: u16, message: &str, causes: Value) -> Option<Refusal> {
    Refusal::of(&asked(kind), &answer(code, message, causes))
}

/// Kind, code, message, causes; reason and message of the refusal.
#[rustfmt::skip]
const REFUSED: [(&str, u16, &str, &str, &str, &str); 10] = [
    (
        "StatefulSet", 422, "StatefulSet.apps \"shop\" is invalid: [...]",
        r#"[{"field": "spec.template.spec.tolerations[1].key", "message": "Required value"},
            {"field": "spec.template.spec.tolerations[0].operator", "message": "Invalid value: \"Same\""}]"#,
        reasons::OBJECT_INVALID,
        "cannot apply StatefulSet shop: spec.template.spec.tolerations[0].operator: Invalid value: \"Same\" (and 1 more); correct spec.template.tolerations[0].operator of the RelayPool",
    ),
    (
        "StatefulSet", 422, "",
        r#"[{"field": "spec.template.labels", "message": "Invalid value: \"-\": a name"}]"#,
        reasons::OBJECT_INVALID,
        "cannot apply StatefulSet shop: spec.template.labels: Invalid value: \"-\": a name; correct spec.template.metadata.labels of the RelayPool",
    ),
    (
        "StatefulSet", 422, "",
        r#"[{"field": "spec", "message": "Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"}]"#,
        reasons::OBJECT_INVALID,
        "cannot apply StatefulSet shop: spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden; delete it with --cascade=orphan, so that it is made anew; its pods and volumes stay",
    ),
    (
        "Service", 422, "",
        r#"[{"field": "spec.clusterIPs[0]", "message": "Invalid value: [\"None\"]: may not change once set"}]"#,
        reasons::OBJECT_INVALID,
        "cannot apply Service shop: spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set; if nobody else needs it, delete it, so that it is made anew",
    ),
    (
        "Secret", 403, "secrets \"shop\" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=2, limited: secrets=2",
        "[]",
        reasons::QUOTA_EXCEEDED,
        "cannot apply Secret shop: exceeded quota: q, requested: secrets=1, limited: secrets=2; raise the ResourceQuota, or delete what is not needed",
    ),
    (
        "Secret", 403, "secrets is forbidden: User \"system:serviceaccount:p:o\" cannot create resource \"secrets\" in API group \"\" in the namespace \"mail\"",
        "[]",
        reasons::FORBIDDEN,
        "cannot apply Secret shop: secrets is forbidden: User \"system:serviceaccount:p:o\" cannot create resource \"secrets\" in API group \"\" in the namespace \"mail\"; give the operator's Role that right, as in the chart",
    ),
    (
        "StatefulSet", 422, "statefulsets.apps \"shop\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        r#"[{"message": "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"}]"#,
        reasons::ADMISSION_DENIED,
        "cannot apply StatefulSet shop: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no; change what it objects to, or have it make an exception",
    ),
    (
        "StatefulSet", 400, "admission webhook \"guard.example\" denied the request: no limits",
        "[]",
        reasons::ADMISSION_DENIED,
        "cannot apply StatefulSet shop: admission webhook \"guard.example\" denied the request: no limits; change what it objects to, or have it make an exception",
    ),
    (
        "StatefulSet", 500, "Internal error occurred: failed calling webhook \"guard.example\": failed to call webhook: Post \"https://10.96.0.7:443/\": read tcp 10.0.0.1:43512->10.96.0.7:443: connection reset by peer",
        "[]",
        reasons::ADMISSION_UNAVAILABLE,
        "cannot apply StatefulSet shop: admission webhook \"guard.example\" cannot be called; see to it that it answers",
    ),
    (
        "ConfigMap", 413, "Request entity too large: limit is 3145728",
        "[]",
        reasons::OBJECT_INVALID,
        "cannot apply ConfigMap shop: Request entity too large: limit is 3145728; change the field of the spec that it comes from",
    ),
];

#[test]
fn each_refusal_names_object_fault_and_cure() {
    for (kind, code, message, causes, reason, wanted) in REFUSED {
        let causes = serde_json::from_str(causes).unwrap();
        let refusal = refusal(kind, code, message, causes).expect(message);
        assert_eq!((refusal.reason, refusal.message.as_str()), (reason, wanted));
        let passes = [reasons::QUOTA_EXCEEDED, reasons::ADMISSION_UNAVAILABLE].contains(&reason);
        let wanted = if passes {
            Progress::Reconciling
        } else {
            Progress::Stalled
        };
        assert_eq!(refusal.progress, wanted, "{reason}");
    }
}

#[test]
fn what_says_nothing_of_the_object_is_no_refusal() {
    for (code, message) in [
        (404, "namespaces \"mail\" not found"),
        (409, "the object has been modified"),
        (429, "too many requests"),
        (500, "etcdserver: request timed out"),
        (503, "apiserver is shutting down"),
        (401, "Unauthorized"),
        (
            403,
            "secrets \"shop\" is forbidden: unable to create new content in namespace mail because it is being terminated",
        ),
    ] {
        assert_eq!(
            refusal("Secret", code, message, json!([])),
            None,
            "{message}"
        );
    }
}

#[test]
fn the_order_of_faults_is_no_matter() {
    let faults = [
        json!({"field": "spec.b", "message": "bad"}),
        json!({"field": "spec.a", "message": "worse"}),
        json!({"field": "spec.a", "message": "bad"}),
    ];
    let [one, two, three] = &faults;
    let first = refusal("StatefulSet", 422, "", json!([one, two, three]));
    assert!(
        first
            .as_ref()
            .unwrap()
            .message
            .contains("spec.a: bad (and 2 more)")
    );
    assert_eq!(
        refusal("StatefulSet", 422, "", json!([three, one, two])),
        first
    );
}

#[test]
fn a_long_answer_leaves_room_for_the_cure() {
    let said = "\u{e9}".repeat(2000);
    let refusal = refusal("Secret", 400, &said, json!([])).unwrap();
    assert!(refusal.message.len() < 1024);
    assert!(
        refusal
            .message
            .ends_with("; change the field of the spec that it comes from")
    );
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn told_again_it_changes_nothing_and_the_rest_stays() {
    let facts = [
        Fact::new(types::READY, Status::True, reasons::READY, "well"),
        Fact::new(
            types::AVAILABLE,
            Status::True,
            reasons::MEMBERS_AVAILABLE,
            "2 of 2",
        ),
        Fact::new(
            types::RECONCILING,
            Status::True,
            reasons::ROLLING_OUT,
            "soon",
        ),
        Fact::new(types::PUBLISHED, Status::True, reasons::PUBLISHED, "in DNS"),
    ];
    let before = conditions::merge(&[], &facts, 1, at(1));
    let said = "secrets \"shop\" is forbidden: denied by somebody";
    let refusal = refusal("Secret", 403, said, json!([])).unwrap();
    let mut shown = before.clone();
    refusal.show(&mut shown, &before, 2, at(2));
    let told: Vec<String> = shown
        .iter()
        .map(|c| {
            format!(
                "{}={}/{} {:?}",
                c.type_, c.status, c.reason, c.observed_generation
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "Ready=False/AdmissionDenied Some(2)",
            "Available=True/MembersAvailable Some(1)",
            "Published=True/Published Some(1)",
            "Stalled=True/AdmissionDenied Some(2)",
        ]
    );
    assert_eq!(shown[0].last_transition_time.0, at(2));
    assert!(!refusal.is_told(&before) && refusal.is_told(&shown));
    let mut again = shown.clone();
    refusal.show(&mut again, &shown, 2, at(3));
    assert_eq!(again, shown);
}
