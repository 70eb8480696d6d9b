//! Decides what a list holds, what its pools' Secrets should say, and its status. Pure.
//!
//! Promises: a list never shrinks because a source cannot be read: what such a pool has been given
//! stays in force, together with what can be read now. An unreadable line takes nothing else with
//! it. Expired entries are dropped.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use postrider_crds::{
    PoolDistribution, SuppressionListStatus,
    condition::{reasons, types},
    digest,
    relay_config::layout,
    suppression_file::{Suppression, SuppressionFile, Target},
};

use super::{
    entries,
    observe::{Observation, PoolView, SourceProblem, data_key},
};
use crate::{
    conditions::{Fact, Progress, Status, has, merge, with_progress},
    events::{Notice, Severity},
    relay_pool::{build, plan::MAX_DOCUMENT},
};

/// Problems spelt out in a message; the rest are counted.
const MAX_PROBLEMS: usize = 3;

/// What should be.
#[derive(Clone)]
pub struct Plan {
    /// The list's part of each Secret of each pool.
    pub parts: Vec<Secret>,
    /// The status.
    pub status: SuppressionListStatus,
    /// Transitions worth telling.
    pub notices: Vec<Notice>,
    /// When the next entry ends.
    pub next_expiry: Option<Duration>,
}

/// The merged list and what is wrong with it.
struct Merged {
    file: SuppressionFile,
    /// Sources without text.
    unreadable: Vec<String>,
    /// Lines that cannot be read.
    invalid: Vec<String>,
}

/// The plan for what was observed.
#[must_use]
pub fn plan(seen: &Observation) -> Plan {
    let mut merged = merge_sources(seen);
    if !merged.unreadable.is_empty() {
        keep_distributed(seen, &mut merged.file);
    }
    merged
        .file
        .entries
        .retain(|_, s| s.expires.is_none_or(|at| at > seen.now));
    let texts: Vec<String> = merged
        .file
        .shards()
        .iter()
        .map(ToString::to_string)
        .collect();
    let too_large = texts.iter().any(|text| text.len() > MAX_DOCUMENT);
    let parts = if too_large {
        Vec::new()
    } else {
        parts(seen, &texts)
    };

    let digest = digest::of(merged.file.to_string().as_bytes());
    let pools: Vec<PoolDistribution> = seen
        .pools
        .iter()
        .map(|view| PoolDistribution {
            name: view.pool.name_any(),
            digest: (!too_large && has_loaded(view, seen, &texts)).then(|| digest.clone()),
        })
        .collect();
    let facts = facts(&merged, &pools, too_large);
    let before = seen.list.status.clone().unwrap_or_default();
    let generation = seen.list.metadata.generation.unwrap_or(0);
    let notices = notices(&before, &facts);
    Plan {
        parts,
        status: SuppressionListStatus {
            observed_generation: Some(generation),
            conditions: merge(&before.conditions, &facts, generation, seen.now),
            entries: u64::try_from(merged.file.entries.len()).unwrap_or(u64::MAX),
            digest,
            pools,
        },
        notices,
        next_expiry: next_expiry(&merged.file, seen.now),
    }
}

/// Entries of the spec and of every readable source.
fn merge_sources(seen: &Observation) -> Merged {
    let spec = &seen.list.spec;
    let mut scope = spec.scope.domains.clone();
    scope.sort();
    scope.dedup();
    let file = SuppressionFile {
        scope,
        ..SuppressionFile::default()
    };
    let mut merged = Merged {
        file,
        unreadable: Vec::new(),
        invalid: Vec::new(),
    };
    for entry in &spec.entries {
        let target = match (&entry.address, &entry.domain) {
            (Some(address), _) => Target::Address(address.folded()),
            (None, Some(domain)) => Target::Domain(domain.clone()),
            // The schema refuses an entry without either.
            (None, None) => continue,
        };
        let reason = entry.reason.clone().unwrap_or_default();
        let expires = entry.expires.as_ref().map(|time| time.0);
        merged.file.add(target, Suppression { reason, expires });
    }
    for source in &seen.sources {
        let text = match &source.text {
            Ok(text) => text,
            Err(problem) => {
                let problem = match problem {
                    SourceProblem::Missing => "does not exist",
                    SourceProblem::KeyMissing => "does not exist in the object",
                    SourceProblem::NotText => "is not UTF-8 text",
                };
                merged
                    .unreadable
                    .push(format!("{} {problem}", source.title));
                continue;
            }
        };
        let lines = entries::read(text);
        let named = lines
            .problems
            .iter()
            .map(|problem| format!("{} {problem}", source.title));
        merged.invalid.extend(named);
        for (target, suppression) in lines.entries {
            merged.file.add(target, suppression);
        }
    }
    merged
}

