//! Records handed to external-dns by a DNSEndpoint in the SendingDomain's namespace.
//!
//! Promises: the object is owned by the SendingDomain, so that it goes with it and external-dns
//! takes the records out; an object of that name that is not ours is left alone. The kind need not
//! be installed: then that is what is told.

use kube::{CustomResource, Resource as _, ResourceExt as _};
use postrider_crds::{PublishedRecord, RecordType, SendingDomain, digest};
use serde::{Deserialize, Serialize};

use crate::{Context, Error, names::DOMAIN_MANAGER, refusal::Refusal};

/// Time the records may be cached, in seconds.
const TTL: i64 = 300;
/// Longest name of an object.
const MAX_NAME: usize = 253;

/// Records for external-dns to publish.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "externaldns.k8s.io",
    version = "v1alpha1",
    kind = "DNSEndpoint",
    plural = "dnsendpoints",
    namespaced,
    schema = "disabled",
    doc = "Records for external-dns to publish."
)]
pub struct DnsEndpointSpec {
    /// The records.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// A record set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Owner name without trailing dot.
    pub dns_name: String,
    /// Seconds it may be cached.
    #[serde(rename = "recordTTL", default)]
    pub record_ttl: i64,
    /// Its type.
    pub record_type: String,
    /// One text a record, unquoted, hosts without trailing dot.
    #[serde(default)]
    pub targets: Vec<String>,
}

/// What came of an apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is as wanted.
    Done,
    /// The cluster does not know the kind.
    NotInstalled,
    /// The API server does not take it.
    Refused(Refusal),
    /// The object is somebody else's.
    Foreign,
}

/// The name of the object of `domain`.
pub(super) fn name(domain: &SendingDomain) -> String {
    let name = format!("postrider-{}", domain.name_any());
    if name.len() <= MAX_NAME {
        return name;
    }
    format!("postrider-{}", digest::of(domain.name_any().as_bytes()))
}

/// Makes the object of `domain` hold `records`; without records there is none.
///
/// # Errors
///
/// When the API server does not answer.
pub(super) async fn apply(
    domain: &SendingDomain,
    records: &[PublishedRecord],
    ctx: &Context,
) -> Result<Applied, Error> {
    let (namespace, name) = (domain.namespace().unwrap_or_default(), name(domain));
    let live = match ctx.writer.get::<DNSEndpoint>(&namespace, &name).await {
        Ok(live) => live,
        Err(error) => return refused(error),
    };
    if live.as_ref().is_some_and(|live| !is_ours(live, domain)) {
        return Ok(Applied::Foreign);
    }
    if records.is_empty() {
        let Some(live) = live else {
            return Ok(Applied::Done);
        };
        return ctx
            .writer
            .delete(&live)
            .await
            .map(|()| Applied::Done)
            .or_else(refused);
    }
    let mut wanted = DNSEndpoint::new(
        &name,
        DnsEndpointSpec {
            endpoints: records.iter().map(endpoint).collect(),
        },
    );
    wanted.metadata.namespace = Some(namespace);
    wanted.metadata.owner_references = domain.controller_owner_ref(&()).map(|owner| vec![owner]);
    let applied = ctx
        .writer
        .apply(DOMAIN_MANAGER, &wanted, live.as_ref())
        .await;
    applied.map(|_| Applied::Done).or_else(refused)
}

fn refused(error: Error) -> Result<Applied, Error> {
    if error.is_not_found() {
        return Ok(Applied::NotInstalled);
    }
    match error.refusal() {
        Some(refusal) => Ok(Applied::Refused(refusal)),
        None => Err(error),
    }
}

fn is_ours(live: &DNSEndpoint, domain: &SendingDomain) -> bool {
    let uid = domain.uid().unwrap_or_default();
    live.owner_references().iter().any(|owner| owner.uid == uid)
}

fn endpoint(record: &PublishedRecord) -> Endpoint {
    let (record_type, target) = match record.r#type {
        RecordType::TXT => ("TXT", record.value.as_str()),
        RecordType::MX => ("MX", record.value.trim_end_matches('.')),
        RecordType::CNAME => ("CNAME", record.value.trim_end_matches('.')),
        RecordType::A => ("A", record.value.as_str()),
        RecordType::AAAA => ("AAAA", record.value.as_str()),
        RecordType::PTR => ("PTR", record.value.trim_end_matches('.')),
    };
    Endpoint {
        dns_name: record.name.clone(),
        record_ttl: TTL,
        record_type: record_type.to_owned(),
        targets: vec![target.to_owned()],
    }
}
