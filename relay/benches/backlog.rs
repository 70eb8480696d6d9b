//! How custody does with a backlog: memory per idle message, time to open and to restore, bytes
//! written, syncs, and throughput with nothing and with everything behind it.
//!
//! Run with `cargo bench -p postrider-relay --bench backlog`; `BACKLOG` and `BODY` in the
//! environment set the number of messages and the bytes of each, `SPOOL` the folder to work in.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clocks"
)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use postrider_crds::relay_config::Admission;
use postrider_process::refuse_huge_pages;
use postrider_relay::{
    custody::{Custody, Limits, NewMessage, Parts, RecipientResult, Settlement, Trust},
    mail::{BodyKind, Envelope, MessageId, Recipient, ReturnPath, Site},
    ports::{Random, SystemClock, SystemDisk, SystemRandom},
    telemetry::Telemetry,
};

/// The relay's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sessions that submit, and legs that are delivered, at a time.
const SESSIONS: u64 = 100;
/// Recipient domains.
const DOMAINS: u64 = 1000;
/// Messages of a throughput run.
const RUN: u64 = 20_000;

#[tokio::main]
async fn main() {
    refuse_huge_pages().expect("small pages, as in the relay");
    let backlog = from_environment("BACKLOG", 100_000);
    let body = Bytes::from(vec![b'x'; from_environment("BODY", 2048) as usize]);
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let spool =
        std::env::var_os("SPOOL").map_or_else(|| temporary.path().join("spool"), PathBuf::from);
    let custody = open(&spool);
    let empty = throughput(&custody, &body, "empty queue").await;
    let before = resident();
    let began = Instant::now();
    defer(&custody, &body, backlog).await;
    let per_message = resident().saturating_sub(before) as f64 / backlog as f64;
    println!(
        "deferred {backlog} in {:.1} s; {per_message:.0} bytes of memory each, {} MiB in all",
        began.elapsed().as_secs_f64(),
        resident() >> 20
    );
    let behind = throughput(&custody, &body, "with them behind").await;
    println!(
        "throughput with them behind: {:.0} %",
        100.0 * behind / empty
    );
    custody.close().await;
    drop(custody);
    let began = Instant::now();
    let custody = open(&spool);
    let opened = began.elapsed();
    while custody.restoring() > 0 || custody.report().deferred < backlog {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "opened in {:.2} s, {} restored in {:.2} s, {} MiB in all",
        opened.as_secs_f64(),
        custody.report().deferred,
        began.elapsed().as_secs_f64(),
        resident() >> 20
    );
    throughput(&custody, &body, "after the restart").await;
    custody.close().await;
}

fn open(spool: &std::path::Path) -> Custody {
    Custody::open(Parts {
        disk: Arc::new(SystemDisk::open(spool).expect("a spool folder")),
        clock: Arc::new(SystemClock::start()),
        random: Arc::new(SystemRandom),
        telemetry: Arc::new(Telemetry::new(Box::new(std::io::sink()))),
        limits: Limits::default(),
        admission: Arc::new(|_| Admission::Send),
    })
    .expect("a spool that opens")
}

/// Accepts and delivers; messages a second.
async fn throughput(custody: &Custody, body: &Bytes, what: &str) -> f64 {
    let (began, cpu, wrote) = (Instant::now(), cpu_seconds(), written());
    let delivering = tokio::spawn(settle_all(custody.clone(), RUN, None));
    accept_all(custody, body, RUN).await;
    delivering.await.expect("the deliverer ends");
    let took = began.elapsed().as_secs_f64();
    let bytes = (written() - wrote) as f64 / (RUN as f64 * body.len() as f64);
    println!(
        "{what}: {:.0} accepted and delivered a second, {:.3} ms of CPU each, {bytes:.2} bytes written a byte",
        RUN as f64 / took,
        (cpu_seconds() - cpu) * 1000.0 / RUN as f64,
    );
    RUN as f64 / took
}

/// Accepts and defers by a day.
async fn defer(custody: &Custody, body: &Bytes, count: u64) {
    let until = Timestamp::now() + SignedDuration::from_hours(24);
    let deferring = tokio::spawn(settle_all(custody.clone(), count, Some(until)));
    accept_all(custody, body, count).await;
    deferring.await.expect("the deferrer ends");
}

async fn accept_all(custody: &Custody, body: &Bytes, count: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let sessions = (0..SESSIONS).map(|_| {
        let (custody, body, next) = (custody.clone(), body.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let message = message(number, body.clone());
                let _ = custody.accept(message).await.expect("it is accepted");
            }
        })
    });
    for session in sessions.collect::<Vec<_>>() {
        session.await.expect("the session ends");
    }
}

async fn settle_all(custody: Custody, count: u64, until: Option<Timestamp>) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let due = custody.next_ready().await.expect("custody is open");
        let custody = custody.clone();
        tasks.spawn(async move {
            let claim = custody.load(due).await.expect("it can be read");
            let site = Site::of_domain(&claim.domain);
            let _ = custody.bind(&claim.domain, &site, 100, Trust::Proven);
            custody
                .attempt_started(&claim)
                .await
                .expect("it is recorded");
            let result = match until {
                None => RecipientResult::Delivered,
                Some(until) => RecipientResult::Deferred { until },
            };
            let settlement = Settlement {
                results: vec![(0, result)],
                ..Settlement::default()
            };
            custody
                .settle(claim, settlement)
                .await
                .expect("it is recorded");
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

fn message(number: u64, body: Bytes) -> NewMessage {
    let accepted = Timestamp::now();
    let bits = (u128::from(SystemRandom.next_u64()) << 64) | u128::from(SystemRandom.next_u64());
    NewMessage {
        id: MessageId::new(accepted, bits),
        envelope: Envelope {
            return_path: ReturnPath::Mailbox("app@example.com".parse().expect("a mailbox")),
            recipients: vec![Recipient {
                mailbox: format!("person{number}@site{}.example.org", number % DOMAINS)
                    .parse()
                    .expect("a mailbox"),
            }],
            body_kind: BodyKind::SevenBit,
            domain: Some("example.com".parse().expect("a domain")),
            tenant: "apps/app".to_owned(),
            priority: None,
        },
        body,
        accepted,
        suppressed: Vec::new(),
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    let value = std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok());
    value.unwrap_or(default)
}

/// A line of a file of numbers under `/proc/self`.
fn number(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.and_then(|line| line.split_whitespace().next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Bytes of memory in use.
fn resident() -> u64 {
    number("status", "VmRSS:") << 10
}

/// Bytes handed to the disk so far.
fn written() -> u64 {
    number("io", "write_bytes:")
}

/// User and system time so far.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|t| t.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    // A hundred ticks a second on every Linux there is.
    (ticks(11) + ticks(12)) / 100.0
}
