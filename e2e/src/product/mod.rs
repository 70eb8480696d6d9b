//! Postrider itself, built and installed: what the demo and the cluster tests of the product
//! share.
//!
//! [`build`] links the programs statically, [`images`] puts them into a cluster, [`install`] runs
//! Helm, [`Kubectl`] speaks to the cluster as a person would.
//!
//! Guarantees: programs come from the working tree; nothing is fetched but crates.

use std::path::PathBuf;

mod build;
mod images;
mod install;
mod kubectl;
mod queue_role;

pub use build::Programs;
pub use images::{Image, Images};
pub use install::{Installation, OPERATOR_NAMESPACE, RELEASE, install};
pub use kubectl::Kubectl;
pub use queue_role::queue_role;

/// The root of the working tree.
pub fn root() -> PathBuf {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().map(PathBuf::from).unwrap_or(crate_dir)
}
