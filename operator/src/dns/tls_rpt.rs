//! Where reports about TLS to a domain go (TLSRPT, RFC 8460).

use hyper::http::{Uri, uri::Scheme};
use mail_auth::mta_sts::ReportUri;
use postrider_crds::{DomainName, condition::reasons};

use super::{Addressee, Finding, Resolver, fields};

/// What a record begins with.
const VERSION: &str = "v=TLSRPTv1";

/// The owner name of a domain's record (RFC 8460 §3).
#[must_use]
pub fn record_name(domain: &DomainName) -> String {
    format!("_smtp._tls.{domain}")
}

/// The text to publish where nothing is: reports go to a mailbox that every domain which takes mail
/// has (RFC 5321 §4.5.1).
#[must_use]
pub fn wanted(domain: &DomainName) -> String {
    format!("{VERSION}; rua=mailto:postmaster@{domain}")
}

/// Looks the record up and judges it; `None` when the domain takes no mail.
pub async fn check(resolver: &dyn Resolver, addressee: Addressee<'_>) -> Option<Finding> {
    match addressee.hosts(resolver).await {
        Err(failure) => return Some(Finding::unknown(addressee.domain.as_str(), &failure)),
        Ok(hosts) if hosts.is_empty() => return None,
        Ok(_) => {}
    }
    let name = record_name(addressee.domain);
    let published = match fields::Published::of(resolver.txt(&name).await, VERSION) {
        Err(failure) => return Some(Finding::unknown(&name, &failure)),
        Ok(published) => published,
    };
    Some(judge(&published))
}

fn judge(published: &fields::Published) -> Finding {
    match published.ours.as_slice() {
        [] if published.all.is_empty() => Finding::missing(
            "publish this record, with a mailbox that takes reports about TLS".into(),
        ),
        [] => Finding::mismatch(
            reasons::RECORD_INVALID,
            &published.all.join(" | "),
            format!(
                "no TXT record at the name begins with {VERSION}; and a semicolon, so that reporters find none; publish this record"
            ),
        ),
        [record] => match destinations(record) {
            Ok(_) => Finding::verified(record, String::new()).wanting(record),
            Err(problem) => Finding::mismatch(
                reasons::RECORD_INVALID,
                record,
                format!("the published record {problem}; replace it"),
            ),
        },
        several => Finding::conflict(
            several,
            format!("leave only one record that begins with {VERSION}; reporters ignore them all"),
        ),
    }
}

/// Where the reports go, or what is wrong with the record. Addresses of other schemes than the two
/// that there are make the record invalid: a reporter may stop there.
fn destinations(record: &str) -> Result<Vec<ReportUri>, &'static str> {
    let mut destinations = Vec::new();
    for (name, value) in fields::parse(record, VERSION)? {
        match name {
            "rua" => {
                for text in value.split(',') {
                    destinations.push(destination(text.trim_matches([' ', '\t']))?);
                }
            }
            _ if fields::is_extension(value) => {}
            _ => return Err("has a field whose value has characters that no value may have"),
        }
    }
    match destinations.is_empty() {
        true => Err("has no rua="),
        false => Ok(destinations),
    }
}

/// A URI in which what stands between URIs and fields is percent-encoded (RFC 8460 §3).
fn destination(text: &str) -> Result<ReportUri, &'static str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"!;\"<>\\^`{|}".contains(&byte);
    if !text.bytes().all(plain) || !percent_encoded(text) {
        return Err("has a rua= with characters that a URI may not have");
    }
    let (scheme, rest) = text.split_once(':').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("mailto") {
        return match is_mailbox(rest) {
            true => Ok(ReportUri::Mail(rest.to_owned())),
            false => Err("has a rua=mailto: without a mailbox"),
        };
    }
    let uri: Option<Uri> = text.parse().ok();
    let secure = |uri: &Uri| {
        let host = uri.host().is_some_and(|host| !host.is_empty());
        uri.scheme() == Some(&Scheme::HTTPS) && host
    };
    match uri.filter(secure) {
        Some(_) => Ok(ReportUri::Http(text.to_owned())),
        None => Err("has a rua= that is neither a mailto: nor an https: URI"),
    }
}

/// Whether each `%` begins an octet (RFC 3986 §2.1).
fn percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let mut digits = rest.bytes().take(2);
        let is_digit = |digit: Option<u8>| digit.is_some_and(|d| d.is_ascii_hexdigit());
        is_digit(digits.next()) && is_digit(digits.next())
    })
}

/// Whether `text` is one address: a dot-atom at a host (RFC 6068 §2).
fn is_mailbox(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else {
        return false;
    };
    let atoms = local.split('.').all(|atom| !atom.is_empty());
    let fits = |byte: u8| !b"@:/?#[]".contains(&byte);
    atoms && local.bytes().all(fits) && host.parse::<DomainName>().is_ok()
}

#[cfg(test)]
mod tests {
    use mail_auth::{common::parse::TxtRecordParser as _, mta_sts::TlsRpt};
    use postrider_crds::RecordState::{self, Conflict, Mismatch, Missing, Unknown, Verified};
    use proptest::prelude::*;

