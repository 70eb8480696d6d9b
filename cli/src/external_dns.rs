//! The records of a SendingDomain as a DNSEndpoint, which external-dns publishes.
//!
//! Promises: the object is what external-dns reads (group `externaldns.k8s.io/v1alpha1`): full
//! names without the last dot, a text as one target whatever its length, which the provider cuts.
//! A record whose name others may use too, that of DMARC or one at the domain itself, is named in a
//! comment and left out: external-dns publishes whole record sets.

use std::fmt::Write as _;

use postrider_crds::{RecordPurpose, RecordStatus, RecordType};
use serde::Serialize;

use crate::{
    domain_records::{DomainRecords, verified},
    error::Error,
    text::{counted, printable},
    zone::{TTL, preference_and_host},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DnsEndpoint<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Metadata<'a>,
    spec: Spec,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
}

#[derive(Serialize)]
struct Spec {
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    dns_name: String,
    #[serde(rename = "recordTTL")]
    record_ttl: u32,
    record_type: &'static str,
    targets: Vec<String>,
}

/// The manifest.
///
/// # Errors
///
/// When it cannot be written as YAML.
pub(crate) fn manifest(domain: &DomainRecords) -> Result<String, Error> {
    let mut out = String::new();
    let total = counted(domain.records.len(), "record");
    let verified = verified(&domain.records);
    comment(
        &mut out,
        &format!(
            "SendingDomain {}/{}: {}, {verified} of {total} verified",
            domain.namespace, domain.name, domain.domain
        ),
    );
    if let Some(caveat) = domain.caveat() {
        comment(&mut out, &caveat);
    }
    let shared = |record: &&RecordStatus| is_shared(domain, record);
    for record in domain.by_hand().filter(shared) {
        comment(
            &mut out,
            &format!(
                "left out, since the name may hold records of others; publish by hand: {:?} {} {}",
                record.r#type, record.name, record.wanted
            ),
        );
    }
    let own = domain.by_hand().filter(|record| !is_shared(domain, record));
    let object = DnsEndpoint {
        api_version: "externaldns.k8s.io/v1alpha1",
        kind: "DNSEndpoint",
        metadata: Metadata {
            name: &domain.name,
            namespace: &domain.namespace,
        },
        spec: Spec {
            endpoints: own.map(endpoint).collect(),
        },
    };
    out.push_str(&serde_yaml::to_string(&object).map_err(Error::RenderYaml)?);
    Ok(out)
}

fn comment(out: &mut String, text: &str) {
    let _ = writeln!(out, "# {}", printable(text));
}

fn is_shared(domain: &DomainRecords, record: &RecordStatus) -> bool {
    record.purpose == RecordPurpose::DMARC || record.name == domain.domain
}

fn endpoint(record: &RecordStatus) -> Endpoint {
    let (record_type, target) = match record.r#type {
        RecordType::TXT => ("TXT", record.wanted.clone()),
        RecordType::MX => {
            let (preference, host) = preference_and_host(&record.wanted);
            ("MX", format!("{preference} {}", host.trim_end_matches('.')))
        }
        RecordType::CNAME => ("CNAME", record.wanted.trim_end_matches('.').to_owned()),
        RecordType::PTR => ("PTR", record.wanted.trim_end_matches('.').to_owned()),
        RecordType::A => ("A", record.wanted.clone()),
        RecordType::AAAA => ("AAAA", record.wanted.clone()),
    };
    Endpoint {
        dns_name: record.name.trim_end_matches('.').to_owned(),
        record_ttl: TTL,
        record_type,
        targets: vec![target],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{self, check};

    #[test]
    fn manifest_of_a_domain() {
        check(
            "records_external_dns.yaml",
            &manifest(&golden::shop()).unwrap(),
        );
    }

    #[test]
    fn foreign_text_stays_in_its_place() {
        let mut domain = golden::shop();
        for record in &mut domain.records {
            record.wanted = "a: b\n- c # \"d\"".into();
        }
        let text = manifest(&domain).unwrap();
        let read: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        let first = &read["spec"]["endpoints"][0];
        assert_eq!(first["targets"][0], "a: b\n- c # \"d\"");
        assert_eq!(read["spec"]["endpoints"].as_array().unwrap().len(), 4);
    }
}
