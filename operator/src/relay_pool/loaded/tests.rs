//! Pods that come, go and report.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use postrider_crds::{
    Selector,
    relay_config::{Admission, Intake, Report, layout, shard_of},
};

use super::*;
use crate::relay_pool::keyring::Shard;

pub(crate) fn pool() -> PoolKey {
    PoolKey {
        namespace: "mail".into(),
        name: "default".into(),
    }
}

pub(crate) fn domain() -> DomainName {
    "example.com".parse().unwrap()
}

fn rendered(members: &[(&str, Option<&str>)]) -> Rendered {
    let document = layout::keyring(shard_of(&domain()));
    let entry = RenderedDomain {
        uid: "d".into(),
        generation: 3,
        admission: Admission::Send,
        intake: Intake::Open,
        selectors: Box::from(["pr-1".parse().unwrap()]),
    };
    let shard = Shard::saying(domain(), entry);
    Rendered {
        documents: BTreeMap::from([(document, "d1".to_owned())]),
        certificates: BTreeMap::new(),
        shards: BTreeMap::from([(shard_of(&domain()), Arc::new(shard))]),
        members: members
            .iter()
            .map(|(name, uid)| ((*name).to_owned(), uid.map(str::to_owned)))
            .collect(),
    }
}

fn reports(loaded: &Loaded, pod: &str, uid: &str, digest: &str) -> Option<News> {
    let document = layout::keyring(shard_of(&domain()));
    let report = PodReport {
        uid: uid.into(),
        report: Some(Report {
            pod: pod.into(),
            documents: BTreeMap::from([(document, digest.to_owned())]),
            refused: Vec::new(),
            queue: Default::default(),
            remaining: BTreeMap::new(),
            not_ready: None,
        }),
    };
    loaded.set_report(&pool(), pod, report)
}

fn everywhere(loaded: &Loaded) -> bool {
    let selector = "pr-1".parse().unwrap();
    loaded.with(&pool(), |state| {
        state.selector_loaded_everywhere(&domain(), &selector)
    })
}

#[test]
fn every_member_must_have_reported_the_rendered_bytes() {
    let loaded = Loaded::default();
    assert!(!everywhere(&loaded));
    loaded.set_rendered(
        &pool(),
        rendered(&[("p-0", Some("u0")), ("p-1", Some("u1"))]),
    );
    assert_eq!(reports(&loaded, "p-0", "u0", "d1"), Some(News::Everything));
    assert!(!everywhere(&loaded));
    assert!(reports(&loaded, "p-1", "u1", "d0").is_some());
    assert!(!everywhere(&loaded));
    let news = reports(&loaded, "p-1", "u1", "d1").unwrap();
    assert!(news.concerns_domain(&domain()));
    assert!(!news.concerns_domain(&"elsewhere.example".parse().unwrap()));
    assert!(!news.concerns_list("global"));
    assert!(everywhere(&loaded));
    let again = reports(&loaded, "p-1", "u1", "d1");
    assert_eq!(again, None, "the same report is no change");
    let other = "pr-2".parse().unwrap();
    assert!(!loaded.with(&pool(), |state| {
        state.selector_loaded_everywhere(&domain(), &other)
    }));
}

#[test]
fn a_key_is_released_once_every_member_reports_a_keyring_without_it() {
    let loaded = Loaded::default();
    let released = |selector: &str| {
        let selector: Selector = selector.parse().unwrap();
        loaded.with(&pool(), |state| {
            state.selector_released_everywhere(&domain(), &selector)
        })
    };
    assert!(!released("pr-2"), "nothing is rendered yet");
    let members = [("p-0", Some("u0")), ("p-1", None)];
    loaded.set_rendered(&pool(), rendered(&members));
    reports(&loaded, "p-0", "u0", "d1");
    assert!(!released("pr-2"));
    assert_eq!(loaded.state(&pool()).lagging(&domain()), ["p-1"]);
    loaded.set_rendered(&pool(), rendered(&members[..1]));
    assert!(released("pr-2") && !released("pr-1"));
    assert!(loaded.state(&pool()).lagging(&domain()).is_empty());
    loaded.set_rendered(&pool(), rendered(&[]));
    assert!(released("pr-2"), "no pod, no signature");
}

#[test]
fn what_was_reported_before_anything_was_rendered_counts() {
    let loaded = Loaded::default();
    for (pod, uid) in [("p-0", "u0"), ("p-1", "u1")] {
        assert_eq!(reports(&loaded, pod, uid, "d1"), Some(News::Everything));
    }
    assert!(!everywhere(&loaded), "nothing is rendered");
    loaded.set_rendered(&pool(), rendered(&[("p-0", Some("u0"))]));
    assert!(everywhere(&loaded));
    assert_eq!(loaded.state(&pool()).reports.len(), 1, "p-1 is no member");
    assert_eq!(reports(&loaded, "p-1", "u1", "d0"), None);
}

#[test]
fn a_new_missing_or_replaced_member_undoes_it() {
    for members in [
        &[("p-0", Some("u0")), ("p-1", Some("u1"))][..],
        &[("p-0", Some("u0")), ("p-1", None)],
        &[("p-0", Some("u9"))],
        &[],
    ] {
        let loaded = Loaded::default();
        loaded.set_rendered(&pool(), rendered(&[("p-0", Some("u0"))]));
        reports(&loaded, "p-0", "u0", "d1");
        assert!(everywhere(&loaded));
        loaded.set_rendered(&pool(), rendered(members));
        assert!(!everywhere(&loaded), "{members:?}");
    }
}

