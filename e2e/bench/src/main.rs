//! `postrider-bench`: measures relays side by side on this machine, on loopback only.
//!
//! Exit codes: 0 when everything accepted is accounted for; 1 when something was lost or our relay
//! failed; 64 for a wrong command line. A peer that cannot be had or fails is told as absent.
//!
//! Root is needed for the peers out of Debian packages: they run in mount namespaces of their own.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use postrider_bench::{
    Error,
    backlog::{LongQueue, long_queue},
    contenders::{Build, Contender, Dkim, Exim, Haraka, OpenSmtpd, Postfix, Postrider},
    measure::keeper::keep,
    plan::{Plan, Run},
    profile::{Profile, Variant},
    progress::Progress,
    report::{
        markdown::{Facts, report, with_words_of},
        summary::summary,
    },
    results::Results,
    world::World,
};

const EXIT_USAGE: u8 = 64;

/// Measures Postrider's relay and its peers, in turn, under the same load.
#[derive(Debug, Parser)]
#[command(name = "postrider-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The main profile against Postfix and what of ours fits into five minutes.
    Quick(Common),
    /// Every profile, long queues included, and the report.
    Full(Full),
    /// One profile.
    One(One),
    /// Between the benchmark and a contender; not for people.
    #[command(hide = true)]
    Keeper {
        /// What to run.
        spec: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// The relay; the one beside this program when absent.
    #[arg(long)]
    relay: Option<PathBuf>,
    /// Where all spools lie: on a disk.
    #[arg(long, default_value = "target/bench/run")]
    dir: PathBuf,
    /// The file of the summary.
    #[arg(long, default_value = "target/bench/summary.json")]
    summary: PathBuf,
    /// Contenders, by key; all when absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Debug, Args)]
struct Full {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    length: Length,
    /// The report; its charts are written into a directory of the same name beside it.
    #[arg(long, default_value = "docs/benchmark.md")]
    report: PathBuf,
    /// Messages deferred in our queue; 0 for none.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
    /// The same of Postfix, which takes a file for each.
    #[arg(long, default_value_t = 20_000)]
    postfix_backlog: u64,
    /// Minutes of a sustained load besides, on ours and Postfix; 0 for none.
    #[arg(long, default_value_t = 0)]
    sustained: u64,
}

#[derive(Debug, Args)]
struct One {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    length: Length,
    /// KiB of a message.
    #[arg(long, default_value_t = 10)]
    kib: usize,
    /// Sessions.
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    /// What is unlike the plain profile.
    #[arg(long, value_enum, default_value_t = Kind::Plain)]
    variant: Kind,
    /// Messages deferred in the queue first; needed by the variant `backlog`.
    #[arg(long, default_value_t = 100_000)]
    backlog: u64,
}

#[derive(Debug, Args, Clone, Copy)]
struct Length {
    /// Rounds of each bout; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each load.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Plain,
    Rsa,
    Ed25519,
    Permsg,
    Tls,
    Slow,
    Half,
    Backlog,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a closed standard error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let result = match arguments.command {
        Command::Quick(common) => quick(&common),
        Command::Full(full) => self::full(&full),
        Command::One(one) => self::one(&one),
        Command::Keeper { spec } => keep(&spec),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let usage = matches!(error, Error::Usage { .. });
            ExitCode::from(if usage { EXIT_USAGE } else { 1 })
        }
    }
}

fn quick(common: &Common) -> Result<(), Error> {
    let plan = Plan::quick();
    let world = World::new(&common.dir)?;
    let keys = ["postrider", "postfix"];
    let (contenders, absent) = contenders(common, &keys)?;
    let progress = Progress::new(plan.bouts(contenders.len()));
    let mut run = Run::new(&world, &plan, &progress);
    run.results.absent = absent;
    run.machine()?;
    run.all(&contenders)?;
    finish(common, &run.results)
}

fn full(full: &Full) -> Result<(), Error> {
    let mut plan = Plan::full(full.length.rounds, Duration::from_secs(full.length.seconds));
    let world = World::new(&full.common.dir)?;
    let (contenders, absent) = contenders(&full.common, &KEYS)?;
    plan.sustained = Duration::from_secs(full.sustained * 60);
    let progress = Progress::new(plan.bouts(contenders.len()));
    let mut run = Run::new(&world, &plan, &progress);
    run.results.absent = absent;
    run.machine()?;
    run.all(&contenders)?;
    if full.sustained > 0 {
        run.sustained(&contenders)?;
    }
    let mut results = run.results;
    for (key, messages) in [
        ("postrider", full.backlog),
        ("postfix", full.postfix_backlog),
    ] {
        backlog(
            &full.common,
            (key, messages),
            (&world, &progress),
            (&plan, &mut results),
        )?;
    }
    write_report(full, &plan, &results)?;
    finish(&full.common, &results)
}

