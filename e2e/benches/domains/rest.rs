//! What a stretch of time costs: CPU and memory of the operator, questions to DNS, writes to the API.

use std::{collections::BTreeMap, time::Duration};

use postrider_e2e::cluster::Stopwatch;
use serde::Serialize;

use crate::{
    ground::Ground,
    process::{Running, http_get, metrics},
};

/// How often it is looked.
const TICK: Duration = Duration::from_secs(1);
/// Looks after which the operator's metrics are asked for, as Prometheus would.
const SCRAPE: u64 = 30;

/// What a stretch of time came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    /// How long it was.
    pub(crate) seconds: f64,
    /// CPU seconds of the operator.
    pub(crate) cpu: f64,
    /// Questions to DNS.
    pub(crate) questions: u64,
    /// The most of them in a second.
    pub(crate) peak_questions: f64,
    /// Writes to the API, by kind.
    pub(crate) writes: BTreeMap<String, u64>,
    /// The most resident bytes seen.
    pub(crate) peak_memory: u64,
}

/// Measures until `done` holds, which is given the time that has passed.
///
/// # Panics
/// When that takes longer than `bound`.
pub(crate) async fn measure(
    ground: &Ground,
    operator: &Running,
    bound: Duration,
    done: impl Fn(Duration) -> bool,
) -> Figures {
    let watch = Stopwatch::start();
    let (writes, first) = (ground.writes().await, ground.questions().await);
    let used = operator.usage();
    let (mut last, mut at) = (first, watch.elapsed());
    let (mut peak_questions, mut peak_memory) = (0.0_f64, 0);
    let mut ticks = 0;
    while !done(watch.elapsed()) {
        ticks += 1;
        if ticks % SCRAPE == 0 {
            // It may be starting still.
            let _ = http_get(metrics(), "/metrics").await;
        }
        assert!(watch.elapsed() < bound, "not done in {bound:?}");
        tokio::time::sleep(TICK).await;
        let (asked, now) = (ground.questions().await, watch.elapsed());
        let rate = asked.saturating_sub(last) as f64 / (now - at).as_secs_f64();
        peak_questions = peak_questions.max(rate);
        peak_memory = peak_memory.max(operator.usage().resident);
        (last, at) = (asked, now);
    }
    let seconds = watch.elapsed().as_secs_f64();
    let cpu = operator.usage().cpu - used.cpu;
    let mut written = ground.writes().await;
    for (kind, count) in &mut written {
        *count -= writes.get(kind).copied().unwrap_or(0);
    }
    written.retain(|_, count| *count > 0);
    Figures {
        seconds,
        cpu,
        questions: ground.questions().await - first,
        peak_questions,
        writes: written,
        peak_memory,
    }
}
