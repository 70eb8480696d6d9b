//! What is told of a deletion that waits, and what goes on meanwhile.

use postrider_crds::{RecordState, relay_config::Admission};

use super::*;
use crate::{
    keys::KeyState,
    sending_domain::{
        plan::{
            Plan, plan,
            tests::{after, at, finding, seen, verified},
        },
        queued::{Queue, tests::counted},
    },
};

fn wait(pool: &str, queue: Queue, until: i64) -> Wait {
    Wait {
        pool: pool.into(),
        queue,
        until: at(until),
    }
}

fn closing(mut observation: Observation, queue: Queue) -> Observation {
    observation.closing = Some(vec![wait("default", queue, 1_000)]);
    observation
}

fn ready(plan: &Plan) -> (&str, &str, &str) {
    let mut conditions = plan.status.conditions.iter();
    let ready = conditions.find(|c| c.type_ == types::READY).unwrap();
    (&ready.status, &ready.reason, &ready.message)
}

#[test]
fn a_domain_that_leaves_goes_on_sending_and_makes_no_keys() {
    let staying = verified(KeyState::Active, true);
    let before = plan(&staying, at(0));
    assert_eq!(before.status.admission, Some(Admission::Send));
    let leaving = closing(after(staying, &before), counted(12, &[]));
    let first = plan(&leaving, at(1));
    assert_eq!(first.status.admission, Some(Admission::Send));
    let (status, reason, message) = ready(&first);
    assert_eq!((status, reason), ("False", reasons::QUEUE_NOT_EMPTY));
    assert_eq!(
        message,
        "being deleted: at most 20 messages of example.com queued, which go on being signed and sent; it goes by 2027-01-15T08:16:40Z at the latest; to leave the mail behind, held, annotate the SendingDomain with postrider.dev/abandon-queue=true"
    );
    let told: Vec<_> = first.notices.iter().map(|n| n.reason).collect();
    assert_eq!(told, [reasons::QUEUE_NOT_EMPTY]);
    // Some mail left, and a rotation falls due.
    let mut later = closing(after(leaving, &first), counted(11, &[]));
    later.spec.dkim.rotation.trigger = Some("now".into());
    let second = plan(&later, at(2));
    assert_eq!(second.status.conditions, first.status.conditions);
    assert!(second.generate.is_empty() && second.notices.is_empty());
    // Its Secrets went first: relays sign with what they have.
    later.keys.clear();
    let third = plan(&later, at(3));
    assert_eq!(third.status.admission, Some(Admission::Send));
    assert!(third.generate.is_empty());
}

#[test]
fn a_domain_that_leaves_sends_on_when_its_records_go_first() {
    let staying = verified(KeyState::Active, true);
    let before = plan(&staying, at(0));
    let gone = |mut observation: Observation| {
        observation.findings.spf = Some(finding(RecordState::Missing));
        observation.findings.return_path = Some(finding(RecordState::Missing));
        observation
    };
    let staying = gone(after(staying, &before));
    assert_eq!(
        plan(&staying, at(1)).status.admission,
        Some(Admission::Hold)
    );
    let mut leaving = closing(staying, counted(12, &[]));
    for _ in 0..2 {
        let plan = plan(&leaving, at(1));
        assert_eq!(plan.status.admission, Some(Admission::Send));
        let message = ready(&plan).2;
        assert!(
            message.contains("which go on being signed and sent"),
            "{message}"
        );
        leaving = closing(after(leaving, &plan), counted(12, &[]));
        // As a deletion in the foreground does.
        leaving.keys.clear();
    }
}

#[test]
fn a_domain_that_leaves_sends_nothing_that_does_not_verify() {
    let before = plan(&verified(KeyState::Active, true), at(0));
    let mut leaving = after(verified(KeyState::Active, true), &before);
    for key in &mut leaving.keys {
        *key = seen(key.clone(), RecordState::Missing);
    }
    let plan = plan(&closing(leaving, counted(1, &["default-1"])), at(1));
    assert_eq!(plan.status.admission, Some(Admission::Hold));
    let message = ready(&plan).2;
    assert!(
        message.contains("1 message of example.com held (publish TXT pr-")
            && message.contains("waiting for default-1 to report"),
        "{message}"
    );
}

#[test]
fn what_is_held_is_released_by_keys_on_their_way() {
    let mut leaving = closing(verified(KeyState::Loaded, true), counted(2, &[]));
    for second in 0..3 {
        let plan = plan(&leaving, at(second));
        leaving = closing(after(leaving, &plan), counted(2, &[]));
    }
    assert_eq!(leaving.previous.admission, Some(Admission::Send));
    let unknown = Some(finding(RecordState::Unknown));
    leaving.findings.spf.clone_from(&unknown);
    leaving.findings.dmarc = unknown;
    let plan = plan(&leaving, at(9));
    assert_eq!(plan.status.admission, Some(Admission::Send));
}

#[test]
fn what_is_not_known_is_told() {
    let message = |queue| {
        let plan = plan(&closing(verified(KeyState::Active, true), queue), at(0));
        let (_, reason, message) = ready(&plan);
        assert_eq!(reason, reasons::QUEUE_UNKNOWN);
        message.to_owned()
    };
    let untold = message(Queue::Untold);
    assert!(
        untold.contains("RelayPool default has to tell its relays"),
        "{untold}"
    );
    let pods = ["default-0", "default-1", "default-2", "default-3"];
    let unheard = message(counted(0, &pods));
    assert!(
        unheard.contains("waiting for default-0, default-1, default-2 and 1 more to report"),
        "{unheard}"
    );
}

#[test]
fn a_deletion_waits_for_the_pools_that_were_left_too() {
    let mut leaving = verified(KeyState::Active, true);
    let waits = [
        wait("default", counted(0, &["default-1"]), 1_000),
        wait("old", counted(2, &[]), 2_000),
    ];
    leaving.closing = Some(waits.to_vec());
    let plan = plan(&leaving, at(0));
    let (status, reason, message) = ready(&plan);
    assert_eq!((status, reason), ("False", reasons::QUEUE_NOT_EMPTY));
    assert_eq!(
        message,
        "being deleted: waiting for default-1 to report what is queued; in RelayPool old, which the domain has left: 2 messages of example.com queued, which go on being signed and sent; it goes by 2027-01-15T08:33:20Z at the latest; to leave the mail behind, held, annotate the SendingDomain with postrider.dev/abandon-queue=true"
    );
}
