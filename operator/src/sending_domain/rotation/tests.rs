//! Tables: each step with what allows it and what does not.

use postrider_crds::{Duration, RecordState, condition::reasons, relay_config::KeyAlgorithm};

mod trust;

use super::*;
use crate::{
    dns::Sight,
    sending_domain::plan::tests::{at, finding, fresh, key, seen, sight},
};

const RSA: KeyAlgorithm = KeyAlgorithm::RSA2048;
const DAY: i64 = 86_400;

/// A domain with RSA keys in these states, in the order they were made, records as wanted.
fn with(states: &[KeyState]) -> Observation {
    let mut observation = fresh();
    observation.spec.dkim.keys.truncate(1);
    observation.keys = states
        .iter()
        .enumerate()
        .map(|(n, state)| {
            let mut key = seen(key(RSA, *state), RecordState::Verified);
            key.secret = format!("example-rsa2048-{n}");
            key.selector = format!("pr-{n}").parse().unwrap();
            key
        })
        .collect();
    observation
}

fn list_all(observation: &mut Observation) {
    let plan = crate::sending_domain::plan::plan(observation, at(0));
    observation.previous = plan.status;
}

/// The life of the first key after a step at `second`.
fn step(observation: &Observation, second: i64) -> Life {
    advance(observation, at(second)).swap_remove(0)
}

type Change = fn(&mut Observation);

#[test]
#[expect(clippy::too_many_lines, reason = "one story or table, told in a row")]
fn table_of_steps_on_the_way_to_signing() {
    use KeyState::{Active, Generated, Loaded, Published, Visible, Withdrawn};
    let away: Change = |o| o.keys[0] = seen(o.keys[0].clone(), RecordState::Missing);
    let trouble: Change = |o| o.keys[0].sight = sight(RecordState::Unknown);
    let loaded: Change = |o| o.keys[0].loaded = true;
    let cases: [(&str, KeyState, Change, KeyState); 18] = [
        ("not listed", Generated, |_| {}, Generated),
        ("listed", Generated, list_all, Published),
        (
            "not wanted",
            Generated,
            |o| o.spec.dkim.keys[0].algorithm = KeyAlgorithm::Ed25519,
            Withdrawn,
        ),
        (
            "revoked",
            Published,
            |o| o.spec.dkim.rotation.revoke = vec!["pr-0".parse().unwrap()],
            Withdrawn,
        ),
        ("just seen", Published, |_| {}, Published),
        (
            "seen long ago",
            Published,
            |o| o.keys[0].life.seen = Some(at(-301)),
            Visible,
        ),
        (
            "cached longer",
            Published,
            |o| {
                o.keys[0].life.seen = Some(at(-301));
                o.keys[0].sight = Sight::Everywhere { cached: 3_600 };
            },
            Published,
        ),
        (
            "the floor",
            Published,
            |o| {
                o.keys[0].life.seen = Some(at(-301));
                o.floor = 600;
            },
            Published,
        ),
        (
            "clock went back",
            Published,
            |o| o.keys[0].life.seen = Some(at(10)),
            Published,
        ),
        (
            "seen, then trouble",
            Published,
            |o| {
                o.keys[0].life.seen = Some(at(-301));
                o.keys[0].sight = sight(RecordState::Unknown);
            },
            Published,
        ),
        ("not loaded", Visible, |_| {}, Visible),
        ("loaded", Visible, loaded, Loaded),
        ("gone", Visible, away, Published),
        ("trouble", Visible, trouble, Visible),
        ("a new relay", Loaded, |_| {}, Loaded),
        ("all well", Loaded, loaded, Active),
        (
            "trouble when loaded",
            Loaded,
            |o| {
                o.keys[0].loaded = true;
                o.keys[0].sight = sight(RecordState::Unknown);
            },
            Loaded,
        ),
        (
            "gone when loaded",
            Loaded,
            |o| {
                *o = with(&[Loaded]);
                o.keys[0] = KeyFacts {
                    loaded: true,
                    ..seen(o.keys[0].clone(), RecordState::Mismatch)
                };
            },
            Published,
        ),
    ];
    for (name, from, change, to) in cases {
        let mut observation = with(&[from]);
        change(&mut observation);
        let life = step(&observation, 0);
        assert_eq!(life.state, to, "{name}");
        assert_eq!(life.activated.is_some(), to == Active, "{name}");
    }
}

