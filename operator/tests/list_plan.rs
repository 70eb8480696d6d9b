//! The plan of a SuppressionList: a table of worlds and what should come of each.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, sync::Arc};

use postrider_crds::{RelayPool, SuppressionList, suppression_file::SuppressionFile};
use postrider_operator::{
    relay_pool::loaded::{PodReport, PoolState, Rendered},
    suppression_list::{
        observe::{Observation, PoolView, Source, SourceProblem},
        plan::{Plan, plan},
    },
};
use serde_json::{Value, json};

fn list(spec: &Value) -> Arc<SuppressionList> {
    let object = json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SuppressionList",
        "metadata": {"name": "global", "namespace": "mail", "generation": 2}, "spec": spec,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn seen(spec: &Value, sources: Vec<Result<String, SourceProblem>>) -> Observation {
    let source = |text| Source {
        title: "ConfigMap opted-out key list".into(),
        text,
    };
    Observation {
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        list: list(spec),
        sources: sources.into_iter().map(source).collect(),
        pools: Vec::new(),
    }
}

fn pool_view() -> PoolView {
    let pool: RelayPool = serde_json::from_value(json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
        "metadata": {"name": "default", "namespace": "mail", "uid": "p"},
        "spec": {"hostname": "mail.example.net", "suppressionLists": [{"name": "global"}]},
    }))
    .unwrap();
    PoolView {
        pool: Arc::new(pool),
        held: BTreeMap::new(),
        state: PoolState::default(),
    }
}

/// The list's part of every Secret of the plan, by shard.
fn texts(plan: &Plan) -> BTreeMap<u32, String> {
    let part = |(shard, secret): (usize, &k8s_openapi::api::core::v1::Secret)| {
        let data = secret.data.as_ref().unwrap();
        let shard = u32::try_from(shard).unwrap();
        let text = data[&format!("global.{shard}")].0.clone();
        (shard, String::from_utf8(text).unwrap())
    };
    plan.parts.iter().enumerate().map(part).collect()
}

fn targets(plan: &Plan) -> Vec<String> {
    let texts = texts(plan);
    let files = texts
        .values()
        .map(|text| SuppressionFile::parse(text).unwrap());
    let mut targets: Vec<String> = files
        .flat_map(|file| file.entries.into_keys())
        .map(|t| t.to_string())
        .collect();
    targets.sort();
    targets
}

fn conditions(plan: &Plan) -> Vec<String> {
    let conditions = plan.status.conditions.iter();
    conditions
        .map(|c| format!("{}={}/{}", c.type_, c.status, c.reason))
        .collect()
}

#[test]
fn entries_and_sources_are_merged_and_the_expired_dropped() {
    let spec = json!({"entries": [
        {"address": "A@example.net"}, {"domain": "example.org"},
        {"address": "gone@example.net", "expires": "2025-12-31T00:00:00Z"},
        {"address": "soon@example.net", "expires": "2026-01-01T00:01:00Z"},
    ]});
    let mut world = seen(&spec, vec![Ok("a@example.net\nb@example.net,why\n".into())]);
    world.pools = vec![pool_view()];
    let plan = plan(&world);
    let wanted = [
        "@example.org",
        "a@example.net",
        "b@example.net",
        "soon@example.net",
    ];
    assert_eq!(targets(&plan), wanted);
    assert_eq!(plan.status.entries, 4);
    assert_eq!(plan.next_expiry.unwrap().as_secs(), 60);
    assert_eq!(plan.parts.len(), 8);
}

#[test]
fn of_two_entries_for_a_target_the_longer_lived_counts() {
    let text =
        "a@x.net,one,2027-01-01T00:00:00Z\na@x.net,two\na@x.net,three,2028-01-01T00:00:00Z\n";
    let mut world = seen(&json!({}), vec![Ok(text.into())]);
    world.pools = vec![pool_view()];
    let all: String = texts(&plan(&world)).into_values().collect();
    assert!(all.contains("a@x.net\t-\ttwo"), "{all}");
}

