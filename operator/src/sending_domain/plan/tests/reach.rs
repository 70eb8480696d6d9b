//! Tables of relays: a domain is ready once each of them sends its mail.

use super::*;

/// Everything verified and signing; relays are as `reach` says.
fn signing(reach: Reach) -> Observation {
    Observation {
        reach,
        ..verified(KeyState::Active, true)
    }
}

fn awaiting(admission: Admission, members: usize, awaited: usize) -> Reach {
    Reach {
        admission: Some(admission),
        members,
        awaited,
    }
}

#[test]
fn ready_waits_for_every_relay() {
    let waiting = reasons::WAITING_FOR_MEMBERS;
    let to_load = "every relay of RelayPool default has to load that mail may be sent";
    for (reach, reason, part) in [
        (Reach::default(), waiting, to_load),
        (awaiting(Admission::Hold, 2, 0), waiting, to_load),
        (awaiting(Admission::Send, 2, 1), waiting, to_load),
        (
            awaiting(Admission::Send, 0, 0),
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
        loaded.reach = awaiting(Admission::Send, 2, 0);
        assert_eq!(ready(&plan(&loaded, at(61))).0, "True");
    }
}

/// However many relays there are, and whenever each loads it.
#[test]
fn the_way_to_ready_is_two_statuses() {
    let mut world = signing(Reach::default());
    let mut written = 0;
    let told = [7, 5, 4, 1, 0].map(|awaited| awaiting(Admission::Send, 7, awaited));
    let untold = [Reach::default(), awaiting(Admission::Hold, 7, 0)];
    for (second, reach) in (0..).zip(untold.into_iter().chain(told)) {
        world.reach = reach;
        let step = plan(&world, at(second));
        written += usize::from(step.status != world.previous);
        world = after(world, &step);
    }
    assert_eq!(ready(&plan(&world, at(60))).0, "True");
    assert_eq!(written, 2);
}

#[test]
fn a_ready_domain_outlives_its_pods_until_its_spec_changes() {
    let first = signing(awaiting(Admission::Send, 2, 0));
    let step = plan(&first, at(0));
    assert_eq!(ready(&step).0, "True");
    for reach in [
        Reach::default(),
        awaiting(Admission::Send, 2, 1),
        awaiting(Admission::Send, 0, 0),
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
