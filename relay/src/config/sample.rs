//! A small whole set of documents for unit tests.

use std::{collections::BTreeMap, sync::LazyLock};

use postrider_crds::{
    relay_config::{
        Admission, Credential, Credentials, DOCUMENT_VERSION, Document as _, DomainEntry, Intake,
        Keyring, Sender, layout,
    },
    scram::ScramVerifier,
};

use super::{Pod, Settings};

pub(crate) const RELAY: &str = "\
version: 1
pool: {namespace: mail, name: default}
hostname: mail-{ordinal}.example.net
listeners: {submission: 587}
limits: {messageBytes: 10000, recipients: 3, sessions: 10}
delivery:
  retry: {initial: 1m, maximum: 4h}
  expireAfter: 5d
  delayWarningAfter: 4h
  tls: Opportunistic
  connectionsPerSite: 10
";

static DOCUMENTS: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(make);

/// The documents of the sample.
pub(crate) fn documents() -> BTreeMap<String, Vec<u8>> {
    DOCUMENTS.clone()
}

/// The sample, built.
pub(crate) fn settings() -> Settings {
    settings_with(|_| {})
}

/// The sample with a change.
pub(crate) fn settings_with(change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Settings {
    let mut documents = documents();
    change(&mut documents);
    Settings::build(&documents, &Pod::named("default-2")).unwrap()
}

/// The sample where `username` has another password.
pub(crate) fn with_password(username: &str, password: &str) -> Settings {
    settings_with(|documents| {
        let mut changed = credentials();
        for credential in &mut changed.credentials {
            if credential.username == username {
                credential.verifier = verifier(username, password);
            }
        }
        documents.insert(
            layout::CREDENTIALS.to_owned(),
            changed.to_yaml().into_bytes(),
        );
    })
}

fn make() -> BTreeMap<String, Vec<u8>> {
    let mut documents = BTreeMap::new();
    let mut put = |path: &str, text: &str| {
        documents.insert(path.to_owned(), text.as_bytes().to_vec());
    };
    put(layout::RELAY_CONFIG, RELAY);
    put(&layout::keyring(0), &keyring().to_yaml());
    put(layout::CREDENTIALS, &credentials().to_yaml());
    let made = rcgen::generate_simple_self_signed(["mail.example.net".to_owned()]).unwrap();
    for (certificate, key) in [
        (layout::TLS_CERTIFICATE, layout::TLS_KEY),
        (layout::ADMIN_CERTIFICATE, layout::ADMIN_KEY),
    ] {
        put(certificate, &made.cert.pem());
        put(key, &made.signing_key.serialize_pem());
    }
    put(layout::ADMIN_CA, &made.cert.pem());
    documents
}

fn keyring() -> Keyring {
    let sender = |username: &str, addresses: &[&str]| Sender {
        username: username.into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let domain = |name: &str, admission, senders| DomainEntry {
        domain: name.parse().unwrap(),
        return_path: format!("bounce.{name}").parse().unwrap(),
        admission,
        reason: match admission {
            Admission::Send => String::new(),
            Admission::Hold | Admission::Reject => "its DKIM record is missing".into(),
        },
        intake: match name {
            "leaving.example" => Intake::Closed,
            _ => Intake::Open,
        },
        keys: Vec::new(),
        senders,
    };
    Keyring {
        version: DOCUMENT_VERSION,
        domains: vec![
            domain(
                "example.com",
                Admission::Send,
                vec![sender("ann", &[]), sender("bob", &["bob@example.com"])],
            ),
            domain("held.example", Admission::Hold, vec![sender("ann", &[])]),
            domain(
                "closed.example",
                Admission::Reject,
                vec![sender("ann", &[])],
            ),
            domain("leaving.example", Admission::Send, vec![sender("ann", &[])]),
        ],
    }
}

fn credentials() -> Credentials {
    let credential = |username: &str, password: &str| Credential {
        username: username.into(),
        tenant: format!("apps/{username}"),
        verifier: verifier(username, password),
    };
    Credentials {
        version: DOCUMENT_VERSION,
        credentials: vec![credential("ann", "secret"), credential("bob", "hunter")],
    }
}

fn verifier(username: &str, password: &str) -> ScramVerifier {
    ScramVerifier::derive(password.as_bytes(), username.as_bytes())
}
