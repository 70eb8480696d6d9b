//! The metrics, all named `postrider_...`, on a registry of their own.
//!
//! Promises: series that can be known from the start exist from the start, at zero; the `site`
//! label has at most [`SITES`] values and `other`.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector, exponential_buckets,
};

use super::{Event, RejectReason, Stage, TlsPolicy, TlsResult};
use crate::{
    custody::{Aside, QueueFigures},
    mail::{Class, Site},
};

/// Sites that have a label of their own: the first so many delivered to.
const SITES: usize = 50;
/// Longest site label; sites of many hosts are named by the first ones.
const SITE_LENGTH: usize = 100;

/// Every metric of the relay.
pub(super) struct Metrics {
    registry: Registry,
    accepted: IntCounter,
    rejected: IntCounterVec,
    deliveries: IntCounterVec,
    attempts: IntCounter,
    signing_failures: IntCounter,
    tls_sessions: IntCounterVec,
    queue_messages: IntGaugeVec,
    queue_oldest: IntGaugeVec,
    config_refused: IntCounter,
    log_lines_lost: IntCounter,
    latency: Latency,
    spool: SpoolMetrics,
    sites: Mutex<HashMap<Site, Outcomes>>,
}

/// A site that has a label of its own.
struct Outcomes {
    label: String,
    /// What most mail comes to, without a lookup by labels.
    delivered: Option<IntCounter>,
}

/// How long the steps of the journey take.
struct Latency {
    submission: Histogram,
    first_attempt: Histogram,
    delivery: Histogram,
}