#[test]
fn the_wait_begins_when_the_last_server_has_the_record_and_anew_when_one_loses_it() {
    let mut observation = with(&[KeyState::Published]);
    let mut go = |second: i64, state: RecordState| {
        observation.keys[0] = seen(observation.keys[0].clone(), state);
        let life = step(&observation, second);
        observation.keys[0].life = life.clone();
        life
    };
    assert_eq!(go(0, RecordState::Missing).seen, None);
    assert_eq!(go(10, RecordState::Verified).seen, Some(at(10)));
    assert_eq!(
        go(20, RecordState::Unknown).seen,
        Some(at(10)),
        "trouble takes nothing back"
    );
    assert_eq!(go(30, RecordState::Missing).seen, None);
    assert_eq!(go(40, RecordState::Verified).seen, Some(at(40)));
    assert_eq!(go(339, RecordState::Verified).state, KeyState::Published);
    assert_eq!(go(340, RecordState::Verified).state, KeyState::Visible);
}

#[test]
fn the_ttl_of_an_old_answer_is_waited_for() {
    let mut observation = with(&[KeyState::Published]);
    observation.keys[0].sight = Sight::Elsewise {
        cached: 7_200,
        some: true,
        problem: String::new(),
    };
    observation.keys[0].life = step(&observation, 0);
    observation.keys[0].sight = Sight::Everywhere { cached: 60 };
    observation.keys[0].life = step(&observation, 1);
    assert_eq!(step(&observation, 7_200).state, KeyState::Published);
    assert_eq!(step(&observation, 7_201).state, KeyState::Visible);
}

#[test]
fn table_of_when_a_key_retires() {
    use KeyState::{Active, Loaded, Retiring};
    let cases: [(&str, &[KeyState], Change, KeyState); 8] = [
        ("alone", &[Active], |_| {}, Active),
        ("successor not there yet", &[Active, Loaded], |_| {}, Active),
        ("successor signs", &[Active, Active], |_| {}, Retiring),
        (
            "successor's record is gone",
            &[Active, Active],
            |o| {
                o.keys[1] = seen(o.keys[1].clone(), RecordState::Missing);
            },
            Active,
        ),
        (
            "successor was not looked at",
            &[Active, Active],
            |o| o.keys[1].finding = None,
            Active,
        ),
        (
            "successor is revoked",
            &[Active, Active],
            |o| {
                o.spec.dkim.rotation.revoke = vec!["pr-1".parse().unwrap()];
            },
            Active,
        ),
        (
            "not wanted and nothing else signs",
            &[Active],
            |o| {
                o.spec.dkim.keys[0].algorithm = KeyAlgorithm::Ed25519;
            },
            Active,
        ),
        (
            "not wanted and another signs",
            &[Active],
            |o| {
                o.spec.dkim.keys[0].algorithm = KeyAlgorithm::Ed25519;
                let other = key(KeyAlgorithm::Ed25519, Active);
                o.keys.push(seen(other, RecordState::Verified));
            },
            Retiring,
        ),
    ];
    for (name, states, change, to) in cases {
        let mut observation = with(states);
        change(&mut observation);
        assert_eq!(step(&observation, 0).state, to, "{name}");
    }
}

#[test]
fn a_revoked_key_goes_whichever_is_newer() {
    let mut observation = with(&[KeyState::Active, KeyState::Active]);
    observation.spec.dkim.rotation.revoke = vec!["pr-1".parse().unwrap()];
    let lives = advance(&observation, at(0));
    assert_eq!(lives[0].state, KeyState::Active);
    assert_eq!(lives[1].state, KeyState::Retiring);
}

#[test]
fn a_record_is_kept_for_as_long_as_mail_may_be_on_its_way() {
    let mut observation = with(&[KeyState::Retiring, KeyState::Active]);
    let wait = |observation: &Observation, second| step(observation, second).state;
    assert_eq!(
        wait(&observation, 100 * DAY),
        KeyState::Retiring,
        "relays have it"
    );
    observation.keys[0].released = true;
    observation.keys[0].life = step(&observation, 0);
    assert_eq!(observation.keys[0].life.released, Some(at(0)));
    // Seven days of retireAfter are longer than five in the queue and one on the way.
    assert_eq!(wait(&observation, 7 * DAY - 1), KeyState::Retiring);
    assert_eq!(wait(&observation, 7 * DAY), KeyState::Withdrawn);
    observation.pool.as_mut().unwrap().expire_after = Duration::from_secs(9 * 86_400);
    assert_eq!(wait(&observation, 10 * DAY - 1), KeyState::Retiring);
    assert_eq!(wait(&observation, 10 * DAY), KeyState::Withdrawn);
    observation.pool = None;
    assert_eq!(
        wait(&observation, 10 * DAY),
        KeyState::Retiring,
        "no pool, no queue life"
    );
}

