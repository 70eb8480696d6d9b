//! The depth of a pool's queue, as often as it may be written.

use std::time::Duration;

use postrider_crds::{QueueStatus, RelayPoolStatus, relay_config::Report};

use crate::relay_pool::observe::Observation;

/// It is written no more often.
const QUEUE_PERIOD: Duration = Duration::from_secs(60);

/// The depth to write, and when a depth that has changed may be written.
pub(super) fn queue(
    seen: &Observation,
    before: &RelayPoolStatus,
) -> (Option<QueueStatus>, Option<Duration>) {
    let reports: Vec<&Report> = seen
        .state
        .reports
        .values()
        .filter_map(|entry| entry.report.as_ref())
        .collect();
    let written = seen.queue_written.as_ref();
    let known = written.map(|written| written.depth.clone());
    let known = known.or_else(|| before.queue.clone());
    if reports.is_empty() {
        return (known, None);
    }
    let sum = |count: fn(&Report) -> u64| reports.iter().map(|report| count(report)).sum::<u64>();
    let (due, deferred) = (sum(|r| r.queue.due), sum(|r| r.queue.deferred));
    let (suspended, held) = (sum(|r| r.queue.suspended), sum(|r| r.queue.held));
    let oldest = reports
        .iter()
        .map(|r| r.queue.oldest_due_seconds)
        .max()
        .unwrap_or(0);
    let now = QueueStatus {
        queued: due + deferred + suspended + held,
        due,
        deferred,
        suspended,
        held,
        oldest_due: coarse(oldest),
    };
    if known.as_ref() == Some(&now) {
        return (Some(now), None);
    }
    let since = written.map(|written| seen.now.duration_since(written.at));
    let since = since.map(|since| Duration::try_from(since).unwrap_or_default());
    match since.and_then(|since| QUEUE_PERIOD.checked_sub(since)) {
        Some(wait) if !wait.is_zero() => (known, Some(wait)),
        _ => (Some(now), None),
    }
}

/// Whole minutes, below one minute steps of 10 seconds; none for nothing due.
fn coarse(seconds: u64) -> Option<postrider_crds::Duration> {
    let step = if seconds < 60 { 10 } else { 60 };
    let coarse = seconds - seconds % step;
    (coarse > 0).then(|| postrider_crds::Duration::from_secs(coarse))
}
