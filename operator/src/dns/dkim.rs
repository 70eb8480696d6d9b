//! DKIM key records (RFC 6376 §3.6.1, RFC 8463 §4): the text to publish for a key, and whether
//! what is published would let a receiver verify that key's signatures.
//!
//! Promises: `Verified` means that the published key is this key, byte for byte, and that no flag
//! of the record forbids its use for mail signed with SHA-256.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mail_auth::common::{parse::TxtRecordParser as _, verify::DomainKey};
use postrider_crds::{
    DomainName, RecordState, RecordType, Selector, condition::reasons, relay_config::KeyAlgorithm,
};

use super::{Answer, Finding, Resolver, Sight, tags};

/// The public half of a signing key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// A key of `algorithm`. `bytes` is a DER SubjectPublicKeyInfo for RSA (RFC 6376 §3.6.1 as
    /// everyone reads it) and the 32 bytes of the key for Ed25519 (RFC 8463 §4.2).
    #[must_use]
    pub fn new(algorithm: KeyAlgorithm, bytes: Vec<u8>) -> Self {
        Self { algorithm, bytes }
    }

    /// The text of the key's TXT record, unsplit.
    #[must_use]
    pub fn record(&self) -> String {
        let kind = kind(self.algorithm);
        let key = STANDARD.encode(&self.bytes);
        format!("v=DKIM1; k={kind}; p={key}")
    }

    /// The text of the record that revokes the key (RFC 6376 §3.6.1, an empty `p=`).
    #[must_use]
    pub fn revocation(&self) -> String {
        format!("v=DKIM1; k={}; p=", kind(self.algorithm))
    }
}

/// What the zone's own name servers say of the record of `key` under `selector`.
pub async fn sight(
    resolver: &dyn Resolver,
    selector: &Selector,
    domain: &DomainName,
    key: &PublicKey,
) -> Sight {
    let name = selector.record_name(domain);
    let authorities = resolver.authorities(&name, RecordType::TXT).await;
    authorities.sight(|texts| match texts {
        [record] => judge(record, key).state == RecordState::Verified,
        _ => false,
    })
}

/// `finding`, which the resolver gave, corrected by what the name servers say: a cache may be behind
/// them, and one server may be behind another. A record is never called missing when one has it.
#[must_use]
pub fn corrected(finding: Finding, sight: &Sight, key: &PublicKey) -> Finding {
    let failing = match finding.state {
        RecordState::Missing | RecordState::Mismatch | RecordState::Conflict => true,
        RecordState::Verified | RecordState::Unknown => false,
    };
    match sight {
        Sight::Everywhere { .. } if failing => Finding::verified(
            &key.record(),
            "every name server has this record; the resolver does not yet".into(),
        ),
        Sight::Elsewise {
            some: true,
            problem,
            ..
        } if failing => Finding::spreading(finding.seen, problem),
        Sight::Unsure { problem } if failing => Finding {
            state: RecordState::Unknown,
            reason: reasons::DNS_UNAVAILABLE,
            message: problem.clone(),
            ..finding
        },
        Sight::Unreachable { problem, .. } if failing => Finding {
            state: RecordState::Unknown,
            reason: reasons::AUTHORITY_UNREACHABLE,
            message: format!("{problem}, and the resolver says: {}", finding.message),
            ..finding
        },
        Sight::NotLooked
        | Sight::Everywhere { .. }
        | Sight::Elsewise { .. }
        | Sight::Unsure { .. }
        | Sight::Unreachable { .. } => finding,
    }
}

/// Judges what is left of the record of a key that is no longer used: nothing, or a revocation, is
/// what is wanted.
pub async fn check_withdrawn(
    resolver: &dyn Resolver,
    selector: &Selector,
    domain: &DomainName,
) -> Finding {
    let name = selector.record_name(domain);
    let revokes =
        |record: &str| tags::parse(record).is_ok_and(|tags| tags::value(&tags, "p") == Some(""));
    match resolver.txt(&name).await {
        Answer::Unavailable(failure) => Finding::unknown(&name, &failure),
        Answer::NoData | Answer::NxDomain => Finding {
            seen: None,
            ..Finding::verified("", "the record is gone, as it should be".into())
        },
        Answer::Found { records, .. } => match records.as_slice() {
            [record] if revokes(record) => Finding::verified(record, String::new()),
            records => Finding::mismatch(
                reasons::RECORD_MISMATCH,
                &records.join(" | "),
                "nothing signs with this key any more; remove the record, or empty its p=".into(),
            ),
        },
    }
}