#[test]
fn a_clock_that_went_back_makes_the_wait_longer_and_not_endless() {
    let mut observation = with(&[KeyState::Retiring, KeyState::Active]);
    observation.keys[0].released = true;
    observation.keys[0].life.released = Some(at(1_000 * DAY));
    let life = step(&observation, 0);
    assert_eq!(life.released, Some(at(0)));
    assert_eq!(life.state, KeyState::Retiring);
}

#[test]
fn a_revoked_key_is_withdrawn_at_once() {
    let mut observation = with(&[KeyState::Retiring, KeyState::Active]);
    observation.spec.dkim.rotation.revoke = vec!["pr-0".parse().unwrap()];
    observation.keys[0].life.since = at(0);
    assert_eq!(
        step(&observation, 10).state,
        KeyState::Retiring,
        "relays still have it"
    );
    assert_eq!(
        step(&observation, LETTING_GO).state,
        KeyState::Withdrawn,
        "long enough"
    );
    observation.keys[0].released = true;
    assert_eq!(step(&observation, 10).state, KeyState::Withdrawn);
}

#[test]
fn a_retired_key_is_taken_back_when_its_successor_is_deleted() {
    let mut observation = with(&[KeyState::Retiring]);
    assert_eq!(step(&observation, 0).state, KeyState::Active);
    observation.keys[0] = seen(observation.keys[0].clone(), RecordState::Missing);
    assert_eq!(
        step(&observation, 0).state,
        KeyState::Retiring,
        "its record is gone"
    );
    let withdrawn = with(&[KeyState::Withdrawn]);
    assert_eq!(step(&withdrawn, 0).state, KeyState::Withdrawn);
    assert_eq!(to_generate(&withdrawn, at(0)).len(), 1);
}

