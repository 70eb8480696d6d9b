//! DKIM keys made outside Postrider, for mail that the receivers and the judges are tested with.

use aws_lc_rs::{
    encoding::AsBigEndian as _,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize};

use super::{error::Error, judge::Signature};
use crate::cluster;

/// A key pair to sign with.
#[derive(Debug, Clone)]
pub struct SigningKey {
    algorithm: &'static str,
    private: String,
    record: String,
}

impl SigningKey {
    /// A fresh RSA key of 2,048 bits.
    ///
    /// # Errors
    /// When the cryptographic library has no randomness.
    pub fn rsa() -> Result<Self, Error> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .map_err(|source| fault("rsa", source))?;
        let public = STANDARD.encode(pair.subject_public_key_info());
        Ok(Self {
            algorithm: "rsa-sha256",
            private: pair.serialize_pem(),
            record: format!("v=DKIM1; k=rsa; p={public}"),
        })
    }

    /// A fresh Ed25519 key (RFC 8463).
    ///
    /// # Errors
    /// When the cryptographic library has no randomness.
    pub fn ed25519() -> Result<Self, Error> {
        let random = |_| fault("ed25519", rcgen::Error::RingUnspecified);
        let pair = Ed25519KeyPair::generate().map_err(random)?;
        let seed = pair.seed().map_err(random)?;
        let seed: aws_lc_rs::encoding::Curve25519SeedBin<'static> =
            seed.as_be_bytes().map_err(random)?;
        let public = STANDARD.encode(pair.public_key());
        Ok(Self {
            algorithm: "ed25519-sha256",
            private: STANDARD.encode(seed.as_ref()),
            record: format!("v=DKIM1; k=ed25519; p={public}"),
        })
    }

    /// The text to publish at `<selector>._domainkey`.
    pub fn record(&self) -> &str {
        &self.record
    }

    /// The order to sign with it for `domain` under `selector`.
    pub fn signature(&self, domain: &str, selector: &str) -> Signature {
        Signature {
            domain: domain.to_owned(),
            selector: selector.to_owned(),
            algorithm: self.algorithm,
            key: self.private.clone(),
        }
    }
}

fn fault(name: &str, source: rcgen::Error) -> Error {
    cluster::Error::Certificate {
        name: name.to_owned(),
        source,
    }
    .into()
}
