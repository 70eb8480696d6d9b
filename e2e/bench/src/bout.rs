//! A bout: one contender, started with an empty spool, under one load, to the last delivery.
//!
//! Promises: what is measured begins after a warm-up that is delivered to its end, and ends with
//! the last delivery, so mail in a queue never flatters a rate; every message answered 250 is
//! accounted for. A contender that does not empty its queue in time is measured up to then.

use std::{fs, time::Duration};

use crate::{
    clock,
    contenders::{Contender, Running, Spool, Watch},
    error::{Error, OnPath as _, OnSocket as _},
    load::{Load, Sent, Until, send},
    measure::{Usage, percentile},
    profile::{Profile, Variant},
    world::{SENDER, Site, World},
};

/// Load before what is measured: processes are started and connections made.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the rest of the queue may take after the load. What is undelivered then is in the
/// account as queued, and the rate is that of the deliveries up to then.
const DRAIN_BOUND: Duration = Duration::from_secs(30);
/// How long queue and slow deliveries may take to come to rest after that.
const SETTLE_BOUND: Duration = Duration::from_secs(120);

/// The account of accepted messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Answered 250.
    pub accepted: u64,
    /// Of these, those that came to a receiver.
    pub delivered: u64,
    /// Notifications that came back to the sender.
    pub bounced: u64,
    /// Still in the queue.
    pub queued: u64,
    /// Deliveries of a message that had come before.
    pub duplicates: u64,
    /// Refused at the door.
    pub refused: u64,
}

impl Account {
    /// Accepted and nowhere to be found.
    pub fn lost(&self) -> u64 {
        self.accepted
            .saturating_sub(self.delivered + self.bounced + self.queued)
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            delivered: self.delivered + other.delivered,
            bounced: self.bounced + other.bounced,
            queued: self.queued + other.queued,
            duplicates: self.duplicates + other.duplicates,
            refused: self.refused + other.refused,
        }
    }
}

/// What a bout gave.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The account.
    pub account: Account,
    /// Messages a second, from the first MAIL to the last delivery.
    pub rate: f64,
    /// Messages a second, from the first MAIL to the last 250.
    pub accept_rate: f64,
    /// CPU seconds of all its processes for 1,000 messages.
    pub cpu: f64,
    /// The most memory it held, bytes.
    pub memory: f64,
    /// Bytes written by its processes for each byte of message.
    pub written: f64,
    /// Bytes written to the disk by the whole machine for each byte of message.
    pub device: f64,
    /// Median of the time to 250, milliseconds.
    pub p50: f64,
    /// The same that one in a hundred exceeds.
    pub p99: f64,
    /// Syncs for each message, where the contender counts them.
    pub syncs: Option<f64>,
    /// Connections that were refused or broke, and what was said first.
    pub trouble: Option<String>,
}

/// How a load is run.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long.
    pub time: Duration,
    /// Messages a second; as fast as possible when absent.
    pub rate: Option<f64>,
}

/// Runs a whole bout.
///
/// # Errors
/// When the contender does not start, or ends before it is told to.
pub fn bout(
    contender: &dyn Contender,
    world: &World,
    (profile, pace): (Profile, Pace),
) -> Result<Sample, Error> {
    let how = (profile.dkim(), Spool::Empty);
    let mut running = Running::start(contender, world, how, &Watch::Unwatched)?;
    warm_up(contender, world, &mut running)?;
    let sample = measure(contender, world, &mut running, (profile, pace))?;
    running.stop()?;
    Ok(sample)
}

/// Syncs for each message as `strace` counts them, in a bout of its own; `None` where there is no
/// `strace`.
///
/// # Errors
/// As those of [`bout`].
pub fn syncs(
    contender: &dyn Contender,
    world: &World,
    (profile, pace): (Profile, Pace),
) -> Result<Option<f64>, Error> {
    if std::process::Command::new("strace")
        .arg("-V")
        .output()
        .is_err()
    {
        return Ok(None);
    }
    let counts = world.dir().join("syncs");
    let how = (profile.dkim(), Spool::Empty);
    let watch = Watch::Syncs(counts.clone());
    let mut running = Running::start(contender, world, how, &watch)?;
    let sample = measure(contender, world, &mut running, (profile, pace))?;
    running.stop()?;
    let text = fs::read_to_string(&counts).on("read", &counts)?;
    let calls = total(&text) as f64;
    Ok(Some(calls / (sample.account.accepted.max(1) as f64)))
}

/// The calls in a table of `strace -c -U name,calls`.
fn total(table: &str) -> u64 {
    let row = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        let calls = words.next()?.parse::<u64>().ok()?;
        (name.contains("sync") && name != "total").then_some(calls)
    };
    table.lines().filter_map(row).sum()
}

/// Lets a contender that has just started take some mail, and deliver it.
///
/// # Errors
/// As those of [`bout`].
pub fn warm_up(
    contender: &dyn Contender,
    world: &World,
    running: &mut Running,
) -> Result<(), Error> {
    let pace = Pace {
        time: WARM_UP,
        rate: None,
    };
    measure(contender, world, running, (Profile::MAIN, pace)).map(drop)
}

