//! The operator's own metrics, on a registry of its own.
//!
//! Promises: label values come from enums or from names of custom resources, and the series of a
//! deleted resource go with it. What there is of each of thousands of resources is kept as small as it
//! can be and written out when it is asked for ([`text`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use postrider_crds::{KeyStatus, condition::reasons};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::keys::algorithm_name;

mod pages;
mod text;

pub use pages::Pages;

/// Upper bounds of the reconciliation histogram, in seconds: from a look at the caches to the
/// slowest API call that is waited for.
const RECONCILE_BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Namespace and name of a resource.
type Key = (String, String);

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconcile_seconds: HistogramVec,
    dns_lookups: IntCounterVec,
    /// When keys began to sign, by resource.
    keys: Mutex<BTreeMap<Key, Box<[SigningKey]>>>,
    /// The conditions of all resources.
    conditions: Mutex<Conditions>,
}

/// Conditions, of which thousands have the same few types.
#[derive(Debug, Default)]
struct Conditions {
    /// By kind and resource.
    shown: BTreeMap<(&'static str, Key), Box<[Shown]>>,
    /// Each type there is.
    types: BTreeSet<Arc<str>>,
}

/// A condition as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    type_: Arc<str>,
    status: &'static str,
}

impl Conditions {
    /// The one copy of `type_`.
    fn type_(&mut self, type_: &str) -> Arc<str> {
        if let Some(known) = self.types.get(type_) {
            return known.clone();
        }
        let new: Arc<str> = type_.into();
        self.types.insert(new.clone());
        new
    }
}

/// A key that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SigningKey {
    selector: Box<str>,
    algorithm: &'static str,
    since: Timestamp,
}

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResult {
    /// Done.
    Success,
    /// To be tried again.
    Error,
}

/// How a DNS lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// With records.
    Found,
    /// With the certainty that there are none.
    Empty,
    /// Without an answer.
    Failed,
}

