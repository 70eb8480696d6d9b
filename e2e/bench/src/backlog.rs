//! A long queue: loaded through the door at full rate to a site that answers 451 to every
//! recipient, measured, and started again with.

use std::time::Duration;

use crate::{
    bout::{Pace, measure, warm_up},
    clock,
    contenders::{Contender, Dkim, Running, Spool, Watch},
    error::{Error, OnSocket as _},
    load::{Connection, Load, Until, send},
    profile::{Profile, Variant},
    progress::Progress,
    results::{Backlog, Results},
    world::{SENDER, Site, World},
};

/// Octets of a message of the backlog: little more than its header.
const SIZE: usize = 512;
/// Sessions that load it.
const SESSIONS: usize = 100;
/// How long the first attempts may take after the last message was taken.
const ATTEMPTS_BOUND: Duration = Duration::from_secs(900);
/// When no further first attempt is expected.
const QUIET: Duration = Duration::from_secs(15);
/// How long the queue may take to be whole after a start.
const SCHEDULED_BOUND: Duration = Duration::from_secs(300);

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub struct LongQueue {
    /// Messages to defer.
    pub messages: u64,
    /// Loads in front of it.
    pub rounds: usize,
    /// How long each lasts.
    pub time: Duration,
}

/// Measures `contender` with a long queue.
///
/// # Errors
/// When it does not start, ends before it is told to, or does not take the backlog.
pub fn long_queue(
    contender: &dyn Contender,
    world: &World,
    (plan, progress): (LongQueue, &Progress),
    results: &mut Results,
) -> Result<(), Error> {
    let name = contender.name();
    let empty = (Dkim::Off, Spool::Empty);
    let mut running = Running::start(contender, world, empty, &Watch::Unwatched)?;
    warm_up(contender, world, &mut running)?;
    let memory_empty = running.memory_now() as f64;
    progress.now(&format!(
        "{name}: {} messages to be deferred",
        plan.messages
    ));
    let begun = clock::now();
    let accepted = fill(contender, world, plan.messages)?;
    let (mut attempts, mut moved) = (0, clock::now());
    running.wait("the first attempts", ATTEMPTS_BOUND, || {
        let now = world.sink(Site::Refusing).ledger().deferred;
        if now != attempts {
            (attempts, moved) = (now, clock::now());
        }
        // A contender may put mail off without an attempt.
        Ok(now >= accepted || moved.elapsed() > QUIET)
    })?;
    let loading = begun.elapsed().as_secs_f64();
    let queued = contender.queued(world)?;
    let memory = running.memory_now() as f64;
    progress.done(&format!("{name}: {queued} deferred in {loading:.0} s"));
    let profile = Profile::MAIN.with(Variant::Backlog);
    for _ in 0..plan.rounds {
        progress.now(&format!("{name}, {}", profile.title()));
        let pace = Pace {
            time: plan.time,
            rate: None,
        };
        let sample = measure(contender, world, &mut running, (profile, pace))?;
        progress.done(&format!(
            "{name}, {}: {:.0} msg/s",
            profile.title(),
            sample.rate
        ));
        results.add(contender.key(), profile, sample);
    }
    let before = contender.queued(world)?;
    running.stop()?;
    progress.now(&format!("{name}: restart"));
    let restart = restart(contender, world, before)?;
    let (after, listening) = (restart.queued, restart.listening);
    progress.done(&format!(
        "{name}: listening after {listening:.2} s, {after} of {before} again"
    ));
    results.backlog.push(Backlog {
        key: contender.key(),
        messages: queued,
        loading,
        memory,
        memory_empty,
        listening,
        scheduled: restart.scheduled,
        memory_restarted: restart.memory,
        missing: before.saturating_sub(after),
    });
    Ok(())
}

/// What a start with a long queue took.
struct Restart {
    listening: f64,
    scheduled: Option<f64>,
    memory: f64,
    queued: u64,
}

/// Starts `contender` on the spool it left, with `before` messages in it.
fn restart(contender: &dyn Contender, world: &World, before: u64) -> Result<Restart, Error> {
    let kept = (Dkim::Off, Spool::Kept);
    let begun = clock::now();
    let mut running = Running::start(contender, world, kept, &Watch::Unwatched)?;
    let listening = running.listening_after.as_secs_f64();
    let mut queued = 0;
    let whole = running.wait("the whole queue", SCHEDULED_BOUND, || {
        queued = contender.queued(world)?;
        Ok(queued >= before)
    });
    let scheduled = begun.elapsed().as_secs_f64();
    let memory = running.memory_now() as f64;
    running.stop()?;
    Ok(Restart {
        listening,
        scheduled: whole.is_ok().then_some(scheduled),
        memory,
        queued,
    })
}

/// Has `messages` messages accepted for the refusing site; gives how many were.
fn fill(contender: &dyn Contender, world: &World, messages: u64) -> Result<u64, Error> {
    world.clear(0);
    let load = Load {
        target: contender.door(world),
        sessions: SESSIONS,
        size: SIZE,
        first: 0,
        sender: SENDER.to_owned(),
        domains: vec![Site::Refusing.domain().to_owned()],
        until: Until::Messages(messages),
        connection: Connection::Reused,
        rate: None,
        login: None,
    };
    let sent = send(&load).at(|| format!("backlog of {}", contender.name()))?;
    Ok(sent.accepted.len())
}
