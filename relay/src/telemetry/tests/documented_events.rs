//! `docs/events.md` is held against what the log writes: each stage, and each of its fields.

use std::collections::{BTreeMap, BTreeSet};

use postrider_crds::{
    Mailbox,
    queue::{Command, Order, Scope, Verb},
};

use super::*;
use crate::mail::Priority;

const DOCUMENT: &str = include_str!("../../../../docs/events.md");
/// The heads of its tables.
const FIELDS: &str = "| field | type | meaning |";
const STAGES: &str = "| `stage` | has also | means |";
/// What any event may have, whatever its stage.
const OF_ALL: [&str; 5] = ["time", "stage", "id", "tenant", "domain"];

const SECOND: Duration = Duration::from_secs(1);
const AT: &str = "2026-01-01T00:00:00Z";

type Fields = BTreeSet<String>;

/// One or more of each stage, between them with every field that it can have.
fn samples() -> Vec<Stage> {
    let scopes = [
        Scope::Site("mx.example.org".parse().unwrap()),
        Scope::Domain("example.org".parse().unwrap()),
    ];
    let orders = scopes.into_iter().flat_map(changes).map(Stage::Order);
    let mut samples: Vec<Stage> = orders.collect();
    samples.extend(at_the_door());
    samples.extend(of_attempts());
    samples.extend(of_the_rest());
    samples.iter().for_each(is_among_the_samples);
    samples
}

fn at_the_door() -> [Stage; 2] {
    let client = Some("192.0.2.9".parse().unwrap());
    [
        Stage::Accepted {
            recipients: 1,
            bytes: 10,
            took: SECOND,
            client,
            priority: Priority::new(3),
        },
        Stage::Rejected {
            reason: RejectReason::Limit,
            reply: reply(),
            client,
        },
    ]
}

fn of_attempts() -> [Stage; 5] {
    [
        Stage::AttemptStarted {
            recipient_domain: "example.org".parse().unwrap(),
            attempt: 1,
            site: Site::of_hosts(["mx"]),
            age: SECOND,
        },
        Stage::Delivered {
            recipient: recipient(),
            remote: remote("mx"),
            attempt: 1,
            reply: reply(),
            tls: Some("TLSv1.3".into()),
            age: SECOND,
            took: SECOND,
        },
        Stage::Deferred {
            recipient: recipient(),
            remote: remote("mx"),
            attempt: 1,
            class: Class::Greylisted,
            reply: reply(),
            until: AT.parse().unwrap(),
            took: SECOND,
        },
        bounced("mx").stage,
        Stage::Expired {
            recipient: recipient(),
            remote: remote("mx"),
            attempts: 9,
            reply: reply(),
        },
    ]
}

fn of_the_rest() -> [Stage; 7] {
    [
        Stage::Held,
        Stage::Released,
        Stage::Suppressed {
            recipient: recipient(),
            reason: "asked not to be mailed".into(),
        },
        Stage::Notified {
            notification: MessageId::from_u128(8),
            sender: recipient(),
            kind: NotificationKind::Failed,
        },
        Stage::Quarantined {
            file: "quarantine/1".into(),
        },
        Stage::QuarantineHolds(Quarantine {
            files: 1,
            bytes: 10,
            named: vec!["quarantine/1".into()],
        }),
        Stage::ConfigRefused {
            path: "config/relay.yaml".into(),
            error: "hostname is missing".into(),
        },
    ]
}

fn recipient() -> Mailbox {
    "ab@example.org".parse().unwrap()
}

fn reply() -> Reply {
    Reply::new(451, EnhancedCode(4, 7, 1), "later")
}

/// A stage that is new does not compile here; add one of it to the samples.
fn is_among_the_samples(stage: &Stage) {
    match stage {
        Stage::Accepted { .. }
        | Stage::Rejected { .. }
        | Stage::Held
        | Stage::Released
        | Stage::AttemptStarted { .. }
        | Stage::Delivered { .. }
        | Stage::Deferred { .. }
        | Stage::Bounced { .. }
        | Stage::Expired { .. }
        | Stage::Suppressed { .. }
        | Stage::Notified { .. }
        | Stage::Quarantined { .. }
        | Stage::QuarantineHolds(_)
        | Stage::Order(
            OrderChange::Given(_) | OrderChange::Ended { .. } | OrderChange::CarriedOut(_),
        )
        | Stage::ConfigRefused { .. } => {}
    }
}

