//! `docs/benchmark.md`: tables of medians, the account, and what to know of the method. What people
//! have written below [`BY_HAND`] stays.

use std::fmt::Write as _;

use super::{
    OURS,
    svg::{Bar, chart, number},
};
use crate::{
    profile::{Profile, Variant},
    results::{Backlog, Entrant, MIB, Results},
};

/// What a reader must know of where and how a run was made.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When, in words.
    pub date: String,
    /// CPUs, their model, memory, kernel, filesystem.
    pub machine: String,
    /// Rounds of each bout.
    pub rounds: usize,
    /// Seconds of each load.
    pub seconds: u64,
}

/// A report: its text, and the charts it shows, by file name.
#[derive(Debug, Clone)]
pub struct Report {
    /// Markdown.
    pub text: String,
    /// File name and SVG.
    pub charts: Vec<(String, String)>,
}

/// Writes the report of a run; its charts are to lie in the directory `charts` beside it.
pub fn report(results: &Results, facts: &Facts, charts: &str) -> Report {
    let mut text = String::new();
    head(&mut text, results, facts);
    let drawn = drawings(results);
    for (file, _) in &drawn {
        let name = file.trim_end_matches(".svg").replace('-', " ");
        push(&mut text, &format!("![{name}]({charts}/{file})\n"));
    }
    for profile in results.profiles() {
        table(&mut text, results, profile);
    }
    long_queues(&mut text, results);
    accounts(&mut text, results);
    push(&mut text, METHOD);
    Report {
        text,
        charts: drawn,
    }
}

/// The line below which a report is people's.
pub const BY_HAND: &str = "<!-- Written by hand from here on; make bench leaves it as it is. -->";

