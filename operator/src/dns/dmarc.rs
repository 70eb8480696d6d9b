//! DMARC policies (RFC 7489, and the tree walk of RFC 9989 §4.10): which policy holds for a
//! domain, whether it is strong enough, and what it means for mail with our return path.
//!
//! Promises: the policy found is the one a receiver that walks the tree finds. Published text of
//! others is kept: the record to publish is the one that is there with only its policy raised.

use mail_auth::{
    common::parse::TxtRecordParser as _,
    dmarc::{Alignment, Dmarc, Policy, Psd},
};
use postrider_crds::{DmarcPolicy, DomainName, condition::reasons};

use super::{Answer, Failure, Finding, Resolver, tags};

mod reports;

/// Most labels of a name the walk asks for after the first (RFC 9989 §4.10).
const MAX_WALK_LABELS: usize = 7;

/// What is asked of a domain's policy.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// The domain in From addresses.
    pub domain: &'a DomainName,
    /// The domain of the envelope sender.
    pub return_path: &'a DomainName,
    /// The weakest policy that counts.
    pub minimum: DmarcPolicy,
}

/// The owner name of a domain's policy.
#[must_use]
pub fn record_name(domain: &DomainName) -> String {
    format!("_dmarc.{domain}")
}

/// The text to publish where nothing is.
#[must_use]
pub fn wanted(minimum: DmarcPolicy) -> String {
    format!("v=DMARC1; p={}", policy_text(minimum))
}

/// Finds the policy that holds for the domain and judges it.
pub async fn check(resolver: &dyn Resolver, expected: Expectation<'_>) -> Finding {
    let name = record_name(expected.domain);
    let published = match resolver.txt(&name).await {
        Answer::Unavailable(failure) => return Finding::unknown(&name, &failure),
        Answer::NoData | Answer::NxDomain => Vec::new(),
        Answer::Found { records, .. } => records,
    };
    let policies: Vec<&String> = published.iter().filter(|r| is_dmarc(r)).collect();
    match policies.as_slice() {
        [] => inherited(resolver, expected, &published).await,
        [record] => own(resolver, expected, record).await,
        _ => Finding::conflict(
            &published,
            "leave only one record that starts with v=DMARC1; receivers ignore them all".into(),
        ),
    }
}

/// Judges the domain's own record.
async fn own(resolver: &dyn Resolver, expected: Expectation<'_>, record: &str) -> Finding {
    let dmarc = match read(record) {
        Ok(dmarc) => dmarc,
        Err(problem) => {
            let message = format!("the published record {problem}; replace it");
            return Finding::mismatch(reasons::RECORD_INVALID, record, message);
        }
    };
    if effective(dmarc.p, dmarc.t) < expected.minimum {
        return too_weak(expected, record, "p");
    }
    match remark(resolver, expected, &dmarc, record).await {
        Ok(remark) => Finding::verified(record, remark).wanting(record),
        Err(failure) => Finding::unknown(&record_name(expected.domain), &failure),
    }
}

/// Judges the policy of the organizational domain, for a domain that has none.
async fn inherited(
    resolver: &dyn Resolver,
    expected: Expectation<'_>,
    published: &[String],
) -> Finding {
    let found = match walk(resolver, expected.domain).await {
        Ok(found) => found,
        Err((name, failure)) => return Finding::unknown(&name, &failure),
    };
    let Some(parent) = found else {
        return match published {
            [] => Finding::missing(
                "publish this record; no policy is published for a parent domain either".into(),
            ),
            _ => Finding::mismatch(
                reasons::RECORD_INVALID,
                &published.join(" | "),
                "no TXT record at the name starts with v=DMARC1; publish this record".into(),
            ),
        };
    };
    if effective(parent.dmarc.sp, parent.dmarc.t) < expected.minimum {
        return too_weak(expected, &parent.record, "sp").found_at(&parent.name);
    }
    match remark(resolver, expected, &parent.dmarc, &parent.record).await {
        Ok(remark) => Finding::verified(&parent.record, remark)
            .wanting(&parent.record)
            .found_at(&parent.name),
        Err(failure) => Finding::unknown(&parent.name, &failure),
    }
}

fn too_weak(expected: Expectation<'_>, record: &str, tag: &str) -> Finding {
    let minimum = policy_text(expected.minimum);
    let message = format!(
        "the policy is weaker than spec.verification.minimumDmarcPolicy; publish {tag}={minimum}"
    );
    Finding::mismatch(reasons::POLICY_TOO_WEAK, record, message)
        .wanting(&with_policy(record, tag, minimum))
}

