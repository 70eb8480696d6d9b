//! The pure parts of the accept and deliver paths, 10 KiB a message. `cargo bench -p
//! postrider-relay --bench hot`; `docs/benchmark.md` has what whole relays do.

#![expect(clippy::unwrap_used, reason = "a benchmark stops by panicking")]

use std::{collections::BTreeMap, hint::black_box, net::Ipv4Addr, time::Duration};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use postrider_crds::relay_config::{
    Admission, Document as _, DomainEntry, Intake, KeyAlgorithm, SigningKey, SigningState, layout,
};
use postrider_relay::{
    config::{Pod, Settings},
    identity::Signer,
    mail::MessageId,
    submission::{Action, Arrival, Door, Headers, Message, Session, Transmission, stamp},
    transport::Payload,
};

const RELAY: &str = "\
version: 1
pool: {namespace: mail, name: default}
hostname: mail.example.net
listeners: {submission: 587}
limits: {messageBytes: 1000000, recipients: 100, sessions: 10}
delivery: {retry: {initial: 1m, maximum: 4h}, expireAfter: 5d, delayWarningAfter: 4h, tls: Opportunistic, connectionsPerSite: 10}
trustedClients: [{address: 127.0.0.1, username: ann}]
";

fn message() -> Vec<u8> {
    let head = "From: <ann@example.com>\r\nTo: <a@example.net>\r\nSubject: a message\r\n\
                Date: Wed, 25 Nov 2026 04:05:06 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n";
    let line = format!("{}\r\n", "some words ".repeat(6));
    let lines = (10 * 1024 - head.len()) / line.len();
    format!("{head}{}", line.repeat(lines)).into_bytes()
}

fn entry(algorithm: KeyAlgorithm, kind: &'static rcgen::SignatureAlgorithm) -> DomainEntry {
    DomainEntry {
        domain: "example.com".parse().unwrap(),
        return_path: "bounce.example.com".parse().unwrap(),
        admission: Admission::Send,
        reason: String::new(),
        intake: Intake::Open,
        keys: vec![SigningKey {
            selector: "s".parse().unwrap(),
            algorithm,
            state: SigningState::Active,
            private_key: rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem(),
        }],
        senders: vec![postrider_crds::relay_config::Sender {
            username: "ann".into(),
            addresses: Vec::new(),
        }],
    }
}