/// The store.
struct SpoolMetrics {
    sync: Histogram,
    batch: Histogram,
    segments: IntGauge,
    quarantined: IntCounter,
    quarantine_files: IntGaugeVec,
    quarantine_bytes: IntGaugeVec,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let metrics = Self {
            accepted: counter(
                &registry,
                "messages_accepted_total",
                "Messages taken into custody.",
            ),
            rejected: counters(
                &registry,
                "messages_rejected_total",
                "Messages and commands refused at the door.",
                &["reason"],
            ),
            deliveries: counters(
                &registry,
                "deliveries_total",
                "Recipients by what became of them; a deferred one counts at every attempt.",
                &["result", "site", "class"],
            ),
            attempts: counter(&registry, "attempts_total", "Delivery attempts started."),
            signing_failures: counter(
                &registry,
                "dkim_signing_failures_total",
                "Messages that could not be signed.",
            ),
            tls_sessions: counters(
                &registry,
                "tls_sessions_total",
                "Outbound sessions by TLS policy and result.",
                &["policy", "result"],
            ),
            queue_messages: gauges(
                &registry,
                "queue_messages",
                "Messages in custody by state.",
                "state",
            ),
            queue_oldest: gauges(
                &registry,
                "queue_oldest_seconds",
                "Due: how long the longest waiting leg has been due. Deferred, suspended, held: age of the oldest message.",
                "state",
            ),
            config_refused: counter(
                &registry,
                "config_refused_total",
                "Configuration documents found and refused; what was in force stays so.",
            ),
            log_lines_lost: counter(
                &registry,
                "event_log_lines_lost_total",
                "Event log lines that could not be written.",
            ),
            latency: Latency::new(&registry),
            spool: SpoolMetrics::new(&registry),
            sites: Mutex::new(HashMap::new()),
            registry,
        };
        metrics.start_at_zero();
        metrics
    }

    pub(super) fn count(&self, event: &Event) {
        match &event.stage {
            Stage::Accepted { took, .. } => {
                self.accepted.inc();
                self.latency.submission.observe(took.as_secs_f64());
            }
            Stage::Rejected { reason, .. } => {
                self.rejected.with_label_values(&[reason.as_str()]).inc();
            }
            Stage::AttemptStarted { attempt, age, .. } => {
                self.attempts.inc();
                if *attempt == 1 {
                    self.latency.first_attempt.observe(age.as_secs_f64());
                }
            }
            Stage::Delivered { remote, age, .. } => {
                self.latency.delivery.observe(age.as_secs_f64());
                self.delivered(&remote.site);
            }
            Stage::Deferred { remote, class, .. } => {
                self.failed("deferred", Some(&remote.site), class.as_str());
            }
            Stage::Bounced { remote, class, .. } => {
                self.failed("bounced", Some(&remote.site), class.as_str());
            }
            Stage::Expired { remote, .. } => {
                self.failed("expired", Some(&remote.site), Class::Expired.as_str());
            }
            Stage::Suppressed { .. } => self.failed("suppressed", None, NO_CLASS),
            Stage::ConfigRefused { .. } => self.config_refused.inc(),
            Stage::Held
            | Stage::Released
            | Stage::Notified { .. }
            | Stage::Quarantined { .. }
            | Stage::QuarantineHolds(_)
            | Stage::Order(_) => {}
        }
    }

    pub(super) fn tls_session(&self, policy: TlsPolicy, result: TlsResult) {
        self.tls_sessions
            .with_label_values(&[policy.as_str(), result.as_str()])
            .inc();
    }

    pub(super) fn signing_failed(&self) {
        self.signing_failures.inc();
    }

    pub(super) fn spool_batch(&self, messages: usize, took: Duration) {
        self.spool.sync.observe(took.as_secs_f64());
        if messages > 0 {
            self.spool.batch.observe(messages as f64);
        }
    }

    pub(super) fn spool_segments(&self, segments: usize) {
        self.spool
            .segments
            .set(i64::try_from(segments).unwrap_or(i64::MAX));
    }

    pub(super) fn quarantined(&self) {
        self.spool.quarantined.inc();
    }

    pub(super) fn aside(&self, aside: &Aside) {
        let spool = &self.spool;
        for (kind, files, bytes) in [
            (DAMAGED, aside.damaged.len(), aside.damaged_bytes),
            (TORN, aside.torn.len(), aside.torn_bytes),
        ] {
            set(&spool.quarantine_files, kind, files as u64);
            set(&spool.quarantine_bytes, kind, bytes);
        }
    }

    /// The counter of event log lines that could not be written.
    pub(super) fn log_lines_lost(&self) -> IntCounter {
        self.log_lines_lost.clone()
    }

    pub(super) fn render(&self, queue: &QueueFigures) -> String {
        let report = &queue.report;
        for (state, messages, oldest) in [
            ("due", report.due, report.oldest_due_seconds),
            ("deferred", report.deferred, queue.oldest_deferred_seconds),
            (
                "suspended",
                report.suspended,
                queue.oldest_suspended_seconds,
            ),
            ("held", report.held, queue.oldest_held_seconds),
        ] {
            set(&self.queue_messages, state, messages);
            set(&self.queue_oldest, state, oldest);
        }
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail and every metric has a name and a value");
        String::from_utf8_lossy(&text).into_owned()
    }

    fn delivered(&self, site: &Site) {
        let count = |outcomes: &mut Outcomes| {
            let counter = outcomes.delivered.take();
            let label = &outcomes.label;
            let counter = counter.unwrap_or_else(|| self.outcome("delivered", label, NO_CLASS));
            counter.inc();
            outcomes.delivered = Some(counter);
        };
        if self.of_site(site, count).is_none() {
            self.outcome("delivered", OTHER_SITE, NO_CLASS).inc();
        }
    }

    fn failed(&self, result: &str, site: Option<&Site>, class: &str) {
        let label = |outcomes: &mut Outcomes| outcomes.label.clone();
        let site = site.map_or_else(
            || NO_SITE.to_owned(),
            |site| {
                self.of_site(site, label)
                    .unwrap_or_else(|| OTHER_SITE.to_owned())
            },
        );
        self.outcome(result, &site, class).inc();
    }

    fn outcome(&self, result: &str, site: &str, class: &str) -> IntCounter {
        self.deliveries.with_label_values(&[result, site, class])
    }

    /// A site's own part; `None` for one beyond the bound.
    fn of_site<T>(&self, site: &Site, with: impl FnOnce(&mut Outcomes) -> T) -> Option<T> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcomes) = sites.get_mut(site) {
            return Some(with(outcomes));
        }
        if sites.len() >= SITES {
            return None;
        }
        let label: String = site.as_str().chars().take(SITE_LENGTH).collect();
        let delivered = None;
        let outcomes = sites.entry(site.clone());
        let outcomes = outcomes.or_insert(Outcomes { label, delivered });
        Some(with(outcomes))
    }

    fn start_at_zero(&self) {
        self.aside(&Aside::default());
        for reason in RejectReason::ALL {
            self.rejected.with_label_values(&[reason.as_str()]);
        }
        for policy in [TlsPolicy::Opportunistic, TlsPolicy::Required] {
            for result in [
                TlsResult::Encrypted,
                TlsResult::Plaintext,
                TlsResult::Failed,
            ] {
                self.tls_sessions
                    .with_label_values(&[policy.as_str(), result.as_str()]);
            }
        }
    }
}

