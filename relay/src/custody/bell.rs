//! How the committer's thread is woken: for what it waits for, and for nothing else.
//!
//! Promises: a job that is sent before the bell is rung for it, and rung for after
//! [`Bell::listen`], ends a wait that asks for one like it. A wait may end for nothing.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a job is to the committer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A client waits for a sync.
    Accept,
    /// Somebody else waits for a sync.
    Sync,
    /// Somebody waits, for no sync of its own.
    Soon,
    /// Nobody waits: the result of an attempt.
    Result,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// So many messages.
    Accepts(usize),
    /// Anything that somebody waits for, or so many results.
    Urgent { results: usize },
    /// Anything.
    Any,
}

/// Whether a wait ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    Rung,
    InVain,
}

/// The bell.
#[derive(Debug, Default)]
pub(super) struct Bell {
    heard: Mutex<Heard>,
    rung: Condvar,
}

/// Jobs since somebody listened last.
#[derive(Debug, Default)]
struct Heard {
    accepts: usize,
    soon: usize,
    results: usize,
    /// What the thread sleeps for.
    sleeps_for: Option<For>,
}

impl Bell {
    /// A job was sent.
    pub(super) fn ring(&self, urgency: Urgency) {
        let mut heard = self.lock();
        match urgency {
            Urgency::Accept => heard.accepts += 1,
            Urgency::Sync | Urgency::Soon => heard.soon += 1,
            Urgency::Result => heard.results += 1,
        }
        let wakes = heard.sleeps_for.is_some_and(|what| heard.has(what));
        if wakes {
            heard.sleeps_for = None;
        }
        drop(heard);
        if wakes {
            self.rung.notify_one();
        }
    }

    /// Forgets what was heard: look for jobs after this, and then wait for more.
    pub(super) fn listen(&self) {
        *self.lock() = Heard::default();
    }

    /// Sleeps until it is rung for what is asked, `time` at most.
    pub(super) fn wait(&self, what: For, time: Duration) -> Waited {
        let mut heard = self.lock();
        if heard.has(what) {
            return Waited::Rung;
        }
        heard.sleeps_for = Some(what);
        let slept = self
            .rung
            .wait_timeout_while(heard, time, |heard| heard.sleeps_for.is_some());
        let (mut heard, timeout) = slept.unwrap_or_else(PoisonError::into_inner);
        heard.sleeps_for = None;
        match timeout.timed_out() {
            true => Waited::InVain,
            false => Waited::Rung,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn has(&self, what: For) -> bool {
        match what {
            For::Accepts(count) => self.accepts >= count,
            For::Urgent { results } => self.accepts + self.soon > 0 || self.results >= results,
            For::Any => self.accepts + self.soon + self.results > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    /// Longer than any test runs.
    const EVER: Duration = Duration::from_secs(3600);

    #[test]
    fn what_was_heard_before_the_wait_ends_it_at_once() {
        let bell = Bell::default();
        bell.ring(Urgency::Result);
        assert_eq!(bell.wait(For::Any, EVER), Waited::Rung);
        let urgent = For::Urgent { results: 2 };
        assert_eq!(bell.wait(urgent, Duration::ZERO), Waited::InVain);
        bell.ring(Urgency::Soon);
        assert_eq!(bell.wait(urgent, EVER), Waited::Rung);
        assert_eq!(bell.wait(For::Accepts(1), Duration::ZERO), Waited::InVain);
        bell.ring(Urgency::Accept);
        bell.ring(Urgency::Accept);
        assert_eq!(bell.wait(For::Accepts(2), EVER), Waited::Rung);
        bell.listen();
        assert_eq!(bell.wait(For::Any, Duration::ZERO), Waited::InVain);
    }

    #[test]
    fn a_sleeper_is_woken_by_what_it_waits_for() {
        for (what, rings) in [
            (For::Any, vec![Urgency::Result]),
            (
                For::Urgent { results: 2 },
                vec![Urgency::Result, Urgency::Soon],
            ),
            (
                For::Urgent { results: 2 },
                vec![Urgency::Result, Urgency::Sync],
            ),
            (
                For::Urgent { results: 2 },
                vec![Urgency::Result, Urgency::Result],
            ),
            (
                For::Accepts(2),
                vec![Urgency::Accept, Urgency::Soon, Urgency::Accept],
            ),
        ] {
            let bell = Arc::new(Bell::default());
            let theirs = Arc::clone(&bell);
            let sleeper = thread::spawn(move || theirs.wait(what, EVER));
            while bell.lock().sleeps_for.is_none() && !sleeper.is_finished() {
                thread::yield_now();
            }
            for urgency in rings {
                assert!(!sleeper.is_finished(), "{what:?} slept on");
                bell.ring(urgency);
            }
            assert_eq!(sleeper.join().unwrap(), Waited::Rung);
        }
    }
}
