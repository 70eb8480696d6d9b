//! The side-by-side benchmark of relays.

mod clock;
pub mod contenders;
mod error;
pub mod load;
pub mod measure;
pub mod world;

pub use error::Error;

