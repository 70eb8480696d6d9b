//! What the documents say, checked and ready for use.
//!
//! Promises: a [`Settings`] is whole: every document of the set it was built from has been read,
//! every key parsed, every name checked. Building reads no clock and no file. Settings that follow
//! each other share what did not change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use postrider_crds::{
    DomainName,
    relay_config::{DomainEntry, RefusedDocument, RelayConfig, TrustedClient},
};

pub use postrider_crds::relay_config::Credential;

use super::shelf::{DocumentSet, Shelf};
use crate::{identity::Signer, suppression::SuppressionIndex};

/// Which pod of its pool this relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The number at the end of its name; 0 where there is none.
    pub ordinal: u32,
}

/// A domain this relay may send as.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Its entry in the keyring, but for the keys.
    pub entry: DomainEntry,
    /// Its keys, parsed, and nowhere else in memory.
    pub signer: Arc<Signer>,
}

/// All a relay needs to know, from one whole set of documents.
#[derive(Debug)]
pub struct Settings {
    /// The relay configuration, with the ordinal in its hostname filled in.
    pub relay: RelayConfig,
    /// Domains this relay may send as.
    pub domains: HashMap<DomainName, Arc<Domain>>,
    /// Who can log in, by username.
    pub credentials: Arc<HashMap<String, Credential>>,
    /// Whom not to mail.
    pub suppression: SuppressionIndex,
    /// What the submission doors present.
    pub submission_tls: Arc<rustls::ServerConfig>,
    /// Path below the configuration directory to digest, for every document in force.
    pub documents: BTreeMap<String, String>,
}

impl Pod {
    /// The pod of a StatefulSet named `name`, such as `default-2`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let ordinal = name.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
        Self {
            name: name.to_owned(),
            ordinal: ordinal.unwrap_or(0),
        }
    }
}

impl Settings {
    /// Reads a whole set of documents, or says which cannot be used and why.
    pub fn build(
        documents: &BTreeMap<String, Vec<u8>>,
        pod: &Pod,
    ) -> Result<Self, Vec<RefusedDocument>> {
        let mut shelf = Shelf::default();
        let mut set = DocumentSet::default();
        for (path, octets) in documents {
            set.add(path, octets, &shelf);
        }
        shelf.build(&set, pod)
    }

    /// The domain of that name, if this relay may send as it.
    #[must_use]
    pub fn domain(&self, name: &DomainName) -> Option<&Domain> {
        self.domains.get(name).map(Arc::as_ref)
    }

    /// The domains `username` may send as.
    pub fn domains_of(&self, username: &str) -> impl Iterator<Item = &Domain> {
        let domains = self.domains.values().map(Arc::as_ref);
        domains.filter(move |domain| {
            let mut senders = domain.entry.senders.iter();
            senders.any(|sender| sender.username == username)
        })
    }
}

/// What a schema cannot say about a relay configuration.
pub(super) fn problem_of(relay: &RelayConfig) -> Option<String> {
    if let Err(error) = relay.hostname.parse::<DomainName>() {
        return Some(format!("hostname: {error}"));
    }
    let limits = &relay.limits;
    for (field, value) in [
        ("limits.messageBytes", limits.message_bytes),
        ("limits.recipients", u64::from(limits.recipients)),
        ("limits.sessions", u64::from(limits.sessions)),
        (
            "delivery.connectionsPerSite",
            u64::from(relay.delivery.connections_per_site),
        ),
        (
            "delivery.retry.initial",
            relay.delivery.retry.initial.as_secs(),
        ),
        (
            "delivery.expireAfter",
            relay.delivery.expire_after.as_secs(),
        ),
    ] {
        if value == 0 {
            return Some(format!("{field}: 0 lets nothing through; use 1 or more"));
        }
    }
    let retry = relay.delivery.retry;
    if retry.maximum < retry.initial {
        return Some(format!(
            "delivery.retry.maximum: {} is less than delivery.retry.initial {}; raise it",
            retry.maximum, retry.initial
        ));
    }
    if let Some(trusted) = not_loopback(relay) {
        return Some(format!(
            "trustedClients: {} is no loopback address, and may stand for clients hidden behind a gateway; give those credentials instead",
            trusted.address
        ));
    }
    let listeners = &relay.listeners;
    if listeners.submission.is_some() && listeners.submission == listeners.submissions {
        let port = listeners.submission.unwrap_or_default();
        return Some(format!(
            "listeners.submissions: {port} is also listeners.submission; use two ports"
        ));
    }
    None
}

