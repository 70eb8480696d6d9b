//! Tables of relays: a domain is ready once each of them sends its mail.

use super::*;

/// Everything verified and signing; relays are as `reach` says.
fn signing(reach: Reach) -> Observation {
    Observation {
        reach,
        ..verified(KeyState::Active, true)
    }
}

fn awaiting(admission: Admission, members: usize, awaited: &[&str]) -> Reach {
    Reach {
        admission: Some(admission),
        members,
        awaited: awaited.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn ready_waits_for_every_relay_and_names_those_awaited() {
    let waiting = reasons::WAITING_FOR_MEMBERS;
    let many: Vec<String> = (0..7).map(|n| format!("default-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (reach, reason, part) in [
        (Reach::default(), waiting, "has to tell its relays"),
        (awaiting(Admission::Hold, 2, &[]), waiting, "has to tell"),
        (
            awaiting(Admission::Send, 2, &["default-1"]),
            waiting,
            "mail may be sent; waiting for default-1",
        ),
        (
            awaiting(Admission::Send, 7, &many),
            waiting,
            "default-4 and 2 more",
        ),
        (
            awaiting(Admission::Send, 0, &[]),
            reasons::SCALED_TO_ZERO,
            "spec.replicas",
        ),
    ] {
        let first = signing(reach);
        let step = plan(&first, at(0));
        assert_eq!((ready(&step).0, ready(&step).1), ("False", reason));
        assert!(ready(&step).2.contains(part), "{}", ready(&step).2);
        let progress = condition(&step, types::RECONCILING);
        assert_eq!((progress.0, progress.1), ("True", reason));
        // What relays have to load is decided, and DNS, which is well, is not asked more often.
        assert_eq!(step.status.admission, Some(Admission::Send));
        assert_eq!(step.next_look, Duration::from_secs(600));
        let again = plan(&after(first.clone(), &step), at(60));
        assert_eq!(again.status, step.status, "messages stay as they are");
        let mut loaded = after(first, &step);
        loaded.reach = awaiting(Admission::Send, 2, &[]);
        assert_eq!(ready(&plan(&loaded, at(61))).0, "True");
    }
}

#[test]
fn a_ready_domain_outlives_its_pods_until_its_spec_changes() {
    let first = signing(awaiting(Admission::Send, 2, &[]));
    let step = plan(&first, at(0));
    assert_eq!(ready(&step).0, "True");
    for reach in [
        Reach::default(),
        awaiting(Admission::Send, 2, &["default-0"]),
        awaiting(Admission::Send, 0, &[]),
    ] {
        let mut world = after(first.clone(), &step);
        world.reach = reach;
        let later = plan(&world, at(1));
        assert_eq!(later.status, step.status);
        assert!(later.notices.is_empty());
        world.generation += 1;
        assert_eq!(ready(&plan(&world, at(2))).0, "False", "loaded anew");
    }
}
