//! The PodDisruptionBudget: node drains take one relay at a time.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::ResourceExt as _;
use postrider_crds::RelayPool;

use crate::names;

/// The budget of `pool`.
#[must_use]
pub fn budget(pool: &RelayPool) -> PodDisruptionBudget {
    let name = pool.name_any();
    PodDisruptionBudget {
        metadata: super::metadata(pool, name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names::pool_selector(&name)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