fn one(one: &One) -> Result<(), Error> {
    let variant = match one.variant {
        Kind::Plain | Kind::Backlog => Variant::Plain,
        Kind::Rsa => Variant::Signed(Dkim::Rsa2048),
        Kind::Ed25519 => Variant::Signed(Dkim::Ed25519),
        Kind::Permsg => Variant::PerMessage,
        Kind::Tls => Variant::Secured,
        Kind::Slow => Variant::OneSlow,
        Kind::Half => Variant::Half,
    };
    let profile = Profile {
        kib: one.kib,
        sessions: one.sessions,
        variant,
    };
    let time = Duration::from_secs(one.length.seconds);
    let plan = Plan::one(profile, one.length.rounds, time);
    let world = World::new(&one.common.dir)?;
    let (contenders, absent) = contenders(&one.common, &KEYS)?;
    let progress = Progress::new(plan.bouts(contenders.len()));
    let mut run = Run::new(&world, &plan, &progress);
    run.results.absent = absent;
    run.machine()?;
    run.all(&contenders)?;
    let mut results = run.results;
    if one.variant == Kind::Backlog {
        for key in contenders.iter().map(|contender| contender.key()) {
            let what = (key, one.backlog);
            backlog(
                &one.common,
                what,
                (&world, &progress),
                (&plan, &mut results),
            )?;
        }
    }
    finish(&one.common, &results)
}

/// All contenders, ours first.
const KEYS: [&str; 6] = [
    "postrider",
    "postfix",
    "postfix_opendkim",
    "exim",
    "opensmtpd",
    "haraka",
];

type Absent = Vec<(String, String)>;

/// The contenders of `keys` that are wanted, and those that cannot be had.
fn contenders(common: &Common, keys: &[&str]) -> Result<(Vec<Box<dyn Contender>>, Absent), Error> {
    if let Some(unknown) = common.only.iter().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(Error::Usage {
            field: "--only",
            value: unknown.clone(),
            remedy: format!("the contenders are {}", KEYS.join(", ")),
        });
    }
    let mut found = Vec::new();
    let mut absent = Vec::new();
    for key in keys {
        if !common.only.is_empty() && !common.only.iter().any(|only| only == key) {
            continue;
        }
        match contender(common, key) {
            Ok(contender) => found.push(contender),
            Err(error) if *key == "postrider" => return Err(error),
            Err(error) => absent.push(((*key).to_owned(), error.to_string())),
        }
    }
    Ok((found, absent))
}

fn contender(common: &Common, key: &str) -> Result<Box<dyn Contender>, Error> {
    Ok(match key {
        "postfix" => Box::new(Postfix::get()?),
        "postfix_opendkim" => Box::new(Postfix::signing()?),
        "exim" => Box::new(Exim::get()?),
        "opensmtpd" => Box::new(OpenSmtpd::get()?),
        "haraka" => Box::new(Haraka::get()?),
        _ => Box::new(Postrider::new(build(common))?),
    })
}

fn build(common: &Common) -> Build {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or_else(|| Path::new("."));
    let program = common.relay.clone();
    let program = program.unwrap_or_else(|| folder.join("postrider-relay"));
    let folder = program.parent().and_then(Path::file_name);
    Build {
        profile: folder.unwrap_or_default().to_string_lossy().into_owned(),
        program,
    }
}

/// A long queue of one contender; nothing where none is wanted or the contender is absent.
fn backlog(
    common: &Common,
    (key, messages): (&str, u64),
    (world, progress): (&World, &Progress),
    (plan, results): (&Plan, &mut Results),
) -> Result<(), Error> {
    let wanted = results.entrants.iter().any(|entrant| entrant.key == key);
    if messages == 0 || !wanted {
        return Ok(());
    }
    let contender: Box<dyn Contender> = match key {
        "postrider" => Box::new(Postrider::new(build(common))?.patient()),
        other => contender(common, other)?,
    };
    let long = LongQueue {
        messages,
        rounds: plan.rounds,
        time: plan.time,
    };
    match long_queue(contender.as_ref(), world, (long, progress), results) {
        Err(error) if key != "postrider" => {
            results
                .absent
                .push((format!("{key}, long queue"), error.to_string()));
            Ok(())
        }
        other => other,
    }
}

fn write_report(full: &Full, plan: &Plan, results: &Results) -> Result<(), Error> {
    let facts = Facts {
        date: postrider_bench::machine::today(),
        machine: postrider_bench::machine::words(&full.common.dir),
        rounds: plan.rounds,
        seconds: plan.time.as_secs(),
    };
    let charts = full.report.with_extension("");
    let folder = charts.file_name().unwrap_or_default().to_string_lossy();
    let report = report(results, &facts, &folder);
    let before = fs::read_to_string(&full.report).unwrap_or_default();
    let text = with_words_of(&report.text, &before);
    write(&full.report, text.as_bytes())?;
    for (file, svg) in &report.charts {
        write(&charts.join(file), svg.as_bytes())?;
    }
    eprintln!("{}", full.report.display());
    Ok(())
}

/// Writes and prints the summary; fails when something was lost.
fn finish(common: &Common, results: &Results) -> Result<(), Error> {
    let text = format!("{:#}\n", summary(results));
    write(&common.summary, text.as_bytes())?;
    // Nothing can be done about a closed standard output.
    let _ = std::io::stdout().write_all(text.as_bytes());
    for (name, reason) in &results.absent {
        eprintln!("absent: {name}: {reason}");
    }
    for entrant in &results.entrants {
        let state = common.dir.join(entrant.key);
        // A million messages are of no use to anyone now; logs stay.
        let _ = fs::remove_dir_all(state);
    }
    let lost = results.lost();
    if lost.is_empty() {
        Ok(())
    } else {
        Err(Error::Lost(lost.join("; ")))
    }
}

fn write(path: &Path, octets: &[u8]) -> Result<(), Error> {
    let failed = |action| {
        move |source| Error::File {
            action,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed("create the directory of"))?;
    }
    fs::write(path, octets).map_err(failed("write"))
}
