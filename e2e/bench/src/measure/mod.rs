//! Measuring: a contender's [keeper], what its processes [use](Usage), the disk, and statistics.

mod disk;
pub mod keeper;
mod statistics;
mod usage;

pub use disk::{must_be_real, sync_time};
pub use statistics::{median, percentile};
pub use usage::{Tree, Usage, group};
