//! The Services: one for clients, one that gives each member its name.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;
use postrider_crds::RelayPool;

use crate::names;

/// The Service that clients submit to: it leads to members that accept mail.
#[must_use]
pub fn client_service(pool: &RelayPool) -> Service {
    Service {
        metadata: super::metadata(pool, pool.name_any()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            ..spec(pool)
        }),
        ..Service::default()
    }
}

/// The headless Service. A member that accepts no mail has no address there either, so a client
/// that picks a member by name is not sent to a closed door.
#[must_use]
pub fn members_service(pool: &RelayPool) -> Service {
    Service {
        metadata: super::metadata(pool, names::members_service(&pool.name_any())),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            ..spec(pool)
        }),
        ..Service::default()
    }
}

fn spec(pool: &RelayPool) -> ServiceSpec {
    let ports = listener_ports(pool)
        .into_iter()
        .map(|(name, port)| ServicePort {
            name: Some(name.into()),
            port,
            protocol: Some("TCP".into()),
            target_port: Some(IntOrString::Int(port)),
            ..ServicePort::default()
        });
    ServiceSpec {
        selector: Some(names::pool_selector(&pool.name_any())),
        ports: Some(ports.collect()),
        ..ServiceSpec::default()
    }
}

/// Names and numbers of the open doors.
pub(super) fn listener_ports(pool: &RelayPool) -> Vec<(&'static str, i32)> {
    let listeners = &pool.spec.listeners;
    [
        ("submission", &listeners.submission),
        ("submissions", &listeners.submissions),
    ]
    .into_iter()
    .filter_map(|(name, listener)| Some((name, i32::from(listener.as_ref()?.port))))
    .collect()
}