/// All that can come of an order.
fn changes(scope: Scope) -> [OrderChange; 3] {
    let at = AT.parse().unwrap();
    let order = Order {
        number: 7,
        verb: Verb::Suspend,
        scope: scope.clone(),
        by: "ann".into(),
        client: "postrider-operator".into(),
        reason: "INC-8".into(),
        given: at,
        until: Some(at),
    };
    let by = Command {
        verb: Verb::Resume,
        scope,
        by: "bob".into(),
        client: "postrider-operator".into(),
        reason: "over".into(),
        until: None,
    };
    [
        OrderChange::Given(order.clone()),
        OrderChange::Ended {
            order: order.clone(),
            by,
        },
        OrderChange::CarriedOut(order),
    ]
}

/// The fields that the log writes, by stage; those of all left out.
fn written() -> BTreeMap<String, Fields> {
    let mut written: BTreeMap<String, Fields> = BTreeMap::new();
    for stage in samples() {
        let lines = Lines::default();
        Telemetry::new(Box::new(lines.clone())).emit(&event(stage));
        let line: Value = serde_json::from_slice(&lines.0.lock().unwrap()).unwrap();
        let names: Fields = line.as_object().unwrap().keys().cloned().collect();
        let own = names.iter().filter(|name| !OF_ALL.contains(&name.as_str()));
        let all = written.entry(line["stage"].as_str().unwrap().into());
        all.or_default().extend(own.cloned());
    }
    written
}

/// The rows of the table with this head, as their cells.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let (_, table) = DOCUMENT.split_once(head).unwrap();
    let table = table.split("\n\n").next().unwrap();
    // The line end of the head and the line below it.
    let rows = table.lines().skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The names in backticks.
fn names(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The fields in a cell of the second table.
fn fields(cell: &str) -> Fields {
    let parts = cell.split(", ").filter(|part| !part.is_empty());
    let expanded = parts.flat_map(|part| match part {
        "reply" => vec!["`code`", "`enhanced`", "`reply`"],
        "what it is about" => vec!["`recipient_domain`", "`site`"],
        name => vec![name],
    });
    expanded
        .map(|name| {
            let bare = name.strip_prefix('`').and_then(|n| n.strip_suffix('`'));
            bare.unwrap_or_else(|| panic!("{name:?} in {cell:?}"))
                .to_owned()
        })
        .collect()
}

#[test]
fn every_stage_is_documented_with_its_fields_and_no_others() {
    let documented: BTreeMap<String, Fields> = rows(STAGES)
        .iter()
        .map(|row| (names(row[0]).next().unwrap(), fields(row[1])))
        .collect();
    assert_eq!(documented, written());
}

#[test]
fn every_field_with_a_meaning_of_its_own_is_written() {
    let mut written: Fields = written().into_values().flatten().collect();
    written.extend(OF_ALL.map(str::to_owned));
    let rows = rows(FIELDS);
    let documented: Fields = rows.iter().flat_map(|row| names(row[0])).collect();
    for name in OF_ALL {
        assert!(documented.contains(name), "{name}");
    }
    let unknown: Vec<_> = documented.difference(&written).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn classes_and_reasons_are_those_of_the_code() {
    let class = rows(FIELDS).into_iter().find(|row| row[0] == "`class`");
    let documented: Fields = names(class.unwrap()[2]).collect();
    let classes: Fields = Class::ALL.map(|class| class.as_str().to_owned()).into();
    assert_eq!(documented, classes);

    let rejected = rows(STAGES).into_iter().find(|row| row[0] == "`rejected`");
    let (_, reasons) = rejected.unwrap()[2].split_once("is one of").unwrap();
    let documented: Fields = names(reasons).collect();
    let reasons: Fields = RejectReason::ALL.map(|one| one.as_str().to_owned()).into();
    assert_eq!(documented, reasons);
}
