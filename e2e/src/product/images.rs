//! The images of operator and relay, as their Containerfiles say, put into a cluster.

use super::{Programs, root};
use crate::cluster::{Archive, Cluster, Error};

/// The operator's image in the cluster.
pub const OPERATOR_IMAGE: &str = "localhost/postrider-operator:dev";
/// The relay's image in the cluster.
pub const RELAY_IMAGE: &str = "localhost/postrider-relay:dev";

/// Packs both images by their Containerfiles and loads them.
///
/// # Errors
/// When an image cannot be packed or imported.
pub async fn load(cluster: &Cluster, programs: &Programs) -> Result<(), Error> {
    for (name, program, containerfile) in [
        (
            OPERATOR_IMAGE,
            programs.operator(),
            "operator/Containerfile",
        ),
        (RELAY_IMAGE, programs.relay(), "relay/Containerfile"),
    ] {
        let context = program.parent().unwrap_or(&program);
        let image = Archive::of_containerfile(name, &root().join(containerfile), context)?;
        cluster.load_image(&image).await?;
    }
    Ok(())
}
