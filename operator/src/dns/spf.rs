//! SPF of the return path (RFC 7208), evaluated for every address the pool sends from.
//!
//! The evaluation ([`evaluate`]) asks the [`Resolver`] port; each name is asked for once in a check.
//!
//! Promises: `Verified` means that each address passes. An answer that did not come makes the
//! result unknown, never failed.

use std::net::IpAddr;

use mail_auth::{
    common::parse::TxtRecordParser as _,
    spf::{Directive, Mechanism, Qualifier, Spf},
};
use postrider_crds::{DomainName, EgressRange, condition::reasons};

use super::{Answer, Finding, Resolver, memo::Memo};
use evaluate::{Client, Stop, check_host};

mod evaluate;

/// Whose SPF is checked, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// The domain of the envelope sender.
    pub return_path: &'a DomainName,
    /// Where mail leaves from.
    pub egress: &'a [EgressRange],
    /// The name given in EHLO.
    pub helo: &'a str,
}

/// The text to publish where nothing is: the pool's addresses and nobody else.
#[must_use]
pub fn wanted(egress: &[EgressRange]) -> String {
    format!("v=spf1 {} -all", mechanisms(egress).join(" "))
}

fn mechanisms(egress: &[EgressRange]) -> Vec<String> {
    egress.iter().map(EgressRange::spf_mechanism).collect()
}

/// Looks the record at the return path up and evaluates it for each egress address, up to the
/// first that does not pass.
pub async fn check(resolver: &dyn Resolver, expected: Expectation<'_>) -> Finding {
    let name = expected.return_path.as_str();
    let published = match resolver.txt(name).await {
        Answer::Unavailable(failure) => return Finding::unknown(name, &failure),
        Answer::NoData | Answer::NxDomain => Vec::new(),
        Answer::Found { records, .. } => records,
    };
    let policies: Vec<String> = published.into_iter().filter(|r| is_spf(r)).collect();
    match policies.as_slice() {
        [] => Finding::missing(
            "publish this record, so that receivers accept the pool's addresses".into(),
        ),
        [record] => judge(resolver, expected, record).await,
        _ => Finding::conflict(
            &policies,
            "leave only one record that starts with v=spf1; receivers fail on several".into(),
        ),
    }
}

/// Evaluates the one published `record`.
async fn judge(resolver: &dyn Resolver, expected: Expectation<'_>, record: &str) -> Finding {
    let Ok(policy) = Spf::parse(record.as_bytes()) else {
        let message = "the published record is no valid SPF; replace it".into();
        return Finding::mismatch(reasons::RECORD_INVALID, record, message);
    };
    let memo = Memo::new(resolver);
    let sender = format!("postmaster@{}", expected.return_path);
    for address in expected.egress.iter().flat_map(EgressRange::addresses) {
        let client = Client {
            address,
            helo: expected.helo,
            sender: &sender,
        };
        match check_host(&memo, client, expected.return_path.as_str(), &policy).await {
            Ok(Qualifier::Pass) => {}
            Ok(verdict) => return not_passing(expected, record, address, &verdict),
            Err(Stop::Unavailable(name, failure)) => return Finding::unknown(&name, &failure),
            Err(Stop::Permanent(why)) => {
                // RFC 7208 §2.6.7. Adding addresses would not cure this: the record must go.
                let message = format!(
                    "the published record gives permerror for {address}: {why}; replace it"
                );
                return Finding::mismatch(reasons::SPF_NOT_PASSING, record, message);
            }
        }
    }
    Finding::verified(record, remark(&policy)).wanting(record)
}

/// What to know about a policy that passes; empty where there is nothing to say.
fn remark(policy: &Spf) -> String {
    let all = |directive: &Directive| {
        directive.mechanism == Mechanism::All && directive.qualifier == Qualifier::Pass
    };
    let ptr = |directive: &Directive| matches!(directive.mechanism, Mechanism::Ptr { .. });
    let mut remarks = Vec::new();
    if policy.directives.iter().any(all) {
        remarks.push("the record lets everybody send (+all); end it with -all");
    }
    if policy.directives.iter().any(ptr) {
        // RFC 7208 §5.5.
        remarks.push(
            "the record uses ptr, which is slow and unreliable and which some receivers skip; \
             name the addresses instead",
        );
    }
    remarks.join("; ")
}

fn not_passing(
    expected: Expectation<'_>,
    record: &str,
    address: IpAddr,
    verdict: &Qualifier,
) -> Finding {
    let verdict = match verdict {
        Qualifier::Pass => "pass",
        Qualifier::Fail => "fail",
        Qualifier::SoftFail => "softfail",
        Qualifier::Neutral => "neutral",
    };
    let message =
        format!("the published record gives {verdict} for {address}; add the pool's addresses");
    Finding::mismatch(reasons::SPF_NOT_PASSING, record, message)
        .wanting(&with_mechanisms(record, expected.egress))
}