#[test]
fn an_unreadable_source_never_shortens_the_list() {
    for problem in [
        SourceProblem::Missing,
        SourceProblem::KeyMissing,
        SourceProblem::NotText,
    ] {
        let spec = json!({"entries": [{"address": "new@x.net"}]});
        let mut world = seen(&spec, vec![Ok("a@x.net\nb@x.net\n".into())]);
        world.pools = vec![pool_view()];
        world.pools[0].held = texts(&plan(&world));
        world.sources[0].text = Err(problem);
        let second = plan(&world);
        assert_eq!(targets(&second), ["a@x.net", "b@x.net", "new@x.net"]);
        assert_eq!(conditions(&second)[0], "Ready=False/ReferenceNotFound");
        assert_eq!(second.notices.len(), 1);
        let message = &second.status.conditions[0].message;
        assert!(message.contains("opted-out key list"), "{message}");
    }
}

#[test]
fn bad_lines_are_named_and_the_good_ones_are_in_force() {
    let text = "a@x.net\none\ntwo\nthree\nfour\n";
    let plan = plan(&seen(&json!({}), vec![Ok(text.into())]));
    let wanted = [
        "Ready=False/EntriesInvalid",
        "Distributed=True/NotUsed",
        "Stalled=True/EntriesInvalid",
    ];
    assert_eq!(conditions(&plan), wanted);
    let message = &plan.status.conditions[0].message;
    for part in [
        "4 lines",
        "line 2: \"one\"",
        "line 4: \"three\"",
        "and 1 more",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(plan.status.entries, 1);
}

#[test]
fn a_list_that_does_not_fit_leaves_the_old_one() {
    let reason = "r".repeat(190);
    let lines: String = (0..40_000)
        .map(|n| format!("user{n}@example.net,{reason}\n"))
        .collect();
    let mut world = seen(&json!({}), vec![Ok(lines)]);
    world.pools = vec![pool_view()];
    let plan = plan(&world);
    assert!(plan.parts.is_empty());
    let wanted = [
        "Ready=False/TooLarge",
        "Distributed=False/TooLarge",
        "Stalled=True/TooLarge",
    ];
    assert_eq!(conditions(&plan), wanted);
}

#[test]
fn distributed_means_every_member_has_every_shard() {
    let mut world = seen(&json!({"entries": [{"address": "a@x.net"}]}), Vec::new());
    world.pools = vec![pool_view()];
    let first = plan(&world);
    let waiting = [
        "Ready=False/WaitingForMembers",
        "Distributed=False/WaitingForMembers",
        "Reconciling=True/WaitingForMembers",
    ];
    assert_eq!(conditions(&first), waiting);
    let documents: BTreeMap<String, String> = texts(&first)
        .into_iter()
        .map(|(shard, text)| {
            let digest = postrider_crds::digest::of(text.as_bytes());
            (format!("suppression/global.{shard}"), digest)
        })
        .collect();
    let report = serde_json::from_value(json!({
        "pod": "default-0", "documents": documents, "refused": [], "notReady": null,
        "queue": {"due": 0, "deferred": 0, "held": 0, "oldestDueSeconds": 0},
    }));
    let entry = PodReport {
        uid: "u0".into(),
        report: Some(report.unwrap()),
    };
    world.pools[0].state = PoolState {
        rendered: Rendered {
            members: [("default-0".to_owned(), Some("u0".to_owned()))].into(),
            ..Rendered::default()
        },
        reports: [("default-0".to_owned(), entry)].into(),
    };
    let done = plan(&world);
    assert_eq!(
        conditions(&done),
        ["Ready=True/Ready", "Distributed=True/Distributed"]
    );
    assert_eq!(
        done.status.pools[0].digest.as_ref(),
        Some(&done.status.digest)
    );
    let members = &mut world.pools[0].state.rendered.members;
    members.insert("default-1".into(), None);
    assert_eq!(conditions(&plan(&world)), waiting);
}