impl Latency {
    fn new(registry: &Registry) -> Self {
        Self {
            submission: histogram(
                registry,
                "submission_seconds",
                "From MAIL to the 250 after the data.",
                doubling(0.0005, 16),
            ),
            first_attempt: histogram(
                registry,
                "time_to_first_attempt_seconds",
                "From acceptance to the first attempt of a recipient domain.",
                doubling(0.001, 24),
            ),
            delivery: histogram(
                registry,
                "delivery_seconds",
                "From acceptance to the remote's acceptance, by recipient.",
                doubling(0.004, 27),
            ),
        }
    }
}

impl SpoolMetrics {
    fn new(registry: &Registry) -> Self {
        Self {
            sync: histogram(
                registry,
                "spool_sync_seconds",
                "Write and sync of one batch.",
                doubling(0.0001, 18),
            ),
            batch: histogram(
                registry,
                "spool_batch_messages",
                "Messages accepted by one synced batch.",
                doubling(1.0, 11),
            ),
            segments: gauge(registry, "spool_segments", "Segment files of the spool."),
            quarantined: counter(
                registry,
                "spool_quarantined_total",
                "Damaged stretches of the spool put aside.",
            ),
            quarantine_files: gauges(
                registry,
                "spool_quarantine_files",
                "Files in the quarantine of the spool. Damaged ones stay until somebody removes them.",
                "kind",
            ),
            quarantine_bytes: gauges(
                registry,
                "spool_quarantine_bytes",
                "Bytes in the quarantine of the spool.",
                "kind",
            ),
        }
    }
}

/// Copies of damage.
const DAMAGED: &str = "damaged";
/// Copies of what crashes have left of unsynced writes.
const TORN: &str = "torn";
/// The class of what has none.
const NO_CLASS: &str = "none";
/// The site of what was never routed.
const NO_SITE: &str = "none";
/// The site label of all beyond [`SITES`].
const OTHER_SITE: &str = "other";
const PREFIX: &str = "postrider";

fn set(gauges: &IntGaugeVec, label: &str, value: u64) {
    gauges
        .with_label_values(&[label])
        .set(i64::try_from(value).unwrap_or(i64::MAX));
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let metric = made.expect("names, labels and buckets are constants of this file");
    registry
        .register(Box::new(metric.clone()))
        .expect("each name is registered once, in Metrics::new");
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::with_opts(options(name, help)))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(options(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::with_opts(options(name, help)))
}

fn gauges(registry: &Registry, name: &str, help: &str, label: &str) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(options(name, help), &[label]))
}

/// Bucket bounds, each twice the one before.
fn doubling(start: f64, count: usize) -> Vec<f64> {
    exponential_buckets(start, 2.0, count)
        .expect("start and count are positive constants of this file")
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    let options = HistogramOpts::new(name, help)
        .namespace(PREFIX)
        .buckets(buckets);
    register(registry, Histogram::with_opts(options))
}
