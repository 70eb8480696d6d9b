//! What the resolver's word is worth where no name server can be reached.

use super::*;

/// Where no name server can be reached the resolver's word counts as far as the settings let it: after
/// the time they name and any cache, and not when it says otherwise.
#[test]
fn table_of_what_the_resolvers_word_is_worth() {
    use KeyState::{Active, Loaded, Published, Visible};
    let unreachable = |state, trust| {
        let mut observation = with(&[state]);
        observation.trust_resolver_after = trust;
        observation.keys[0].sight = Sight::Unreachable {
            cached: 900,
            problem: "ns1.example.net (192.0.2.53) did not answer in time".into(),
        };
        observation
    };
    let never = unreachable(Published, None);
    assert_eq!(
        step(&never, 1_000_000),
        never.keys[0].life,
        "nobody said so"
    );
    let message = progress(&never, &[never.keys[0].life.clone()], at(0));
    assert_eq!(message.reason, reasons::AUTHORITY_UNREACHABLE);
    for part in ["ns1.example.net", "--authority", "--trust-resolver-after"] {
        assert!(message.message.contains(part), "{}", message.message);
    }

    let mut trusted = unreachable(Published, Some(3_600));
    let first = step(&trusted, 0);
    assert_eq!((first.seen, first.cached), (Some(at(0)), 3_600));
    trusted.keys[0].life = first.clone();
    let message = progress(&trusted, &[first], at(0)).message;
    assert!(message.contains("its word is taken"), "{message}");
    assert_eq!(step(&trusted, 3_599).state, Published);
    assert_eq!(step(&trusted, 3_600).state, Visible);
    // A cache may have something else for longer.
    let mut cached = trusted.clone();
    cached.keys[0].sight = Sight::Unreachable {
        cached: 7_200,
        problem: String::new(),
    };
    assert_eq!(step(&cached, 3_600).state, Published);
    assert_eq!(step(&cached, 7_200).state, Visible);
    // The resolver gives no answer: nothing changes. It says otherwise: all over again.
    let mut silent = trusted.clone();
    silent.keys[0].finding = Some(finding(RecordState::Unknown));
    assert_eq!(step(&silent, 5_000), silent.keys[0].life);
    let mut refuted = silent.clone();
    refuted.keys[0].finding.as_mut().unwrap().reason = reasons::AUTHORITY_UNREACHABLE;
    assert_eq!(step(&refuted, 5_000).seen, None);
    // Name servers that can be reached after all have the last word.
    let mut reached = trusted;
    reached.keys[0].sight = sight(RecordState::Missing);
    assert_eq!(step(&reached, 5_000).seen, None);

    for (trust, verified, state) in [
        (Some(3_600), true, Active),
        (Some(3_600), false, Loaded),
        (None, true, Loaded),
    ] {
        let mut loaded = unreachable(Loaded, trust);
        loaded.keys[0].loaded = true;
        if !verified {
            loaded.keys[0].finding = Some(finding(RecordState::Unknown));
        }
        assert_eq!(step(&loaded, 0).state, state, "{trust:?} {verified}");
    }
    // A key that signs is not taken back because nobody can be asked.
    let mut active = unreachable(Active, None);
    active.keys[0].finding = Some(finding(RecordState::Unknown));
    assert_eq!(step(&active, 0), active.keys[0].life);
}
