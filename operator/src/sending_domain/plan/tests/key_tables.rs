//! Tables of keys: the first ones, those that DNS loses, and those of a changed spec.

use super::*;

/// The states of `observation`'s keys.
fn states(observation: &Observation) -> Vec<KeyState> {
    observation.keys.iter().map(|key| key.life.state).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story or table, told in a row")]
fn first_keys_go_all_the_way_in_their_order() {
    use KeyState::{Active, Generated, Loaded, Published, Visible};
    let mut world = verified(Generated, false);
    for key in &mut world.keys {
        key.life = Life::new(at(0), None);
    }
    let step = |world: &mut Observation, second: i64, wanted: KeyState| -> Plan {
        let plan = plan(world, at(second));
        *world = after(world.clone(), &plan);
        assert_eq!(states(world), [wanted, wanted], "at {second}");
        plan
    };
    let listing = step(&mut world, 0, Generated);
    assert_eq!(
        listing.status.records.len(),
        5,
        "the records are listed first"
    );
    step(&mut world, 1, Published);
    let waiting = step(&mut world, 2, Published);
    assert_eq!(ready(&waiting).1, reasons::WAITING_FOR_PROPAGATION);
    let until = at(2 + 300);
    assert!(
        ready(&waiting).2.contains(&until.to_string()),
        "{}",
        ready(&waiting).2
    );
    let published = &waiting.status.dkim.pending[0];
    assert_eq!(published.until.as_ref().unwrap().0, until);
    assert_eq!(waiting.next_step.unwrap(), Duration::from_secs(301));
    step(&mut world, 301, Published);
    step(&mut world, 302, Visible);
    let loading = step(&mut world, 303, Visible);
    assert_eq!(ready(&loading).1, reasons::KEYS_LOADING);
    assert!(
        ready(&loading).2.contains("default-1"),
        "{}",
        ready(&loading).2
    );
    let rotating = condition(&loading, types::ROTATING);
    assert_eq!(
        (rotating.0, rotating.1),
        ("True", reasons::WAITING_FOR_RELAYS)
    );
    for key in &mut world.keys {
        key.loaded = true;
    }
    let loaded = step(&mut world, 304, Loaded);
    assert_eq!(loaded.status.admission, Some(Admission::Hold));
    let active = step(&mut world, 305, Active);
    assert_eq!(
        ready(&active),
        (
            "True",
            reasons::READY,
            "mail is signed with pr-rsa2048, pr-ed25519"
        )
    );
    assert_eq!(active.status.admission, Some(Admission::Send));
    assert_eq!(active.next_look, Duration::from_secs(600));
    assert_eq!(condition(&active, types::ROTATING).0, "False");
    let noted: Vec<_> = active.notices.iter().map(|n| n.action).collect();
    assert_eq!(noted, ["ChangeKey", "Verify"]);
    let note = &active.notices[0].note;
    assert!(
        note.contains("pr-rsa2048") && note.contains("pr-ed25519"),
        "{note}"
    );
    let rest = plan(&world, at(306));
    assert!(rest.transitions.is_empty() && rest.notices.is_empty());
    assert_eq!(rest.status, active.status);
}

#[test]
fn both_first_keys_or_none() {
    let mut world = verified(KeyState::Loaded, true);
    world.keys[1].loaded = false;
    let half = plan(&world, at(0));
    assert_eq!(half.status.dkim.active.len(), 1);
    assert_eq!(half.status.admission, Some(Admission::Hold));
}

#[test]
fn a_record_that_vanishes_is_told_and_held_against_its_key() {
    let mut observation = verified(KeyState::Active, true);
    let settled = plan(&observation, at(0));
    observation = after(observation, &settled);
    observation.keys[0] = seen(observation.keys[0].clone(), RecordState::Missing);
    let one = plan(&observation, at(1));
    assert_eq!(one.transitions.len(), 1);
    let to = &one.transitions[0].to;
    assert!(to.failing && to.state == KeyState::Active);
    assert_eq!(
        one.status.admission,
        Some(Admission::Send),
        "the other key signs"
    );
    assert_eq!(condition(&one, types::DKIM_VERIFIED).0, "False");
    let told = |plan: &Plan| {
        let mut notices = plan.notices.iter();
        notices.any(|n| n.severity == Severity::Warning && n.action == "ChangeKey")
    };
    assert!(told(&one));
    observation = after(observation, &one);
    assert!(!told(&plan(&observation, at(2))), "told once");
    observation.keys[1] = seen(observation.keys[1].clone(), RecordState::Missing);
    let both = plan(&observation, at(2));
    assert_eq!(both.status.admission, Some(Admission::Hold));
    observation.keys[0] = seen(observation.keys[0].clone(), RecordState::Verified);
    let back = plan(&observation, at(3));
    assert!(back.transitions.iter().any(|t| !t.to.failing));
}

#[test]
fn an_algorithm_added_later_stops_no_mail_and_one_removed_goes_last() {
    let mut observation = verified(KeyState::Active, true);
    let settled = plan(&observation, at(0));
    observation = after(observation, &settled);
    observation.spec.dkim.keys = serde_json::from_value(
        serde_json::json!([{"algorithm": "RSA4096"}, {"algorithm": "Ed25519"}]),
    )
    .unwrap();
    let change = plan(&observation, at(1));
    assert_eq!(change.generate.len(), 1);
    assert!(change.transitions.is_empty(), "the old key signs on");
    assert_eq!(change.status.admission, Some(Admission::Send));
    assert_eq!(change.status.dkim.active.len(), 2);
    observation.keys.push(seen(
        key(KeyAlgorithm::RSA4096, KeyState::Active),
        RecordState::Verified,
    ));
    let done = plan(&observation, at(2));
    assert_eq!(done.transitions.len(), 1);
    assert_eq!(done.transitions[0].secret, "example-rsa2048-1");
    assert_eq!(done.transitions[0].to.state, KeyState::Retiring);
    assert_eq!(ready(&done).0, "True");
    let names: Vec<_> = done
        .status
        .records
        .iter()
        .map(|r| r.name.as_str())
        .collect();
    assert_eq!(names[2], "pr-rsa2048._domainkey.example.com", "{names:?}");
    assert_eq!(done.status.dkim.retiring.len(), 1);
}
