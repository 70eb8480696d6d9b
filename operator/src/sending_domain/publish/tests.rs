//! What the outcome looks like, and how long a deletion waits.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use postrider_crds::{RecordPurpose, RecordState, RecordStatus, RecordType};

use super::{
    fact::{seen, with_outside},
    farewell::{PATIENCE, gives_up},
    *,
};
use crate::sending_domain::plan::{self, tests::fresh};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn record(name: &str) -> PublishedRecord {
    PublishedRecord {
        r#type: RecordType::TXT,
        name: name.into(),
        value: "v".into(),
    }
}

fn status(name: &str, state: RecordState) -> RecordStatus {
    RecordStatus {
        r#type: RecordType::TXT,
        name: name.into(),
        wanted: "v".into(),
        seen: None,
        state,
        purpose: RecordPurpose::DKIM,
        message: String::new(),
    }
}

#[test]
fn published_is_what_was_seen_and_nothing_else() {
    let handed = [record("a.example.com"), record("b.example.com")];
    let good = status("a.example.com", RecordState::Verified);
    for state in [
        RecordState::Missing,
        RecordState::Unknown,
        RecordState::Mismatch,
    ] {
        let fact = seen(
            &[good.clone(), status("b.example.com", state)],
            &handed,
            "zone x",
        );
        assert_eq!(
            (fact.status, fact.reason),
            (Status::Unknown, reasons::WAITING_FOR_DNS)
        );
        assert!(
            fact.message.ends_with("TXT b.example.com"),
            "{}",
            fact.message
        );
    }
    let fact = seen(
        &[good, status("b.example.com", RecordState::Verified)],
        &handed,
        "zone x",
    );
    assert_eq!(
        (fact.status, fact.reason),
        (Status::True, reasons::PUBLISHED)
    );
}

#[test]
fn a_deletion_waits_an_hour_and_no_longer_than_asked() {
    let spec = serde_json::json!({"domain": "example.com", "poolRef": {"name": "default"}});
    let mut domain = SendingDomain::new("example", serde_json::from_value(spec).unwrap());
    domain.metadata.deletion_timestamp = Some(Time(at(0)));
    assert!(!gives_up(&domain, at(PATIENCE - 1)));
    assert!(gives_up(&domain, at(PATIENCE)));
    domain
        .annotations_mut()
        .insert(ABANDON_ANNOTATION.into(), "true".into());
    assert!(gives_up(&domain, at(0)));
}

#[test]
fn the_outcome_stays_until_the_next_look_and_is_told_once() {
    let mut observation = fresh();
    let fact = published(Status::False, reasons::PUBLISHER_REFUSED, "no".into());
    let outcome = Outcome {
        fact,
        published: Some(PublishedStatus {
            records: vec![record("a.example.com")],
            ..PublishedStatus::default()
        }),
    };
    let mut first = plan::plan(&observation, at(0));
    let notices = first.notices.len();
    show(&mut first, &observation, Some(outcome.clone()), at(0));
    assert_eq!(first.notices.len(), notices + 1);
    observation.previous = first.status.clone();
    let mut again = plan::plan(&observation, at(9));
    show_again(&mut again, &observation);
    assert_eq!(again.status, first.status);
    let mut anew = plan::plan(&observation, at(9));
    let notices = anew.notices.len();
    show(&mut anew, &observation, Some(outcome), at(9));
    assert_eq!(anew.status, first.status);
    assert_eq!(anew.notices.len(), notices);
    let mut gone = plan::plan(&observation, at(9));
    show(&mut gone, &observation, None, at(9));
    assert_eq!(gone.status.published, None);
    assert!(
        gone.status
            .conditions
            .iter()
            .all(|c| c.type_ != types::PUBLISHED)
    );
}

#[test]
fn records_outside_the_zone_are_named() {
    let settings: Rfc2136 = serde_json::from_value(serde_json::json!({
        "server": "192.0.2.53", "zone": "example.net", "tsigSecretRef": {"name": "dns"},
    }))
    .unwrap();
    let fact = published(Status::True, reasons::PUBLISHED, String::new());
    let outside = [record("a.example.com")];
    let told = with_outside(fact.clone(), &[], &outside, &settings);
    assert_eq!(told.reason, reasons::OUTSIDE_ZONE);
    assert!(
        told.message.contains("TXT a.example.com"),
        "{}",
        told.message
    );
    let verified = [status("a.example.com", RecordState::Verified)];
    assert_eq!(
        with_outside(fact.clone(), &verified, &outside, &settings),
        fact
    );
}
