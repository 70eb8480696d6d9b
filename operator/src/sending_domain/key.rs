//! DKIM key pairs: making them and reading their public half.
//!
//! Promises: private keys are PKCS#8 PEM, version 1 (RFC 5208), which every tool reads, and leave
//! this module only as that text. Errors never repeat key material.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use postrider_crds::relay_config::KeyAlgorithm;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

use crate::{dns::dkim::PublicKey, keys::pem};

/// Octets of an RSA-2048 modulus.
const RSA2048_OCTETS: usize = 256;
/// Octets of an RSA-4096 modulus.
const RSA4096_OCTETS: usize = 512;

/// Why a key cannot be made or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The library refused to make one.
    #[error("a key could not be made")]
    Generation,
    /// The text is no PKCS#8 PEM.
    #[error("is no PKCS#8 key in PEM")]
    NotPem,
    /// The key is of another kind or size than it says.
    #[error("holds no key of its algorithm")]
    WrongKind,
}

/// Makes a key pair and returns its private half as PKCS#8 PEM. Takes up to some seconds of CPU
/// for RSA.
///
/// # Errors
///
/// When the random source or the library fails.
pub fn generate(algorithm: KeyAlgorithm) -> Result<String, KeyError> {
    let rsa = |size| {
        let pair = RsaKeyPair::generate(size).map_err(|_| KeyError::Generation)?;
        let der = pair.as_der().map_err(|_| KeyError::Generation)?;
        Ok(pem(der.as_ref()))
    };
    match algorithm {
        KeyAlgorithm::RSA2048 => rsa(KeySize::Rsa2048),
        KeyAlgorithm::RSA4096 => rsa(KeySize::Rsa4096),
        KeyAlgorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map(|der| pem(der.as_ref()))
            .map_err(|_| KeyError::Generation),
    }
}

/// The public half of a PKCS#8 PEM private key.
///
/// # Errors
///
/// When the text is no such key, or one of another kind or size than `algorithm`.
pub fn public_key(algorithm: KeyAlgorithm, private_key: &str) -> Result<PublicKey, KeyError> {
    let der =
        PrivatePkcs8KeyDer::from_pem_slice(private_key.as_bytes()).map_err(|_| KeyError::NotPem)?;
    let der = der.secret_pkcs8_der();
    let rsa = |octets| {
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::WrongKind)?;
        if pair.public_modulus_len() != octets {
            return Err(KeyError::WrongKind);
        }
        let public: PublicKeyX509Der<'_> = pair
            .public_key()
            .as_der()
            .map_err(|_| KeyError::WrongKind)?;
        Ok(public.as_ref().to_vec())
    };
    let bytes = match algorithm {
        KeyAlgorithm::RSA2048 => rsa(RSA2048_OCTETS)?,
        KeyAlgorithm::RSA4096 => rsa(RSA4096_OCTETS)?,
        KeyAlgorithm::Ed25519 => Ed25519KeyPair::from_pkcs8(der)
            .map_err(|_| KeyError::WrongKind)?
            .public_key()
            .as_ref()
            .to_vec(),
    };
    Ok(PublicKey::new(algorithm, bytes))
}

#[cfg(test)]
mod tests {
    use mail_auth::{
        common::{
            crypto::{Ed25519Key, RsaKey, Sha256},
            parse::TxtRecordParser as _,
            verify::DomainKey,
        },
        dkim::DkimSigner,
    };
    use rustls_pki_types::PrivateKeyDer;

    use super::*;

    /// Signs with mail-auth as the relay does, and verifies against the record we would publish.
    fn signs_and_verifies(algorithm: KeyAlgorithm) {
        use mail_auth::common::crypto::SigningKey as _;
        let private = generate(algorithm).unwrap();
        let record = public_key(algorithm, &private).unwrap().record();
        let domain_key = DomainKey::parse(record.as_bytes()).unwrap();
        let der = PrivatePkcs8KeyDer::from_pem_slice(private.as_bytes()).unwrap();
        let data = b"signed by the relay".as_slice();
        let (signature, kind) = match algorithm {
            KeyAlgorithm::Ed25519 => {
                let key = Ed25519Key::from_pkcs8_der(der.secret_pkcs8_der()).unwrap();
                (key.sign(data).unwrap(), key.algorithm())
            }
            KeyAlgorithm::RSA2048 | KeyAlgorithm::RSA4096 => {
                let key = RsaKey::<Sha256>::from_key_der(PrivateKeyDer::Pkcs8(der)).unwrap();
                (key.sign(data).unwrap(), key.algorithm())
            }
        };
        domain_key.p.verify_bytes(data, &signature, kind).unwrap();
        assert!(
            domain_key
                .p
                .verify_bytes(b"another text", &signature, kind)
                .is_err()
        );
        let _: fn(RsaKey<Sha256>) -> DkimSigner<RsaKey<Sha256>, _> = DkimSigner::from_key;
    }

    #[test]
    fn rsa_2048_survives_the_relay_and_its_record() {
        signs_and_verifies(KeyAlgorithm::RSA2048);
    }

    #[test]
    fn rsa_4096_survives_the_relay_and_its_record() {
        signs_and_verifies(KeyAlgorithm::RSA4096);
    }

    #[test]
    fn ed25519_survives_the_relay_and_its_record() {
        signs_and_verifies(KeyAlgorithm::Ed25519);
    }

    #[test]
    fn the_wrong_kind_of_key_is_refused_without_a_word_of_it() {
        let rsa = generate(KeyAlgorithm::RSA2048).unwrap();
        for wrong in [KeyAlgorithm::RSA4096, KeyAlgorithm::Ed25519] {
            let error = public_key(wrong, &rsa).unwrap_err();
            assert_eq!(error, KeyError::WrongKind);
            assert_eq!(error.to_string(), "holds no key of its algorithm");
        }
        assert_eq!(
            public_key(KeyAlgorithm::Ed25519, "hello"),
            Err(KeyError::NotPem)
        );
    }
}
