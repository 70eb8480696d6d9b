//! What holds for every observation.

use postrider_crds::{DomainName, RecordState, Requirement, relay_config::Admission};
use proptest::prelude::*;

use super::*;
use crate::sending_domain::answers::Answers;

fn any_state() -> impl Strategy<Value = Option<RecordState>> {
    prop_oneof![
        Just(None),
        Just(Some(RecordState::Verified)),
        Just(Some(RecordState::Missing)),
        Just(Some(RecordState::Mismatch)),
        Just(Some(RecordState::Conflict)),
        Just(Some(RecordState::Unknown)),
    ]
}

fn any_key() -> impl Strategy<Value = Option<KeyFacts>> {
    let algorithm = prop_oneof![
        Just(KeyAlgorithm::RSA2048),
        Just(KeyAlgorithm::RSA4096),
        Just(KeyAlgorithm::Ed25519),
    ];
    let state = prop_oneof![
        Just(KeyState::Generated),
        Just(KeyState::Published),
        Just(KeyState::Visible),
        Just(KeyState::Loaded),
        Just(KeyState::Active),
        Just(KeyState::Retiring),
        Just(KeyState::Withdrawn),
    ];
    let facts = (algorithm, state, any::<[bool; 2]>(), any_state());
    proptest::option::of(facts.prop_map(|(algorithm, state, relays, answer)| {
        let [loaded, released] = relays;
        let key = KeyFacts {
            loaded,
            released,
            ..key(algorithm, state)
        };
        match answer {
            Some(answer) => seen(key, answer),
            None => key,
        }
    }))
}

fn any_reach() -> impl Strategy<Value = Reach> {
    let admission = prop_oneof![
        Just(None),
        Just(Some(Admission::Send)),
        Just(Some(Admission::Hold))
    ];
    (admission, 0..3_usize, 0..3_usize).prop_map(|(admission, members, awaited)| Reach {
        admission,
        members,
        awaited: awaited.min(members),
    })
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let findings = (any_state(), any_state(), any_state());
    let optional = (any_state(), any_state(), any_state());
    let keys = proptest::collection::vec(any_key(), 4);
    let unverified = prop_oneof![Just("Hold"), Just("Reject"), Just("Send")];
    let admission = prop_oneof![
        Just(None),
        Just(Some(Admission::Send)),
        Just(Some(Admission::Hold)),
        Just(Some(Admission::Reject)),
    ];
    let world = (
        proptest::option::weighted(0.2, Just("older".to_owned())),
        any::<bool>(),
        admission,
        any_reach(),
    );
    let all = (findings, optional, keys, unverified, world);
    all.prop_map(|(findings, optional, keys, unverified, world)| {
        let mut observation = fresh();
        observation.spec.unverified = serde_json::from_value(unverified.into()).unwrap();
        observation.findings = Findings {
            spf: findings.0.map(finding),
            dmarc: findings.1.map(finding),
            return_path: findings.2.map(finding),
            answers: Answers {
                mta_sts: optional.0.map(|state| vec![answering(state)]),
                tls_rpt: optional.1.map(|state| vec![answering(state)]),
            },
        };
        observation.reverse = optional.2.map(reverse);
        let verification = &mut observation.spec.verification;
        verification.ptr = Requirement::Required;
        verification.mta_sts = Requirement::Required;
        verification.tls_rpt = Requirement::Required;
        observation.keys = keys
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(n, mut key)| {
                key.secret = format!("{}{n}", key.secret);
                key.selector = format!("{}-{n}", key.selector).parse().unwrap();
                key
            })
            .collect();
        observation.rival = world.0;
        if world.1 {
            observation.pool = None;
        }
        observation.previous.admission = world.2;
        observation.reach = world.3;
        observation
    })
}

fn answering(state: RecordState) -> (DomainName, Finding) {
    ("example.com".parse().unwrap(), finding(state))
}

/// What a pool says that has found `state` of the names of its addresses.
fn reverse(state: RecordState) -> Fact {
    let Finding {
        reason, message, ..
    } = finding(state);
    let status = match state {
        RecordState::Verified => Status::True,
        RecordState::Unknown => Status::Unknown,
        RecordState::Missing | RecordState::Mismatch | RecordState::Conflict => Status::False,
    };
    Fact::new(types::PTR_VERIFIED, status, reason, message)
}

