//! A namespace that is deleted with a pool, a domain and mail in the queue is gone: the domain does
//! not wait for relays that are gone themselves, and the operator makes nothing anew in it.

use kube::api::DeleteParams;
use postrider_e2e::peers::sink::{Rules, Script};
use serde_json::Value;

use crate::{
    pods::Container,
    support::{DOMAIN, Stage, eventually, eventually_or},
};

/// Who is never there.
const LATER: &str = "later@to-deleted.example";

#[tokio::test]
async fn deleted_namespace_is_gone() {
    let rules = Rules::default().but(LATER, Script::Defer);
    let stage = Stage::start("deleted", 22, rules).await;
    stage.ready_to_send().await;
    stage.send("later", "Queued").await;
    let pod = stage.pod(0).await;
    eventually("a message in the queue", async || {
        let events = stage.events(&pod, Container::Present).await;
        let deferred = |event: &Value| event["stage"] == "deferred";
        events.iter().any(deferred).then_some(())
    })
    .await;
    let domain = stage.get("SendingDomain", DOMAIN).await;
    let finalizers = &domain["metadata"]["finalizers"];
    assert!(finalizers[0].is_string(), "nothing waits: {domain:#}");

    let namespaces = stage.objects("Namespace");
    let deleted = namespaces
        .delete(stage.name, &DeleteParams::default())
        .await;
    deleted.expect("deleted");
    let gone = async || {
        let found = namespaces.get_opt(stage.name).await;
        found.expect("an answer").is_none().then_some(())
    };
    eventually_or("the end of the namespace", gone, async || {
        let left = namespaces.get_opt(stage.name).await.expect("an answer");
        let left = serde_json::to_value(left).expect("JSON");
        format!("{:#}", left["status"])
    })
    .await;
}