/// Looks the record of `key` under `selector` up and judges it.
pub async fn check(
    resolver: &dyn Resolver,
    selector: &Selector,
    domain: &DomainName,
    key: &PublicKey,
) -> Finding {
    check_at(resolver, &selector.record_name(domain), key).await
}

/// Looks the record of `key` at `name` up, aliases followed, and judges it.
pub async fn check_at(resolver: &dyn Resolver, name: &str, key: &PublicKey) -> Finding {
    match resolver.txt(name).await {
        Answer::Unavailable(failure) => Finding::unknown(name, &failure),
        Answer::NoData | Answer::NxDomain => Finding::missing(
            "publish this record, so that receivers can verify the key's signatures".into(),
        ),
        Answer::Found { records, .. } => match records.as_slice() {
            [record] => judge(record, key),
            _ => Finding::conflict(
                &records,
                "leave only this one TXT record at the name; receivers pick any of them".into(),
            ),
        },
    }
}

/// Compares the one published `record` with `key`.
fn judge(record: &str, key: &PublicKey) -> Finding {
    let invalid = |problem: &str| {
        let message = format!("the published record {problem}; replace it");
        Finding::mismatch(reasons::RECORD_INVALID, record, message)
    };
    let differs = |problem: &str| {
        let message = format!("the published record {problem}; replace it");
        Finding::mismatch(reasons::RECORD_MISMATCH, record, message)
    };
    let tags = match tags::parse(record) {
        Ok(tags) => tags,
        Err(problem) => return invalid(problem),
    };
    // RFC 6376 §3.6.1: "v=" comes first if it is there.
    if tags.iter().skip(1).any(|(name, _)| *name == "v") {
        return invalid("has v= elsewhere than at its start");
    }
    if tags::value(&tags, "v").is_some_and(|v| v != "DKIM1") {
        return invalid("does not start with v=DKIM1");
    }
    let Some(published) = tags::value(&tags, "p") else {
        return invalid("has no p= tag");
    };
    if published.is_empty() {
        return differs("revokes the key, because its p= is empty");
    }
    if !tags::value(&tags, "k")
        .unwrap_or("rsa")
        .eq_ignore_ascii_case(kind(key.algorithm))
    {
        return differs("is for a key of another kind");
    }
    let folded: String = published.chars().filter(|c| !c.is_whitespace()).collect();
    match STANDARD.decode(&folded) {
        Err(_) => return invalid("has a p= that is not base64"),
        Ok(bytes) if bytes != key.bytes => return differs("holds another key"),
        Ok(_) => {}
    }
    if let Some(problem) = forbidding_flag(&tags) {
        return differs(problem);
    }
    // The judgement of an independent reader of records has the last word.
    match DomainKey::parse(record.as_bytes()) {
        Ok(_) => Finding::verified(record, String::new()),
        Err(error) => invalid(&format!("is refused by a verifier ({error})")),
    }
}

/// A tag that keeps receivers from using the key for our mail (RFC 6376 §3.6.1).
fn forbidding_flag(tags: &[(&str, &str)]) -> Option<&'static str> {
    let lists = |name: &str, wanted: &[&str]| {
        tags::value(tags, name).map(|list| {
            list.split(':')
                .any(|item| wanted.iter().any(|w| item.trim().eq_ignore_ascii_case(w)))
        })
    };
    if lists("h", &["sha256"]) == Some(false) {
        return Some("has an h= that does not allow sha256");
    }
    if lists("s", &["*", "email"]) == Some(false) {
        return Some("has an s= that does not allow email");
    }
    if lists("t", &["y"]) == Some(true) {
        return Some("has the flag t=y, which makes receivers treat the mail as unsigned");
    }
    None
}

