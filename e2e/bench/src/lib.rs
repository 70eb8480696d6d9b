//! The side-by-side benchmark of relays; `main.rs` says how it is run.
//!
//! A [bout](bout) is one contender under one load; a [plan] lets [contenders] meet
//! [profiles](profile) in turn; [results] are medians; a [report] is what they are told as. [load]
//! has source and sink, [measure] what is read off the machine meanwhile.
//!
//! Promises: loopback only; every process it starts has ended when it ends; nothing is installed.

pub mod backlog;
pub mod bout;
mod clock;
pub mod contenders;
mod error;
pub mod load;
pub mod machine;
pub mod measure;
pub mod plan;
pub mod profile;
pub mod progress;
pub mod report;
pub mod results;
pub mod world;

pub use error::Error;
