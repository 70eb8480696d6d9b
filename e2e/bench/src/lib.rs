//! The side-by-side benchmark of relays.

mod clock;
pub mod load;