/// `record` with `tag` set to `value`, not in testing mode, all else as it is.
fn with_policy(record: &str, tag: &str, value: &str) -> String {
    let mut parts = vec!["v=DMARC1".to_owned(), format!("{tag}={value}")];
    for (name, old) in tags::parse(record).unwrap_or_default() {
        if name != "v" && name != tag && name != "t" {
            parts.push(format!("{name}={old}"));
        }
    }
    parts.join("; ")
}

/// A policy found by the walk.
struct Parent {
    domain: String,
    name: String,
    record: String,
    dmarc: Dmarc,
}

/// Walks from the parent of `domain` up to the top and picks the organizational domain's policy
/// (RFC 9989 §4.10, §4.10.1). Errors with the name that got no answer.
async fn walk(
    resolver: &dyn Resolver,
    domain: &DomainName,
) -> Result<Option<Parent>, (String, Failure)> {
    let labels: Vec<&str> = domain.labels().collect();
    let longest = labels.len().saturating_sub(1).min(MAX_WALK_LABELS);
    let mut chosen: Option<Parent> = None;
    for kept in (1..=longest).rev() {
        let parent = labels
            .get(labels.len() - kept..)
            .unwrap_or_default()
            .join(".");
        let name = format!("_dmarc.{parent}");
        let records = match resolver.txt(&name).await {
            Answer::Unavailable(failure) => return Err((name, failure)),
            Answer::NoData | Answer::NxDomain => continue,
            Answer::Found { records, .. } => records,
        };
        let mut policies = records.into_iter().filter(|r| is_dmarc(r));
        // Several records count as none (RFC 9989 §4.10).
        let (Some(record), None) = (policies.next(), policies.next()) else {
            continue;
        };
        let Ok(dmarc) = read(&record) else { continue };
        let below = chosen
            .as_ref()
            .is_some_and(|c| c.domain.split('.').count() == kept + 1);
        match dmarc.psd {
            // A public suffix: the organizational domain is one label below it.
            Psd::Yes if below => break,
            Psd::Yes | Psd::No => {
                return Ok(Some(Parent {
                    domain: parent,
                    name,
                    record,
                    dmarc,
                }));
            }
            Psd::Default => {
                chosen = Some(Parent {
                    domain: parent,
                    name,
                    record,
                    dmarc,
                })
            }
        }
    }
    Ok(chosen)
}

/// What to know about a policy that is good enough: the alignment of the return path, and
/// whether reports arrive. Empty where there is nothing to say.
async fn remark(
    resolver: &dyn Resolver,
    expected: Expectation<'_>,
    dmarc: &Dmarc,
    record: &str,
) -> Result<String, Failure> {
    let reported = !dmarc.rua.is_empty();
    let inside = expected.return_path.is_within(expected.domain);
    let top = match reported || (dmarc.aspf == Alignment::Relaxed && !inside) {
        true => walk(resolver, expected.domain)
            .await
            .map_err(|(_, failure)| failure)?,
        false => None,
    };
    let organization = top.map_or_else(|| expected.domain.to_string(), |top| top.domain);
    let mut remarks = vec![misaligned(expected, dmarc, &organization)];
    if reported {
        let domain = expected.domain;
        remarks.push(Some(
            reports::remark(resolver, domain, &organization, record).await,
        ));
    }
    let told: Vec<String> = remarks.into_iter().flatten().collect();
    let told = told.iter().filter(|remark| !remark.is_empty());
    Ok(told.map(String::as_str).collect::<Vec<_>>().join("; "))
}

/// What to know about the alignment of the return path (RFC 7489 §3.1.2), unless it is aligned.
/// Mail is aligned by DKIM in any case, because it is signed for the domain itself.
fn misaligned(expected: Expectation<'_>, dmarc: &Dmarc, organization: &str) -> Option<String> {
    let (domain, return_path) = (expected.domain, expected.return_path);
    let shared = return_path.as_str() == organization
        || return_path.as_str().ends_with(&format!(".{organization}"));
    let why = match dmarc.aspf {
        _ if return_path == domain => return None,
        Alignment::Strict => "the policy says aspf=s",
        Alignment::Relaxed if shared => return None,
        Alignment::Relaxed => "it belongs to another organization",
    };
    Some(format!(
        "SPF of the return path {return_path} is not aligned, because {why}; mail passes DMARC by its DKIM signatures alone"
    ))
}