/// `record` with the pool's addresses in front, where no earlier term can shadow them.
fn with_mechanisms(record: &str, egress: &[EgressRange]) -> String {
    let terms: Vec<&str> = record.split_ascii_whitespace().skip(1).collect();
    let ours = mechanisms(egress);
    let theirs = terms
        .into_iter()
        .filter(|term| !ours.iter().any(|o| o == term));
    let all: Vec<&str> = ["v=spf1"]
        .into_iter()
        .chain(ours.iter().map(String::as_str))
        .chain(theirs)
        .collect();
    all.join(" ")
}

/// RFC 7208 §4.5: the version, alone or followed by a space.
fn is_spf(record: &str) -> bool {
    let (version, rest) = record.split_at_checked(6).unwrap_or((record, ""));
    version.eq_ignore_ascii_case("v=spf1") && (rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use postrider_crds::RecordState::{self, Conflict, Mismatch, Missing, Unknown, Verified};

    use super::*;
    use crate::dns::fake::FakeResolver;

    const NAME: &str = "bounce.example.com";

    async fn look(resolver: &FakeResolver, egress: &[&str]) -> Finding {
        let egress: Vec<EgressRange> = egress.iter().map(|e| e.parse().unwrap()).collect();
        let expected = Expectation {
            return_path: &NAME.parse().unwrap(),
            egress: &egress,
            helo: "mail.example.net",
        };
        check(resolver, expected).await
    }

    #[tokio::test]
    async fn table_of_published_records_for_one_address() {
        let cases: [(&[&str], RecordState, &str); 16] = [
            (&["v=spf1 ip4:203.0.113.10 -all"], Verified, ""),
            (&["other", "V=SPF1 ip4:203.0.113.0/24 -all"], Verified, ""),
            (&["v=spf1 a:mail.example.net -all"], Verified, ""),
            (&["v=spf1 mx -all"], Verified, ""),
            (&["v=spf1 exists:%{ir}.ok.example.org -all"], Verified, ""),
            (&["v=spf1 redirect=good.example.org"], Verified, ""),
            (&["v=spf1 include:good.example.org -all"], Verified, ""),
            (&["v=spf1 ptr:example.net -all"], Verified, ""),
            (&[], Missing, "publish"),
            (&["v=spf10 -all"], Missing, "publish"),
            (&["v=spf1 -all", "v=spf1 mx -all"], Conflict, "several"),
            (&["v=spf1 ip4:203.0.113.10.1 -all"], Mismatch, "valid"),
            (
                &["v=spf1 ip4:192.0.2.1 -all"],
                Mismatch,
                "gives fail for 203.0.113.10",
            ),
            (&["v=spf1 ip4:192.0.2.1 ~all"], Mismatch, "softfail"),
            (&["v=spf1 ip4:192.0.2.1"], Mismatch, "neutral"),
            (
                &["v=spf1 include:none.example.org -all"],
                Mismatch,
                "permerror",
            ),
        ];
        for (records, state, part) in cases {
            let mut resolver = FakeResolver::default()
                .with_txt(NAME, records)
                .with_mx(NAME, &[(10, "mail.example.net")])
                .with_txt("good.example.org", &["v=spf1 ip4:203.0.113.10 -all"])
                .with_addresses("mail.example.net", &["203.0.113.10", "2001:db8::10"])
                .with_addresses("10.113.0.203.ok.example.org", &["127.0.0.2"]);
            let address = "203.0.113.10".parse().unwrap();
            resolver
                .ptr
                .insert(address, vec!["mail.example.net".into()]);
            let finding = look(&resolver, &["203.0.113.10"]).await;
            assert_eq!(finding.state, state, "{records:?}: {}", finding.message);
            assert!(
                finding.message.contains(part),
                "{records:?}: {}",
                finding.message
            );
        }
    }

    #[tokio::test]
    async fn what_passes_may_still_be_unwise() {
        let address = "203.0.113.10".parse().unwrap();
        for (record, part) in [
            ("v=spf1 +all", "everybody"),
            ("v=spf1 all", "everybody"),
            ("v=spf1 ip4:203.0.113.10 +all", "everybody"),
            ("v=spf1 ptr:example.net -all", "ptr"),
        ] {
            let mut resolver = FakeResolver::default()
                .with_txt(NAME, &[record])
                .with_addresses("mail.example.net", &["203.0.113.10"]);
            resolver
                .ptr
                .insert(address, vec!["mail.example.net".into()]);
            let finding = look(&resolver, &["203.0.113.10"]).await;
            assert_eq!(finding.state, Verified, "{record}");
            assert!(finding.message.contains(part), "{}", finding.message);
        }
    }

    #[tokio::test]
    async fn every_address_must_pass_and_the_first_that_does_not_is_named() {
        let resolver = FakeResolver::default()
            .with_txt(
                NAME,
                &["v=spf1 ip4:203.0.113.0/31 ip6:2001:db8::10 include:x.example.org ~all"],
            )
            .with_txt("x.example.org", &["v=spf1 -all"]);
        let good = look(&resolver, &["203.0.113.0/31", "2001:db8::10"]).await;
        assert_eq!(good.state, Verified);
        let bad = look(&resolver, &["203.0.113.0/30"]).await;
        assert_eq!(bad.reason, reasons::SPF_NOT_PASSING);
        assert!(
            bad.message.contains("softfail for 203.0.113.2"),
            "{}",
            bad.message
        );
        assert_eq!(
            bad.wanted.as_deref(),
            Some(
                "v=spf1 ip4:203.0.113.0/30 ip4:203.0.113.0/31 ip6:2001:db8::10 include:x.example.org ~all"
            )
        );
    }

    #[tokio::test]
    async fn the_qualifier_of_the_outer_include_counts() {
        let resolver = FakeResolver::default()
            .with_txt(NAME, &["v=spf1 ?include:a.example.org -all"])
            .with_txt("a.example.org", &["v=spf1 include:b.example.org -all"])
            .with_txt("b.example.org", &["v=spf1 +all"]);
        let finding = look(&resolver, &["203.0.113.10"]).await;
        assert!(finding.message.contains("neutral"), "{}", finding.message);
    }

    #[tokio::test]
    async fn limits_of_the_standard_end_in_permerror() {
        let chain = |count: usize| {
            (0..count).fold(
                FakeResolver::default().with_txt(NAME, &["v=spf1 redirect=r0.example.org"]),
                |resolver, n| {
                    let record = format!("v=spf1 redirect=r{}.example.org", n + 1);
                    resolver.with_txt(&format!("r{n}.example.org"), &[&record])
                },
            )
        };
        let pass = "v=spf1 +all";
        let ten = chain(9).with_txt("r9.example.org", &[pass]);
        assert_eq!(look(&ten, &["203.0.113.10"]).await.state, Verified);
        let eleven = chain(10).with_txt("r10.example.org", &[pass]);
        let finding = look(&eleven, &["203.0.113.10"]).await;
        assert!(finding.message.contains("ten terms"), "{}", finding.message);
        let itself =
            FakeResolver::default().with_txt(NAME, &["v=spf1 include:bounce.example.com -all"]);
        assert!(
            look(&itself, &["203.0.113.10"])
                .await
                .message
                .contains("ten terms")
        );
        let void = |names: &str| {
            FakeResolver::default().with_txt(NAME, &[&format!("v=spf1 {names} +all")])
        };
        assert_eq!(
            look(&void("a:x.org a:y.org"), &["203.0.113.10"])
                .await
                .state,
            Verified
        );
        let finding = look(&void("a:x.org a:y.org a:z.org"), &["203.0.113.10"]).await;
        assert!(
            finding.message.contains("find nothing"),
            "{}",
            finding.message
        );
        let many: Vec<(u16, String)> = (0..11).map(|n| (n, format!("m{n}.example.org"))).collect();
        let many: Vec<(u16, &str)> = many.iter().map(|(n, h)| (*n, h.as_str())).collect();
        let crowd = FakeResolver::default()
            .with_txt(NAME, &["v=spf1 mx +all"])
            .with_mx(NAME, &many);
        assert!(
            look(&crowd, &["203.0.113.10"])
                .await
                .message
                .contains("ten MX")
        );
    }

    #[tokio::test]
    async fn trouble_on_the_way_is_unknown_and_trouble_behind_a_match_is_nothing() {
        for (record, failing) in [
            ("v=spf1 -all", NAME),
            ("v=spf1 include:x.example.org -all", "x.example.org"),
            ("v=spf1 a:x.example.org -all", "x.example.org"),
            ("v=spf1 mx:x.example.org -all", "x.example.org"),
            ("v=spf1 exists:x.example.org -all", "x.example.org"),
            ("v=spf1 redirect=x.example.org", "x.example.org"),
        ] {
            let resolver = FakeResolver::default()
                .with_txt(NAME, &[record])
                .with_failing(failing);
            let finding = look(&resolver, &["203.0.113.10"]).await;
            assert_eq!(finding.state, Unknown, "{record}");
            assert!(finding.message.contains(failing), "{}", finding.message);
        }
        let resolver = FakeResolver::default()
            .with_txt(
                NAME,
                &["v=spf1 ip4:203.0.113.10 include:x.example.org -all"],
            )
            .with_failing("x.example.org");
        assert_eq!(look(&resolver, &["203.0.113.10"]).await.state, Verified);
    }

    #[tokio::test]
    async fn a_name_is_asked_for_once_however_many_addresses_there_are() {
        let resolver = FakeResolver::default()
            .with_txt(NAME, &["v=spf1 include:x.example.org -all"])
            .with_txt("x.example.org", &["v=spf1 ip4:203.0.113.0/24 -all"]);
        assert_eq!(look(&resolver, &["203.0.113.0/24"]).await.state, Verified);
        assert_eq!(resolver.asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_wanted_record_is_the_pool_and_nobody_else() {
        let egress = ["203.0.113.10", "2001:db8::/120"].map(|e| e.parse().unwrap());
        assert_eq!(
            wanted(&egress),
            "v=spf1 ip4:203.0.113.10 ip6:2001:db8::/120 -all"
        );
    }
}