/// `text`, and below it what people wrote below the report `before`.
pub fn with_words_of(text: &str, before: &str) -> String {
    let words = before.split_once(BY_HAND).map_or("", |(_, words)| words);
    let words = words.trim();
    match words.is_empty() {
        true => text.to_owned(),
        false => format!("{text}\n{BY_HAND}\n\n{words}\n"),
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn head(text: &mut String, results: &Results, facts: &Facts) {
    let (rounds, seconds) = (facts.rounds, facts.seconds);
    push(text, "# Benchmark\n");
    push(
        text,
        &format!(
            "Written by `make bench` on {}, on {}. Each figure is the median of {rounds} bouts of \
             {seconds} s; the contenders took turns. Absolute rates are of this machine, with source \
             and sink on the same cores; the ratios travel.\n",
            facts.date, facts.machine
        ),
    );
    let sync = results.sync_time.as_secs_f64() * 1000.0;
    push(
        text,
        &format!("One `fdatasync` of 4 KiB on the idle disk: {sync:.2} ms.\n"),
    );
    push(text, "| source straight into sink | msg/s |\n|---|---|");
    for (profile, rate) in &results.ceilings {
        push(text, &format!("| {} | {rate:.0} |", profile.title()));
    }
    push(text, "\n| contender | setting |\n|---|---|");
    for Entrant { name, setting, .. } in &results.entrants {
        push(text, &format!("| {name} | {setting} |"));
    }
    for (name, reason) in &results.absent {
        let reason = reason.lines().next().unwrap_or_default();
        push(text, &format!("| {name} | absent: {reason} |"));
    }
    push(text, "");
}

fn table(text: &mut String, results: &Results, profile: Profile) {
    push(text, &format!("## {}\n", profile.title()));
    push(
        text,
        "| contender | msg/s | accepted/s | ours over it | CPU s per 1,000 | p50 / p99 to 250, ms \
         | RSS, MiB | written / byte | disk / byte | syncs / message |\n\
         |---|---|---|---|---|---|---|---|---|---|",
    );
    let ours = results.medians(OURS, profile);
    for Entrant { key, name, .. } in &results.entrants {
        let Some(m) = results.medians(key, profile) else {
            continue;
        };
        let ratio = ours.as_ref().filter(|_| *key != OURS);
        let ratio = ratio.map(|ours| ours.rate / m.rate.max(f64::MIN_POSITIVE));
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        push(
            text,
            &format!(
                "| {name} | {} | {} | {} | {} | {} / {} | {} | {} | {} | {} |",
                number(m.rate),
                number(m.accept_rate),
                optional(ratio),
                number(m.cpu),
                number(m.p50),
                number(m.p99),
                number(m.memory),
                number(m.written),
                number(m.device),
                optional(m.syncs)
            ),
        );
    }
    push(text, "");
}

fn long_queues(text: &mut String, results: &Results) {
    if results.backlog.is_empty() {
        return;
    }
    push(text, "## A long queue\n");
    push(
        text,
        "Loaded through the door with messages of 512 bytes to a site that answers 451 to every \
         recipient, so each was attempted once; then the main profile ran in front of it (above), \
         then the contender was stopped and started on the same spool.\n\n\
         | contender | deferred | loaded at, msg/s | RSS, MiB | bytes of it a message \
         | restart: listening after, s | whole queue after, s | RSS, MiB | missing |\n\
         |---|---|---|---|---|---|---|---|---|",
    );
    for backlog in &results.backlog {
        let entrant = results.entrants.iter().find(|e| e.key == backlog.key);
        let name = entrant.map_or(backlog.key, |entrant| &entrant.name);
        push(text, &long_queue(name, backlog));
    }
    push(text, "");
}

fn long_queue(name: &str, backlog: &Backlog) -> String {
    let messages = backlog.messages.max(1) as f64;
    let grown = (backlog.memory - backlog.memory_empty).max(0.0) / messages;
    format!(
        "| {name} | {} | {} | {} | {grown:.0} | {} | {} | {} | {} |",
        backlog.messages,
        number(messages / backlog.loading.max(f64::MIN_POSITIVE)),
        number(backlog.memory / MIB),
        number(backlog.listening),
        backlog.scheduled.map_or_else(|| "-".to_owned(), number),
        number(backlog.memory_restarted / MIB),
        backlog.missing
    )
}

fn accounts(text: &mut String, results: &Results) {
    push(text, "## The account\n");
    push(
        text,
        "Over all bouts: accepted = delivered + bounced + queued, or mail was lost.\n\n\
         | contender | accepted | delivered | bounced | queued | lost | delivered twice | refused |\n\
         |---|---|---|---|---|---|---|---|",
    );
    for Entrant { key, name, .. } in &results.entrants {
        let a = results.account(key);
        push(
            text,
            &format!(
                "| {name} | {} | {} | {} | {} | {} | {} | {} |",
                a.accepted,
                a.delivered,
                a.bounced,
                a.queued,
                a.lost(),
                a.duplicates,
                a.refused
            ),
        );
    }
    push(text, "");
    for ((key, profile), samples) in &results.samples {
        for trouble in samples.iter().filter_map(|sample| sample.trouble.as_ref()) {
            let _ = writeln!(text, "- {key}, {}: {trouble}", profile.title());
        }
    }
}

/// The charts: file name and SVG.
fn drawings(results: &Results) -> Vec<(String, String)> {
    let of = |title: &str, what: fn(&crate::results::Medians) -> f64| {
        let bar = |entrant: &Entrant| {
            let medians = results.medians(entrant.key, Profile::MAIN)?;
            Some(Bar {
                label: entrant.name.clone(),
                value: what(&medians),
                ours: entrant.key == OURS,
            })
        };
        chart(
            title,
            &results.entrants.iter().filter_map(bar).collect::<Vec<_>>(),
        )
    };
    let title = Profile::MAIN.title();
    let profile_bar = |profile: Profile| {
        let ours = results.medians(OURS, profile);
        let plain = profile.variant != Variant::Half;
        ours.filter(|_| plain).map(|medians| Bar {
            label: profile.title(),
            value: medians.rate,
            ours: true,
        })
    };
    let ours: Vec<_> = results
        .profiles()
        .into_iter()
        .filter_map(profile_bar)
        .collect();
    vec![
        (
            "rate.svg".to_owned(),
            of(&format!("Messages a second, end to end: {title}"), |m| {
                m.rate
            }),
        ),
        (
            "cpu.svg".to_owned(),
            of(&format!("CPU seconds for 1,000 messages: {title}"), |m| {
                m.cpu
            }),
        ),
        (
            "latency.svg".to_owned(),
            of(&format!("p99 of the time to 250, ms: {title}"), |m| m.p99),
        ),
        (
            "profiles.svg".to_owned(),
            chart("Postrider's messages a second, by profile", &ours),
        ),
    ]
}

const METHOD: &str = "\
## Method

- `msg/s` is end to end: from the first MAIL to the last delivery, the rest of the queue included. \
Before it, a second of load is delivered to its end.
- All spools lie in one directory of one disk; every contender syncs as it is shipped to. All take \
mail from loopback in the clear and route to fixed receivers (ours by MX from a name server on \
loopback).
- CPU time is that of all processes of a contender, ended ones included (control group, else \
`/proc`). RSS is the sum of PSS, at its highest. `written / byte` is `write_bytes` of its processes, \
log files included, for each byte of message; Exim's is too low, as its delivery processes take \
their figures with them. `disk / byte` is what the disk was sent meanwhile, the journal of the \
filesystem included, by the whole machine. Syncs are the relay's own count; others' are counted by \
`strace` in a bout of their own.
- Not here: KumoMTA and NitroMTA, which no package registry has.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::of_rates;

    #[test]
    fn what_people_wrote_stays() {
        let before = with_words_of("old\n", &format!("older\n{BY_HAND}\n\n## Why\n"));
        let after = with_words_of("new\n", &before);
        assert_eq!(after, format!("new\n\n{BY_HAND}\n\n## Why\n"));
        assert_eq!(with_words_of("new\n", "old\n"), "new\n");
    }

    #[test]
    fn a_report_has_a_row_a_contender_and_its_charts() {
        let results = of_rates(&[(OURS, &[600.0]), ("postfix", &[100.0])]);
        let facts = Facts {
            date: "2026-01-01".into(),
            machine: "a machine".into(),
            rounds: 1,
            seconds: 6,
        };
        let report = report(&results, &facts, "benchmark");
        assert!(
            report
                .text
                .contains("| postfix | 100 | 100 | 6.00 | 0.500 |"),
            "{}",
            report.text
        );
        assert!(
            report
                .text
                .contains("| postrider | 10 | 10 | 0 | 0 | 0 | 0 | 0 |")
        );
        for (file, svg) in &report.charts {
            assert!(report.text.contains(&format!("](benchmark/{file})")));
            assert!(svg.contains("</svg>"));
        }
    }
}
