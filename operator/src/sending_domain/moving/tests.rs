//! What is noted of a domain that moves, told of it, and kept for it.

use postrider_crds::EgressRange;
use serde_json::json;

use super::*;
use crate::{
    keys::KeyState,
    sending_domain::{
        plan::{
            Plan, plan,
            tests::{after, at, verified},
        },
        queued::{End, Queue, Wait, Why, tests::counted},
    },
};

/// As a status has it.
fn pools(pools: &[(&str, Option<i64>)]) -> Vec<MailPool> {
    let pools = pools.iter().map(|(name, left)| MailPool {
        name: (*name).to_owned(),
        left_at: left.map(|second| Time(at(second))),
    });
    pools.collect()
}

#[test]
fn table_of_what_is_noted() {
    use Existence::{Exists, Missing};
    let a = || pools(&[("a", None)]);
    let both = || pools(&[("a", Some(5)), ("b", None)]);
    for (before, named, exists, after) in [
        (vec![], "a", Exists, a()),
        (vec![], "a", Missing, vec![]),
        (a(), "a", Exists, a()),
        (a(), "a", Missing, a()),
        (a(), "b", Exists, pools(&[("a", Some(9)), ("b", None)])),
        (a(), "b", Missing, pools(&[("a", Some(9))])),
        (both(), "b", Exists, both()),
        (both(), "a", Exists, pools(&[("a", None), ("b", Some(9))])),
        (
            both(),
            "c",
            Exists,
            pools(&[("a", Some(5)), ("b", Some(9)), ("c", None)]),
        ),
    ] {
        let noted = |before: &[MailPool]| noted(before, named, exists, at(9));
        assert_eq!(noted(&before), after, "{before:?} and then {named}");
        assert_eq!(noted(&after), after, "once noted, it is");
    }
}

#[test]
fn a_domain_has_left_what_is_noted_and_not_named() {
    let domain: SendingDomain = serde_json::from_value(json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
        "metadata": {"name": "d"},
        "spec": {"domain": "example.com", "poolRef": {"name": "c"}},
        "status": {"pools": [{"name": "a", "leftAt": "2026-01-01T00:00:00Z"}, {"name": "b"},
            {"name": "c"}]},
    }))
    .unwrap();
    let since = "2026-01-01T00:00:00Z".parse().unwrap();
    let left: Vec<_> = left(&domain).collect();
    assert_eq!(left, [("a", Some(since)), ("b", None)]);
}

fn waiting(pool: &str, queue: Queue) -> Verdict {
    let (pool, until) = (pool.into(), at(1_000));
    Verdict::Waiting(Wait { pool, queue, until })
}

/// A domain that has left `old` for `default`, where all is well.
fn moved(verdict: Verdict) -> Observation {
    let mut observation = verified(KeyState::Active, true);
    observation.previous.pools = pools(&[("old", Some(0)), ("default", None)]);
    observation.left = vec![verdict];
    observation
}

fn told(plan: &Plan) -> Vec<(&str, &str)> {
    let notices = plan.notices.iter().filter(|notice| notice.action == ACTION);
    notices.map(|n| (n.reason, n.note.as_str())).collect()
}

fn condition(plan: &Plan) -> Option<(&str, &str, &str)> {
    let mut conditions = plan.status.conditions.iter();
    let found = conditions.find(|c| c.type_ == types::MOVING)?;
    Some((&found.status, &found.reason, &found.message))
}

