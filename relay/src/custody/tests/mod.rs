//! Custody on a simulated disk: crash at every call, failure at every call, damage, full disk.

mod codec;
mod crash;
mod damage;
mod driver;
mod errors;

mod histories;
mod ledger;
mod lifecycle;
mod obeying;
mod orders_model;
mod pacing;
mod queue_model;
mod reopening;
mod version3;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use jiff::Timestamp;
use postrider_crds::queue::{Command, Scope, Verb};

use super::*;
use crate::{
    mail::{BodyKind, Envelope, MessageId, Recipient, ReturnPath},
    ports::simulated_disk::{Faults, SimulatedDisk},
};

/// A clock that stands until it is moved: the wall's, and the monotonic one in seconds.
pub(crate) struct ManualClock(Mutex<Timestamp>, AtomicU64);

impl ManualClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(start()), AtomicU64::new(0)))
    }

    fn advance(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now += SignedDuration::from_secs(seconds);
    }

    /// Lets what waits by the monotonic clock be over.
    fn pass(&self, seconds: u64) {
        self.1.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.1.load(Ordering::Relaxed))
    }
}

/// A clock by which everything takes a while.
struct SlowClock(Arc<ManualClock>, AtomicU64);

impl SlowClock {
    fn new(wall: &Arc<ManualClock>) -> Self {
        Self(Arc::clone(wall), AtomicU64::new(0))
    }
}

impl Clock for SlowClock {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.1.fetch_add(600, Ordering::Relaxed))
    }
}

/// A clock by which an opening has no time to restore anything, and which then is the other.
struct HurriedClock(Arc<ManualClock>, AtomicBool);

impl HurriedClock {
    fn new(clock: &Arc<ManualClock>) -> Self {
        Self(Arc::clone(clock), AtomicBool::new(false))
    }
}

impl Clock for HurriedClock {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }
    fn monotonic(&self) -> Duration {
        let was_asked = self.1.swap(true, Ordering::Relaxed);
        self.0.monotonic() + OPENING * u32::from(was_asked)
    }
}

/// Counts up.
struct Counting(AtomicU64);

impl Random for Counting {
    fn next_u64(&self) -> u64 {
        let n = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Variable that has everything tried that the inner loop leaves out (`make durability`).
const THOROUGH: &str = "POSTRIDER_THOROUGH";

/// `quick` in the inner loop, else `thorough`.
fn effort<T>(quick: T, thorough: T) -> T {
    if std::env::var_os(THOROUGH).is_some() {
        thorough
    } else {
        quick
    }
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn limits() -> Limits {
    Limits {
        free_space_mark: 4096,
        segment_bytes: 1100,
        hot_bytes: 3300,
        // Real time, which these tests do not spend.
        result_wait: Duration::ZERO,
        ..Limits::default()
    }
}

fn parts(disk: &SimulatedDisk, clock: &Arc<ManualClock>) -> Parts {
    // What is left of older segments has other markers than those drawn now.
    let seed = disk.outline();
    Parts {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        random: Arc::new(Counting(AtomicU64::new(seed))),
        telemetry: Arc::new(Telemetry::new(Box::new(std::io::sink()))),
        limits: limits(),
        admission: Arc::new(|_| Admission::Send),
    }
}

fn open(disk: &SimulatedDisk, clock: &Arc<ManualClock>) -> Custody {
    Custody::open(parts(disk, clock)).unwrap()
}

fn id(number: u64) -> MessageId {
    MessageId::new(start(), number.into())
}

fn envelope(recipients: &[&str]) -> Envelope {
    Envelope {
        return_path: ReturnPath::Mailbox("sender@example.com".parse().unwrap()),
        recipients: recipients
            .iter()
            .map(|r| Recipient {
                mailbox: r.parse().unwrap(),
            })
            .collect(),
        body_kind: BodyKind::SevenBit,
        domain: Some("example.com".parse().unwrap()),
        tenant: "apps/legacy".to_owned(),
        priority: None,
    }
}

fn message(number: u64, recipients: &[&str]) -> NewMessage {
    NewMessage {
        id: id(number),
        envelope: envelope(recipients),
        body: body(number),
        accepted: start(),
        suppressed: Vec::new(),
    }
}

fn body(number: u64) -> Bytes {
    Bytes::from(format!("Subject: {number}\r\n\r\n{}\r\n", "x".repeat(300)))
}

/// What an operator says.
fn command(verb: Verb, scope: Scope) -> Command {
    Command {
        verb,
        scope,
        by: "ann".into(),
        client: "postrider-operator".into(),
        reason: "INC-7".into(),
        until: None,
    }
}

fn at_domain(name: &str) -> Scope {
    Scope::Domain(name.parse().unwrap())
}

/// A claim that is due now, or `None`.
async fn claim_now(custody: &Custody) -> Option<Claim> {
    // Time is paused: this passes at once when nothing else can happen.
    tokio::time::timeout(Duration::from_secs(120), custody.next_due())
        .await
        .ok()
        .flatten()
}

/// Everything that is due, given back afterwards.
async fn all_due(custody: &Custody) -> Vec<Claim> {
    let mut claims = Vec::new();
    while let Some(claim) = claim_now(custody).await {
        claims.push(claim);
    }
    claims
}