/// The `k=` of an algorithm.
const fn kind(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::RSA2048 | KeyAlgorithm::RSA4096 => "rsa",
        KeyAlgorithm::Ed25519 => "ed25519",
    }
}

#[cfg(test)]
mod tests {
    use postrider_crds::RecordState;

    use super::*;
    use crate::dns::fake::FakeResolver;

    const NAME: &str = "pr-1._domainkey.example.com";
    /// The Ed25519 key of RFC 8463 appendix A.2.
    const ED25519: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn key() -> PublicKey {
        PublicKey::new(KeyAlgorithm::Ed25519, STANDARD.decode(ED25519).unwrap())
    }

    async fn look(resolver: FakeResolver) -> Finding {
        let (selector, domain) = ("pr-1".parse().unwrap(), "example.com".parse().unwrap());
        check(&resolver, &selector, &domain, &key()).await
    }

    #[test]
    fn the_record_is_that_of_rfc_8463() {
        assert_eq!(key().record(), format!("v=DKIM1; k=ed25519; p={ED25519}"));
    }

    async fn assert_judged(records: &[&str], state: RecordState, part: &str) {
        let finding = look(FakeResolver::default().with_txt(NAME, records)).await;
        assert_eq!(finding.state, state, "{records:?}: {}", finding.message);
        let message = &finding.message;
        assert!(message.contains(part), "{records:?}: {message}");
    }

    #[tokio::test]
    async fn table_of_records_that_do_their_duty() {
        let (head, tail) = ED25519.split_at(9);
        for record in [
            key().record(),
            format!("k=ed25519;p={ED25519}"),
            format!("v=DKIM1; k=ed25519; t=s; h=sha256:sha1; s=*; n=hi; p={ED25519};"),
            format!("v=DKIM1; k=ed25519; p={head} {tail}"),
        ] {
            assert_judged(&[&record], RecordState::Verified, "").await;
        }
    }

    #[tokio::test]
    async fn table_of_records_that_do_not() {
        for (record, part) in [
            (
                format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode([7_u8; 32])),
                "another key",
            ),
            (format!("v=DKIM1; p={ED25519}"), "another kind"),
            ("v=DKIM1; k=ed25519; p=".into(), "revokes"),
            ("v=DKIM1; k=ed25519; p=%%%".into(), "base64"),
            (format!("v=DKIM2; k=ed25519; p={ED25519}"), "v=DKIM1"),
            (format!("k=ed25519; p={ED25519}; v=DKIM1"), "elsewhere"),
            (format!("v=DKIM1; k=ed25519; h=sha1; p={ED25519}"), "sha256"),
            (
                format!("v=DKIM1; k=ed25519; s=tlsrpt; p={ED25519}"),
                "email",
            ),
            (format!("v=DKIM1; k=ed25519; t=y:s; p={ED25519}"), "t=y"),
            (
                format!("v=DKIM1; k=ed25519; p={ED25519}; p={ED25519}"),
                "twice",
            ),
            ("k=ed25519".into(), "p="),
            ("v=spf1 -all".into(), "v=DKIM1"),
            ("hello".into(), "tag"),
        ] {
            assert_judged(&[&record], RecordState::Mismatch, part).await;
        }
    }

    #[tokio::test]
    async fn none_is_missing_and_two_are_a_conflict() {
        assert_judged(&[], RecordState::Missing, "publish").await;
        let two = [&*key().record(), "v=spf1 -all"];
        assert_judged(&two, RecordState::Conflict, "only this one").await;
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_is_missing_and_a_dead_server_is_not() {
        let gone = look(FakeResolver::default()).await;
        assert_eq!(gone.state, RecordState::Missing);
        let dead = look(FakeResolver::default().with_failing(NAME)).await;
        assert_eq!(dead.state, RecordState::Unknown);
        assert_eq!(dead.reason, reasons::DNS_UNAVAILABLE);
        assert_eq!(
            dead.message,
            format!(
                "the lookup of {NAME} failed: the resolver 192.0.2.53:53 did not answer in time"
            )
        );
    }
}
