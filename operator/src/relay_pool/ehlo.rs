//! SPF of the names that a pool's relays give in EHLO (RFC 7208 section 2.3).
//!
//! A message without an envelope sender, such as a notification of failure, has no other identity
//! that SPF could be asked about (section 2.4). The names are the pool's, and its hostname may lie in
//! a zone that no sending domain's owner has a say over; so they are looked up once a pool and
//! stand in the pool's status, not in each of its thousands of SendingDomains.
//!
//! Promises: nothing here decides whether a pool is Ready.

use futures::future;
use postrider_crds::{
    DomainName, EgressRange, RecordPurpose, RecordState, RecordStatus, RecordType, RelayPool,
    condition::{reasons, types},
};

use super::dns::Inputs;
use crate::{
    conditions::{Fact, Status},
    dns::{Finding, Resolver, return_path::ORDINAL, spf},
};

/// The names and what DNS says about each; `None`: not looked, or not in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EhloNames(pub Vec<(DomainName, Option<Finding>)>);

/// The names that the relays of `pool` give in EHLO.
#[must_use]
pub fn names(pool: &RelayPool) -> Vec<DomainName> {
    let hostname = &pool.spec.hostname;
    let count = if hostname.contains(ORDINAL) {
        pool.spec.replicas
    } else {
        1
    };
    (0..count)
        .filter_map(|n| hostname.replace(ORDINAL, &n.to_string()).parse().ok())
        .collect()
}

/// Asks DNS about each name.
pub(super) async fn look(resolver: &dyn Resolver, inputs: &Inputs) -> EhloNames {
    if inputs.egress().is_empty() {
        return unseen(inputs.names());
    }
    let looks = inputs.names().iter().map(|name| async {
        let expected = spf::Expectation {
            return_path: name,
            egress: inputs.egress(),
            helo: name.as_str(),
        };
        (name.clone(), Some(spf::check(resolver, expected).await))
    });
    EhloNames(future::join_all(looks).await)
}

/// The names, before anybody has looked.
pub(super) fn unseen(names: &[DomainName]) -> EhloNames {
    EhloNames(names.iter().map(|name| (name.clone(), None)).collect())
}

/// The records to publish. While DNS gives no answer a record stays as `previous` has it.
#[must_use]
pub(super) fn records(
    seen: &EhloNames,
    egress: &[EgressRange],
    previous: &[RecordStatus],
) -> Vec<RecordStatus> {
    if egress.is_empty() {
        return Vec::new();
    }
    let record = |(name, finding): &(DomainName, Option<Finding>)| {
        let (state, seen, message) = match finding {
            Some(finding) => (finding.state, finding.seen.clone(), finding.message.clone()),
            None => (RecordState::Unknown, None, "not looked up yet".to_owned()),
        };
        let same = |record: &&RecordStatus| {
            record.purpose == RecordPurpose::EHLO && record.name == name.as_str()
        };
        let known = previous.iter().find(same);
        let known = known.filter(|_| state == RecordState::Unknown);
        let better = finding.as_ref().and_then(|f| f.wanted.clone());
        let wanted = known.map(|record| record.wanted.clone()).or(better);
        RecordStatus {
            r#type: RecordType::TXT,
            name: name.to_string(),
            wanted: wanted.unwrap_or_else(|| spf::wanted(egress)),
            seen,
            state,
            purpose: RecordPurpose::EHLO,
            message,
        }
    };
    seen.0.iter().map(record).collect()
}

