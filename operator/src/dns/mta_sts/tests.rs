//! Tables of published records and of policies behind them; how policies are fetched is told in
//! [`fetch`].

use std::collections::BTreeMap;

use mail_auth::{common::parse::TxtRecordParser as _, mta_sts::MtaSts};
use postrider_crds::RecordState::{Conflict, Mismatch, Missing, Unknown, Verified};
use proptest::prelude::*;

use super::*;
use crate::dns::fake::{FakePolicies, FakeResolver};

const NAME: &str = "_mta-sts.example.com";
const HOST: &str = "mta-sts.example.com";
const RECORD: &str = "v=STSv1; id=20260101";
const POLICY: &str = "version: STSv1\nmode: enforce\nmx: *.example.net\nmax_age: 604800\n";

fn publishing(records: &[&str]) -> FakeResolver {
    FakeResolver::default()
        .with_mx(
            "example.com",
            &[(10, "mx2.example.net"), (10, "mx1.example.net")],
        )
        .with_addresses(HOST, &["192.0.2.80"])
        .with_txt(NAME, records)
}

fn serving(answer: Result<&str, Trouble>) -> FakePolicies {
    FakePolicies(BTreeMap::from([(
        HOST.to_owned(),
        answer.map(str::to_owned),
    )]))
}

async fn look(resolver: &FakeResolver, policies: &FakePolicies) -> Option<Finding> {
    let domain = "example.com".parse().unwrap();
    let addressee = Addressee {
        domain: &domain,
        exchange: None,
    };
    check(resolver, policies, addressee).await
}