fn settings() -> Settings {
    use postrider_crds::{
        relay_config::{Credential, Credentials, DOCUMENT_VERSION, Keyring},
        scram::ScramVerifier,
    };
    let made = rcgen::generate_simple_self_signed(["mail.example.net".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let keyring = Keyring {
        version: DOCUMENT_VERSION,
        domains: vec![entry(KeyAlgorithm::Ed25519, &rcgen::PKCS_ED25519)],
    };
    let credentials = Credentials {
        version: DOCUMENT_VERSION,
        credentials: vec![Credential {
            username: "ann".into(),
            tenant: "apps/ann".into(),
            verifier: ScramVerifier::derive(b"secret", b"ann"),
        }],
    };
    let documents: BTreeMap<String, Vec<u8>> = [
        (layout::RELAY_CONFIG.to_owned(), RELAY.to_owned()),
        (layout::keyring(0), keyring.to_yaml()),
        (layout::CREDENTIALS.to_owned(), credentials.to_yaml()),
        (layout::TLS_CERTIFICATE.to_owned(), certificate.clone()),
        (layout::TLS_KEY.to_owned(), key.clone()),
        (layout::ADMIN_CERTIFICATE.to_owned(), certificate.clone()),
        (layout::ADMIN_KEY.to_owned(), key),
        (layout::ADMIN_CA.to_owned(), certificate),
    ]
    .into_iter()
    .map(|(path, text)| (path, text.into_bytes()))
    .collect();
    Settings::build(&documents, &Pod::named("relay-0")).unwrap()
}

/// From MAIL to the message in custody's hands, in reads of 32 KiB at most.
fn session(c: &mut Criterion) {
    let settings = settings();
    let text = message();
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Bytes(text.len() as u64));
    let mail = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<a@example.net>\r\n";
    let data = [&mail[..], b"DATA\r\n", &text, b".\r\n"].concat();
    let size = text.len();
    let bdat = [&mail[..], format!("BDAT {size} LAST\r\n").as_bytes(), &text].concat();
    for (name, input) in [("data", data), ("bdat", bdat)] {
        let client = Ipv4Addr::LOCALHOST.into();
        let mut session = Session::new(Door::StartTls, client, &settings, Duration::ZERO);
        session.receive(b"EHLO client.example\r\n", Duration::ZERO);
        group.bench_function(name, |b| {
            b.iter(|| {
                session.receive(&input, Duration::ZERO);
                let mut taken = None;
                while let Some(action) = session.next_action(&settings) {
                    if let Action::Accept(submission) = action {
                        taken = Some(submission);
                        break;
                    }
                }
                let reply = postrider_relay::mail::Reply::parse(["250 2.0.0 queued"]).unwrap();
                session.answered(Ok(reply));
                while session.next_action(&settings).is_some() {}
                taken.unwrap()
            });
        });
    }
}

fn stamping(c: &mut Criterion) {
    let text = message();
    let domain = "example.com".parse().unwrap();
    let recipient = "a@example.net".parse().unwrap();
    let arrival = Arrival {
        helo: "client.example",
        client: Some(Ipv4Addr::LOCALHOST.into()),
        hostname: "mail.example.net",
        transmission: Transmission::Esmtpsa,
        recipient: Some(&recipient),
        priority: None,
    };
    c.bench_function("headers", |b| b.iter(|| Headers::read(&text).unwrap()));
    let headers = Headers::read(&text).unwrap();
    let name = (MessageId::from_u128(7), &domain, Timestamp::UNIX_EPOCH);
    c.bench_function("stamp", |b| {
        b.iter_batched(
            || Message::from(&text[..]),
            |mut message| {
                stamp(&mut message, &headers, &arrival, name);
                message
            },
            BatchSize::SmallInput,
        );
    });
}

fn signing(c: &mut Criterion) {
    let text = message();
    let mut group = c.benchmark_group("sign");
    for (name, algorithm, kind) in [
        ("ed25519", KeyAlgorithm::Ed25519, &rcgen::PKCS_ED25519),
        ("rsa2048", KeyAlgorithm::RSA2048, &rcgen::PKCS_RSA_SHA256),
    ] {
        let signer = Signer::from_entry(&entry(algorithm, kind)).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| signer.sign(&text, Timestamp::UNIX_EPOCH).unwrap());
        });
    }
    let mut both = entry(KeyAlgorithm::Ed25519, &rcgen::PKCS_ED25519);
    let mut rsa = entry(KeyAlgorithm::RSA2048, &rcgen::PKCS_RSA_SHA256).keys;
    rsa.iter_mut()
        .for_each(|key| key.selector = "t".parse().unwrap());
    both.keys.extend(rsa);
    let signer = Signer::from_entry(&both).unwrap();
    group.bench_function("both", |b| {
        b.iter(|| signer.sign(&text, Timestamp::UNIX_EPOCH).unwrap());
    });
    group.finish();
    floor(c, &text);
}

/// What no signature of this library goes without.
fn floor(c: &mut Criterion, text: &[u8]) {
    let mut group = c.benchmark_group("sign/floor");
    group.bench_function("sha256 of the message", |b| {
        b.iter(|| digest::digest(&digest::SHA256, black_box(text)));
    });
    let hash = digest::digest(&digest::SHA256, text);
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    group.bench_function("ed25519", |b| {
        b.iter(|| ed25519.sign(black_box(hash.as_ref())))
    });
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let mut signature = vec![0; rsa.public_modulus_len()];
    let head = text.get(..512).unwrap();
    group.bench_function("rsa2048", |b| {
        let random = SystemRandom::new();
        b.iter(|| {
            rsa.sign(&RSA_PKCS1_SHA256, &random, black_box(head), &mut signature)
                .unwrap();
        });
    });
}

fn payload(c: &mut Criterion) {
    let plain = Bytes::from(message());
    let dotted = Bytes::from([&plain[..], b".\r\n..\r\n"].concat());
    for (name, body) in [("payload/plain", plain), ("payload/dotted", dotted)] {
        c.bench_function(name, |b| {
            b.iter(|| Payload::new(Bytes::from_static(b"X: 1\r\n"), black_box(body.clone())));
        });
    }
}

criterion_group!(benches, session, stamping, signing, payload);
criterion_main!(benches);
