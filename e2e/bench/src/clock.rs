//! The one place of the benchmark that reads a clock.

use std::time::Instant;

use jiff::Timestamp;

/// The monotonic time now.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of the benchmark: to measure time is what it is for"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall time now, for Date fields and the report's heading.
#[expect(clippy::disallowed_methods, reason = "as above")]
pub(crate) fn wall() -> Timestamp {
    Timestamp::now()
}