#[test]
fn reach_tells_what_is_rendered_and_how_many_pods_are_awaited() {
    let loaded = Loaded::default();
    let reach = |uid, generation| loaded.state(&pool()).reach(&domain(), uid, generation);
    assert_eq!(reach("d", 3), Reach::default(), "nothing is known");
    let members = [("p-0", Some("u0")), ("p-1", Some("u1")), ("p-2", None)];
    loaded.set_rendered(&pool(), rendered(&members));
    reports(&loaded, "p-0", "u0", "d1");
    reports(&loaded, "p-1", "u1", "d0");
    let expected = Reach {
        admission: Some(Admission::Send),
        members: 3,
        awaited: 2,
    };
    assert_eq!(reach("d", 3), expected);
    assert_eq!(reach("d", 4).admission, None, "the spec has changed since");
    assert_eq!(reach("e", 3).admission, None, "another object of the name");
    reports(&loaded, "p-1", "u1", "d1");
    assert_eq!(reach("d", 3).awaited, 1);
    loaded.set_rendered(&pool(), rendered(&[]));
    assert_eq!(reach("d", 3).members, 0);
}

#[test]
fn what_remains_is_known_once_every_member_has_counted_by_the_rendered_keyring() {
    let loaded = Loaded::default();
    let document = layout::keyring(shard_of(&domain()));
    let closing = |uid: &str| {
        let mut rendered = rendered(&[("p-0", Some("u0")), ("p-1", Some("u1"))]);
        let shard = rendered.shards.get_mut(&shard_of(&domain())).unwrap();
        let entry = Arc::make_mut(shard).domains.get_mut(&domain()).unwrap();
        (entry.uid, entry.intake) = (uid.into(), Intake::Closed);
        rendered
    };
    let counts = |pod: &str, digest: &str, count: Option<u64>| {
        let report = Report {
            pod: pod.into(),
            documents: BTreeMap::from([(document.clone(), digest.to_owned())]),
            refused: Vec::new(),
            queue: Default::default(),
            remaining: count.map(|count| (domain(), count)).into_iter().collect(),
            not_ready: None,
        };
        let uid = pod.replace("p-", "u");
        let report = Some(report);
        loaded.set_report(&pool(), pod, PodReport { uid, report })
    };
    let remainder = |uid: &str| loaded.state(&pool()).remainder(&domain(), uid);
    let known = |messages, unheard: &[&str]| {
        let unheard = unheard.iter().map(|pod| (*pod).to_owned()).collect();
        Some(Remainder { messages, unheard })
    };
    loaded.set_rendered(&pool(), rendered(&[("p-0", Some("u0"))]));
    assert_eq!(remainder("d"), None, "not told yet");
    loaded.set_rendered(&pool(), closing("d"));
    assert_eq!(remainder("d"), known(0, &["p-0", "p-1"]));
    assert_eq!(remainder("e"), None, "another SendingDomain");
    counts("p-0", "d1", Some(3));
    counts("p-1", "d0", Some(0));
    assert_eq!(remainder("d"), known(3, &["p-1"]), "by an older keyring");
    counts("p-1", "d1", None);
    assert_eq!(remainder("d"), known(3, &["p-1"]), "not counted");
    let news = counts("p-1", "d1", Some(1)).unwrap();
    assert!(news.concerns_domain(&domain()));
    assert_eq!(remainder("d"), known(4, &[]));
    assert_eq!(counts("p-1", "d1", Some(1)), None);
    // Created anew and deleted again before anybody was asked: nothing is known.
    loaded.set_rendered(&pool(), closing("e"));
    assert_eq!(remainder("e"), known(0, &["p-0", "p-1"]));
    loaded.set_report(
        &pool(),
        "p-0",
        PodReport {
            uid: "u0".into(),
            report: None,
        },
    );
    counts("p-1", "d1", Some(0));
    assert_eq!(remainder("e"), known(0, &["p-0"]), "out of reach");
}

#[test]
fn only_what_changed_is_news() {
    let loaded = Loaded::default();
    let members = [("p-0", Some("u0"))];
    let first = rendered(&members);
    let news = |rendered: &Rendered| loaded.set_rendered(&pool(), rendered.clone());
    assert_eq!(news(&first), News::Everything, "there are members now");
    assert_eq!(news(&first), News::Documents(BTreeSet::new()));
    let mut second = first.clone();
    let list = layout::suppression("global", 3);
    second.documents.insert(list, "d2".into());
    assert!(news(&second).concerns_list("global"));
    let back = news(&first);
    assert!(back.concerns_list("global") && !back.concerns_list("other"));
    assert!(!back.concerns_domain(&domain()));
    let mut edited = first;
    let shard = edited.shards.get_mut(&shard_of(&domain())).unwrap();
    let shard = Arc::make_mut(shard);
    shard.domains.get_mut(&domain()).unwrap().generation += 1;
    assert!(news(&edited).concerns_domain(&domain()), "the same bytes");
}
