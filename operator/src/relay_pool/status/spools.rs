//! Volumes of former members.

use kube::ResourceExt as _;
use postrider_crds::condition::{reasons, types};

use crate::{
    conditions::{Fact, Status},
    relay_pool::{build::SPOOL, observe::Observation},
};

/// Names of the volumes of members that are no longer wanted, lowest ordinal first.
pub(super) fn retained(seen: &Observation, replicas: i32) -> Vec<String> {
    let prefix = format!("{SPOOL}-{}-", seen.pool.name_any());
    let mut retained: Vec<(i32, String)> = seen
        .claims
        .iter()
        .filter_map(|claim| {
            let name = claim.name_any();
            let ordinal: i32 = name.strip_prefix(&prefix)?.parse().ok()?;
            (ordinal >= replicas).then_some((ordinal, name))
        })
        .collect();
    retained.sort();
    retained.into_iter().map(|(_, name)| name).collect()
}

/// The condition that tells of them.
pub(super) fn spools_retained(retained: &[String]) -> Fact {
    if retained.is_empty() {
        let message = "no volumes are kept besides those in use";
        return Fact::new(
            types::SPOOLS_RETAINED,
            Status::False,
            reasons::NONE_RETAINED,
            message,
        );
    }
    let message = format!(
        "{} kept, because former members may have left mail there; scale up to deliver it",
        retained.join(", ")
    );
    Fact::new(
        types::SPOOLS_RETAINED,
        Status::True,
        reasons::VOLUMES_RETAINED,
        message,
    )
}
