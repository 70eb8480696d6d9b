//! The log's field names and the metrics' names are contracts.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::*;
use crate::mail::{Class, EnhancedCode, MessageId, Reply, Site};

mod documented_events;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn event(stage: Stage) -> Event {
    Event {
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        message: Some(MessageId::from_u128(7)),
        tenant: Some("apps/legacy".to_owned()),
        domain: Some("example.com".parse().unwrap()),
        stage,
    }
}

fn remote(site: &str) -> Remote {
    Remote {
        site: Site::of_hosts([site]),
        host: Some(site.to_owned()),
        address: Some("192.0.2.1".parse().unwrap()),
    }
}

fn bounced(site: &str) -> Event {
    event(Stage::Bounced {
        recipient: "ab@example.org".parse().unwrap(),
        remote: remote(site),
        attempt: 2,
        class: Class::InvalidRecipient,
        reply: Reply::new(550, EnhancedCode(5, 1, 1), "no \"such\" user\n"),
        took: Duration::from_millis(1500),
    })
}

#[test]
fn a_line_is_one_json_object_with_stable_names() {
    let lines = Lines::default();
    let telemetry = Telemetry::new(Box::new(lines.clone()));
    telemetry.emit(&bounced("mx.example.org"));
    telemetry.emit(&event(Stage::Held));
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let parsed: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let expected = serde_json::json!({
        "time": "2026-01-01T00:00:00Z", "stage": "bounced", "id": "00000000000000000000000007",
        "tenant": "apps/legacy", "domain": "example.com", "recipient": "ab@example.org",
        "site": "mx.example.org", "host": "mx.example.org", "address": "192.0.2.1",
        "attempt": 2, "class": "invalid-recipient", "code": 550, "enhanced": "5.1.1",
        "reply": "no \"such\" user\n", "took": 1.5,
    });
    assert_eq!(parsed[0], expected);
    assert_eq!(
        (parsed.len(), &parsed[1]["stage"]),
        (2, &Value::from("held"))
    );
}

#[test]
fn sites_beyond_the_bound_share_a_label() {
    let telemetry = Telemetry::new(Box::new(io::sink()));
    for number in 0..80 {
        telemetry.emit(&bounced(&format!("mx{number}.example.org")));
    }
    let text = telemetry.render(&QueueFigures::default());
    let sites = text
        .lines()
        .filter(|l| l.starts_with("postrider_deliveries_total{"));
    assert_eq!(sites.count(), 51);
    let other =
        r#"postrider_deliveries_total{class="invalid-recipient",result="bounced",site="other"} 30"#;
    assert!(text.contains(other), "{text}");
    assert!(!text.contains("ab@"), "no address in a label");
}

#[test]
fn every_metric_has_its_name_from_the_start() {
    let telemetry = Telemetry::new(Box::new(Broken));
    telemetry.emit(&event(Stage::Accepted {
        recipients: 1,
        bytes: 10,
        took: Duration::from_millis(2),
        client: None,
        priority: None,
    }));
    telemetry.emit(&event(Stage::AttemptStarted {
        recipient_domain: "example.org".parse().unwrap(),
        attempt: 1,
        site: Site::of_hosts(["mx"]),
        age: Duration::from_secs(1),
    }));
    telemetry.spool_batch(3, Duration::from_millis(1));
    telemetry.tls_session(TlsPolicy::Opportunistic, TlsResult::Encrypted);
    telemetry.signing_failed();
    let mut queue = QueueFigures::default();
    queue.report.deferred = 4;
    let text = telemetry.render(&queue);
    for line in [
        "postrider_messages_accepted_total 1",
        "postrider_messages_rejected_total{reason=\"disk-full\"} 0",
        "postrider_attempts_total 1",
        "postrider_dkim_signing_failures_total 1",
        "postrider_tls_sessions_total{policy=\"opportunistic\",result=\"encrypted\"} 1",
        "postrider_tls_sessions_total{policy=\"required\",result=\"failed\"} 0",
        "postrider_queue_messages{state=\"deferred\"} 4",
        "postrider_queue_oldest_seconds{state=\"due\"} 0",
        "postrider_submission_seconds_count 1",
        "postrider_time_to_first_attempt_seconds_count 1",
        "postrider_delivery_seconds_count 0",
        "postrider_spool_sync_seconds_count 1",
        "postrider_spool_batch_messages_sum 3",
        "postrider_spool_quarantined_total 0",
        "postrider_spool_quarantine_files{kind=\"damaged\"} 0",
        "postrider_spool_quarantine_bytes{kind=\"torn\"} 0",
        "postrider_event_log_lines_lost_total 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

/// The names in the table below `heading` of docs/metrics.md.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = include_str!("../../../docs/metrics.md");
    let (_, part) = text.split_once(heading).unwrap();
    let part = part.split("\n## ").next().unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let telemetry = Telemetry::new(Box::new(io::sink()));
    // One without labels until something happens.
    telemetry.emit(&bounced("mx.example.org"));
    let text = telemetry.render(&QueueFigures::default());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<String> = types
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(served, documented("## Relay"));
}
