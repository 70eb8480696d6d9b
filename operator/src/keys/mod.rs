//! DKIM keys as they are kept: one Secret each, with the key's state on the Secret.
//!
//! The SendingDomain controller writes these Secrets, the RelayPool controller renders them into
//! keyrings. Promises: this module is the only place that knows the names of type, labels,
//! annotations and data key; `Debug` prints no key material.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use postrider_crds::{Selector, digest, relay_config::KeyAlgorithm};

mod life;
mod private;
mod signing;

pub use life::{KeyState, Life, STATE_ANNOTATION, whole};
pub use private::PrivateKey;
pub(crate) use private::pem;
pub use signing::signing_states;

/// Type of the Secrets.
pub const SECRET_TYPE: &str = "postrider.dev/dkim-key";
/// Label: name of the SendingDomain the key belongs to.
pub const DOMAIN_LABEL: &str = "postrider.dev/sending-domain";
/// Annotation: the key's selector.
pub const SELECTOR_ANNOTATION: &str = "postrider.dev/selector";
/// Annotation: the key's [`KeyAlgorithm`].
pub const ALGORITHM_ANNOTATION: &str = "postrider.dev/algorithm";
/// Annotation: digest of the private key as it was made, which tells whether somebody replaced it.
const DIGEST_ANNOTATION: &str = "postrider.dev/private-key-digest";
/// Key of the Secret's data: PKCS#8, PEM.
pub const DATA_KEY: &str = "private-key.pem";

/// A DKIM key, read from its Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct DkimKey {
    /// Name of the Secret.
    pub secret: String,
    /// Name of the SendingDomain.
    pub sending_domain: String,
    /// The key's selector.
    pub selector: Selector,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// How far it is.
    pub life: Life,
    /// PKCS#8, PEM.
    pub private_key: PrivateKey,
}

impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DkimKey")
            .field("secret", &self.secret)
            .field("sending_domain", &self.sending_domain)
            .field("selector", &self.selector)
            .field("algorithm", &self.algorithm)
            .field("state", &self.life.state)
            .finish_non_exhaustive()
    }
}

/// Why a Secret is no usable DKIM key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DkimKeyError {
    /// Its type is another.
    #[error("secret {secret:?} has type {found:?}, not {SECRET_TYPE:?}")]
    Type {
        /// The Secret.
        secret: String,
        /// Its type.
        found: String,
    },
    /// A label, annotation or data key is missing or wrong.
    #[error(
        "secret {secret:?}: {field} {value:?} cannot be used; delete the Secret to have a new key made"
    )]
    Field {
        /// The Secret.
        secret: String,
        /// The label, annotation or data key.
        field: &'static str,
        /// What it holds; empty when absent or secret.
        value: String,
    },
}

impl TryFrom<&Secret> for DkimKey {
    type Error = DkimKeyError;

    fn try_from(object: &Secret) -> Result<Self, DkimKeyError> {
        let secret = object.metadata.name.clone().unwrap_or_default();
        let found = object.type_.clone().unwrap_or_default();
        if found != SECRET_TYPE {
            return Err(DkimKeyError::Type { secret, found });
        }
        let error = |field, value: &str| DkimKeyError::Field {
            secret: secret.clone(),
            field,
            value: value.to_owned(),
        };
        let nothing = BTreeMap::new();
        let labels = object.metadata.labels.as_ref().unwrap_or(&nothing);
        let annotations = object.metadata.annotations.as_ref().unwrap_or(&nothing);
        let annotation = |field| annotations.get(field).map_or("", String::as_str);
        let parse_error = |field| error(field, annotation(field));
        let pem = object.data.as_ref().and_then(|d| d.get(DATA_KEY));
        let private_key = pem
            .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
            .filter(|pem| pem.starts_with("-----BEGIN PRIVATE KEY-----"))
            .ok_or_else(|| error(DATA_KEY, ""))?;
        if annotation(DIGEST_ANNOTATION) != digest::of(private_key.as_bytes()) {
            return Err(parse_error(DIGEST_ANNOTATION));
        }
        let created = object.metadata.creation_timestamp.as_ref();
        Ok(Self {
            sending_domain: labels
                .get(DOMAIN_LABEL)
                .cloned()
                .ok_or_else(|| error(DOMAIN_LABEL, ""))?,
            selector: annotation(SELECTOR_ANNOTATION)
                .parse()
                .map_err(|_| parse_error(SELECTOR_ANNOTATION))?,
            algorithm: algorithm(annotation(ALGORITHM_ANNOTATION))
                .ok_or_else(|| parse_error(ALGORITHM_ANNOTATION))?,
            life: Life::read(annotations, created.map_or(Timestamp::UNIX_EPOCH, |t| t.0)),
            private_key: private_key.into(),
            secret: secret.clone(),
        })
    }
}