/// Trust by address stops at the machine: source NAT lets many clients share any other.
fn not_loopback(relay: &RelayConfig) -> Option<&TrustedClient> {
    let mut trusted = relay.trusted_clients.iter();
    trusted.find(|trusted| !trusted.address.is_loopback())
}

#[cfg(test)]
mod tests {
    use postrider_crds::{digest, relay_config::layout};

    use super::*;
    use crate::config::sample;

    fn refused(path: &str, text: &str) -> String {
        let mut documents = sample::documents();
        documents.insert(path.into(), text.into());
        let refused = Settings::build(&documents, &Pod::named("default-2")).expect_err(text);
        assert_eq!(refused[0].path, path);
        assert_eq!(refused[0].digest, digest::of(text.as_bytes()));
        refused[0].error.clone()
    }

    #[test]
    fn a_whole_set_is_taken() {
        let settings = sample::settings();
        assert_eq!(settings.relay.hostname, "mail-2.example.net");
        assert_eq!(settings.documents.len(), 8);
        assert_eq!((settings.domains.len(), settings.credentials.len()), (4, 2));
        let bare = sample::settings_with(|documents| {
            documents.remove(layout::CREDENTIALS);
            documents.remove(&layout::keyring(0));
        });
        assert!(bare.domains.is_empty() && bare.credentials.is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_path_and_reason() {
        let keyring = sample::documents()[&layout::keyring(0)].clone();
        let keyring = String::from_utf8(keyring).unwrap();
        let relay = |from: &str, to: &str| sample::RELAY.replace(from, to);
        for (path, text, part) in [
            (
                layout::RELAY_CONFIG,
                relay("version: 1", "version: 9"),
                "version 9",
            ),
            (
                layout::RELAY_CONFIG,
                relay("recipients: 3", "recipients: 0"),
                "limits.recipients",
            ),
            (
                layout::RELAY_CONFIG,
                relay("mail-{ordinal}", "a_b"),
                "hostname",
            ),
            (
                layout::RELAY_CONFIG,
                relay("maximum: 4h", "maximum: 1s"),
                "delivery.retry.maximum",
            ),
            (
                layout::RELAY_CONFIG,
                relay("{submission: 587}", "{submission: 587, submissions: 587}"),
                "two ports",
            ),
            (
                layout::RELAY_CONFIG,
                format!(
                    "{}trustedClients: [{{address: 10.0.0.1, username: ann}}]",
                    sample::RELAY
                ),
                "10.0.0.1 is no loopback address",
            ),
            ("keyring/64.yaml", keyring.clone(), "keyring/63.yaml"),
            ("keyring/01.yaml", keyring, "is there twice"),
            (layout::CREDENTIALS, "version: 1\n".into(), "credentials"),
            ("suppression/global.0", "nonsense".into(), "line 1"),
            (layout::TLS_KEY, "nonsense".into(), "PEM private key"),
            (layout::ADMIN_CA, "nonsense".into(), "PEM certificate"),
        ] {
            let error = refused(path, &text);
            assert!(error.contains(part), "{path}: {error}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert!(refused(layout::TLS_KEY, &other).contains("does not belong"));
        assert!(refused(layout::ADMIN_KEY, &other).contains("does not belong"));
    }

    #[test]
    fn what_must_be_there_is_named_when_it_is_not() {
        let refused = Settings::build(&BTreeMap::new(), &Pod::named("x")).expect_err("empty");
        let paths: Vec<&str> = refused.iter().map(|r| r.path.as_str()).collect();
        let expected = [
            layout::RELAY_CONFIG,
            layout::TLS_CERTIFICATE,
            layout::ADMIN_CERTIFICATE,
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn the_ordinal_is_the_number_at_the_end() {
        for (name, ordinal) in [("default-2", 2), ("a-b-11", 11), ("default", 0), ("a-b", 0)] {
            assert_eq!(Pod::named(name).ordinal, ordinal, "{name}");
        }
    }
}