/// Adds what pools have been given before and what is not in `file` now.
fn keep_distributed(seen: &Observation, file: &mut SuppressionFile) {
    for text in seen.pools.iter().flat_map(|view| view.held.values()) {
        // A part that cannot be read was not written by us; it is overwritten.
        if let Ok(held) = SuppressionFile::parse(text) {
            for (target, suppression) in held.entries {
                file.entries.entry(target).or_insert(suppression);
            }
        }
    }
}

fn parts(seen: &Observation, texts: &[String]) -> Vec<Secret> {
    let list = seen.list.name_any();
    let mut parts = Vec::new();
    for view in &seen.pools {
        for (shard, text) in (0..).zip(texts) {
            let part = (data_key(&list, shard), text.clone());
            parts.push(build::suppression(&view.pool, shard, Some(part)));
        }
    }
    parts
}

/// True when every member of the pool reports every shard as it should be.
fn has_loaded(view: &PoolView, seen: &Observation, texts: &[String]) -> bool {
    let list = seen.list.name_any();
    (0..).zip(texts).all(|(shard, text)| {
        let path = layout::suppression(&list, shard);
        view.state.all_loaded(&path, &digest::of(text.as_bytes()))
    })
}

fn facts(merged: &Merged, pools: &[PoolDistribution], too_large: bool) -> Vec<Fact> {
    let distributed = distributed(pools, too_large);
    let fact = |status, reason, message| Fact::new(types::READY, status, reason, message);
    let count = merged.file.entries.len();
    let (ready, progress) = if too_large {
        let message = format!(
            "{count} entries do not fit; relays keep the list they have; split the list or use \
             @domain entries"
        );
        (
            fact(Status::False, reasons::TOO_LARGE, message),
            Progress::Stalled,
        )
    } else if !merged.unreadable.is_empty() {
        let message = format!(
            "{}; what was distributed stays in force; create it or take it out of spec.sources",
            some_of(&merged.unreadable)
        );
        (
            fact(Status::False, reasons::REFERENCE_NOT_FOUND, message),
            Progress::Reconciling,
        )
    } else if !merged.invalid.is_empty() {
        let invalid = merged.invalid.len();
        let message = format!(
            "{invalid} lines cannot be read, {count} entries are in force: {}",
            some_of(&merged.invalid)
        );
        (
            fact(Status::False, reasons::ENTRIES_INVALID, message),
            Progress::Stalled,
        )
    } else if distributed.status == Status::False {
        let (reason, message) = (distributed.reason, distributed.message.clone());
        (fact(Status::False, reason, message), Progress::Reconciling)
    } else {
        let message = format!("{count} entries; {}", distributed.message);
        (
            fact(Status::True, reasons::READY, message),
            Progress::Settled,
        )
    };
    with_progress(vec![ready, distributed], progress)
}

fn distributed(pools: &[PoolDistribution], too_large: bool) -> Fact {
    let fact = |status, reason, message| Fact::new(types::DISTRIBUTED, status, reason, message);
    if pools.is_empty() {
        return fact(Status::True, reasons::NOT_USED, "no pool names the list");
    }
    if too_large {
        return fact(
            Status::False,
            reasons::TOO_LARGE,
            "the list does not fit its objects",
        );
    }
    let waiting: Vec<&str> = pools
        .iter()
        .filter(|pool| pool.digest.is_none())
        .map(|pool| pool.name.as_str())
        .collect();
    if waiting.is_empty() {
        let message = "every member of every pool that names the list has it";
        return fact(Status::True, reasons::DISTRIBUTED, message);
    }
    let message = format!("waiting for members of pool {}", waiting.join(", "));
    Fact::new(
        types::DISTRIBUTED,
        Status::False,
        reasons::WAITING_FOR_MEMBERS,
        message,
    )
}

fn some_of(problems: &[String]) -> String {
    let named: Vec<&str> = problems
        .iter()
        .take(MAX_PROBLEMS)
        .map(String::as_str)
        .collect();
    let rest = problems.len() - named.len();
    let more = if rest > 0 {
        format!("; and {rest} more")
    } else {
        String::new()
    };
    format!("{}{more}", named.join("; "))
}

fn next_expiry(file: &SuppressionFile, now: Timestamp) -> Option<Duration> {
    let next = file.entries.values().filter_map(|s| s.expires).min()?;
    // At least a second, so that an expiry within this second is not asked about in a loop.
    let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
    Some(wait.max(Duration::from_secs(1)))
}

fn notices(before: &SuppressionListStatus, facts: &[Fact]) -> Vec<Notice> {
    let told = [
        reasons::REFERENCE_NOT_FOUND,
        reasons::ENTRIES_INVALID,
        reasons::TOO_LARGE,
    ];
    let ready = facts.iter().filter(|fact| fact.type_ == types::READY);
    ready
        .filter(|fact| told.contains(&fact.reason))
        .filter(|fact| !has(&before.conditions, types::READY, fact.status, fact.reason))
        .map(|fact| Notice {
            severity: Severity::Warning,
            reason: fact.reason,
            action: "Reconcile",
            note: fact.message.clone(),
        })
        .collect()
}