/// The condition.
#[must_use]
pub(super) fn verified(records: &[RecordStatus], seen: &EhloNames) -> Fact {
    let fact = |status, reason, message| Fact::new(types::EHLO_VERIFIED, status, reason, message);
    if records.is_empty() {
        let message = "not looked up: spec.egress.addresses is empty or there are no relays";
        return fact(
            Status::Unknown,
            reasons::NO_EGRESS_ADDRESSES,
            message.to_owned(),
        );
    }
    let reason = |name: &str| {
        let mut findings = seen.0.iter().filter(|(other, _)| other.as_str() == name);
        let finding = findings.find_map(|(_, finding)| finding.as_ref());
        finding.map_or(reasons::PENDING, |finding| finding.reason)
    };
    let ours = || records.iter().filter(|r| r.purpose == RecordPurpose::EHLO);
    let first = |wanted: fn(RecordState) -> bool| ours().find(|r| wanted(r.state));
    let fails = |state| !matches!(state, RecordState::Verified | RecordState::Unknown);
    if let Some(record) = first(fails) {
        let message = format!(
            "{}: {}; until then notifications of failure pass no SPF",
            record.name, record.message
        );
        return fact(Status::False, reason(&record.name), message);
    }
    if let Some(record) = first(|state| state == RecordState::Unknown) {
        let message = format!("{}: {}", record.name, record.message);
        return fact(Status::Unknown, reason(&record.name), message);
    }
    let message = "SPF passes for every name given in EHLO".to_owned();
    fact(Status::True, reasons::VERIFIED, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dns::fake::FakeResolver;

    fn pool(hostname: &str, replicas: i32) -> RelayPool {
        let spec = json!({"hostname": hostname, "replicas": replicas});
        RelayPool::new("default", serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn every_relay_has_a_name_or_all_have_the_same() {
        for (hostname, replicas, wanted) in [
            ("mail.example.net", 3, &["mail.example.net"][..]),
            (
                "mail-{ordinal}.example.net",
                2,
                &["mail-0.example.net", "mail-1.example.net"],
            ),
            ("mail-{ordinal}.example.net", 0, &[]),
        ] {
            let names = names(&pool(hostname, replicas));
            let names: Vec<&str> = names.iter().map(DomainName::as_str).collect();
            assert_eq!(names, wanted);
        }
    }

    async fn told(resolver: &FakeResolver, previous: &[RecordStatus]) -> (Vec<RecordStatus>, Fact) {
        let mut pool = pool("mail-{ordinal}.example.net", 2);
        pool.spec.egress.addresses = vec!["203.0.113.10".parse().unwrap()];
        let inputs = Inputs::of(&pool);
        let seen = look(resolver, &inputs).await;
        let records = records(&seen, inputs.egress(), previous);
        let fact = verified(&records, &seen);
        (records, fact)
    }

    #[tokio::test]
    async fn each_name_needs_a_record_that_passes() {
        const GOOD: &str = "v=spf1 ip4:203.0.113.10 -all";
        let none = FakeResolver::default();
        let (missing, fact) = told(&none, &[]).await;
        assert_eq!((fact.status, fact.reason), (Status::False, "RecordMissing"));
        assert!(fact.message.starts_with("mail-0.example.net: publish"));
        assert_eq!(missing[1].name, "mail-1.example.net");
        assert_eq!(missing[1].wanted, GOOD);
        let half = FakeResolver::default().with_txt("mail-0.example.net", &[GOOD]);
        let (_, fact) = told(&half, &[]).await;
        assert!(fact.message.starts_with("mail-1"), "{}", fact.message);
        let (all, fact) = told(&half.with_txt("mail-1.example.net", &[GOOD]), &[]).await;
        assert_eq!((fact.status, fact.reason), (Status::True, "Verified"));
        assert!(all.iter().all(|r| r.state == RecordState::Verified));
    }

    #[tokio::test]
    async fn trouble_is_unknown_and_keeps_what_was_wanted() {
        const MERGED: &str = "v=spf1 ip4:203.0.113.10 mx -all";
        let published = FakeResolver::default()
            .with_txt("mail-0.example.net", &["v=spf1 mx -all"])
            .with_txt("mail-1.example.net", &["v=spf1 mx -all"]);
        let (before, _) = told(&published, &[]).await;
        assert_eq!(before[0].wanted, MERGED);
        let dead = FakeResolver::default()
            .with_failing("mail-0.example.net")
            .with_failing("mail-1.example.net");
        let (during, fact) = told(&dead, &before).await;
        assert_eq!(
            (fact.status, fact.reason),
            (Status::Unknown, "DNSUnavailable")
        );
        assert_eq!(during[0].wanted, MERGED);
    }
}
