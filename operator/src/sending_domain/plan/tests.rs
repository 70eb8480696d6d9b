//! Tables of the plan; those of keys are in [`key_tables`], those of what relays have loaded
//! in [`reach`]; what holds for every observation is in [`properties`].

use postrider_crds::{Duration as Interval, Selector, relay_config::Admission};

use super::*;
use crate::{
    dns::{Finding, Sight, dkim::PublicKey},
    relay_pool::{credentials::SenderProblem, loaded::Reach},
    sending_domain::observe::{Findings, KeyFacts, PoolFacts, UnusableKey},
};

mod answers;
mod key_tables;
mod properties;
mod reach;

const ALGORITHMS: [KeyAlgorithm; 2] = [KeyAlgorithm::RSA2048, KeyAlgorithm::Ed25519];

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A SendingDomain nobody has looked at, whose pool exists.
pub(crate) fn fresh() -> Observation {
    Observation {
        name: "example".into(),
        uid: "5f1c".into(),
        generation: 3,
        spec: serde_json::from_value(serde_json::json!({
            "domain": "example.com", "poolRef": {"name": "default"},
        }))
        .unwrap(),
        previous: SendingDomainStatus::default(),
        pool: Some(PoolFacts {
            hostname: "mail.example.net".into(),
            egress: vec!["203.0.113.10".parse().unwrap()],
            expire_after: Interval::from_secs(5 * 86_400),
        }),
        rival: None,
        keys: Vec::new(),
        unusable_keys: Vec::new(),
        sender_problems: Vec::new(),
        reach: Reach {
            admission: Some(Admission::Send),
            members: 2,
            awaited: 0,
        },
        reverse: None,
        findings: Findings::default(),
        delegated: std::collections::BTreeMap::new(),
        tsig: None,
        closing: None,
        left: Vec::new(),
        floor: 60,
        trust_resolver_after: None,
    }
}

pub(crate) fn finding(state: RecordState) -> Finding {
    let (reason, message) = match state {
        RecordState::Verified => (reasons::VERIFIED, ""),
        RecordState::Missing => (reasons::RECORD_MISSING, "publish this record"),
        RecordState::Mismatch => (reasons::RECORD_MISMATCH, "replace it"),
        RecordState::Conflict => (reasons::RECORD_CONFLICT, "leave only one"),
        RecordState::Unknown => (reasons::DNS_UNAVAILABLE, "the lookup failed"),
    };
    Finding {
        state,
        reason,
        seen: None,
        message: message.into(),
        wanted: None,
        found_at: None,
    }
}

/// What the name servers say where the resolver says `finding`.
pub(crate) fn sight(state: RecordState) -> Sight {
    let problem = || "ns.example.net (192.0.2.53) answers otherwise".to_owned();
    match state {
        RecordState::Verified => Sight::Everywhere { cached: 300 },
        RecordState::Missing | RecordState::Mismatch | RecordState::Conflict => Sight::Elsewise {
            cached: 300,
            some: false,
            problem: problem(),
        },
        RecordState::Unknown => Sight::Unsure { problem: problem() },
    }
}

pub(crate) fn key(algorithm: KeyAlgorithm, state: KeyState) -> KeyFacts {
    let name = crate::keys::algorithm_name(algorithm).to_lowercase();
    let selector: Selector = format!("pr-{name}").parse().unwrap();
    let life = Life {
        seen: (state > KeyState::Published).then(|| at(-4_000)),
        cached: 300,
        activated: (state >= KeyState::Active).then(|| at(-3_000)),
        ..Life::new(at(-5_000), None).at(state, at(-1_000))
    };
    KeyFacts {
        secret: format!("example-{name}-1"),
        selector,
        algorithm,
        life,
        read: Read::default(),
        public: PublicKey::new(algorithm, vec![1, 2, 3]),
        loaded: false,
        released: false,
        lagging: vec!["default-1".into()],
        finding: None,
        sight: Sight::NotLooked,
    }
}

/// `key` with DNS saying `state` of its record.
pub(crate) fn seen(key: KeyFacts, state: RecordState) -> KeyFacts {
    KeyFacts {
        finding: Some(finding(state)),
        sight: sight(state),
        ..key
    }
}

/// Everything verified, keys in `state`, loaded or not.
pub(crate) fn verified(state: KeyState, loaded: bool) -> Observation {
    let good = || Some(finding(RecordState::Verified));
    let mut observation = fresh();
    observation.findings = Findings {
        spf: good(),
        dmarc: good(),
        return_path: good(),
        ..Findings::default()
    };
    observation.keys = ALGORITHMS
        .map(|algorithm| KeyFacts {
            loaded,
            ..seen(key(algorithm, state), RecordState::Verified)
        })
        .to_vec();
    observation
}

