//! All metrics in the Prometheus text format, a part at a time: of tens of thousands of samples nobody
//! has to hold the whole text.
//!
//! Promises: each resource that is there from the first page to the last is on one of them, whole.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use jiff::Timestamp;
use prometheus::{Encoder as _, TextEncoder};

use super::{Key, Metrics, Shown, SigningKey, lock, text::Gauge};

/// Resources of a page, some kilobytes each.
const RESOURCES: usize = 64;
const CONDITION: Family = Family {
    name: "postrider_condition",
    help: "1 for the status that a condition has.",
};
const KEY_AGE: Family = Family {
    name: "postrider_dkim_key_age_seconds",
    help: "Time since relays began to sign with a DKIM key.",
};

/// The pages to come.
#[derive(Debug)]
pub struct Pages {
    metrics: Arc<Metrics>,
    /// The ages of keys are as of then.
    now: Timestamp,
    next: Next,
}

/// What the next page is of.
#[derive(Debug)]
enum Next {
    Registry,
    Conditions(After<(&'static str, Key)>),
    Keys(After<Key>),
    End,
}

/// How far a family of samples is written out.
#[derive(Debug)]
struct After<K> {
    /// The last resource that was.
    last: Option<K>,
    /// Whether it had any samples so far.
    begun: bool,
}

struct Family {
    name: &'static str,
    help: &'static str,
}

impl Pages {
    /// All pages of `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, now: Timestamp) -> Self {
        Self {
            metrics,
            now,
            next: Next::Registry,
        }
    }
}

impl Iterator for Pages {
    type Item = Result<Vec<u8>, prometheus::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut out = Vec::new();
        self.next = match std::mem::replace(&mut self.next, Next::End) {
            Next::Registry => {
                let families = self.metrics.registry.gather();
                if let Err(error) = TextEncoder::new().encode(&families, &mut out) {
                    return Some(Err(error));
                }
                Next::Conditions(After::start())
            }
            Next::Conditions(after) => {
                let all = lock(&self.metrics.conditions);
                let after = after.page(&all.shown, &CONDITION, &mut out, conditions);
                after.map_or_else(|| Next::Keys(After::start()), Next::Conditions)
            }
            Next::Keys(after) => {
                let all = lock(&self.metrics.keys);
                let keys = |key: &Key, of: &[SigningKey], family: &mut Gauge<'_>| {
                    ages(key, of, self.now, family);
                };
                let after = after.page(&all, &KEY_AGE, &mut out, keys);
                after.map_or(Next::End, Next::Keys)
            }
            Next::End => return None,
        };
        Some(Ok(out))
    }
}

impl<K: Ord + Clone> After<K> {
    fn start() -> Self {
        Self {
            last: None,
            begun: false,
        }
    }

    /// Writes the samples of the next resources of `all` to `out`, each by `write`; `None`: these were
    /// the last.
    fn page<V>(
        self,
        all: &BTreeMap<K, Box<[V]>>,
        family: &Family,
        out: &mut Vec<u8>,
        write: impl Fn(&K, &[V], &mut Gauge<'_>),
    ) -> Option<Self> {
        let after = self.last.as_ref();
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut gauge = match self.begun {
            false => Gauge::begin(out, family.name, family.help),
            true => Gauge::go_on(out, family.name),
        };
        let mut last = None;
        let page = all.range((after, Bound::Unbounded));
        for (key, value) in page.take(RESOURCES) {
            write(key, value, &mut gauge);
            last = Some(key.clone());
        }
        let begun = gauge.is_begun();
        last.map(|last| Self {
            last: Some(last),
            begun,
        })
    }
}

fn conditions(
    (kind, (namespace, name)): &(&'static str, Key),
    shown: &[Shown],
    family: &mut Gauge<'_>,
) {
    for Shown { type_, status } in shown {
        let labels = [
            ("kind", *kind),
            ("name", name),
            ("namespace", namespace),
            ("status", status),
            ("type", type_),
        ];
        family.sample(&labels, 1.0);
    }
}

fn ages((namespace, name): &Key, keys: &[SigningKey], now: Timestamp, family: &mut Gauge<'_>) {
    for key in keys {
        let age = now.duration_since(key.since).as_secs_f64().max(0.0);
        let labels = [
            ("algorithm", key.algorithm),
            ("name", name),
            ("namespace", namespace),
            ("selector", &key.selector),
        ];
        family.sample(&labels, age);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    use super::*;
    use crate::conditions::{Fact, Status, merge};

    #[test]
    fn each_of_many_is_on_one_page_and_the_head_on_the_first_with_a_sample() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let now = Timestamp::UNIX_EPOCH;
        let facts = [Fact::new("Ready", Status::True, "Ready", "ready")];
        let ready: Vec<Condition> = merge(&[], &facts, 1, now);
        let of = |n: usize| ("mail".to_owned(), format!("d{n:05}"));
        for n in 0..RESOURCES {
            metrics.show_conditions("SendingDomain", &of(n), &[]);
        }
        for n in RESOURCES..4 * RESOURCES {
            metrics.show_conditions("SendingDomain", &of(n), &ready);
        }
        let pages: Vec<Vec<u8>> = Pages::new(metrics, now).map(Result::unwrap).collect();
        let text = String::from_utf8(pages.concat()).unwrap();
        assert_eq!(text.matches("# TYPE postrider_condition ").count(), 1);
        let samples = text
            .lines()
            .filter(|line| line.starts_with("postrider_condition{"));
        let names: Vec<String> = samples
            .map(|line| line.split('"').nth(3).unwrap().into())
            .collect();
        let all: Vec<String> = (RESOURCES..4 * RESOURCES).map(|n| of(n).1).collect();
        assert_eq!(names, all);
        let longest = pages.iter().map(Vec::len).max().unwrap();
        assert!(longest < text.len() / 2, "{longest}");
    }
}
