//! The operator's own metrics, on a registry of its own.
//!
//! Promises: label values come from enums or from names of custom resources, and the series of a
//! deleted resource go with it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use postrider_crds::{KeyStatus, condition::reasons};
use prometheus::{
    Encoder as _, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::keys::algorithm_name;

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
    condition: GaugeVec,
    dns_lookups: IntCounterVec,
    key_age: GaugeVec,
    /// When keys began to sign, by resource.
    keys: Mutex<HashMap<Key, Vec<SigningKey>>>,
    /// Condition types shown, by kind and resource, so that they can be taken back.
    shown: Mutex<HashMap<(&'static str, Key), HashSet<String>>>,
}

/// A key that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SigningKey {
    selector: String,
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
        let condition = GaugeVec::new(
            Opts::new(
                "postrider_condition",
                "1 for the status a condition has, 0 for those it has not.",
            ),
            &["kind", "namespace", "name", "type", "status"],
        )?;
        let dns_lookups = IntCounterVec::new(
            Opts::new("postrider_dns_lookups_total", "DNS lookups by result."),
            &["result"],
        )?;
        let key_age = GaugeVec::new(
            Opts::new(
                "postrider_dkim_key_age_seconds",
                "Time since relays began to sign with a DKIM key.",
            ),
            &["namespace", "name", "selector", "algorithm"],
        )?;
        registry.register(Box::new(key_age.clone()))?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(condition.clone()))?;
        registry.register(Box::new(dns_lookups.clone()))?;
        Ok(Self {
            registry,
            reconcile_seconds,
            condition,
            dns_lookups,
            key_age,
            keys: Mutex::default(),
            shown: Mutex::default(),
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
        let (namespace, name) = resource;
        let checked = || {
            conditions
                .iter()
                .filter(|c| c.reason != reasons::NOT_REQUIRED)
        };
        let types: HashSet<String> = checked().map(|c| c.type_.clone()).collect();
        for condition in checked() {
            for status in STATUSES {
                let value = f64::from(u8::from(condition.status == status));
                let labels = [kind, namespace, name, &condition.type_, status];
                self.condition.with_label_values(&labels).set(value);
            }
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.insert((kind, resource.clone()), types.clone());
        for gone in before.unwrap_or_default().difference(&types) {
            self.hide(kind, resource, gone);
        }
    }

    /// Shows the ages of the keys that sign for a SendingDomain in place of those shown before.
    pub fn show_keys(&self, resource: &Key, active: &[KeyStatus]) {
        let keys = active.iter().map(|key| SigningKey {
            selector: key.selector.to_string(),
            algorithm: algorithm_name(key.algorithm),
            since: key.since.0,
        });
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(resource.clone(), keys.collect());
    }

    /// Takes back every series of a deleted resource.
    pub fn forget(&self, kind: &'static str, resource: &Key) {
        if kind == "SendingDomain" {
            let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            all.remove(resource);
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.remove(&(kind, resource.clone())).unwrap_or_default() {
            self.hide(kind, resource, &gone);
        }
    }

    /// All metrics in the Prometheus text format, ages as of `now`.
    ///
    /// # Errors
    ///
    /// When a metric cannot be written out.
    pub fn render(&self, now: Timestamp) -> Result<Vec<u8>, prometheus::Error> {
        self.key_age.reset();
        let all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for ((namespace, name), keys) in all.iter() {
            for key in keys {
                let age = now.duration_since(key.since).as_secs_f64().max(0.0);
                let labels = [namespace, name, key.selector.as_str(), key.algorithm];
                self.key_age.with_label_values(&labels).set(age);
            }
        }
        drop(all);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn hide(&self, kind: &str, (namespace, name): &Key, type_: &str) {
        for status in STATUSES {
            // Fails only when the series is not there, which is what is wanted.
            let labels = [kind, namespace.as_str(), name.as_str(), type_, status];
            let _ = self.condition.remove_label_values(&labels);
        }
    }
}

const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::{Fact, Status, merge};

    #[test]
    fn ages_are_those_of_the_moment_and_go_with_their_keys() {
        let metrics = Metrics::new().unwrap();
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
            String::from_utf8(metrics.render(now).unwrap()).unwrap()
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
        let metrics = Metrics::new().unwrap();
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
        let text = String::from_utf8(metrics.render(now).unwrap()).unwrap();
        assert!(text.contains(r#"postrider_condition{kind="RelayPool",name="default",namespace="mail",status="True",type="Stalled"} 1"#), "{text}");
        metrics.show_conditions("RelayPool", &key, &facts(&["Ready"]));
        let text = String::from_utf8(metrics.render(now).unwrap()).unwrap();
        assert!(
            !text.contains("Stalled") && text.contains("Ready"),
            "{text}"
        );
        let off = Fact::new("Ready", Status::True, reasons::NOT_REQUIRED, "not checked");
        metrics.show_conditions("RelayPool", &key, &merge(&[], &[off], 1, now));
        let text = String::from_utf8(metrics.render(now).unwrap()).unwrap();
        assert!(!text.contains("Ready"), "{text}");
        metrics.show_conditions("RelayPool", &key, &facts(&["Ready"]));
        metrics.forget("RelayPool", &key);
        let text = String::from_utf8(metrics.render(now).unwrap()).unwrap();
        assert!(!text.contains("default"), "{text}");
    }
}