/// `observation` after `plan` has been written and seen again.
pub(crate) fn after(mut observation: Observation, plan: &Plan) -> Observation {
    for transition in &plan.transitions {
        for key in &mut observation.keys {
            if key.secret == transition.secret {
                let same = key.life.state == transition.to.state;
                key.life = transition.to.clone();
                // Relays get the new keyring only now.
                let keeps = matches!(key.life.state, KeyState::Active | KeyState::Loaded);
                key.loaded = if same { key.loaded } else { keeps };
            }
        }
    }
    let kept = |key: &KeyFacts| !plan.delete.iter().any(|d| d.secret == key.secret);
    observation.keys.retain(kept);
    observation.previous = plan.status.clone();
    observation
}

fn condition<'a>(plan: &'a Plan, type_: &str) -> (&'a str, &'a str, &'a str) {
    let condition = plan
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == type_)
        .unwrap();
    (&condition.status, &condition.reason, &condition.message)
}

fn ready(plan: &Plan) -> (&str, &str, &str) {
    condition(plan, types::READY)
}

#[test]
fn a_fresh_domain_makes_its_keys_and_is_not_done() {
    let plan = plan(&fresh(), at(0));
    let algorithms: Vec<_> = plan.generate.iter().map(|new| new.algorithm).collect();
    assert_eq!(algorithms, ALGORITHMS);
    assert!(plan.generate[0].secret.starts_with("example-"));
    assert_ne!(plan.generate[0].secret, plan.generate[1].secret);
    assert_eq!(
        (ready(&plan).0, ready(&plan).1),
        ("False", reasons::PENDING)
    );
    assert_eq!(plan.status.admission, Some(Admission::Hold));
    for type_ in [
        types::READY,
        types::KEYS_READY,
        types::SPF_VERIFIED,
        types::DKIM_VERIFIED,
        types::DMARC_VERIFIED,
        types::RETURN_PATH_VERIFIED,
        types::RECONCILING,
    ] {
        let condition = plan.status.conditions.iter().find(|c| c.type_ == type_);
        assert_eq!(condition.unwrap().observed_generation, Some(3), "{type_}");
    }
    assert_eq!(plan.status.observed_generation, Some(3));
    let purposes: Vec<_> = plan.status.records.iter().map(|r| r.purpose).collect();
    use postrider_crds::RecordPurpose::{DMARC, ReturnPath, SPF};
    assert_eq!(purposes, [SPF, DMARC, ReturnPath]);
}

#[test]
fn what_is_missing_is_told_with_type_name_and_value() {
    let mut observation = verified(KeyState::Published, false);
    for key in &mut observation.keys {
        *key = seen(key.clone(), RecordState::Missing);
    }
    observation.findings.dmarc = Some(finding(RecordState::Missing));
    let result = plan(&observation, at(0));
    let (status, reason, message) = ready(&result);
    assert_eq!((status, reason), ("False", reasons::RECORDS_MISSING));
    assert_eq!(
        message,
        "publish TXT pr-rsa2048._domainkey.example.com \"v=DKIM1; k=rsa; p=AQID\" and 2 more records, see status.records"
    );
    assert!(
        condition(&result, types::DKIM_VERIFIED)
            .2
            .contains("pr-rsa2048._domainkey")
    );
}