/// RFC 7489 §6.4: a DMARC record starts with its version.
fn is_dmarc(record: &str) -> bool {
    record.split(';').next().is_some_and(|first| {
        let mut halves = first.splitn(2, '=').map(str::trim);
        halves.next() == Some("v") && halves.next() == Some("DMARC1")
    })
}

/// Parses a record; a missing `p=` stands for `none` where reports are asked for (RFC 7489
/// §6.6.3 step 6).
fn read(record: &str) -> Result<Dmarc, &'static str> {
    let mut dmarc = Dmarc::parse(record.as_bytes()).map_err(|_| "cannot be parsed")?;
    if dmarc.p == Policy::Unspecified {
        if dmarc.rua.is_empty() {
            return Err("has no p= tag");
        }
        dmarc.p = Policy::None;
    }
    if dmarc.sp == Policy::Unspecified {
        dmarc.sp = dmarc.p;
    }
    Ok(dmarc)
}

/// The policy receivers apply: one weaker in testing mode (RFC 9989 §4.7 `t=`).
fn effective(policy: Policy, testing: bool) -> DmarcPolicy {
    match (policy, testing) {
        (Policy::Reject, false) => DmarcPolicy::Reject,
        (Policy::Reject, true) | (Policy::Quarantine, false) => DmarcPolicy::Quarantine,
        (Policy::Quarantine, true) | (Policy::None | Policy::Unspecified, _) => DmarcPolicy::None,
    }
}

const fn policy_text(policy: DmarcPolicy) -> &'static str {
    match policy {
        DmarcPolicy::None => "none",
        DmarcPolicy::Quarantine => "quarantine",
        DmarcPolicy::Reject => "reject",
    }
}

#[cfg(test)]
mod tests {
    use postrider_crds::RecordState;

    use super::*;
    use crate::dns::fake::FakeResolver;

    async fn look(resolver: &FakeResolver, domain: &str, minimum: DmarcPolicy) -> Finding {
        let domain: DomainName = domain.parse().unwrap();
        let return_path = domain.child("bounce").unwrap();
        let expected = Expectation {
            domain: &domain,
            return_path: &return_path,
            minimum,
        };
        check(resolver, expected).await
    }

    #[tokio::test]
    async fn table_of_own_policies() {
        use DmarcPolicy::{None as Any, Quarantine, Reject};
        use RecordState::{Conflict, Mismatch, Missing, Verified};
        let cases: [(&[&str], DmarcPolicy, RecordState, &str); 13] = [
            (&["v=DMARC1; p=none"], Any, Verified, "Verified"),
            (
                &["v=DMARC1;p=reject;rua=mailto:d@example.com"],
                Reject,
                Verified,
                "Verified",
            ),
            (&["other", "v=DMARC1; p=none"], Any, Verified, "Verified"),
            (
                &["v=DMARC1; rua=mailto:d@example.com"],
                Any,
                Verified,
                "Verified",
            ),
            (&["v=DMARC1; p=none"], Quarantine, Mismatch, "PolicyTooWeak"),
            (
                &["v=DMARC1; p=quarantine"],
                Reject,
                Mismatch,
                "PolicyTooWeak",
            ),
            (
                &["v=DMARC1; p=reject; t=y"],
                Reject,
                Mismatch,
                "PolicyTooWeak",
            ),
            (
                &["v=DMARC1; p=reject; t=y"],
                Quarantine,
                Verified,
                "Verified",
            ),
            (&["v=DMARC1"], Any, Mismatch, "RecordInvalid"),
            (&["v=DMARC1; p=perhaps"], Any, Mismatch, "RecordInvalid"),
            (
                &["v=DMARC1; p=none", "v=DMARC1; p=reject"],
                Any,
                Conflict,
                "RecordConflict",
            ),
            (&["p=none"], Any, Mismatch, "RecordInvalid"),
            (&[], Any, Missing, "RecordMissing"),
        ];
        for (records, minimum, state, reason) in cases {
            let resolver = FakeResolver::default().with_txt("_dmarc.example.com", records);
            let finding = look(&resolver, "example.com", minimum).await;
            assert_eq!(
                (finding.state, finding.reason),
                (state, reason),
                "{records:?}"
            );
        }
    }