#[test]
fn a_retired_key_that_signs_for_want_of_better_begins_its_wait_anew() {
    let mut observation = with(&[KeyState::Retiring]);
    observation.spec.dkim.keys[0].algorithm = KeyAlgorithm::Ed25519;
    observation.keys[0].released = true;
    observation.keys[0].life.released = Some(at(-100 * DAY));
    let life = step(&observation, 0);
    assert_eq!((life.state, life.released), (KeyState::Retiring, None));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story or table, told in a row")]
fn table_of_what_is_made() {
    use KeyState::{Active, Published, Retiring};
    let cases: [(&str, &[KeyState], Change, usize); 11] = [
        ("nothing there", &[], |_| {}, 1),
        ("one on its way", &[Published], |_| {}, 0),
        ("one that signs", &[Active], |_| {}, 0),
        ("rival", &[], |o| o.rival = Some("older".into()), 0),
        (
            "too young",
            &[Active],
            |o| o.spec.dkim.rotation.every = Some(Duration::from_secs(3_001)),
            0,
        ),
        (
            "old enough",
            &[Active],
            |o| o.spec.dkim.rotation.every = Some(Duration::from_secs(3_000)),
            1,
        ),
        (
            "triggered",
            &[Active],
            |o| o.spec.dkim.rotation.trigger = Some("a".into()),
            1,
        ),
        (
            "made for the trigger",
            &[Active],
            |o| {
                o.spec.dkim.rotation.trigger = Some("a".into());
                o.keys[0].life.trigger = Some("a".into());
            },
            0,
        ),
        (
            "trigger taken away",
            &[Active],
            |o| o.keys[0].life.trigger = Some("a".into()),
            0,
        ),
        (
            "revoked",
            &[Active],
            |o| o.spec.dkim.rotation.revoke = vec!["pr-0".parse().unwrap()],
            1,
        ),
        (
            "successor on its way",
            &[Active, Published, Retiring],
            |o| {
                o.spec.dkim.rotation.trigger = Some("a".into());
            },
            0,
        ),
    ];
    for (name, states, change, count) in cases {
        let mut observation = with(states);
        change(&mut observation);
        let made = to_generate(&observation, at(0));
        assert_eq!(made.len(), count, "{name}");
        for new in made {
            let number = successor::number(&new.secret);
            assert!(observation.keys.iter().all(|key| key.secret != new.secret));
            assert!(number > 0, "{}", new.secret);
        }
    }
}

#[test]
fn names_do_not_collide_with_secrets_that_cannot_be_used() {
    let mut observation = with(&[]);
    let first = to_generate(&observation, at(0)).remove(0).secret;
    observation.unusable_keys = vec![crate::sending_domain::observe::UnusableKey {
        secret: first.clone(),
        problem: String::new(),
    }];
    let second = to_generate(&observation, at(0)).remove(0).secret;
    assert_eq!(second, first.replace("-1", "-2"));
}

#[test]
fn a_changed_trigger_rotates_once() {
    let mut observation = with(&[KeyState::Active, KeyState::Published]);
    observation.spec.dkim.rotation.trigger = Some("b".into());
    observation.keys[1].life.trigger = Some("a".into());
    let lives = advance(&observation, at(0));
    assert_eq!(
        lives[1].trigger.as_deref(),
        Some("b"),
        "it stands for the new one too"
    );
    observation.keys[0].life.state = KeyState::Retiring;
    observation.keys[1].life = Life {
        activated: Some(at(0)),
        ..lives[1].clone().at(KeyState::Active, at(0))
    };
    assert!(to_generate(&observation, at(1)).is_empty());
}

#[test]
fn a_ninth_rotation_waits_for_the_first_to_end() {
    let mut states = vec![KeyState::Retiring; MAX_RETIRING];
    states.push(KeyState::Active);
    let mut observation = with(&states);
    observation.spec.dkim.rotation.trigger = Some("again".into());
    assert!(to_generate(&observation, at(0)).is_empty());
    let lives = advance(&observation, at(0));
    let fact = progress(&observation, &lives, at(0));
    assert_eq!(fact.reason, reasons::WAITING_FOR_RETIREMENT);
    let last = format!("pr-{MAX_RETIRING}");
    observation.spec.dkim.rotation.revoke = vec![last.parse().unwrap()];
    assert_eq!(
        to_generate(&observation, at(0)).len(),
        1,
        "an emergency does not"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story or table, told in a row")]
fn table_of_what_a_rotation_waits_for() {
    use KeyState::{Active, Published, Visible};
    use postrider_crds::condition::reasons;
    let cases: [(&str, KeyState, Change, &str, &str); 6] = [
        (
            "missing",
            Published,
            |o| o.keys[1] = seen(o.keys[1].clone(), RecordState::Missing),
            reasons::RECORDS_MISSING,
            "publish TXT pr-1._domainkey.example.com \"v=DKIM1; k=rsa; p=AQID\"",
        ),
        (
            "one server has it",
            Published,
            |o| {
                o.keys[1].sight = Sight::Elsewise {
                    cached: 60,
                    some: true,
                    problem: "ns2.example.net (192.0.2.2) answers with no record".into(),
                }
            },
            reasons::WAITING_FOR_PROPAGATION,
            "ns2.example.net (192.0.2.2) answers with no record",
        ),
        (
            "a server is silent",
            Published,
            |o| {
                o.keys[1].sight = Sight::Unsure {
                    problem: "ns2.example.net (192.0.2.2) did not answer in time".into(),
                }
            },
            reasons::DNS_UNAVAILABLE,
            "did not answer in time",
        ),
        (
            "caches",
            Published,
            |_| {},
            reasons::WAITING_FOR_PROPAGATION,
            "until",
        ),
        (
            "not looked",
            Published,
            |o| o.keys[1].sight = Sight::NotLooked,
            reasons::PENDING,
            "not looked up",
        ),
        (
            "relays",
            Visible,
            |_| {},
            reasons::WAITING_FOR_RELAYS,
            "default-1 of RelayPool default has to load pr-1",
        ),
    ];
    for (name, state, change, reason, part) in cases {
        let mut observation = with(&[Active, state]);
        change(&mut observation);
        let lives = advance(&observation, at(0));
        let fact = progress(&observation, &lives, at(0));
        assert_eq!(fact.reason, reason, "{name}");
        assert!(fact.message.contains(part), "{name}: {}", fact.message);
    }
}

#[test]
fn withdrawn_keys_go_when_their_records_have() {
    let mut observation = with(&[KeyState::Withdrawn, KeyState::Active]);
    assert_eq!(to_delete(&observation, at(0)).len(), 1);
    observation.keys[0] = seen(observation.keys[0].clone(), RecordState::Mismatch);
    observation.keys[0].life.since = at(0);
    assert!(to_delete(&observation, at(FORGET_AFTER - 1)).is_empty());
    assert_eq!(
        to_delete(&observation, at(FORGET_AFTER)).len(),
        1,
        "nobody cared"
    );
    observation.spec.dkim.rotation.revoke = vec!["pr-0".parse().unwrap()];
    assert!(
        to_delete(&observation, at(FORGET_AFTER)).is_empty(),
        "still a danger"
    );
    observation.keys[0].finding = None;
    assert!(to_delete(&observation, at(0)).is_empty(), "not looked at");
}
