//! Whether the mailboxes that a policy sends reports to take them (RFC 7489 §7.1, RFC 9990 §4).
//!
//! Promises: an answer that does not come is no complaint; at most [`MAX_HOSTS`] hosts are asked
//! about.

use std::collections::BTreeSet;

use mail_auth::{common::parse::TxtRecordParser as _, dmarc::Dmarc};
use postrider_crds::DomainName;

use super::{Answer, Resolver, is_dmarc};

/// Most hosts that are asked about: reporters need not send to more than two (RFC 7489 §6.2).
const MAX_HOSTS: usize = 4;

/// Asks whether each host outside of `organization` that `record` names in `rua=` has said that it
/// takes reports about `domain`. One sentence on those that have not; empty where all is well.
pub(super) async fn remark(
    resolver: &dyn Resolver,
    domain: &DomainName,
    organization: &str,
    record: &str,
) -> String {
    let mut missing = Vec::new();
    for host in outside(organization, record) {
        let name = format!("{domain}._report._dmarc.{host}");
        let wildcard = format!("*._report._dmarc.{host}");
        let says_no = match resolver.txt(&name).await {
            Answer::Found { records, .. } => !records.iter().any(|record| is_dmarc(record)),
            Answer::NoData | Answer::NxDomain => true,
            Answer::Unavailable(_) => false,
        };
        if says_no {
            missing.push(format!(
                "{host} does not say that it takes reports about {domain}; have TXT {name} \
                 \"v=DMARC1\" published there (or at {wildcard}), or name another rua="
            ));
        }
    }
    missing.join("; ")
}

/// The hosts of the `mailto:` addresses that belong to somebody else.
fn outside(organization: &str, record: &str) -> Vec<String> {
    let Ok(dmarc) = Dmarc::parse(record.as_bytes()) else {
        return Vec::new();
    };
    let within = format!(".{organization}");
    let hosts: BTreeSet<String> = dmarc
        .rua
        .iter()
        .filter_map(|uri| uri.uri().rsplit_once('@'))
        .map(|(_, host)| host.trim_end_matches('.').to_ascii_lowercase())
        .filter(|host| host != organization && !host.ends_with(&within))
        .filter(|host| host.parse::<DomainName>().is_ok())
        .collect();
    hosts.into_iter().take(MAX_HOSTS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::fake::FakeResolver;

    async fn said(resolver: &FakeResolver, record: &str) -> String {
        let domain = "news.example.com".parse().unwrap();
        remark(resolver, &domain, "example.com", record).await
    }

    #[tokio::test]
    async fn only_others_are_asked_and_only_a_missing_word_is_told() {
        let name = "news.example.com._report._dmarc.reports.example";
        let nobody = FakeResolver::default();
        let yes = FakeResolver::default().with_txt(name, &["v=DMARC1;"]);
        let other = FakeResolver::default().with_txt(name, &["hello"]);
        let dead = FakeResolver::default().with_failing(name);
        let away = "v=DMARC1; p=none; rua=mailto:d@reports.example!10m,mailto:d@Reports.example";
        assert!(said(&nobody, away).await.contains(name));
        assert_eq!(said(&nobody, away).await.matches("does not say").count(), 1);
        assert!(said(&other, away).await.contains(name));
        assert_eq!(said(&yes, away).await, "");
        assert_eq!(said(&dead, away).await, "");
        for own in ["d@example.com", "d@eu.example.com", "d@bad_host..example"] {
            let record = format!("v=DMARC1; p=none; rua=mailto:{own}");
            assert_eq!(said(&nobody, &record).await, "");
        }
        assert_eq!(said(&nobody, "v=DMARC1; p=none").await, "");
    }
}