    #[tokio::test]
    async fn raising_a_policy_keeps_the_rest() {
        let seen = "v=DMARC1; p=none; t=y; rua=mailto:d@example.com; adkim=s";
        let resolver = FakeResolver::default().with_txt("_dmarc.example.com", &[seen]);
        let finding = look(&resolver, "example.com", DmarcPolicy::Reject).await;
        assert_eq!(
            finding.wanted.as_deref(),
            Some("v=DMARC1; p=reject; rua=mailto:d@example.com; adkim=s")
        );
    }

    #[tokio::test]
    async fn a_subdomain_inherits_the_subdomain_policy() {
        let top = "v=DMARC1; p=reject; sp=none";
        let resolver = FakeResolver::default().with_txt("_dmarc.example.com", &[top]);
        let finding = look(&resolver, "news.eu.example.com", DmarcPolicy::None).await;
        assert_eq!(finding.state, RecordState::Verified);
        assert_eq!(finding.found_at.as_deref(), Some("_dmarc.example.com"));
        let weak = look(&resolver, "news.eu.example.com", DmarcPolicy::Reject).await;
        assert_eq!(weak.reason, reasons::POLICY_TOO_WEAK);
        assert_eq!(
            weak.wanted.as_deref(),
            Some("v=DMARC1; sp=reject; p=reject")
        );
    }

    #[tokio::test]
    async fn the_walk_stops_at_public_suffixes_and_skips_broken_records() {
        let suffix = ("_dmarc.co.example", "v=DMARC1; p=none; psd=y");
        let organization = ("_dmarc.shop.co.example", "v=DMARC1; p=reject");
        let both = FakeResolver::default()
            .with_txt(suffix.0, &[suffix.1])
            .with_txt(organization.0, &[organization.1]);
        let finding = look(&both, "mail.shop.co.example", DmarcPolicy::Reject).await;
        assert_eq!(finding.found_at.as_deref(), Some(organization.0));
        let only_suffix = FakeResolver::default()
            .with_txt(suffix.0, &[suffix.1])
            .with_txt(organization.0, &["v=DMARC1; p=reject", "v=DMARC1; p=none"]);
        let finding = look(&only_suffix, "mail.shop.co.example", DmarcPolicy::None).await;
        assert_eq!(finding.found_at.as_deref(), Some(suffix.0));
    }

    #[tokio::test]
    async fn a_deep_name_is_cut_to_seven_labels() {
        let resolver =
            FakeResolver::default().with_txt("_dmarc.d.e.f.g.h.example.com", &["v=DMARC1; p=none"]);
        let finding = look(&resolver, "a.b.c.d.e.f.g.h.example.com", DmarcPolicy::None).await;
        assert_eq!(finding.state, RecordState::Verified);
        assert_eq!(resolver.asked.load(std::sync::atomic::Ordering::Relaxed), 8);
    }

    #[tokio::test]
    async fn trouble_anywhere_on_the_way_is_unknown() {
        for failing in [
            "_dmarc.news.example.com",
            "_dmarc.example.com",
            "_dmarc.com",
        ] {
            let resolver = FakeResolver::default().with_failing(failing);
            let finding = look(&resolver, "news.example.com", DmarcPolicy::None).await;
            assert_eq!(finding.state, RecordState::Unknown, "{failing}");
            assert!(finding.message.contains(failing), "{}", finding.message);
        }
    }

    #[tokio::test]
    async fn alignment_is_a_remark_and_no_failure() {
        let domain: DomainName = "example.com".parse().unwrap();
        for (record, return_path, part) in [
            ("v=DMARC1; p=none", "bounce.example.com", ""),
            ("v=DMARC1; p=none; aspf=s", "bounce.example.com", "aspf=s"),
            (
                "v=DMARC1; p=none",
                "bounce.example.net",
                "another organization",
            ),
        ] {
            let resolver = FakeResolver::default().with_txt("_dmarc.example.com", &[record]);
            let return_path = return_path.parse().unwrap();
            let expected = Expectation {
                domain: &domain,
                return_path: &return_path,
                minimum: DmarcPolicy::None,
            };
            let finding = check(&resolver, expected).await;
            assert_eq!(finding.state, RecordState::Verified);
            assert!(finding.message.contains(part), "{}", finding.message);
            assert_eq!(finding.message.is_empty(), part.is_empty());
        }
    }
}
