//! `postrider queue`, through the API server to real pods: what waits is seen, an order is in force in
//! each of them and says who gave it and why, and mail that is given up comes back as a
//! notification. All that with the Role that docs/queue.md shows.

use std::path::PathBuf;

use postrider_e2e::{
    cluster::acting_as,
    peers::{
        Reply,
        sink::{Rules, Script},
    },
    product::queue_role,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    exchange::message_id,
    support::{DOMAIN, POOL, RBAC, SENDER, Stage, eventually},
};

/// Who is never there.
const LATER: &str = "later@to-orders.example";
/// Relays.
const RELAYS: usize = 2;
/// Who gives orders.
const USER: &str = "ann@example.net";
/// Why the orders are given.
const REASON: &str = "INC-7: compromised account";

#[tokio::test]
async fn orders_reach_the_queue_of_every_pod() {
    let rules = Rules::default().but(LATER, Script::Defer);
    let stage = Stage::start("orders", 23, rules).await;
    give_role(&stage).await;
    stage.apply(stage.pool(json!({"replicas": RELAYS}))).await;
    stage.apply(stage.sending_domain(json!({}))).await;
    stage.publish_wanted().await;
    stage.current("RelayPool", POOL).await;
    stage.current("SendingDomain", DOMAIN).await;
    let queued = stage.send("later", "Queued").await;
    until_queue_has(&stage, "deferred", 1).await;

    let tenant = format!("{}/{SENDER}", stage.name);
    order(&stage, &["hold", "--tenant", &tenant]).await;
    let shown = until_queue_has(&stage, "held", 1).await;
    let answers = shown["answers"].as_array().expect("answers");
    assert_eq!(answers.len(), RELAYS, "{shown:#}");
    for answer in answers {
        let order = &answer["orders"][0];
        let told = ["verb", "tenant", "by", "reason"].map(|field| order[field].as_str());
        let expected = ["hold", &tenant, USER, REASON].map(Some);
        assert_eq!(told, expected, "{answer:#}");
    }
    let kept = stage.send("ada", "Kept back").await;
    until_queue_has(&stage, "held", 2).await;

    let id = queued.id.as_deref().expect("an id");
    order(&stage, &["expire", "--message", id]).await;
    // The one that was kept back, and the notification about the other.
    until_queue_has(&stage, "held", 2).await;
    let arrived = |all: &[_]| all.iter().any(|one| message_id(one) == kept.message_id);
    assert!(!arrived(&stage.sink.transactions()), "held mail has left");
    order(&stage, &["release", "--tenant", &tenant]).await;
    stage.delivered(&kept).await;
    comes_back(&stage, &queued).await;
    stage.finish().await;
}

/// Gives the one who orders the documented Role, and nothing else.
async fn give_role(stage: &Stage) {
    let role = queue_role(stage.name, POOL);
    let name = &role["metadata"]["name"];
    let user = json!({"apiGroup": RBAC, "kind": "User", "name": USER});
    let binding = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding",
        "metadata": {"name": name}, "subjects": [user],
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}});
    stage.apply(binding).await;
    stage.apply(role).await;
    let written = acting_as(&stage.cluster.kubeconfig(), USER, kubeconfig(stage));
    written.expect("a kubeconfig");
}

/// Where the kubeconfig of the one who orders is.
fn kubeconfig(stage: &Stage) -> PathBuf {
    stage.directory.path().join("ann.kubeconfig")
}

/// Gives an order, which succeeds.
async fn order(stage: &Stage, order: &[&str]) {
    let told = queue(stage, &[order, &["--reason", REASON]].concat()).await;
    assert!(told.status.success(), "{order:?}: {told:?}");
}

/// Waits until `count` messages are in a state; returns what the command shows.
async fn until_queue_has(stage: &Stage, state: &str, count: u64) -> Value {
    eventually(&format!("{count} {state}"), async || {
        let shown = queue(stage, &["-o", "json"]).await;
        assert!(shown.status.success(), "{shown:?}");
        let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        (shown["total"]["queue"][state] == count).then_some(shown)
    })
    .await
}

async fn queue(stage: &Stage, arguments: &[&str]) -> std::process::Output {
    Command::new(stage.cli())
        .env("KUBECONFIG", kubeconfig(stage))
        .args(["queue", POOL, "-n", stage.name])
        .args(arguments)
        .output()
        .await
        .expect("run")
}

/// Waits for the notification about a message that was given up.
async fn comes_back(stage: &Stage, reply: &Reply) {
    eventually("a notification", async || {
        let taken = stage.sink.transactions();
        let notices = taken.iter().filter(|one| one.mail_from.is_empty());
        let texts = notices.filter_map(|one| std::fs::read_to_string(one.message.as_ref()?).ok());
        let mut about = texts.filter(|text| text.contains(&reply.message_id));
        about.any(|text| text.contains("5.4.7")).then_some(())
    })
    .await;
}
