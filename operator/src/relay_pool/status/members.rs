//! The pods of a pool, and how far each is.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use postrider_crds::{
    MemberConfig, MemberState, MemberStatus,
    relay_config::{RefusedDocument, Report},
};

use crate::relay_pool::{loaded::Rendered, observe::Observation};

/// The pods there are, by ordinal.
pub(super) fn members(seen: &Observation, rendered: &Rendered) -> Vec<MemberStatus> {
    let prefix = format!("{}-", seen.pool.name_any());
    let mut members: Vec<MemberStatus> = seen
        .pods
        .iter()
        .filter_map(|pod| {
            let name = pod.name_any();
            let ordinal = name.strip_prefix(&prefix)?.parse().ok()?;
            let uid = pod.uid().unwrap_or_default();
            let asked = seen
                .state
                .reports
                .get(&name)
                .filter(|entry| entry.uid == uid);
            let report = asked.and_then(|entry| entry.report.as_ref());
            let state = match (is_ready(pod), asked, report) {
                (false, _, _) => MemberState::Starting,
                (true, Some(_), None) => MemberState::Lost,
                (true, _, _) => MemberState::Active,
            };
            let config = report.map_or(MemberConfig::Unknown, |r| config_of(r, rendered));
            Some(MemberStatus {
                name,
                ordinal,
                state,
                config,
            })
        })
        .collect();
    members.sort_by_key(|member| member.ordinal);
    members
}

/// True when the pod's Ready condition holds and it is not on its way out.
pub(in crate::relay_pool) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    });
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The refusal in `report` of something that is rendered now; older refusals are history.
pub(super) fn refused_of<'a>(
    report: &'a Report,
    rendered: &Rendered,
) -> Option<&'a RefusedDocument> {
    report.refused.iter().find(|refused| {
        let wanted = rendered.documents.get(&refused.path);
        let wanted = wanted.or_else(|| rendered.certificates.get(&refused.path));
        wanted == Some(&refused.digest)
    })
}

/// Whether a relay runs what is rendered. Certificates count only when the relay reports them.
pub(in crate::relay_pool) fn config_of(report: &Report, rendered: &Rendered) -> MemberConfig {
    if refused_of(report, rendered).is_some() {
        return MemberConfig::Refused;
    }
    let documents = rendered.documents.iter();
    let loaded = documents
        .clone()
        .all(|(path, digest)| report.documents.get(path) == Some(digest));
    let certified = rendered.certificates.iter().all(|(path, digest)| {
        report
            .documents
            .get(path)
            .is_none_or(|reported| reported == digest)
    });
    if loaded && certified {
        MemberConfig::Applied
    } else {
        MemberConfig::Pending
    }
}