#[test]
fn requirements_decide_what_counts() {
    use postrider_crds::Requirement::{Off, Required, Warn};
    for (requirement, state, spf, is_ready) in [
        (
            Required,
            RecordState::Missing,
            ("False", reasons::RECORD_MISSING),
            "False",
        ),
        (
            Required,
            RecordState::Unknown,
            ("Unknown", reasons::DNS_UNAVAILABLE),
            "Unknown",
        ),
        (
            Warn,
            RecordState::Missing,
            ("False", reasons::RECORD_MISSING),
            "True",
        ),
        (
            Warn,
            RecordState::Unknown,
            ("Unknown", reasons::DNS_UNAVAILABLE),
            "True",
        ),
        (
            Off,
            RecordState::Missing,
            ("True", reasons::NOT_REQUIRED),
            "True",
        ),
    ] {
        let mut observation = verified(KeyState::Active, true);
        observation.spec.verification.spf = requirement;
        observation.findings.spf = Some(finding(state));
        let plan = plan(&observation, at(0));
        let (status, reason, message) = condition(&plan, types::SPF_VERIFIED);
        assert_eq!((status, reason), spf, "{requirement:?} {state:?}");
        assert_eq!(ready(&plan).0, is_ready, "{requirement:?} {state:?}");
        if requirement == Off {
            assert_eq!(message, "not checked: spec.verification.spf is Skip");
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story or table, told in a row")]
fn table_of_what_keeps_a_domain_from_being_ready() {
    type Change = fn(&mut Observation);
    let cases: [(Change, &str, &str, &str); 6] = [
        (
            |o| o.pool = None,
            reasons::POOL_NOT_FOUND,
            "RelayPool default",
            types::RECONCILING,
        ),
        (
            |o| o.rival = Some("older".into()),
            reasons::DOMAIN_CONFLICT,
            "older",
            types::STALLED,
        ),
        (
            |o| {
                o.unusable_keys = vec![UnusableKey {
                    secret: "x".into(),
                    problem: "secret \"x\" is bad".into(),
                }];
            },
            reasons::KEY_INVALID,
            "\"x\"",
            types::STALLED,
        ),
        (
            |o| {
                o.pool.as_mut().unwrap().egress.clear();
                o.findings.spf = None;
            },
            reasons::NO_EGRESS_ADDRESSES,
            "spec.egress.addresses of RelayPool default",
            types::RECONCILING,
        ),
        (
            |o| o.keys.clear(),
            reasons::PENDING,
            "being made",
            types::RECONCILING,
        ),
        (
            |o| {
                o.spec.senders =
                    serde_json::from_value(serde_json::json!([{"secretRef": {"name": "app"}}]))
                        .unwrap();
                o.sender_problems = vec![SenderProblem::SecretMissing {
                    secret: "app".into(),
                }];
            },
            reasons::REFERENCE_NOT_FOUND,
            "\"app\" does not exist",
            types::RECONCILING,
        ),
    ];
    for (change, reason, part, progress) in cases {
        let mut observation = verified(KeyState::Active, true);
        change(&mut observation);
        let plan = plan(&observation, at(0));
        assert_eq!((ready(&plan).0, ready(&plan).1), ("False", reason));
        assert!(ready(&plan).2.contains(part), "{}", ready(&plan).2);
        assert_eq!(condition(&plan, progress).0, "True", "{reason}");
    }
}

#[test]
fn a_pool_that_does_not_exist_still_leaves_keys_and_their_records() {
    let mut observation = verified(KeyState::Published, false);
    observation.pool = None;
    let names: Vec<_> = plan(&observation, at(0))
        .status
        .records
        .into_iter()
        .map(|r| r.name)
        .collect();
    assert_eq!(
        names,
        [
            "pr-rsa2048._domainkey.example.com",
            "pr-ed25519._domainkey.example.com",
            "_dmarc.example.com"
        ]
    );
    observation.keys.clear();
    assert_eq!(plan(&observation, at(0)).generate.len(), 2);
}

#[test]
fn one_missing_sender_is_told_once_and_stops_nobody() {
    let mut observation = verified(KeyState::Active, true);
    observation.spec.senders = serde_json::from_value(serde_json::json!([
        {"secretRef": {"name": "app"}}, {"secretRef": {"name": "other"}},
    ]))
    .unwrap();
    observation.sender_problems = vec![SenderProblem::SecretMissing {
        secret: "app".into(),
    }];
    let first = plan(&observation, at(0));
    assert_eq!(ready(&first).0, "True");
    assert!(ready(&first).2.contains("\"app\" does not exist"));
    let told = |plan: &Plan| {
        plan.notices
            .iter()
            .filter(|n| n.action == "ResolveSender")
            .count()
    };
    assert_eq!(told(&first), 1);
    assert_eq!(told(&plan(&after(observation, &first), at(1))), 0);
}

#[test]
fn looks_slow_down_with_the_age_of_the_trouble() {
    let mut observation = verified(KeyState::Active, true);
    observation.findings.spf = Some(finding(RecordState::Missing));
    let first = plan(&observation, at(0));
    assert_eq!(first.next_look, Duration::from_secs(5));
    observation = after(observation, &first);
    for (age, wait) in [(10, 5), (40, 10), (100, 25), (10_000, 60), (-50, 5)] {
        assert_eq!(
            plan(&observation, at(age)).next_look,
            Duration::from_secs(wait),
            "{age}"
        );
    }
    let mut good = verified(KeyState::Active, true);
    good.spec.verification.interval = Interval::from_secs(90);
    assert_eq!(plan(&good, at(0)).next_look, Duration::from_secs(90));
}

#[test]
fn trouble_keeps_the_text_that_was_worth_publishing() {
    let mut observation = verified(KeyState::Active, true);
    let better = finding(RecordState::Verified)
        .wanting("v=DMARC1; p=reject")
        .found_at("_dmarc.org.example");
    observation.findings.dmarc = Some(better);
    let before = plan(&observation, at(0));
    let mut observation = after(observation, &before);
    observation.findings.dmarc = Some(finding(RecordState::Unknown));
    let plan = plan(&observation, at(1));
    let record = plan
        .status
        .records
        .iter()
        .find(|r| r.purpose == postrider_crds::RecordPurpose::DMARC)
        .unwrap();
    assert_eq!(
        (record.name.as_str(), record.wanted.as_str()),
        ("_dmarc.org.example", "v=DMARC1; p=reject")
    );
    assert_eq!(record.state, RecordState::Unknown);
}
