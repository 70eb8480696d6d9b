//! The one place of the peers that reads the wall clock: what a receiver writes down.

use jiff::Timestamp;

/// The time now.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of the peers; scripts get the time passed in"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
