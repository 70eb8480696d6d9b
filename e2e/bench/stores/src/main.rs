//! `postrider-stores`: the relay's segment log and well-kept stores under the relay's workload, one
//! after the other on this machine.
//!
//! `all` runs each store in a process of its own, in turn, and prints the medians as the table of
//! `docs/spool.md`; `run` is one of those processes and prints one JSON object.

mod candidate;
mod engine;
mod engines;
mod segment_log;
mod table;
mod usage;
mod workload;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What anything here fails with; a benchmark can do no more than tell.
type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every store, in turn, so many rounds; prints a table.
    All {
        #[command(flatten)]
        load: Load,
        /// Rounds; the median counts.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Stores; all when absent.
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<Store>,
    },
    /// One store; prints JSON.
    Run {
        /// Which.
        #[arg(long, value_enum)]
        store: Store,
        #[command(flatten)]
        load: Load,
    },
}

#[derive(Debug, Clone, Args)]
struct Load {
    /// An empty or absent directory, on a disk.
    #[arg(long)]
    dir: PathBuf,
    /// Bytes of a message.
    #[arg(long, default_value_t = 10 << 10)]
    body: usize,
    /// Sessions that submit at a time.
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    /// Seconds of a load.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Messages of half a KiB that are deferred first, the store then being opened anew; 0 for none.
    #[arg(long, default_value_t = 0)]
    backlog: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// The relay's own.
    SegmentLog,
    /// fjall 3, an LSM tree with large values apart.
    Fjall,
    /// redb 4, a copy-on-write B-tree.
    Redb,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::All { load, rounds, only } => table::all(&load, rounds, only),
        Command::Run { store, load } => run(store, &load),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(store: Store, load: &Load) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let sample = runtime.block_on(workload::run(store, load))?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}
