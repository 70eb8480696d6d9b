//! The MX of the return path (RFC 5321 §5.1, RFC 7505): where receivers send bounces to.

use std::fmt::Write as _;

use postrider_crds::{DomainName, condition::reasons};

use super::{Answer, Finding, Resolver, resolver::MailExchange};

/// Stands for a member's ordinal in `spec.hostname` of a RelayPool.
pub(crate) const ORDINAL: &str = "{ordinal}";

/// The name of a pool as a whole: its hostname with the part that tells members apart taken out.
#[must_use]
pub fn pool_host(hostname: &str) -> String {
    let mut host = hostname.to_owned();
    for part in ["-{ordinal}", "{ordinal}-", ORDINAL] {
        host = host.replace(part, "");
    }
    host.replace("..", ".").trim_start_matches('.').to_owned()
}

/// The MX text to publish for a pool whose hostname is `hostname`.
#[must_use]
pub fn wanted(hostname: &str) -> String {
    format!("10 {}.", pool_host(hostname))
}

/// Looks the MX of `return_path` up and tells whether one of them is the pool, by its whole name
/// or by that of a member.
pub async fn check(resolver: &dyn Resolver, return_path: &DomainName, hostname: &str) -> Finding {
    let records = match resolver.mx(return_path.as_str()).await {
        Answer::Unavailable(failure) => return Finding::unknown(return_path.as_str(), &failure),
        Answer::NoData | Answer::NxDomain => {
            return Finding::missing("publish this record, so that bounces come back".into());
        }
        Answer::Found { records, .. } => records,
    };
    let seen = text(&records);
    if records.iter().any(|mx| is_pool(&mx.host, hostname)) {
        return Finding::verified(&seen, String::new()).wanting(&seen);
    }
    let problem = if records.iter().all(|mx| mx.host.is_empty()) {
        "the domain says by a null MX that it takes no mail; replace it, so that bounces come back"
    } else {
        "no published MX is the pool, so bounces go elsewhere; publish this record"
    };
    Finding::mismatch(reasons::RECORD_MISMATCH, &seen, problem.into())
}

fn is_pool(host: &str, hostname: &str) -> bool {
    if host == pool_host(hostname) {
        return true;
    }
    let Some((before, after)) = hostname.split_once(ORDINAL) else {
        return false;
    };
    host.strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .is_some_and(|ordinal| !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit()))
}

fn text(records: &[MailExchange]) -> String {
    records.iter().fold(String::new(), |mut text, mx| {
        let separator = if text.is_empty() { "" } else { " | " };
        // Writing into a String cannot fail.
        let _ = write!(text, "{separator}{} {}.", mx.preference, mx.host);
        text
    })
}

#[cfg(test)]
mod tests {
    use postrider_crds::RecordState;

    use super::*;
    use crate::dns::fake::FakeResolver;

    const PATH: &str = "bounce.example.com";

    #[test]
    fn a_pool_has_one_name() {
        for (hostname, name) in [
            ("mail.example.net", "mail.example.net"),
            ("mail-{ordinal}.example.net", "mail.example.net"),
            ("mail{ordinal}.example.net", "mail.example.net"),
            ("{ordinal}.mail.example.net", "mail.example.net"),
            ("{ordinal}-mail.example.net", "mail.example.net"),
        ] {
            assert_eq!(pool_host(hostname), name);
            assert_eq!(wanted(hostname), format!("10 {name}."));
        }
    }

    #[tokio::test]
    async fn table_of_published_exchanges() {
        use RecordState::{Mismatch, Missing, Verified};
        type Case = (
            &'static [(u16, &'static str)],
            RecordState,
            Option<&'static str>,
        );
        let cases: [Case; 7] = [
            (
                &[(10, "mail.example.net")],
                Verified,
                Some("10 mail.example.net."),
            ),
            (
                &[(5, "mail-0.example.net")],
                Verified,
                Some("5 mail-0.example.net."),
            ),
            (
                &[(5, "other.example"), (10, "mail.example.net")],
                Verified,
                Some("5 other.example. | 10 mail.example.net."),
            ),
            (&[], Missing, None),
            (&[(0, "")], Mismatch, Some("0 .")),
            (
                &[(10, "mail-x.example.net")],
                Mismatch,
                Some("10 mail-x.example.net."),
            ),
            (
                &[(10, "mail.example.org")],
                Mismatch,
                Some("10 mail.example.org."),
            ),
        ];
        for (records, state, seen) in cases {
            let resolver = FakeResolver::default().with_mx(PATH, records);
            let finding = check(
                &resolver,
                &PATH.parse().unwrap(),
                "mail-{ordinal}.example.net",
            )
            .await;
            assert_eq!(finding.state, state, "{records:?}");
            assert_eq!(finding.seen.as_deref(), seen, "{records:?}");
        }
        let dead = FakeResolver::default().with_failing(PATH);
        let finding = check(&dead, &PATH.parse().unwrap(), "mail.example.net").await;
        assert_eq!(finding.state, RecordState::Unknown);
    }
}
