//! From its creation on, and after each change of its spec, no version of an object is Current by
//! kstatus before it truly is: a domain before its records are published, a pool before its pods
//! are ready, a list before relays suppress what it says.

use postrider_e2e::peers::sink::Rules;
use serde_json::{Value, json};

use crate::{
    kstatus::{Health, condition, health},
    pods::Container,
    recording::{Recording, version},
    support::{BOUND, DOMAIN, POOL, Stage, eventually, postrider},
};

/// The name of the SuppressionList.
const LIST: &str = "list";

#[tokio::test]
async fn fresh_objects_are_never_reported_done() {
    let stage = Stage::start("fresh", 12, Rules::default()).await;
    let _same = stage.same_definitions().await;
    let recordings = Recordings::start(&stage).await;

    stage.apply(list(&stage, &["ann"])).await;
    stage.apply(pool(&stage, 1)).await;
    stage.apply(domain(&stage, &["RSA2048"])).await;
    published_is_when_it_is_current(&stage, &recordings.domains).await;
    stage.current("RelayPool", POOL).await;
    suppresses_at_once_when_current(&stage, "ann").await;

    stage.apply(list(&stage, &["ann", "bob"])).await;
    suppresses_at_once_when_current(&stage, "bob").await;
    stage.apply(pool(&stage, 2)).await;
    stage.current("RelayPool", POOL).await;
    stage.apply(domain(&stage, &["RSA2048", "Ed25519"])).await;
    published_is_when_it_is_current(&stage, &recordings.domains).await;

    for (kind, versions) in recordings.when_all_are_current().await {
        begins_unseen_and_ends_current(kind, &versions);
    }
    current_pools_have_had_ready_pods(&recordings);
    stage.finish().await;
}

/// What is watched, from before anything is created.
struct Recordings {
    pools: Recording,
    domains: Recording,
    lists: Recording,
    pods: Recording,
}

impl Recordings {
    async fn start(stage: &Stage) -> Self {
        let recording = async |kind: &str| Recording::start(stage.objects(kind)).await;
        Self {
            pools: recording("RelayPool").await,
            domains: recording("SendingDomain").await,
            lists: recording("SuppressionList").await,
            pods: recording("Pod").await,
        }
    }

    /// Waits until the last versions of pool, domain and list are Current, all at once; returns all
    /// versions, by kind.
    async fn when_all_are_current(&self) -> [(&'static str, Vec<Value>); 3] {
        eventually("three Current objects", async || {
            let all = [
                ("RelayPool", self.pools.versions()),
                ("SendingDomain", self.domains.versions()),
                ("SuppressionList", self.lists.versions()),
            ];
            let is = |last: &Value| health(last) == Health::Current;
            let current = all.iter().all(|(_, all)| all.last().is_some_and(is));
            current.then_some(all)
        })
        .await
    }
}

/// No version of the domain up to now is Current at its present generation; then its records are
/// published, and it becomes Current.
async fn published_is_when_it_is_current(stage: &Stage, domains: &Recording) {
    let asks = |domain: &Value| {
        let seen = domain["status"]["observedGeneration"] == domain["metadata"]["generation"];
        let missing = condition(domain, "Ready").is_some_and(|c| c["reason"] == "RecordsMissing");
        seen && missing
    };
    let what = "asking for records";
    let before = stage.until("SendingDomain", DOMAIN, what, asks).await;
    for domain in domains.until(version(&before), BOUND).await {
        let generation = domain["metadata"]["generation"] == before["metadata"]["generation"];
        let early = generation && health(&domain) == Health::Current;
        assert!(
            !early,
            "Current before its records are published: {domain:#}"
        );
    }
    stage.publish(&stage.records().await).await;
    let after = stage.current("SendingDomain", DOMAIN).await;
    domains.until(version(&after), BOUND).await;
}

/// Once the list is Current, a message to `who`, sent at once, is suppressed.
async fn suppresses_at_once_when_current(stage: &Stage, who: &str) {
    stage.current("SuppressionList", LIST).await;
    let reply = stage.send(who, "You never asked for this").await;
    let id = reply.id.expect("an id");
    let pod = stage.pod(0).await;
    let stages = eventually("the fate of a suppressed message", async || {
        let events = stage.events(&pod, Container::Present).await;
        let own = events.iter().filter(|event| event["id"] == id.as_str());
        let stages: Vec<String> = own
            .map(|event| event["stage"].as_str().unwrap_or_default().to_owned())
            .collect();
        let settled = ["suppressed", "delivered", "deferred"];
        let met = stages.iter().any(|stage| settled.contains(&stage.as_str()));
        met.then_some(stages)
    })
    .await;
    assert!(stages.iter().any(|s| s == "suppressed"), "{stages:?}");
    assert!(!stages.iter().any(|s| s == "attempt-started"), "{stages:?}");
}

fn begins_unseen_and_ends_current(kind: &str, versions: &[Value]) {
    let (first, last) = (versions.first(), versions.last());
    let (first, last) = (first.expect("a first"), last.expect("a last"));
    assert_eq!(
        first["status"]["observedGeneration"], -1,
        "{kind}: {first:#}"
    );
    assert_eq!(health(first), Health::InProgress, "{kind}: {first:#}");
    // Its spec was changed once.
    assert_eq!(last["metadata"]["generation"], 2, "{kind}: {last:#}");
    let current = versions.iter().filter(|v| health(v) == Health::Current);
    println!(
        "{kind}: {} versions, {} Current",
        versions.len(),
        current.count()
    );
    assert_eq!(health(last), Health::Current, "{kind}: {last:#}");
}

/// No version of the pool is Current before each pod it wants has been ready.
fn current_pools_have_had_ready_pods(recordings: &Recordings) {
    let pods = recordings.pods.versions();
    let first_ready = |name: &str| {
        let mut versions = pods.iter().filter(|pod| pod["metadata"]["name"] == name);
        let is_ready =
            |pod: &&Value| condition(pod, "Ready").is_some_and(|c| c["status"] == "True");
        versions.find(is_ready).map(version)
    };
    let pools = recordings.pools.versions();
    for pool in pools.iter().filter(|pool| health(pool) == Health::Current) {
        let wanted = pool["spec"]["replicas"].as_u64().expect("a number");
        for ordinal in 0..wanted {
            let ready = first_ready(&format!("{POOL}-{ordinal}"));
            let before = ready.is_some_and(|ready| ready < version(pool));
            assert!(
                before,
                "pod {ordinal} was first ready at {ready:?}: {pool:#}"
            );
        }
    }
}

fn list(stage: &Stage, who: &[&str]) -> Value {
    let address = |who: &&str| json!({"address": format!("{who}@to-{}.example", stage.name)});
    let entries: Vec<_> = who.iter().map(address).collect();
    postrider("SuppressionList", LIST, json!({"entries": entries}))
}

fn pool(stage: &Stage, replicas: usize) -> Value {
    stage.pool(json!({"replicas": replicas, "suppressionLists": [{"name": LIST}]}))
}

fn domain(stage: &Stage, keys: &[&str]) -> Value {
    let keys: Vec<_> = keys.iter().map(|key| json!({"algorithm": key})).collect();
    stage.sending_domain(json!({"dkim": {"keys": keys}}))
}
