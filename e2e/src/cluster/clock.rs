//! The one place of this crate's cluster code that reads the clock: for bounds and for timings
//! shown to people, never for a decision that a test would check.

use std::time::{Duration, Instant};

use super::error::Error;

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(100);

/// A moment from which time is counted.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts counting.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one clock of the cluster code"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks at `condition` until it yields a value, for `bound` at most.
///
/// # Errors
/// What the condition itself fails with, or [`Error::Timeout`] naming `what` and `log`.
pub async fn wait_for<T>(
    what: &str,
    bound: Duration,
    log: &str,
    mut condition: impl AsyncFnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let watch = Stopwatch::start();
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if watch.elapsed() > bound {
            let (what, log) = (what.to_owned(), log.to_owned());
            return Err(Error::Timeout {
                what,
                seconds: bound.as_secs(),
                log,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}
