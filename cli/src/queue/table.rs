//! The queue and what became of orders, for people.

use std::{collections::BTreeMap, fmt::Write as _};

use postrider_crds::{
    Duration,
    queue::{Breakdown, Order, OrderAnswer, QueueOverview, Scope, Verb},
};

use super::{Answers, View, merge::total};
use crate::text::{columns, counted, printable};

/// Lines of a breakdown that are shown; `-o json` has all of them.
const LINES: usize = 10;

/// The whole page.
pub(super) fn page(view: &View, pool: &str) -> String {
    let mut sections = vec![pods(view, pool)];
    let mut orders: Vec<[String; 5]> = Vec::new();
    for pod in &view.pods.answers {
        orders.extend(pod.orders.iter().map(|order| row(&pod.pod, order)));
    }
    if !orders.is_empty() {
        let heading = ["ORDER", "POD", "GIVEN", "BY", "REASON"];
        sections.push(columns(heading, &orders) + &unequal(&view.pods.answers));
    }
    for (heading, breakdown) in [
        ("SITE", &view.total.sites),
        ("RECIPIENT DOMAIN", &view.total.domains),
        ("TENANT", &view.total.tenants),
    ] {
        if !breakdown.top.is_empty() {
            sections.push(depths(heading, breakdown));
        }
    }
    if !view.pods.failures.is_empty() {
        sections.push(failures(&view.pods));
    }
    sections.join("\n")
}

fn pods(view: &View, pool: &str) -> String {
    let row = |name: &str, queue: &postrider_crds::relay_config::QueueReport| {
        [
            printable(name),
            queue.due.to_string(),
            queue.deferred.to_string(),
            queue.suspended.to_string(),
            queue.held.to_string(),
            age(queue.oldest_due_seconds),
        ]
    };
    let mut rows: Vec<_> = view
        .pods
        .answers
        .iter()
        .map(|pod| row(&pod.pod, &pod.queue))
        .collect();
    rows.push(row(&format!("pool {pool}"), &view.total.queue));
    let heading = ["POD", "DUE", "DEFERRED", "SUSPENDED", "HELD", "OLDEST DUE"];
    columns(heading, &rows)
}

fn row(pod: &str, order: &Order) -> [String; 5] {
    let until = order.until.map(|until| format!(" until {until}"));
    [
        printable(&describe(order)) + &until.unwrap_or_default(),
        printable(pod),
        order.given.to_string(),
        printable(&order.by),
        printable(&order.reason),
    ]
}

/// Standing orders that some pods have and others, of those that answered, have not.
fn unequal(pods: &[QueueOverview]) -> String {
    let mut lacking: BTreeMap<(Verb, &Scope), Vec<&str>> = BTreeMap::new();
    let wide = |order: &&Order| !matches!(order.scope, Scope::Message(_));
    let lasts = |order: &&Order| matches!(order.verb, Verb::Hold | Verb::Suspend);
    for order in pods
        .iter()
        .flat_map(|pod| &pod.orders)
        .filter(wide)
        .filter(lasts)
    {
        let key = (order.verb, &order.scope);
        let lacks = |pod: &&QueueOverview| pod.orders.iter().all(|o| (o.verb, &o.scope) != key);
        let pods = pods.iter().filter(lacks).map(|pod| pod.pod.as_str());
        lacking.insert(key, pods.collect());
    }
    lacking.retain(|_, pods| !pods.is_empty());
    let mut text = String::new();
    for ((verb, scope), pods) in lacking {
        let (scope, pods) = (printable(&scope.to_string()), printable(&pods.join(", ")));
        let _ = writeln!(
            text,
            "{verb} {scope} is not in force at {pods}: give it again, or end it everywhere"
        );
    }
    text
}

fn describe(order: &Order) -> String {
    format!("{} {} {}", order.number, order.verb, order.scope)
}

fn depths(heading: &str, breakdown: &Breakdown) -> String {
    let shown = breakdown.top.iter().take(LINES);
    let rows: Vec<_> = shown
        .map(|depth| {
            let name = match depth.name.as_str() {
                "" => "(not routed yet)",
                name => name,
            };
            [
                printable(name),
                depth.due.to_string(),
                depth.deferred.to_string(),
                depth.suspended.to_string(),
                depth.held.to_string(),
                age(depth.oldest_seconds),
            ]
        })
        .collect();
    let heading = [heading, "DUE", "DEFERRED", "SUSPENDED", "HELD", "OLDEST"];
    let mut text = columns(heading, &rows);
    let rest: u64 = breakdown.top.iter().skip(LINES).map(total).sum();
    let names = breakdown.top.len().saturating_sub(LINES) as u64 + breakdown.left_out;
    if names > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "and {names} more; {rest} or more wait there");
    }
    text
}

fn failures<T>(answers: &Answers<T>) -> String {
    let mut text = String::new();
    for failure in &answers.failures {
        let (pod, error) = (printable(&failure.pod), printable(&failure.error));
        let _ = writeln!(text, "{pod}: {error}");
    }
    text
}

/// What each pod did.
pub(super) fn outcome(answers: &Answers<OrderAnswer>) -> String {
    let mut text = String::new();
    for answer in &answers.answers {
        let pod = printable(&answer.pod);
        let count = usize::try_from(answer.messages).unwrap_or(usize::MAX);
        let messages = counted(count, "message");
        for order in &answer.ended {
            let _ = writeln!(
                text,
                "{pod}: order {} ended, {messages}",
                printable(&describe(order))
            );
        }
        if let Some(order) = &answer.order {
            let _ = writeln!(
                text,
                "{pod}: order {} given, {messages}",
                printable(&describe(order))
            );
        }
    }
    text + &failures(answers)
}

fn age(seconds: u64) -> String {
    match seconds {
        0 => "-".into(),
        seconds => Duration::from_secs(seconds).to_string(),
    }
}
