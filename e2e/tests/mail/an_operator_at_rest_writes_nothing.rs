//! With all objects Ready the operator goes on looking, at DNS and at its relays, and writes
//! nothing but its Lease.
//!
//! A machine so busy that DNS or a relay answers too late gives the operator something to write.
//! Therefore one window without a write is looked for in a time that holds several; who writes at a
//! period of the operator's has none.

use std::time::Duration;

use postrider_e2e::{cluster::Write, peers::sink::Rules, product::OPERATOR_NAMESPACE};
use serde_json::json;

use crate::support::{DOMAIN, POOL, Stage, postrider, within};

/// The window: this many renewals of the Lease, one every two seconds. That is longer than any period
/// in it: each relay is asked every 30 s, and the depth of a queue may be written every 60 s.
const RENEWALS: usize = 32;
/// How often the operator looks at DNS in it, at least.
const LOOKS: usize = 3;
/// How often it is to look.
const INTERVAL: &str = "15s";
/// How long the window may keep one waiting.
const QUIET_BOUND: Duration = Duration::from_secs(300);

#[tokio::test]
async fn an_operator_at_rest_writes_nothing() {
    let stage = Stage::start("rest", 14, Rules::default()).await;
    let entries = json!({"entries": [{"domain": "competitor.example"}]});
    stage
        .apply(postrider("SuppressionList", "list", entries))
        .await;
    let lists = json!({"replicas": 2, "suppressionLists": [{"name": "list"}]});
    stage.apply(stage.pool(lists)).await;
    let often = json!({"verification": {"interval": INTERVAL}});
    stage.apply(stage.sending_domain(often)).await;
    // The operator asks again only for what it may not keep.
    let wanted = stage.wanted().await.replace(" 3600 IN ", " 1 IN ");
    assert!(wanted.contains(" 1 IN "), "{wanted}");
    stage.publish(&wanted).await;
    stage.current("SendingDomain", DOMAIN).await;
    stage.current("RelayPool", POOL).await;
    stage.current("SuppressionList", "list").await;
    let sent = stage.send("ada", "Before the rest").await;
    stage.delivered(&sent).await;

    let _undisturbed = stage.undisturbed().await;
    let looked_at = format!("_dmarc.{}", stage.domain());
    let looks = || stage.gate().asked(&looked_at);
    let mut last = (0, looks());
    let quiet = within(QUIET_BOUND, "a window without a write", async || {
        let writes = own(&stage);
        let written = writes.iter().rposition(|one| one.namespace == stage.name);
        let written = written.expect("the operator has written here before");
        if written != last.0 {
            // Shown when the claim fails: what keeps the operator from coming to rest.
            println!("{:?}", writes[written]);
            last = (written, looks());
        }
        let since = &writes[written + 1..];
        let renewals = since.iter().filter(|one| is_lease(one)).count();
        let looked = looks() - last.1;
        (renewals >= RENEWALS && looked >= LOOKS).then_some((renewals, looked, last.0))
    })
    .await;
    println!(
        "{} renewals and {} looks after write {}",
        quiet.0, quiet.1, quiet.2
    );
    stage.finish().await;
}

/// What the operator has written: in this namespace, in none, and its Lease.
fn own(stage: &Stage) -> Vec<Write> {
    let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:postrider");
    let mut writes = stage.cluster.writes().expect("an audit log");
    writes.retain(|one| {
        let here = one.namespace == stage.name || one.namespace.is_empty();
        one.user == user && (here || is_lease(one))
    });
    writes
}

fn is_lease(write: &Write) -> bool {
    write.resource == "leases" && write.namespace == OPERATOR_NAMESPACE
}