/// Puts a running contender under load and measures it.
///
/// # Errors
/// As those of [`bout`].
pub fn measure(
    contender: &dyn Contender,
    world: &World,
    running: &mut Running,
    (profile, pace): (Profile, Pace),
) -> Result<Sample, Error> {
    let queued_before = contender.queued(world)?;
    world.clear(0);
    running.peak_memory();
    let (before, syncs_before) = (running.usage(), contender.syncs(world)?);
    let load = Load {
        target: contender.door(world),
        sessions: profile.sessions,
        size: profile.kib * 1024,
        first: 0,
        sender: SENDER.to_owned(),
        domains: profile.domains(),
        until: Until::Elapsed(pace.time),
        connection: profile.connection(),
        rate: pace.rate,
        login: contender
            .login()
            .filter(|_| profile.variant == Variant::Secured),
    };
    let mut sent = send(&load).at(|| format!("load on {}", contender.name()))?;
    let fast = fast_ones(&sent, &load);
    let arrived = || world.sink(Site::Fast).delivered();
    let drained = running.wait("the last delivery", DRAIN_BOUND, || Ok(arrived() >= fast));
    let undrained = clock::now().duration_since(sent.began);
    let usage = running.usage().since(before);
    let memory = running.peak_memory();
    let syncs = contender.syncs(world)?.zip(syncs_before);
    let receiver = world.sink(Site::Fast).ledger();
    let (took, settle_bound) = match drained {
        Ok(()) => (receiver.took(sent.began), SETTLE_BOUND),
        Err(Error::Late { .. }) => (undrained, Duration::ZERO),
        Err(error) => return Err(error),
    };
    let asked = (&sent, queued_before, settle_bound);
    let account = settle(contender, world, asked, running)?;
    let figures = Figures {
        usage,
        memory,
        syncs: syncs.map(|(after, before)| after - before),
        fast: receiver.delivered.len().min(fast),
        size: load.size,
        took,
    };
    Ok(sample(&mut sent, account, &figures))
}

/// Accepted messages for the fast site.
fn fast_ones(sent: &Sent, load: &Load) -> u64 {
    let turns = load.domains.len() as u64;
    if turns == 1 {
        return sent.accepted.len();
    }
    let slow = |number: &u64| number % turns != turns - 1;
    sent.accepted.iter().filter(slow).count() as u64
}

/// Waits until queue and deliveries fit together, and makes the account.
fn settle(
    contender: &dyn Contender,
    world: &World,
    (sent, queued_before, bound): (&Sent, u64, Duration),
    running: &mut Running,
) -> Result<Account, Error> {
    let mut account = Account::default();
    let settled = running.wait("an empty queue", bound, || {
        let queued = contender.queued(world)?.saturating_sub(queued_before);
        account = take_account(world, sent, queued);
        Ok(queued == 0 && account.lost() == 0)
    });
    match settled {
        // What is still queued, or lost, is in the account.
        Ok(()) | Err(Error::Late { .. }) => Ok(account),
        Err(error) => Err(error),
    }
}

fn take_account(world: &World, sent: &Sent, queued: u64) -> Account {
    let ledgers = Site::ALL.map(|site| world.sink(site).ledger());
    let came = |number: &u64| ledgers.iter().any(|l| l.delivered.contains(*number));
    Account {
        accepted: sent.accepted.len(),
        delivered: sent.accepted.iter().filter(came).count() as u64,
        bounced: ledgers.iter().map(|ledger| ledger.notifications).sum(),
        queued,
        duplicates: ledgers.iter().map(|ledger| ledger.duplicates).sum(),
        refused: sent.refused,
    }
}

/// What was read off while the load ran.
struct Figures {
    usage: Usage,
    memory: u64,
    syncs: Option<u64>,
    fast: u64,
    size: usize,
    took: Duration,
}

fn sample(sent: &mut Sent, account: Account, figures: &Figures) -> Sample {
    let accepted = account.accepted.max(1) as f64;
    let octets = accepted * figures.size as f64;
    let milliseconds = |micros: Option<u32>| f64::from(micros.unwrap_or(0)) / 1000.0;
    let trouble = sent.refusal.as_ref().map(|said| {
        let (refused, broken) = (sent.refused, sent.broken);
        format!("{refused} refused, {broken} connections broken: {said}")
    });
    Sample {
        account,
        rate: figures.fast as f64 / figures.took.as_secs_f64().max(f64::MIN_POSITIVE),
        accept_rate: sent.rate(),
        cpu: figures.usage.cpu.as_secs_f64() * 1000.0 / accepted,
        memory: figures.memory as f64,
        written: figures.usage.written as f64 / octets,
        device: figures.usage.device as f64 / octets,
        p50: milliseconds(percentile(&mut sent.waits, 0.5)),
        p99: milliseconds(percentile(&mut sent.waits, 0.99)),
        syncs: figures.syncs.map(|syncs| syncs as f64 / accepted),
        trouble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nowhere_is_lost() {
        let account = Account {
            accepted: 10,
            delivered: 6,
            bounced: 1,
            queued: 2,
            ..Account::default()
        };
        assert_eq!(account.lost(), 1);
        assert_eq!(account.plus(account).lost(), 2);
        let whole = Account {
            queued: 3,
            ..account
        };
        assert_eq!(whole.lost(), 0);
    }

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "syscall          calls\n---------------- -----\nfdatasync  12\nfsync  30\n\
                     ---------------- -----\ntotal  42\n";
        assert_eq!(total(table), 42);
    }
}
