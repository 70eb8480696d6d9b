//! What came of it: rows of Markdown as it goes, JSON at the end.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::{Arguments, changes::Times, process::Use, rest::Figures};

/// Bytes that an object may have (validation of Secrets), of which base64 and metadata are no part.
const OBJECT: usize = 1 << 20;

/// Everything measured.
pub(crate) struct Report {
    all: Vec<Value>,
    broken: Vec<String>,
}

impl Report {
    /// Nothing yet of a run with `arguments`.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let keys = format!("{:?}", arguments.keys);
        println!("keys of each domain: {keys}\n");
        println!(
            "| step | domains | s | CPU s | DNS questions | most a second | API writes | memory, MiB |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        Self {
            all: vec![json!({"keys": keys})],
            broken: Vec::new(),
        }
    }

    /// A step with `domains` domains.
    pub(crate) fn step(&mut self, name: &str, domains: usize, figures: &Figures) {
        let total: u64 = figures.writes.values().sum();
        println!(
            "| {name} | {domains} | {:.0} | {:.1} | {} | {:.0} | {total} | {} |",
            figures.seconds,
            figures.cpu,
            figures.questions,
            figures.peak_questions,
            mib(figures.peak_memory)
        );
        eprintln!("{name}: {:?}", figures.writes);
        self.all
            .push(json!({"step": name, "domains": domains, "figures": figures}));
    }

    /// What operator and relay hold after a step.
    pub(crate) fn memory(&mut self, after: &str, operator: Use, relay: u64) {
        eprintln!(
            "memory after {after}: operator {} MiB, at most {} MiB; relay {} MiB",
            mib(operator.resident),
            mib(operator.peak),
            mib(relay)
        );
        self.all.push(json!({
            "memory_after": after, "operator": operator.resident, "operator_peak": operator.peak,
            "relay": relay,
        }));
    }

    /// The documents of `pool`, of Secrets by name with the bytes each takes.
    pub(crate) fn keyring(&mut self, pool: &str, secrets: &BTreeMap<String, usize>) {
        let prefix = format!("{pool}-keyring-");
        let shards = secrets.iter().filter(|(name, _)| name.starts_with(&prefix));
        let sizes: Vec<usize> = shards.map(|(_, size)| *size).collect();
        let (total, largest) = (sizes.iter().sum::<usize>(), sizes.iter().max());
        let largest = largest.copied().unwrap_or(0);
        self.promise(largest <= OBJECT, || format!("a shard has {largest} bytes"));
        eprintln!(
            "keyring: {} Secrets, {total} bytes as JSON, the largest {largest}",
            sizes.len()
        );
        self.all
            .push(json!({"keyring": {"secrets": sizes.len(), "bytes": total, "largest": largest}}));
    }

    /// How long changes took in the midst of `what`.
    pub(crate) fn changes(&mut self, amid: &str, times: &Times) {
        for (what, values) in [("in the status", &times.observed), ("Ready", &times.ready)] {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let at = |share: f64| {
                let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
                sorted.get(rank - 1).copied().unwrap_or(0)
            };
            let (median, worst) = (at(0.5), at(0.99));
            eprintln!(
                "{amid}: a change is {what} after {median} ms (p50), {worst} ms (p99), of {}",
                sorted.len()
            );
            self.all.push(json!({
                "amid": amid, "change": what, "count": sorted.len(), "p50_ms": median, "p99_ms": worst,
            }));
        }
    }

    /// Takes note of what was promised and does not hold.
    pub(crate) fn promise(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// Writes all figures to `path`.
    ///
    /// # Panics
    /// When something promised does not hold.
    pub(crate) fn write(&self, path: &Path) {
        let folder = path.parent().expect("a file in a directory");
        fs::create_dir_all(folder).expect("a directory");
        let text = format!("{:#}\n", Value::Array(self.all.clone()));
        fs::write(path, text).expect("written");
        eprintln!("{}", path.display());
        assert!(self.broken.is_empty(), "{:?}", self.broken);
    }
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}
