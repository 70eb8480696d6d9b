//! Pods that the API server does not let the controller of StatefulSets make.

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
    seen.refused_pods = Some(refusal());
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
    seen.refused_pods = None;
    has(&seen, &["Ready=False/MembersStarting"]);
}

#[test]
fn what_a_person_has_to_do_first_comes_first() {
    let mut seen = short();
    seen.refused_pods = Some(refusal());
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
