//! How the operator does with many SendingDomains: memory, CPU, time, DNS questions and API writes,
//! on a real API server and etcd, a real name server and a real relay, all on loopback.
//!
//! Run with `make bench-domains`. Two worlds, one after the other:
//!
//! * *fresh*: domains without keys. The operator makes the keys and lists their records, which are
//!   published once all are listed; it ends when all are Ready.
//! * *estate*: domains whose keys sign already, as after a move to another cluster. The operator is
//!   started, rests, is told of changes one at a time, is started again, and is told of changes while it
//!   makes keys for newcomers. The keys of all others are made beforehand: a few pairs, which all
//!   domains share, each in a Secret of its own.
//!
//! It fails when anything is written at rest or a shard of the keyring is larger than an object may be.
//!
//! What is not real: the StatefulSet controller and the kubelet, of which [`node`] does what one pod
//! needs of them at once. Rows for docs/benchmark.md go to standard output, all figures as JSON into
//! the file of `--json`.
//!
//! Caveats: everything shares the machine, so times are those of operator, API server, etcd, name
//! server and relay together; CPU and memory are the operator's own.

mod changes;
mod estate;
mod ground;
mod node;
mod process;
mod report;
mod rest;
mod stages;
mod statuses;

use std::path::PathBuf;

use clap::Parser;
use postrider_crds::relay_config::KeyAlgorithm;

/// How much is measured.
#[derive(Debug, Clone, Parser)]
#[command(name = "domains")]
pub(crate) struct Arguments {
    /// SendingDomains whose keys sign already; 0 for none.
    #[arg(long, env = "BENCH_DOMAINS", default_value_t = 10_000)]
    pub(crate) domains: usize,
    /// SendingDomains without keys, alone and as newcomers; 0 for none. An RSA-2048 key takes some 0.1 s
    /// of CPU.
    #[arg(long, env = "BENCH_FRESH", default_value_t = 500)]
    pub(crate) fresh: usize,
    /// Keys of each domain.
    #[arg(long, env = "BENCH_KEYS", value_delimiter = ',', value_parser = algorithm,
          default_value = "RSA2048,Ed25519")]
    pub(crate) keys: Vec<KeyAlgorithm>,
    /// Seconds at rest.
    #[arg(long, env = "BENCH_REST", default_value_t = 300)]
    pub(crate) rest: u64,
    /// Changes, one after the other.
    #[arg(long, env = "BENCH_CHANGES", default_value_t = 50)]
    pub(crate) changes: usize,
    /// Where the figures go.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench/domains.json"))]
    pub(crate) json: PathBuf,
    /// The operator; built as for an image when absent.
    #[arg(long, env = "BENCH_OPERATOR")]
    pub(crate) operator: Option<PathBuf>,
    /// The relay; the same.
    #[arg(long, env = "BENCH_RELAY")]
    pub(crate) relay: Option<PathBuf>,
    /// Directory for what the programs write to their logs; thrown away when absent.
    #[arg(long, env = "BENCH_LOGS")]
    pub(crate) logs: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn algorithm(text: &str) -> Result<KeyAlgorithm, String> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value)
        .map_err(|_| "is no algorithm; write RSA2048 or Ed25519".to_owned())
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let programs = process::Programs::ready(&arguments).await;
    let mut report = report::Report::new(&arguments);
    if arguments.fresh > 0 {
        stages::fresh(&arguments, &programs, &mut report).await;
    }
    if arguments.domains > 0 {
        stages::estate(&arguments, &programs, &mut report).await;
    }
    report.write(&arguments.json);
}
