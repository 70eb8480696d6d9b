//! Every store in turn, each in a process of its own, and the table of the medians.

use std::{fs, path::Path, process::Command};

use clap::ValueEnum as _;

use crate::{Failure, Load, Store, workload::Sample};

/// Calls that make bytes stable.
const SYNCS: &str = "trace=fsync,fdatasync,msync,sync_file_range,syncfs";
/// Seconds of the load whose syncs are counted.
const COUNTED: u64 = 2;

/// Runs them and prints the table.
pub(crate) fn all(load: &Load, rounds: usize, only: Vec<Store>) -> Result<(), Failure> {
    let stores: Vec<Store> = match only.is_empty() {
        true => Store::value_variants().to_vec(),
        false => only,
    };
    let mut samples = vec![Vec::new(); stores.len()];
    for round in 0..rounds {
        for (store, samples) in stores.iter().zip(&mut samples) {
            let sample = one(*store, load, None)?;
            eprintln!(
                "round {round}, {}: {:.0} messages a second",
                name(*store),
                sample.rate
            );
            samples.push(sample);
        }
    }
    println!(
        "| store | msg/s | CPU s per 1,000 | written per byte | syncs a message | p50 / p99, ms | MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (store, samples) in stores.iter().zip(&samples) {
        let median = |of: fn(&Sample) -> f64| median(samples.iter().map(of).collect());
        println!(
            "| {} | {:.0} | {:.3} | {:.2} | {} | {:.1} / {:.1} | {:.0} |",
            name(*store),
            median(|sample| sample.rate),
            median(|sample| sample.cpu),
            median(|sample| sample.written),
            syncs(*store, load)?,
            median(|sample| sample.p50),
            median(|sample| sample.p99),
            median(|sample| sample.memory),
        );
    }
    for (store, samples) in stores.iter().zip(&samples) {
        for backlog in samples.iter().filter_map(|sample| sample.backlog.as_ref()) {
            println!(
                "{}: {} deferred in {:.0} s, {:.0} MiB; {:.0} messages a second before them; opened \
                 and read in {:.2} s, {:.0} MiB, {} missing",
                name(*store),
                load.backlog,
                backlog.loading,
                backlog.memory,
                backlog.rate,
                backlog.restart,
                backlog.memory_restarted,
                backlog.missing
            );
        }
    }
    Ok(())
}

/// One run in a process of its own, its syncs counted in `counts`.
fn one(store: Store, load: &Load, counts: Option<&Path>) -> Result<Sample, Failure> {
    let dir = load.dir.join(name(store));
    clear(&dir)?;
    let own = std::env::current_exe()?;
    let mut command = match counts {
        None => Command::new(own),
        Some(counts) => {
            let mut command = Command::new("strace");
            command.args(["-f", "-c", "-U", "name,calls", "-e", SYNCS, "-o"]);
            command.arg(counts).arg(own);
            command
        }
    };
    command
        .args(["run", "--store", &name(store), "--dir"])
        .arg(&dir);
    let (backlog, seconds) = match counts {
        None => (load.backlog, load.seconds),
        Some(_) => (0, COUNTED),
    };
    for (argument, value) in [
        ("--body", load.body as u64),
        ("--sessions", load.sessions as u64),
        ("--seconds", seconds),
        ("--backlog", backlog),
    ] {
        command.args([argument, &value.to_string()]);
    }
    let output = command.output()?;
    clear(&dir)?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {told}", name(store)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Syncs for each message, in words where they cannot be counted.
fn syncs(store: Store, load: &Load) -> Result<String, Failure> {
    if Command::new("strace").arg("-V").output().is_err() {
        return Ok("not counted: no strace".to_owned());
    }
    fs::create_dir_all(&load.dir)?;
    let counts = load.dir.join("syncs");
    let sample = one(store, load, Some(&counts))?;
    let text = fs::read_to_string(&counts)?;
    let calls: u64 = text.lines().filter_map(calls).sum();
    Ok(format!("{:.3}", calls as f64 / sample.messages))
}

/// The calls of a row of strace's table; `None` for its frame and total.
fn calls(row: &str) -> Option<u64> {
    let (name, calls) = row.trim().split_once(char::is_whitespace)?;
    let calls = calls.trim().parse().ok()?;
    name.contains("sync").then_some(calls)
}

fn clear(dir: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn name(store: Store) -> String {
    store
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_strace_are_read() {
        let table = "syscall          calls\n---------------- -----\nfdatasync  12\nfsync  30\n\
                     ---------------- -----\ntotal  42\n";
        assert_eq!(table.lines().filter_map(calls).sum::<u64>(), 42);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