#[tokio::test]
async fn table_of_published_records() {
    let good = serving(Ok(POLICY));
    let cases: [(&[&str], RecordState, &str); 15] = [
        (&[RECORD], Verified, ""),
        (&["v=STSv1;id=a;"], Verified, ""),
        (&["v=STSv1; x.y=1; id=a ; id=b"], Verified, ""),
        (&["hello", RECORD], Verified, ""),
        (
            &[],
            Missing,
            "https://mta-sts.example.com/.well-known/mta-sts.txt",
        ),
        (&["hello"], Mismatch, "begins with"),
        (&["v=STSv1"], Mismatch, "begins with"),
        (&["v=STSv1 ; id=a"], Mismatch, "begins with"),
        (&["v=stsv1; id=a"], Mismatch, "begins with"),
        (&["v=STSv1;"], Mismatch, "no id="),
        (&["v=STSv1; id="], Mismatch, "without a value"),
        (&["v=STSv1; id=2026-01-01"], Mismatch, "letters and digits"),
        (
            &["v=STSv1; id=123456789012345678901234567890123"],
            Mismatch,
            "1 to 32",
        ),
        (&["v=STSv1; id=a; x=1=2"], Mismatch, "characters"),
        (&[RECORD, "v=STSv1; id=b"], Conflict, "only one"),
    ];
    for (records, state, part) in cases {
        let found = look(&publishing(records), &good).await.unwrap();
        assert_eq!(found.state, state, "{records:?}: {}", found.message);
        assert!(
            found.message.contains(part),
            "{records:?}: {}",
            found.message
        );
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story or table, told in a row")]
async fn table_of_policies() {
    let testing = POLICY
        .replace("enforce", "testing")
        .replace("604800", "3600");
    let unusable = |what: &str| Err(Trouble::Unusable(what.into()));
    let unavailable = |what: &str| Err(Trouble::Unavailable(what.into()));
    let (none, other) = (
        POLICY.replace("enforce", "none"),
        POLICY.replace("*.", "mx1."),
    );
    let cases: [(Result<&str, Trouble>, RecordState, &str, &str); 7] = [
        (Ok(POLICY), Verified, reasons::VERIFIED, ""),
        (Ok(&testing), Verified, reasons::VERIFIED, "mode testing"),
        (Ok(&none), Mismatch, reasons::POLICY_INVALID, "mode none"),
        (
            Ok(&other),
            Mismatch,
            reasons::POLICY_INVALID,
            "keep mail from mx2.example.net;",
        ),
        (Ok("hello"), Mismatch, reasons::POLICY_INVALID, "line 1"),
        (
            unusable("answers 404"),
            Mismatch,
            reasons::POLICY_INVALID,
            "mta-sts.example.com answers 404; have it serve",
        ),
        (
            unavailable("answers 503"),
            Unknown,
            reasons::POLICY_UNAVAILABLE,
            "answers 503",
        ),
    ];
    for (answer, state, reason, part) in cases {
        let found = look(&publishing(&[RECORD]), &serving(answer.clone()))
            .await
            .unwrap();
        assert_eq!((found.state, found.reason), (state, reason), "{answer:?}");
        assert!(
            found.message.contains(part),
            "{answer:?}: {}",
            found.message
        );
        // The record itself is as it should be.
        assert_eq!(found.seen.as_deref(), Some(RECORD));
        assert_eq!(found.wanted.as_deref(), Some(RECORD));
        if state == Verified && !part.is_empty() {
            assert!(
                found.message.contains("max_age of 3600 s"),
                "{}",
                found.message
            );
        }
    }
    let mut nowhere = publishing(&[RECORD]);
    nowhere.addresses.clear();
    let found = look(&nowhere, &serving(Ok(POLICY))).await.unwrap();
    assert_eq!(
        (found.state, found.reason),
        (Mismatch, reasons::POLICY_INVALID)
    );
    assert!(found.message.contains("mta-sts.example.com has no address"));
}

#[tokio::test]
async fn what_is_to_be_published_depends_on_the_hosts_and_not_on_their_order() {
    let missing = |mx: &[(u16, &str)]| {
        let resolver = FakeResolver::default().with_mx("example.com", mx);
        async move { look(&resolver, &serving(Ok(POLICY))).await.unwrap() }
    };
    let (one, two) = ((10, "mx1.example.net"), (10, "mx2.example.net"));
    let found = missing(&[one, two]).await;
    assert_eq!(found, missing(&[two, one]).await);
    assert!(
        found
            .message
            .contains("mx: mx1.example.net, mx: mx2.example.net")
    );
    let wanted = found.wanted.unwrap();
    assert!(id(&wanted).is_ok(), "{wanted}");
    assert_ne!(missing(&[one]).await.wanted.unwrap(), wanted);
    let policy: Policy = wanted_policy(&["a.test".into()])
        .join("\n")
        .parse()
        .unwrap();
    assert!(policy.covers("a.test") && policy.mode == Mode::Enforce);
}

#[tokio::test]
async fn a_domain_without_mail_needs_none_and_trouble_is_unknown() {
    let good = serving(Ok(POLICY));
    assert_eq!(look(&FakeResolver::default(), &good).await, None);
    for failing in ["example.com", NAME, HOST] {
        let mut resolver = publishing(&[RECORD]).with_failing(failing);
        if failing == "example.com" {
            resolver.mx.clear();
        }
        let found = look(&resolver, &good).await.unwrap();
        assert_eq!(
            (found.state, found.reason),
            (Unknown, reasons::DNS_UNAVAILABLE)
        );
        assert!(found.message.contains(failing), "{}", found.message);
    }
}

proptest! {
    /// What is called good here, others read in the same way.
    #[test]
    fn what_is_good_is_understood_by_mail_auth(
        text in "v=STSv1;[ \t]{0,2}(x[a-z]{0,4}=[a-z0-9]{1,4};[ \t]{0,2})?id=[a-zA-Z0-9]{0,34}(;|)",
    ) {
        if let Ok(ours) = id(&text) {
            prop_assert_eq!(&MtaSts::parse(text.as_bytes()).unwrap().id, ours);
        }
    }

    #[test]
    fn no_text_is_too_odd_to_be_judged(text in "(v=STSv1;)?\\PC{0,40}[ -~]{0,80}") {
        let _ = id(&text);
    }
}
