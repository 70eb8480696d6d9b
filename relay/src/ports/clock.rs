//! What time it is.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Wall time for what is stored, monotonic time for what is waited for.
pub trait Clock: Send + Sync + 'static {
    /// Wall time, which may jump.
    fn wall(&self) -> Timestamp;
    /// Time since the clock was made; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port")]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port")]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
