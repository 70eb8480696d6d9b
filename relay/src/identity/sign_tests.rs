//! Signatures as an independent code path, mail-auth's verifier, judges them.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, sync::Arc, time::Instant};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::KeySize,
    signature::{Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use mail_auth::{
    AuthenticatedMessage, DkimResult, MessageAuthenticator, ResolverCache, Txt,
    common::{parse::TxtRecordParser, verify::DomainKey},
    hickory_resolver::config::{ResolverConfig, ResolverOpts},
};
use postrider_crds::relay_config::{Admission, Intake};

use super::*;

const MESSAGE: &str = "Received: from app.example.com by mail.example.net\r\n\
    From: Shop\r\n <shop@example.com>\r\nTo: a@example.org\r\nSubject: Your  order \r\n\
    Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\
    MIME-Version: 1.0\r\nContent-Type: text/plain\r\nList-Unsubscribe: <mailto:u@example.com>\r\n\
    \r\nHello \t world\r\n.\r\n\r\n\r\n";

/// The key records of a test, in place of DNS.
struct Published(HashMap<Box<str>, Txt>);

impl ResolverCache<Box<str>, Txt> for Published {
    fn get<Q: Hash + Eq + ?Sized>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
    {
        self.0.get(name).cloned()
    }
    fn remove<Q: Hash + Eq + ?Sized>(&self, _name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
    {
        None
    }
    fn insert(&self, _key: Box<str>, _value: Txt, _valid_until: Instant) {}
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn key(selector: &str, algorithm: KeyAlgorithm, state: SigningState, pem: String) -> SigningKey {
    SigningKey {
        selector: selector.parse().unwrap(),
        algorithm,
        state,
        private_key: pem,
    }
}

fn entry(keys: Vec<SigningKey>) -> DomainEntry {
    DomainEntry {
        domain: "example.com".parse().unwrap(),
        return_path: "bounce.example.com".parse().unwrap(),
        admission: Admission::Send,
        reason: String::new(),
        intake: Intake::Open,
        keys,
        senders: Vec::new(),
    }
}

/// An RSA and an Ed25519 key with their records.
struct Pair {
    rsa_pem: String,
    ed_pem: String,
    records: Published,
}

fn pair() -> Pair {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_der = ed.to_pkcs8().unwrap();
    let records = [
        (
            "pr-rsa",
            format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(rsa_public.as_ref())),
        ),
        (
            "pr-ed",
            format!(
                "v=DKIM1; k=ed25519; p={}",
                STANDARD.encode(ed.public_key().as_ref())
            ),
        ),
    ];
    let records = records.map(|(selector, text)| {
        let record = DomainKey::parse(text.as_bytes()).unwrap();
        let name = format!("{selector}._domainkey.example.com.");
        (name.into(), Txt::DomainKey(Arc::new(record)))
    });
    Pair {
        rsa_pem: pem(rsa_der.as_ref()),
        ed_pem: pem(ed_der.as_ref()),
        records: Published(records.into()),
    }
}

fn signer(pair: &Pair, rsa: SigningState, ed: SigningState) -> Signer {
    Signer::from_entry(&entry(vec![
        key("pr-rsa", KeyAlgorithm::RSA2048, rsa, pair.rsa_pem.clone()),
        key("pr-ed", KeyAlgorithm::Ed25519, ed, pair.ed_pem.clone()),
    ]))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Which signatures of a message hold, by selector.
async fn verify(message: &[u8], records: &Published) -> Vec<(String, bool)> {
    let resolver = MessageAuthenticator::new(
        ResolverConfig::from_name_servers(Vec::new()),
        ResolverOpts::default(),
    )
    .unwrap();
    let parsed = AuthenticatedMessage::parse(message).unwrap();
    let parameters = mail_auth::Parameters::new(&parsed).with_txt_cache(records);
    let outputs = resolver.verify_dkim(parameters).await;
    let judged = outputs.iter().map(|output| {
        let selector = output.signature().map_or_else(String::new, |s| s.s.clone());
        (selector, *output.result() == DkimResult::Pass)
    });
    judged.collect()
}

#[tokio::test]
async fn both_signatures_hold_and_changes_break_them() {
    let pair = pair();
    let signer = signer(&pair, SigningState::Active, SigningState::Active);
    let headers = signer.sign(MESSAGE.as_bytes(), now()).unwrap();
    let signed = [headers.as_slice(), MESSAGE.as_bytes()].concat();
    let judged = |holds| vec![("pr-rsa".to_owned(), holds), ("pr-ed".to_owned(), holds)];
    assert_eq!(verify(&signed, &pair.records).await, judged(true));

    let text = String::from_utf8(signed).unwrap();
    // Refolding and a trace header are allowed; the rest is not.
    for (from, to, holds) in [
        ("From: Shop\r\n <", "From:  Shop <", true),
        ("Received: ", "Received: from x by y\r\nReceived: ", true),
        ("Hello", "Hullo", false),
        ("Subject: Your", "Subject: My", false),
        ("From: Shop", "From: evil@example.net\r\nFrom: Shop", false),
        ("To: a@", "Reply-To: evil@example.net\r\nTo: a@", false),
        (
            "List-Unsubscribe: <mailto:u",
            "List-Unsubscribe: <mailto:v",
            false,
        ),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert_eq!(
            verify(changed.as_bytes(), &pair.records).await,
            judged(holds),
            "{to}"
        );
    }
}

#[test]
fn standby_keys_do_not_sign_and_the_time_is_the_callers() {
    let pair = pair();
    let one = signer(&pair, SigningState::Standby, SigningState::Active);
    let headers = String::from_utf8(one.sign(MESSAGE.as_bytes(), now()).unwrap()).unwrap();
    assert_eq!(headers.matches("DKIM-Signature:").count(), 1);
    assert!(
        headers.contains("s=pr-ed;") && headers.contains("t=1767225600"),
        "{headers}"
    );
    assert!(headers.ends_with("\r\n") && headers.split("\r\n").all(|l| l.len() < 998));
    let none = signer(&pair, SigningState::Standby, SigningState::Standby);
    assert!(!none.is_active());
    assert!(none.sign(MESSAGE.as_bytes(), now()).unwrap().is_empty());
}

#[test]
fn a_message_without_from_is_not_signed() {
    let pair = pair();
    let signer = signer(&pair, SigningState::Active, SigningState::Active);
    for message in ["Subject: x\r\n\r\nFrom: a@example.com\r\n", "", "\r\n"] {
        assert_eq!(
            signer.sign(message.as_bytes(), now()),
            Err(SignError::NoFrom)
        );
    }
}

#[test]
fn bad_keys_are_refused_by_selector_standby_or_not() {
    let pair = pair();
    for (keys, part) in [
        (
            vec![key(
                "pr-1",
                KeyAlgorithm::RSA2048,
                SigningState::Standby,
                "x".into(),
            )],
            "selector pr-1",
        ),
        (
            vec![key(
                "pr-2",
                KeyAlgorithm::RSA2048,
                SigningState::Active,
                pair.ed_pem.clone(),
            )],
            "RSA2048",
        ),
        (
            vec![
                key(
                    "pr-3",
                    KeyAlgorithm::Ed25519,
                    SigningState::Active,
                    pair.ed_pem.clone(),
                ),
                key(
                    "pr-3",
                    KeyAlgorithm::RSA2048,
                    SigningState::Active,
                    pair.rsa_pem.clone(),
                ),
            ],
            "twice",
        ),
    ] {
        let error = Signer::from_entry(&entry(keys))
            .expect_err(part)
            .to_string();
        assert!(
            error.contains(part) && error.contains("example.com"),
            "{error}"
        );
        assert!(!error.contains("BEGIN"), "{error}");
    }
}