impl Metrics {
    /// All metrics at zero.
    ///
    /// # Errors
    ///
    /// When a metric cannot be registered, which only a programming mistake brings about.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("postrider_reconcile_seconds", "Time a reconciliation took.")
                .buckets(RECONCILE_BUCKETS.to_vec()),
            &["kind", "result"],
        )?;
        let dns_lookups = IntCounterVec::new(
            Opts::new("postrider_dns_lookups_total", "DNS lookups by result."),
            &["result"],
        )?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(dns_lookups.clone()))?;
        Ok(Self {
            registry,
            reconcile_seconds,
            dns_lookups,
            keys: Mutex::default(),
            conditions: Mutex::default(),
        })
    }

    /// Counts a reconciliation of `kind`.
    pub fn reconciled(&self, kind: &str, result: ReconcileResult, took: Duration) {
        let result = match result {
            ReconcileResult::Success => "success",
            ReconcileResult::Error => "error",
        };
        self.reconcile_seconds
            .with_label_values(&[kind, result])
            .observe(took.as_secs_f64());
    }

    /// Counts a DNS lookup.
    pub fn dns_lookup(&self, result: LookupResult) {
        let result = match result {
            LookupResult::Found => "found",
            LookupResult::Empty => "empty",
            LookupResult::Failed => "failed",
        };
        self.dns_lookups.with_label_values(&[result]).inc();
    }

    /// Shows the conditions of a resource in place of those shown before. A check that is switched off
    /// is not shown: of thousands of domains that would be most of what is served.
    pub fn show_conditions(&self, kind: &'static str, resource: &Key, conditions: &[Condition]) {
        let mut all = lock(&self.conditions);
        let checked = conditions
            .iter()
            .filter(|c| c.reason != reasons::NOT_REQUIRED);
        let shown = checked.filter_map(|condition| {
            Some(Shown {
                status: STATUSES.into_iter().find(|s| *s == condition.status)?,
                type_: all.type_(&condition.type_),
            })
        });
        let shown = shown.collect();
        all.shown.insert((kind, resource.clone()), shown);
    }

    /// Shows the ages of the keys that sign for a SendingDomain in place of those shown before.
    pub fn show_keys(&self, resource: &Key, active: &[KeyStatus]) {
        let keys = active.iter().map(|key| SigningKey {
            selector: key.selector.as_str().into(),
            algorithm: algorithm_name(key.algorithm),
            since: key.since.0,
        });
        lock(&self.keys).insert(resource.clone(), keys.collect());
    }

    /// Takes back every series of a deleted resource.
    pub fn forget(&self, kind: &'static str, resource: &Key) {
        if kind == "SendingDomain" {
            lock(&self.keys).remove(resource);
        }
        lock(&self.conditions)
            .shown
            .remove(&(kind, resource.clone()));
    }

    /// All pages, one after the other.
    #[cfg(test)]
    pub(crate) fn render(self: &Arc<Self>, now: Timestamp) -> String {
        let pages = Pages::new(self.clone(), now).map(Result::unwrap);
        String::from_utf8(pages.collect::<Vec<_>>().concat()).unwrap()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::{Fact, Status, merge};

    #[test]
    fn ages_are_those_of_the_moment_and_go_with_their_keys() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let key = ("mail".to_owned(), "shop".to_owned());
        let since = "2026-01-01T00:00:00Z";
        let active: Vec<KeyStatus> = serde_json::from_value(serde_json::json!([{
            "selector": "pr-1", "algorithm": "Ed25519", "secret": "s", "state": "Active",
            "since": since,
        }]))
        .unwrap();
        metrics.show_keys(&key, &active);
        let text = |at: &str| {
            let now = at.parse().unwrap();
            metrics.render(now)
        };
        let labels = r#"{algorithm="Ed25519",name="shop",namespace="mail",selector="pr-1"}"#;
        for (at, age) in [("2026-01-01T00:01:30Z", 90), ("2025-12-31T00:00:00Z", 0)] {
            let line = format!("postrider_dkim_key_age_seconds{labels} {age}\n");
            assert!(text(at).contains(&line), "{}", text(at));
        }
        metrics.forget("SendingDomain", &key);
        assert!(!text(since).contains("pr-1"));
    }

    #[test]
    fn conditions_come_and_go() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let key = ("mail".to_owned(), "default".to_owned());
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let facts = |types: &[&'static str]| -> Vec<Condition> {
            let facts: Vec<Fact> = types
                .iter()
                .map(|t| Fact::new(t, Status::True, "Ready", "ready"))
                .collect();
            merge(&[], &facts, 1, now)
        };
        metrics.show_conditions("RelayPool", &key, &facts(&["Ready", "Stalled"]));
        let text = metrics.render(now);
        assert!(text.contains(r#"postrider_condition{kind="RelayPool",name="default",namespace="mail",status="True",type="Stalled"} 1"#), "{text}");
        metrics.show_conditions("RelayPool", &key, &facts(&["Ready"]));
        let text = metrics.render(now);
        assert!(
            !text.contains("Stalled") && text.contains("Ready"),
            "{text}"
        );
        let off = Fact::new("Ready", Status::True, reasons::NOT_REQUIRED, "not checked");
        metrics.show_conditions("RelayPool", &key, &merge(&[], &[off], 1, now));
        let text = metrics.render(now);
        assert!(!text.contains("Ready"), "{text}");
        metrics.show_conditions("RelayPool", &key, &facts(&["Ready"]));
        metrics.forget("RelayPool", &key);
        let text = metrics.render(now);
        assert!(!text.contains("default"), "{text}");
    }

    /// The names in the table below `heading` of docs/metrics.md.
    fn documented(heading: &str) -> BTreeSet<String> {
        let text = include_str!("../../docs/metrics.md");
        let (_, part) = text.split_once(heading).unwrap();
        let part = part.split("\n## ").next().unwrap();
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.map(|row| row.split('`').next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_metric_is_documented_and_every_documented_one_is_there() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let key = ("mail".to_owned(), "shop".to_owned());
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ready = Fact::new("Ready", Status::True, "Ready", "ready");
        metrics.show_conditions("SendingDomain", &key, &merge(&[], &[ready], 1, now));
        let active: Vec<KeyStatus> = serde_json::from_value(serde_json::json!([{
            "selector": "pr-1", "algorithm": "Ed25519", "secret": "s", "state": "Active",
            "since": now,
        }]))
        .unwrap();
        metrics.show_keys(&key, &active);
        metrics.reconciled("SendingDomain", ReconcileResult::Success, Duration::ZERO);
        metrics.dns_lookup(LookupResult::Found);
        let text = metrics.render(now);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let served: BTreeSet<String> = types
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(served, documented("## Operator"));
    }
}