#[test]
fn a_move_is_told_until_the_pool_that_was_left_is_done() {
    let first = plan(&moved(waiting("old", Queue::Untold)), at(0));
    let untold =
        "in RelayPool old, which the domain has left: RelayPool old has to tell its relays";
    let unknown = reasons::QUEUE_UNKNOWN;
    assert_eq!(condition(&first), Some(("True", unknown, untold)));
    assert_eq!(told(&first), [(unknown, untold)]);
    let ready = first
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == types::READY);
    assert_eq!(ready.unwrap().status, "True", "the pool it names serves it");
    assert_eq!(first.status.admission, Some(Admission::Send));

    let mut seen = after(moved(waiting("old", counted(12, &[]))), &first);
    let second = plan(&seen, at(1));
    let queued = "in RelayPool old, which the domain has left: at most 20 messages of example.com queued, which go on being signed and sent";
    let not_empty = reasons::QUEUE_NOT_EMPTY;
    assert_eq!(condition(&second), Some(("True", not_empty, queued)));
    assert!(told(&second).is_empty(), "told already");
    assert_eq!(second.status.pools.len(), 2);
    seen = after(moved(waiting("old", counted(11, &[]))), &second);
    assert_eq!(
        plan(&seen, at(2)).status,
        second.status,
        "no write for a message"
    );

    let (pool, why) = ("old".into(), Why::Empty(Vec::new()));
    seen = after(moved(Verdict::Over(End { pool, why })), &second);
    let last = plan(&seen, at(3));
    assert_eq!(condition(&last), None);
    assert_eq!(last.status.pools, pools(&[("default", None)]));
    let done = "nothing of example.com is queued in RelayPool old any more";
    assert_eq!(told(&last), [(reasons::QUEUE_EMPTY, done)]);
    seen = after(seen, &last);
    seen.left.clear();
    let rest = plan(&seen, at(4));
    assert_eq!(rest.status, last.status);
    assert!(rest.notices.is_empty(), "{:?}", rest.notices);
}

#[test]
fn a_pool_that_is_gone_is_forgotten_and_what_is_given_up_is_told() {
    let ended = |why| {
        let pool = "old".into();
        let plan = plan(&moved(Verdict::Over(End { pool, why })), at(0));
        assert_eq!(plan.status.pools, pools(&[("default", None)]));
        plan
    };
    assert!(told(&ended(Why::NoPool)).is_empty());
    let left = ended(Why::Left(counted(1, &["old-1"])));
    let note = "left behind in RelayPool old, where mail of example.com is held from now on: 1 message and what is queued at old-1";
    assert_eq!(told(&left), [(reasons::QUEUE_LEFT, note)]);
    let retained = ended(Why::Empty(vec!["spool-old-3".into()]));
    let note = "no relay of RelayPool old has mail of example.com; volumes kept of former members may, and will hold it unsigned: spool-old-3";
    assert_eq!(told(&retained), [(reasons::QUEUE_LEFT, note)]);
}

#[test]
fn mail_that_is_held_is_told_as_held() {
    let mut held = moved(waiting("old", counted(1, &[])));
    held.sender_problems.clear();
    for key in &mut held.keys {
        key.life = key.life.clone().at(KeyState::Published, at(-10));
        key.life.activated = None;
    }
    let plan = plan(&held, at(0));
    assert_eq!(plan.status.admission, Some(Admission::Hold));
    let (_, _, message) = condition(&plan).unwrap();
    let words = "in RelayPool old, which the domain has left: 1 message of example.com held (";
    assert!(message.starts_with(words), "{message}");
}

#[test]
fn spf_covers_the_pools_that_have_mail() {
    use crate::sending_domain::observe::PoolFacts;
    use postrider_crds::RelayPool;
    let pool = |addresses: &[&str], expire_after: &str| -> RelayPool {
        serde_json::from_value(json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
            "metadata": {"name": "p"},
            "spec": {"hostname": "mail.example.net", "egress": {"addresses": addresses},
                "delivery": {"expireAfter": expire_after}},
        }))
        .unwrap()
    };
    let old = pool(&["192.0.2.1", "192.0.2.2"], "9d");
    let facts = PoolFacts::from(&pool(&["192.0.2.2", "192.0.2.3"], "5d")).beside(&old);
    let all = ["192.0.2.2", "192.0.2.3", "192.0.2.1"];
    let all = all.map(|address| address.parse::<EgressRange>().unwrap());
    assert_eq!(facts.egress, all);
    assert_eq!(facts.expire_after.as_secs(), 9 * 86_400);
    let unsaid = PoolFacts::from(&pool(&[], "10d")).beside(&old);
    assert!(unsaid.egress.is_empty(), "its own are to be listed first");
    assert_eq!(unsaid.expire_after.as_secs(), 10 * 86_400);
}
