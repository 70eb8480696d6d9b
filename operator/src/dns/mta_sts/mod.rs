//! MTA-STS (RFC 8461): that a domain says its mail is to be encrypted, and to whom. Looked at is all
//! that a sender looks at: the record, the policy that [`policy`] reads and [`fetch`] gets, and
//! whether the policy covers each host that takes the domain's mail.
//!
//! Promises: a policy host that gives no answer makes the result unknown, as DNS does; what it does
//! answer is judged as a sender judges it. Only a domain that takes mail needs any of this.

use std::net::IpAddr;

use futures::future::BoxFuture;
use postrider_crds::{DomainName, RecordState, condition::reasons, digest};

use super::{Addressee, Finding, Resolver, bounded, exchanges::addresses, fields};
use policy::{Mode, Policy};

mod fetch;
mod policy;

pub use fetch::{HttpsPolicyHosts, Reach};

/// What a record begins with.
const VERSION: &str = "v=STSv1";
/// Longest `id` (RFC 8461 §3.1).
const MAX_ID: usize = 32;
/// Longest time that senders keep a policy which is to be published, in seconds: a week.
const WANTED_MAX_AGE: u32 = 604_800;
/// A policy that is kept for less protects little: whoever can suppress its record waits that long.
const LEAST_MAX_AGE: u32 = 86_400;
/// Hosts named in a sentence.
const MAX_NAMED: usize = 5;

/// Fetches policies. The host is not looked up: where it is has been found by the [`Resolver`].
pub trait PolicyHosts: Send + Sync {
    /// The text that `host` serves at its well-known place (RFC 8461 §3.3), asked at `addresses`.
    fn policy<'a>(
        &'a self,
        host: &'a str,
        addresses: &'a [IpAddr],
    ) -> BoxFuture<'a, Result<String, Trouble>>;
}

/// Why there is no policy. Each is a sentence about the host without its subject, the same for the
/// same trouble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The host gave no answer, so nothing is known.
    #[error("{0}")]
    Unavailable(String),
    /// The host gave an answer that senders do not take.
    #[error("{0}")]
    Unusable(String),
}

/// The owner name of a domain's record (RFC 8461 §3.1).
#[must_use]
pub fn record_name(domain: &DomainName) -> String {
    format!("_mta-sts.{domain}")
}

/// The host of a domain's policy (RFC 8461 §3.3).
fn policy_host(domain: &DomainName) -> String {
    format!("mta-sts.{domain}")
}

/// The text to publish where nothing is. Its `id` stands for a policy that covers `hosts`.
fn wanted(hosts: &[String]) -> String {
    let id = digest::of(wanted_policy(hosts).join("\n").as_bytes());
    format!("{VERSION}; id={id}")
}

/// The text to publish before anything is known of the domain's hosts.
#[must_use]
pub fn wanted_of_unknown() -> String {
    wanted(&[])
}

/// The lines of a policy that covers `hosts`.
fn wanted_policy(hosts: &[String]) -> Vec<String> {
    let mut lines = vec!["version: STSv1".to_owned(), "mode: enforce".to_owned()];
    lines.extend(hosts.iter().map(|host| format!("mx: {host}")));
    lines.push(format!("max_age: {WANTED_MAX_AGE}"));
    lines
}

/// Looks the record up, fetches the policy and judges both; `None` when the domain takes no mail.
pub async fn check(
    resolver: &dyn Resolver,
    policies: &dyn PolicyHosts,
    addressee: Addressee<'_>,
) -> Option<Finding> {
    let domain = addressee.domain;
    let mut hosts = match addressee.hosts(resolver).await {
        Err(failure) => return Some(Finding::unknown(domain.as_str(), &failure)),
        Ok(hosts) if hosts.is_empty() => return None,
        Ok(hosts) => hosts,
    };
    // Servers turn the order of equal preference; what is wanted must not change with it.
    hosts.sort();
    let name = record_name(domain);
    let published = match fields::Published::of(resolver.txt(&name).await, VERSION) {
        Err(failure) => return Some(Finding::unknown(&name, &failure)),
        Ok(published) => published,
    };
    let record = match sole_record(domain, &hosts, &published) {
        Err(finding) => return Some(finding),
        Ok(record) => record,
    };
    Some(look_at_policy(resolver, policies, domain, &hosts, record).await)
}

