//! Pods that answer what they are told to.

use std::{collections::BTreeMap, sync::Mutex};

use hyper::StatusCode;
use postrider_crds::{
    queue::{Breakdown, Depth, Order},
    relay_config::QueueReport,
};
use serde_json::json;

use super::*;
use crate::golden;

/// Pods by name: status and body of their answers.
struct Told {
    pods: BTreeMap<&'static str, (u16, serde_json::Value)>,
    asked: Mutex<Vec<Ask>>,
}

impl Told {
    fn new(pods: impl IntoIterator<Item = (&'static str, u16, serde_json::Value)>) -> Self {
        let pods = pods.into_iter();
        Self {
            pods: pods
                .map(|(pod, status, body)| (pod, (status, body)))
                .collect(),
            asked: Mutex::default(),
        }
    }
}

impl Pods for Told {
    async fn ask(&self, ask: &Ask) -> Result<Vec<Reached>, Error> {
        self.asked.lock().unwrap().push(ask.clone());
        let pods = self.pods.iter().map(|(pod, (status, body))| Reached {
            pod: (*pod).to_owned(),
            answer: pods::judge(
                StatusCode::from_u16(*status).unwrap(),
                body.to_string().as_bytes(),
            ),
        });
        Ok(pods.collect())
    }
}

fn order(number: u64, reason: &str) -> Order {
    Order {
        number,
        verb: Verb::Suspend,
        scope: postrider_crds::queue::Scope::Site("mx.one.test".parse().unwrap()),
        by: "ann@example.net".into(),
        client: "postrider-operator".into(),
        reason: reason.into(),
        given: "2026-01-01T00:00:00Z".parse().unwrap(),
        until: "2026-01-01T02:00:00Z".parse().ok(),
    }
}

fn overview(pod: &str, due: u64) -> serde_json::Value {
    let depth = |name: &str, due, suspended| Depth {
        name: name.into(),
        due,
        suspended,
        oldest_seconds: 3700,
        ..Depth::default()
    };
    let domains = (0..12).map(|n| depth(&format!("d{n:02}.test"), due, 0));
    let breakdown = |top| Breakdown { top, left_out: 0 };
    serde_json::to_value(QueueOverview {
        pod: pod.into(),
        queue: QueueReport {
            due: due * 12,
            suspended: 3,
            oldest_due_seconds: due,
            ..QueueReport::default()
        },
        orders: vec![order(4, "INC-7 \u{1b}[31mred")],
        sites: breakdown(vec![depth("mx.one.test", 0, 3), depth("", due, 0)]),
        domains: breakdown(domains.collect()),
        tenants: breakdown(vec![depth("apps/legacy", due * 12, 3)]),
    })
    .unwrap()
}

#[tokio::test]
async fn the_page_shows_pods_orders_and_depths() {
    let pods = Told::new([
        ("default-0", 200, overview("default-0", 2)),
        ("default-1", 200, overview("default-1", 5)),
        (
            "default-2",
            503,
            json!({"error": "the spool is being read"}),
        ),
    ]);
    let view = show(&pods).await.unwrap();
    assert!(!view.pods.is_whole());
    golden::check("queue.txt", &table::page(&view, "default"));
    golden::check("queue.json", &json(&view).unwrap());
}

#[tokio::test]
async fn pods_without_an_order_that_others_have_are_named() {
    let without = |pod: &str| {
        let mut overview = overview(pod, 1);
        overview["orders"] = json!([]);
        overview
    };
    let told = async |pods: Told| table::page(&show(&pods).await.unwrap(), "default");
    let page = told(Told::new([
        ("default-0", 200, overview("default-0", 2)),
        ("default-1", 200, without("default-1")),
        ("default-2", 200, without("default-2")),
    ]))
    .await;
    let line = "suspend site mx.one.test is not in force at default-1, default-2: give it again, or end it everywhere\n";
    assert!(page.contains(line), "{page}");
    let one = Told::new([("default-0", 200, overview("default-0", 2))]);
    let page = told(one).await;
    assert!(!page.contains("not in force"), "{page}");
}

fn given(pod: &str) -> serde_json::Value {
    serde_json::to_value(OrderAnswer {
        pod: pod.into(),
        order: Some(order(5, "INC-7")),
        ended: vec![order(4, "INC-7")],
        messages: 1,
    })
    .unwrap()
}

async fn give(pods: &Told) -> (Answers<OrderAnswer>, String) {
    let answers = order_all(pods, &OrderRequest::default()).await.unwrap();
    let text = table::outcome(&answers);
    (answers, text)
}

#[tokio::test]
async fn what_each_pod_did_is_told_by_pod() {
    let nothing = json!({"error": "message x is not in this relay's queue"});
    let broken = json!({"error": "spool write failed"});
    // One pod has the message, the other does not: that is what was asked.
    let pods = Told::new([("a-0", 200, given("a-0")), ("a-1", 404, nothing.clone())]);
    let (answers, text) = give(&pods).await;
    assert!(answers.is_whole(), "{text}");
    assert!(
        text.starts_with("a-0: order 4 suspend site mx.one.test ended, 1 message\n"),
        "{text}"
    );
    assert!(
        text.contains("a-0: order 5 suspend site mx.one.test given, 1 message\n"),
        "{text}"
    );
    assert!(
        text.ends_with("a-1: message x is not in this relay's queue\n"),
        "{text}"
    );
    // No pod has it, or one failed: that is not.
    let pods = Told::new([("a-0", 404, nothing.clone()), ("a-1", 404, nothing)]);
    assert!(!give(&pods).await.0.is_whole());
    let pods = Told::new([("a-0", 200, given("a-0")), ("a-1", 503, broken)]);
    let (answers, text) = give(&pods).await;
    assert!(
        !answers.is_whole() && text.contains("a-1: spool write failed"),
        "{text}"
    );
    let pods = Told::new([("a-0", 200, json!({"what": 1}))]);
    let (answers, text) = give(&pods).await;
    assert!(
        !answers.is_whole() && text.contains("older than the pod"),
        "{text}"
    );
}

fn arguments(line: &str) -> QueueArguments {
    use clap::Parser as _;
    let parsed = crate::args::Arguments::try_parse_from(line.split(' ')).unwrap();
    match parsed.command {
        crate::args::Command::Queue(arguments) => arguments,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_line_is_checked_before_any_pod_hears_of_it() {
    let line = "postrider queue default suspend --site mx.one.test --reason INC-7 --until 2h";
    let found = request(Verb::Suspend, &arguments(line)).unwrap();
    let until: jiff::Timestamp = found.until.unwrap().parse().unwrap();
    assert!(until > SystemClock::new().now());
    assert_eq!((&*found.verb, &*found.reason), ("suspend", "INC-7"));
    for (line, verb, part) in [
        ("hold --reason x", Verb::Hold, "exactly one of message"),
        ("hold --domain nodots --reason x", Verb::Hold, "domain: "),
        (
            "hold --domain a.test --reason x --until 2h",
            Verb::Hold,
            "until: ",
        ),
        (
            "suspend --domain a.test --reason x --until soon",
            Verb::Suspend,
            "\"soon\" is no time",
        ),
    ] {
        let line = format!("postrider queue default {line}");
        let refused = request(verb, &arguments(&line)).unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
        assert_eq!(Error::Order(refused).code(), 2);
    }
}
