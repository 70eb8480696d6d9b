//! The side-by-side benchmark of relays.

mod clock;
mod error;
pub mod load;
pub mod measure;

pub use error::Error;

