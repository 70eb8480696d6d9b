//! What a run is told as: [`summary`], one flat JSON object; [`markdown`], tables for people; and
//! their [bars](svg).

pub mod markdown;
pub mod summary;
pub mod svg;

/// The contender that is ours.
pub const OURS: &str = "postrider";