/// The one record, or what is wrong with the name.
fn sole_record<'p>(
    domain: &DomainName,
    hosts: &[String],
    published: &'p fields::Published,
) -> Result<&'p str, Finding> {
    let wanted = wanted(hosts);
    let record = match published.ours.as_slice() {
        [record] => record,
        [] if published.all.is_empty() => {
            return Err(Finding::missing(format!(
                "serve a policy ({}) at {}, then publish this record",
                listed(&wanted_policy(hosts)),
                fetch::url(&policy_host(domain))
            ))
            .wanting(&wanted));
        }
        [] => {
            let message = format!(
                "no TXT record at the name begins with {VERSION}; and a semicolon, so that senders find none; publish this record"
            );
            let seen = published.all.join(" | ");
            let finding = Finding::mismatch(reasons::RECORD_INVALID, &seen, message);
            return Err(finding.wanting(&wanted));
        }
        several => {
            let message = format!(
                "leave only one record that begins with {VERSION}; senders ignore them all"
            );
            return Err(Finding::conflict(several, message).wanting(&wanted));
        }
    };
    match id(record) {
        Ok(_) => Ok(record),
        Err(problem) => {
            let message = format!("the published record {problem}; replace it");
            let finding = Finding::mismatch(reasons::RECORD_INVALID, record, message);
            Err(finding.wanting(&wanted))
        }
    }
}

/// The `id` of a record, or what is wrong with it.
fn id(record: &str) -> Result<&str, &'static str> {
    let mut id = None;
    for (name, value) in fields::parse(record, VERSION)? {
        match name {
            // Of several the first counts (RFC 8461 §3.2 says so of the policy).
            "id" => id = id.or(Some(value)),
            _ if fields::is_extension(value) => {}
            _ => return Err("has a field whose value has characters that no value may have"),
        }
    }
    let id = id.ok_or("has no id=")?;
    match id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(id),
        false => Err("has an id= that is not 1 to 32 letters and digits"),
    }
}

async fn look_at_policy(
    resolver: &dyn Resolver,
    policies: &dyn PolicyHosts,
    domain: &DomainName,
    hosts: &[String],
    record: &str,
) -> Finding {
    let host = policy_host(domain);
    let url = fetch::url(&host);
    let invalid = |message: String| {
        Finding::mismatch(reasons::POLICY_INVALID, record, message).wanting(record)
    };
    let text = match addresses(resolver, &host).await {
        Err(failure) => return seen_and_unknown(record, Finding::unknown(&host, &failure)),
        Ok(found) if found.is_empty() => {
            return invalid(format!(
                "{host} has no address; let it lead to a web server that serves the policy at {url}"
            ));
        }
        Ok(found) => policies.policy(&host, &found).await,
    };
    let text = match text {
        Ok(text) => text,
        Err(Trouble::Unusable(what)) => {
            return invalid(format!("{host} {what}; have it serve the policy at {url}"));
        }
        Err(Trouble::Unavailable(what)) => {
            let finding = Finding {
                state: RecordState::Unknown,
                reason: reasons::POLICY_UNAVAILABLE,
                seen: None,
                message: format!("{host} {what}"),
                wanted: None,
                found_at: None,
            };
            return seen_and_unknown(record, finding);
        }
    };
    match text.parse::<Policy>() {
        Err(problem) => invalid(format!("the policy at {url} {problem}; correct it")),
        Ok(policy) => match judge(&policy, hosts) {
            Err(problem) => invalid(format!("the policy at {url} {problem}")),
            Ok(remark) => Finding::verified(record, remark).wanting(record),
        },
    }
}

fn seen_and_unknown(record: &str, finding: Finding) -> Finding {
    Finding {
        seen: Some(bounded(record)),
        ..finding
    }
    .wanting(record)
}

/// What is wrong with `policy` for a domain whose mail `hosts` take, or a remark on it.
fn judge(policy: &Policy, hosts: &[String]) -> Result<String, String> {
    if policy.mode == Mode::None {
        return Err("says mode none, which switches MTA-STS off; make it enforce".into());
    }
    let uncovered: Vec<String> = hosts
        .iter()
        .filter(|host| !policy.covers(host))
        .cloned()
        .collect();
    if !uncovered.is_empty() {
        return Err(format!(
            "covers not every MX, so that senders keep mail from {}; add an mx line for each",
            listed(&uncovered)
        ));
    }
    let mut remarks = Vec::new();
    if policy.mode == Mode::Testing {
        remarks
            .push("the policy is in mode testing: senders report and deliver all the same".into());
    }
    if policy.max_age < LEAST_MAX_AGE {
        let age = policy.max_age;
        remarks.push(format!(
            "the policy's max_age of {age} s protects for less than a day; make it weeks"
        ));
    }
    Ok(remarks.join("; "))
}

fn listed(all: &[String]) -> String {
    let named = all.get(..MAX_NAMED.min(all.len())).unwrap_or_default();
    match all.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests;