    use super::*;
    use crate::dns::fake::FakeResolver;

    const NAME: &str = "_smtp._tls.example.com";

    async fn look(resolver: &FakeResolver) -> Option<Finding> {
        let domain = "example.com".parse().unwrap();
        let addressee = Addressee {
            domain: &domain,
            exchange: None,
        };
        check(resolver, addressee).await
    }

    fn taking_mail() -> FakeResolver {
        FakeResolver::default().with_mx("example.com", &[(10, "mx.example.net")])
    }

    #[tokio::test]
    #[expect(clippy::too_many_lines, reason = "one story or table, told in a row")]
    async fn table_of_published_records() {
        let own = wanted(&"example.com".parse().unwrap());
        let cases: [(&[&str], RecordState, &str); 19] = [
            (&[&own], Verified, ""),
            (&["v=TLSRPTv1;rua=mailto:r@example.com"], Verified, ""),
            (
                &["v=TLSRPTv1; rua=https://r.example.com/v1?a=b"],
                Verified,
                "",
            ),
            (
                &["v=TLSRPTv1; rua=MAILTO:r@example.com , https://r.example.com;"],
                Verified,
                "",
            ),
            (
                &["v=TLSRPTv1; x=1; rua=mailto:r%21@example.com; rua=https://r.example.com"],
                Verified,
                "",
            ),
            (
                &["hello", "v=TLSRPTv1; rua=mailto:r@example.com"],
                Verified,
                "",
            ),
            (&[], Missing, "publish"),
            (&["hello"], Mismatch, "begins with"),
            (&["v=TLSRPTv1"], Mismatch, "begins with"),
            (
                &["v=tlsrptv1; rua=mailto:r@example.com"],
                Mismatch,
                "begins",
            ),
            (&["v=TLSRPTv1;"], Mismatch, "no rua="),
            (
                &["v=TLSRPTv1; ruf=mailto:r@example.com"],
                Mismatch,
                "no rua=",
            ),
            (&["v=TLSRPTv1; rua=r@example.com"], Mismatch, "neither"),
            (&["v=TLSRPTv1; rua=mailto:"], Mismatch, "without a mailbox"),
            (
                &["v=TLSRPTv1; rua=mailto:.r@example.com"],
                Mismatch,
                "mailbox",
            ),
            (
                &["v=TLSRPTv1; rua=http://r.example.com"],
                Mismatch,
                "neither",
            ),
            (
                &["v=TLSRPTv1; rua=mailto:r!@example.com"],
                Mismatch,
                "characters",
            ),
            (
                &["v=TLSRPTv1; rua=https://r.example.com/%zz"],
                Mismatch,
                "characters",
            ),
            (
                &[
                    "v=TLSRPTv1; rua=mailto:a@example.com",
                    "v=TLSRPTv1; rua=mailto:b@example.com",
                ],
                Conflict,
                "only one",
            ),
        ];
        for (records, state, part) in cases {
            let found = look(&taking_mail().with_txt(NAME, records)).await.unwrap();
            assert_eq!(found.state, state, "{records:?}: {}", found.message);
            assert!(
                found.message.contains(part),
                "{records:?}: {}",
                found.message
            );
        }
    }

    #[tokio::test]
    async fn a_domain_without_mail_needs_none_and_trouble_is_unknown() {
        assert_eq!(look(&FakeResolver::default()).await, None);
        for failing in [NAME, "example.com"] {
            let found = look(&taking_mail().with_failing(failing)).await.unwrap();
            assert_eq!(found.state, Unknown, "{failing}");
            assert!(found.message.contains(failing), "{}", found.message);
        }
    }

    proptest! {
        /// What is called good here, others read in the same way.
        #[test]
        fn what_is_good_is_understood_by_mail_auth(
            mails in proptest::collection::vec("[a-z0-9]{1,8}(\\.[a-z0-9]{1,8})?@[a-z]{1,8}\\.[a-z]{2,5}", 0..3),
            sites in proptest::collection::vec("https://[a-z]{1,8}\\.[a-z]{2,5}(/[a-z0-9.]{0,8})?", 0..3),
            comma in "[ \t]{0,2},[ \t]{0,2}", delimiter in "[ \t]{0,2};[ \t]{0,2}", end in "(;|)",
        ) {
            let uris: Vec<String> = mails.iter().map(|m| format!("mailto:{m}")).chain(sites).collect();
            prop_assume!(!uris.is_empty());
            let delimiter = delimiter.trim_start();
            let record = format!("{VERSION}{delimiter}rua={}{end}", uris.join(&comma));
            let theirs = TlsRpt::parse(record.as_bytes()).unwrap().rua;
            prop_assert_eq!(destinations(&record).unwrap().len(), theirs.len(), "{}", record);
        }

        #[test]
        fn no_text_is_too_odd_to_be_judged(text in "(v=TLSRPTv1;)?\\PC{0,40}[ -~]{0,80}") {
            let _ = destinations(&text);
        }
    }
}