impl DkimKey {
    /// The Secret that keeps this key. Namespace and owner are left to the caller.
    #[must_use]
    pub fn to_secret(&self) -> Secret {
        let private_key = self.private_key.text();
        let digest = digest::of(private_key.as_bytes());
        let mut secret = Secret {
            type_: Some(SECRET_TYPE.into()),
            data: Some(BTreeMap::from([(
                DATA_KEY.to_owned(),
                ByteString(private_key.into_owned().into_bytes()),
            )])),
            ..Secret::default()
        };
        secret.metadata.name = Some(self.secret.clone());
        secret.metadata.labels = Some(BTreeMap::from([
            (DOMAIN_LABEL.to_owned(), self.sending_domain.clone()),
            (
                "app.kubernetes.io/managed-by".to_owned(),
                "postrider".to_owned(),
            ),
        ]));
        let life = self.life.annotations().into_iter();
        let mut annotations: BTreeMap<String, String> = life
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        annotations.extend([
            (SELECTOR_ANNOTATION.to_owned(), self.selector.to_string()),
            (
                ALGORITHM_ANNOTATION.to_owned(),
                algorithm_name(self.algorithm).to_owned(),
            ),
            (DIGEST_ANNOTATION.to_owned(), digest),
        ]);
        secret.metadata.annotations = Some(annotations);
        secret
    }
}

/// The name of an algorithm, as in `spec.dkim.keys`.
#[must_use]
pub fn algorithm_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::RSA2048 => "RSA2048",
        KeyAlgorithm::RSA4096 => "RSA4096",
        KeyAlgorithm::Ed25519 => "Ed25519",
    }
}

fn algorithm(name: &str) -> Option<KeyAlgorithm> {
    [
        KeyAlgorithm::RSA2048,
        KeyAlgorithm::RSA4096,
        KeyAlgorithm::Ed25519,
    ]
    .into_iter()
    .find(|algorithm| algorithm_name(*algorithm) == name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key of the SendingDomain `domain`, made at the beginning of time.
    pub(crate) fn key_of(domain: &str, selector: &str, state: KeyState) -> DkimKey {
        DkimKey {
            secret: selector.into(),
            sending_domain: domain.into(),
            selector: selector.parse().unwrap(),
            algorithm: KeyAlgorithm::Ed25519,
            life: Life::new(Timestamp::UNIX_EPOCH, None).at(state, Timestamp::UNIX_EPOCH),
            private_key: format!("PEM of {selector}").into(),
        }
    }

    fn key() -> DkimKey {
        DkimKey {
            secret: "example-pr-1".into(),
            sending_domain: "example".into(),
            selector: "pr-1".parse().unwrap(),
            algorithm: KeyAlgorithm::Ed25519,
            life: Life::new(Timestamp::from_second(1_800_000_000).unwrap(), None),
            private_key: "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n".into(),
        }
    }

    #[test]
    fn a_key_survives_its_secret_and_does_not_print() {
        assert_eq!(DkimKey::try_from(&key().to_secret()).unwrap(), key());
        assert!(!format!("{:?}", key()).contains("AA=="));
    }

    #[test]
    fn a_spoilt_secret_is_refused_by_field() {
        let spoil = |change: fn(&mut Secret)| {
            let mut secret = key().to_secret();
            change(&mut secret);
            DkimKey::try_from(&secret).expect_err("spoilt").to_string()
        };
        let no_type = spoil(|s| s.type_ = Some("Opaque".into()));
        assert!(no_type.contains("Opaque"), "{no_type}");
        let no_label = spoil(|s| s.metadata.labels = None);
        assert!(no_label.contains(DOMAIN_LABEL), "{no_label}");
        let no_key = spoil(|s| s.data = None);
        assert!(no_key.contains(DATA_KEY), "{no_key}");
        let bad_selector = spoil(|s| {
            let annotations = s.metadata.annotations.as_mut().unwrap();
            annotations.insert(SELECTOR_ANNOTATION.into(), "A B".into());
        });
        assert!(bad_selector.contains("A B"), "{bad_selector}");
        let other_key = spoil(|s| {
            let pem = b"-----BEGIN PRIVATE KEY-----\nBB==\n-----END PRIVATE KEY-----\n".to_vec();
            s.data = Some(BTreeMap::from([(DATA_KEY.to_owned(), ByteString(pem))]));
        });
        assert!(other_key.contains(DIGEST_ANNOTATION), "{other_key}");
        assert!(!other_key.contains("BB=="));
    }
}