/// `observation` with the answers named by `lost` not arriving.
fn with_trouble(mut observation: Observation, lost: [bool; 8]) -> Observation {
    let unknown = || Some(finding(RecordState::Unknown));
    for (key, lost) in observation.keys.iter_mut().zip(lost.iter().skip(3)) {
        if *lost && key.finding.is_some() {
            key.sight = sight(RecordState::Unknown);
        }
    }
    let findings = &mut observation.findings;
    if lost.last() == Some(&true) {
        let answers = [&mut findings.answers.mta_sts, &mut findings.answers.tls_rpt];
        for (_, answer) in answers.into_iter().flatten().flatten() {
            *answer = finding(RecordState::Unknown);
        }
        let known = observation.reverse.is_some();
        observation.reverse = known.then(|| reverse(RecordState::Unknown));
    }
    for (slot, lost) in [
        &mut findings.spf,
        &mut findings.dmarc,
        &mut findings.return_path,
    ]
    .into_iter()
    .chain(observation.keys.iter_mut().map(|key| &mut key.finding))
    .zip(lost)
    {
        if lost && slot.is_some() {
            *slot = unknown();
        }
    }
    observation
}

proptest! {
    #[test]
    fn a_key_signs_only_after_its_record_was_seen_and_every_relay_has_it(observation in any_observation()) {
        for transition in plan(&observation, at(0)).transitions {
            let key = observation.keys.iter().find(|key| key.secret == transition.secret).unwrap();
            let verified = || key.finding.as_ref().unwrap().state == RecordState::Verified;
            if transition.to.state == KeyState::Active && key.life.state != KeyState::Active {
                match key.life.state {
                    KeyState::Loaded => prop_assert!(key.loaded && verified()),
                    KeyState::Retiring => prop_assert!(verified()),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            if transition.to.state == KeyState::Visible && key.life.state == KeyState::Published {
                prop_assert!(verified());
            }
        }
    }

    #[test]
    fn trouble_changes_neither_admission_nor_the_keys_that_sign(
        observation in any_observation(), lost in any::<[bool; 8]>(),
    ) {
        let before = plan(&observation, at(0));
        let troubled = with_trouble(after(observation, &before), lost);
        let all_lost = with_trouble(troubled.clone(), [true; 8]);
        for world in [troubled, all_lost] {
            let during = plan(&world, at(1));
            prop_assert_eq!(during.status.admission, before.status.admission);
            for (key, life) in world.keys.iter().zip(keys::advance(&world, at(1))) {
                let unknown = key.finding.as_ref().is_some_and(|f| f.state == RecordState::Unknown);
                if key.life.state == KeyState::Active && unknown && rotation::counts(&world, key) {
                    prop_assert_eq!(&life, &key.life);
                }
            }
        }
    }

    #[test]
    fn planning_on_its_own_output_writes_nothing(observation in any_observation()) {
        let mut world = observation;
        // As many steps as a key can take without anything changing around it.
        for second in 0..8 {
            let step = plan(&world, at(second));
            world = after(world, &step);
        }
        let settled = plan(&world, at(8));
        prop_assert!(settled.transitions.is_empty() && settled.delete.is_empty());
        prop_assert_eq!(&settled.status, &world.previous);
        prop_assert!(settled.notices.iter().all(|notice| notice.action == "GenerateKey"));
    }

    #[test]
    fn ready_means_verified_and_signing(observation in any_observation()) {
        let plan = plan(&observation, at(0));
        if ready(&plan).0 == "True" {
            prop_assert_eq!(plan.status.admission, Some(Admission::Send));
            prop_assert!(plan.generate.is_empty());
            prop_assert_eq!(observation.reach.admission, Some(Admission::Send));
            prop_assert!(observation.reach.members > 0 && observation.reach.awaited == 0);
            prop_assert_eq!(plan.status.dkim.pending.len(), 0);
            prop_assert!(plan.status.records.iter().all(|r| r.state == RecordState::Verified));
        }
    }
}
