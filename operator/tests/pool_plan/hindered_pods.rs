//! Pods that are not made, or do not run.

use postrider_operator::events::Notice;

use super::*;

fn refusal() -> Refusal {
    Refusal {
        reason: reasons::QUOTA_EXCEEDED,
        message: "cannot create Pod default-1: exceeded quota: few; raise it".into(),
        progress: Progress::Reconciling,
    }
}

/// The world with one pod of two.
fn short() -> Observation {
    let mut seen = answering(running(2));
    seen.pods.truncate(1);
    seen
}

#[test]
fn the_pool_says_why_members_are_missing_and_tells_it_once() {
    let mut seen = short();
    has(&seen, &["Ready=False/MembersStarting"]);
    seen.hindered_pods = Some(refusal());
    has(
        &seen,
        &[
            "Ready=False/QuotaExceeded",
            "Reconciling=True/QuotaExceeded",
            "Available=True/MembersAvailable",
            "Progressing=True/RollingOut",
        ],
    );
    let told = plan(&seen);
    assert_eq!(told.status.conditions[0].message, refusal().message);
    let notices = |plan: &Plan| {
        let about = |notice: &&Notice| notice.note == refusal().message;
        plan.notices.iter().filter(about).count()
    };
    assert_eq!(notices(&told), 1);
    Arc::make_mut(&mut seen.pool).status = Some(told.status.clone());
    let again = plan(&seen);
    assert_eq!((notices(&again), &again.status), (0, &told.status));
    seen.hindered_pods = None;
    has(&seen, &["Ready=False/MembersStarting"]);
}

#[test]
fn what_a_person_has_to_do_first_comes_first() {
    let mut seen = short();
    seen.hindered_pods = Some(refusal());
    let written = Refusal {
        reason: reasons::FORBIDDEN,
        message: "cannot apply Service default: no; give the right".into(),
        progress: Progress::Stalled,
    };
    let plan = plan(&seen).refused(&seen, &written);
    assert_eq!(plan.status.conditions[0].message, written.message);
    let notes: Vec<_> = plan.notices.iter().map(|n| n.note.as_str()).collect();
    assert!(notes.contains(&written.message.as_str()), "{notes:?}");
    assert!(!notes.contains(&refusal().message.as_str()), "{notes:?}");
}

#[test]
fn a_pod_that_nothing_but_a_person_can_cure_stalls_the_pool() {
    let mut seen = answering(running(1));
    seen.hindered_pods = Some(Refusal {
        reason: reasons::INVALID_IMAGE_NAME,
        message: "Pod default-1 has a name for an image; correct it".into(),
        progress: Progress::Stalled,
    });
    has(
        &seen,
        &[
            "Ready=False/InvalidImageName",
            "Stalled=True/InvalidImageName",
            "Progressing=False/Stable",
        ],
    );
    assert_eq!(kstatus(&plan(&seen).status), "Failed");
    // What is known of a pod says nothing against a pool whose members all accept mail.
    let mut good = answering(running(2));
    good.hindered_pods = seen.hindered_pods;
    has(&good, &["Ready=True/Ready"]);
}
