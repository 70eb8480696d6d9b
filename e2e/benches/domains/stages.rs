//! The two worlds, step by step.

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::{
    Arguments, changes,
    estate::{Estate, POOL, secrets},
    ground::{self, Ground, NAMESPACE},
    node::Node,
    process::{Programs, Running, http_get, metrics},
    report::Report,
    rest::{Figures, measure},
    statuses::{Seen, Statuses},
};

/// How long a step may take.
const BOUND: Duration = Duration::from_secs(3_600);
/// How long it is measured what missing records cost.
const MISSING: Duration = Duration::from_secs(60);
/// How long the operator gets to come to rest: what its status writes wake has then been looked at.
const SETTLE: Duration = Duration::from_secs(30);

/// Domains without keys, until all are Ready.
pub(crate) async fn fresh(arguments: &Arguments, programs: &Programs, report: &mut Report) {
    let count = arguments.fresh;
    let estate = Estate::without_keys(count);
    let ground = Ground::start(&estate.zone(1, &[])).await;
    estate.declare(&ground, &arguments.keys).await;
    let statuses = Statuses::follow(&ground.client);
    let mut node = Node::start(&ground, programs).await;
    let operator = start(&ground, programs, "fresh");
    let all = |wanted: fn(&Seen) -> bool| statuses.count(wanted) == count;
    let listed = |_| all(|seen| seen.keys.is_some() && !seen.records.is_empty());
    let figures = measure(&ground, &operator, BOUND, listed).await;
    report.step("keys made and listed", count, &figures);
    let figures = measure(&ground, &operator, MISSING, |passed| passed >= MISSING).await;
    report.step("records of all missing", count, &figures);
    ground.publish(&estate.zone(2, &statuses.key_records()));
    let figures = measure(&ground, &operator, BOUND, |_| all(|seen| seen.ready)).await;
    report.step("records published, all Ready", count, &figures);
    report.memory("fresh", operator.usage(), node.relay_memory());
    operator.stop().await;
}

/// Domains whose keys sign, from a first start over rest and changes to another start.
pub(crate) async fn estate(arguments: &Arguments, programs: &Programs, report: &mut Report) {
    let count = arguments.domains;
    let estate = Estate::with_keys(count, &arguments.keys).await;
    let ground = Ground::start(&estate.zone(1, &[])).await;
    estate.declare(&ground, &arguments.keys).await;
    let statuses = Statuses::follow(&ground.client);
    let mut node = Node::start(&ground, programs).await;
    let operator = start(&ground, programs, "first");
    let ready = |_| statuses.count(|seen| seen.ready) == count;
    let figures = measure(&ground, &operator, BOUND, ready).await;
    report.step("first start, all Ready", count, &figures);
    report.memory("first start", operator.usage(), node.relay_memory());
    let paths = ground::sizes(&ground.client, &secrets()).await;
    report.keyring(POOL, &paths);

    rest(arguments, (&ground, &operator), &mut node, report).await;
    let times = changes::measure(&ground, &statuses, count, 0..arguments.changes).await;
    report.changes("rest", &times);
    report.memory("changes", operator.usage(), node.relay_memory());
    operator.stop().await;

    let operator = start(&ground, programs, "again");
    let figures = measure_start(&ground, &operator, count).await;
    report.step("started again, all looked at", count, &figures);
    report.memory("started again", operator.usage(), node.relay_memory());
    newcomers(arguments, &estate, (&ground, &operator, &statuses), report).await;
    report.memory("newcomers", operator.usage(), node.relay_memory());
    operator.stop().await;
}

/// Domains that come to the estate, and what their keys mean to changes of the others.
async fn newcomers(
    arguments: &Arguments,
    estate: &Estate,
    (ground, operator, statuses): (&Ground, &Running, &Statuses),
    report: &mut Report,
) {
    let (count, more, changes) = (arguments.domains, arguments.fresh, arguments.changes);
    estate.add(more, ground, &arguments.keys).await;
    let times = changes::measure(ground, statuses, count, changes..2 * changes).await;
    report.changes("keys being made", &times);
    let all = count + more;
    let listed = |_| statuses.count(|seen| seen.keys.is_some()) == all;
    let figures = measure(ground, operator, BOUND, listed).await;
    report.step("the rest of their keys made", more, &figures);
}

/// Time without a change, in which nothing may be written.
async fn rest(
    arguments: &Arguments,
    (ground, operator): (&Ground, &Running),
    node: &mut Node,
    report: &mut Report,
) {
    let settled = measure(ground, operator, BOUND, |passed| passed >= SETTLE).await;
    report.step("coming to rest", arguments.domains, &settled);
    let time = Duration::from_secs(arguments.rest);
    let figures = measure(ground, operator, BOUND, |passed| passed >= time).await;
    report.step("at rest", arguments.domains, &figures);
    let writes = &figures.writes;
    report.promise(writes.is_empty(), || format!("written at rest: {writes:?}"));
    report.memory("at rest", operator.usage(), node.relay_memory());
}

/// The labels of a domain that is Ready.
const READY: [&str; 3] = [
    "kind=\"SendingDomain\"",
    "type=\"Ready\"",
    "status=\"True\"",
];

/// Measures until the operator says of every domain that it is Ready, by its own metrics: on a start
/// with everything in place it writes nothing that could be waited for.
async fn measure_start(ground: &Ground, operator: &Running, count: usize) -> Figures {
    let shown = AtomicUsize::new(0);
    let looking = async {
        loop {
            let text = http_get(metrics(), "/metrics").await.unwrap_or_default();
            let of_ready = |labels: &str| READY.iter().all(|part| labels.contains(part));
            let looked = ground::sum(&text, "postrider_condition", of_ready);
            shown.store(usize::try_from(looked).unwrap_or(0), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let done = |_| shown.load(Ordering::Relaxed) == count;
    tokio::select! {
        figures = measure(ground, operator, BOUND, done) => figures,
        () = looking => unreachable!("it looks for ever"),
    }
}

/// Starts the operator, with its defaults but for the wait of new keys.
fn start(ground: &Ground, programs: &Programs, name: &str) -> Running {
    let mut command = Command::new(&programs.operator);
    command
        .env("KUBECONFIG", ground.server.kubeconfig())
        .env("RUST_LOG", "info")
        .args(["--relay-image", "relay", "--watch-namespace", NAMESPACE])
        .args(["--resolver", &ground.resolver().to_string()])
        .args(["--metrics-address", &metrics().to_string()])
        .args(["--propagation-minimum", "1s"]);
    programs.start(&format!("operator-{name}"), &mut command)
}
