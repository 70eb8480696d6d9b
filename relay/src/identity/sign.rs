//! DKIM signatures (RFC 6376, RFC 8463), relaxed/relaxed, SHA-256.
//!
//! The keys and the wire form are mail-auth's. The choice of headers is made here, because its
//! own `sign` can neither oversign nor take the time from the caller, and hashes the body once
//! per key instead of once per message; the hash of the body is ours too.

use std::fmt;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use jiff::Timestamp;
use mail_auth::{
    common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256, SigningKey as _},
    dkim::{Canonicalization, Signature},
};
use memchr::memchr;
use postrider_crds::{
    DomainName, Mailbox, Selector,
    relay_config::{DomainEntry, KeyAlgorithm, SigningKey, SigningState},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use super::{ReturnPathError, body_hash::relaxed_body_hash, return_path};
use crate::mail::MessageId;

/// Signed once more than present, so that adding one breaks the signature (RFC 6376 §8.15).
const OVERSIGNED: [&str; 7] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
];
/// Signed where present (RFC 6376 §5.4.1).
const SIGNED: [&str; 13] = [
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "In-Reply-To",
    "References",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
];
/// Octets that the signed headers and the signature of most messages come to.
const INPUT: usize = 2048;

/// Why a domain's keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A private key is no key of its algorithm.
    #[error(
        "keys of {domain}: selector {selector}: privateKey is no {algorithm:?} key in PKCS#8 PEM: {cause}"
    )]
    Key {
        /// Whose.
        domain: DomainName,
        /// Which.
        selector: Selector,
        /// What it was to be.
        algorithm: KeyAlgorithm,
        /// What is wrong.
        cause: String,
    },
    /// The same selector twice.
    #[error("keys of {domain}: selector {selector} is listed twice; give each key its own")]
    Selector {
        /// Whose.
        domain: DomainName,
        /// Which.
        selector: Selector,
    },
    /// No room for the return path.
    #[error(transparent)]
    ReturnPath(#[from] ReturnPathError),
}

/// Why a message has no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// There is no From header to sign (RFC 6376 §5.4).
    #[error("message has no From header, which a signature must cover")]
    NoFrom,
    /// The key did not sign.
    #[error("selector {selector} cannot sign: {cause}")]
    Key {
        /// Which key.
        selector: Selector,
        /// What happened.
        cause: String,
    },
}

/// What a domain signs with.
pub struct Signer {
    domain: DomainName,
    return_path: DomainName,
    active: Vec<(Selector, DkimKey)>,
    /// Of everything it was made from.
    fingerprint: Digest,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let selectors: Vec<&Selector> = self.active.iter().map(|(selector, _)| selector).collect();
        f.debug_struct("Signer")
            .field("domain", &self.domain)
            .field("active", &selectors)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads every key of `entry`, also those that do not sign yet, so that a bad one is found
    /// when it is loaded and not when it is needed. Active ones will sign.
    pub fn from_entry(entry: &DomainEntry) -> Result<Self, KeyError> {
        return_path(MessageId::from_u128(0), &entry.return_path)?;
        let mut active = Vec::new();
        for (index, key) in entry.keys.iter().enumerate() {
            let mut earlier = entry.keys.iter().take(index);
            if earlier.any(|other| other.selector == key.selector) {
                return Err(KeyError::Selector {
                    domain: entry.domain.clone(),
                    selector: key.selector.clone(),
                });
            }
            let parsed = parse(key).map_err(|cause| KeyError::Key {
                domain: entry.domain.clone(),
                selector: key.selector.clone(),
                algorithm: key.algorithm,
                cause,
            })?;
            match key.state {
                SigningState::Standby => {}
                SigningState::Active => active.push((key.selector.clone(), parsed)),
            }
        }
        Ok(Self {
            domain: entry.domain.clone(),
            return_path: entry.return_path.clone(),
            active,
            fingerprint: fingerprint(entry),
        })
    }

    /// Whether [`Self::from_entry`] would make the same of `entry`, which is told without reading
    /// its keys.
    #[must_use]
    pub fn is_of(&self, entry: &DomainEntry) -> bool {
        self.fingerprint.as_ref() == fingerprint(entry).as_ref()
    }

    /// Whether both were made of the same.
    #[cfg(test)]
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.fingerprint.as_ref() == other.fingerprint.as_ref()
    }

    /// Whether any key signs. Mail of a domain without one goes out unsigned.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// The envelope sender for receivers: `bounce+<id>@<return path domain>`.
    #[must_use]
    pub fn return_path(&self, id: MessageId) -> Mailbox {
        return_path(id, &self.return_path)
            .expect("an id of the same length was tried when the signer was made")
    }

    /// The domain bounces come back to.
    #[must_use]
    pub fn return_path_domain(&self) -> &DomainName {
        &self.return_path
    }

    /// One `DKIM-Signature` header per active key, to be put before `message`, which has CRLF
    /// line ends. Empty when no key is active. Either all active keys sign or it is an error.
    pub fn sign(&self, message: &[u8], now: Timestamp) -> Result<Vec<u8>, SignError> {
        let mut out = Vec::new();
        if self.active.is_empty() {
            return Ok(out);
        }
        let (headers, body) = split(message);
        let signed = Signed::choose(&headers)?;
        // The same for every key, so it is made once.
        let mut input = Vec::with_capacity(INPUT);
        Canonicalization::Relaxed.canonicalize_headers(signed.values.into_iter(), &mut input);
        let common = input.len();
        let mut signature = Signature {
            v: 1,
            d: self.domain.to_string(),
            bh: relaxed_body_hash(body).as_ref().to_vec(),
            h: signed.names,
            t: u64::try_from(now.as_second()).unwrap_or(0),
            ch: Canonicalization::Relaxed,
            cb: Canonicalization::Relaxed,
            ..Signature::default()
        };
        for (selector, key) in &self.active {
            selector.as_str().clone_into(&mut signature.s);
            signature.a = key.algorithm();
            signature.b.clear();
            // The headers, then the signature without its value (RFC 6376 §3.7).
            input.truncate(common);
            signature.write(&mut input, false);
            signature.b = key.sign(input.as_slice()).map_err(|error| SignError::Key {
                selector: selector.clone(),
                cause: error.to_string(),
            })?;
            signature.write(&mut out, true);
        }
        Ok(out)
    }
}

/// A digest of everything in `entry` that a signer is made from.
fn fingerprint(entry: &DomainEntry) -> Digest {
    let mut hash = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        // No two lists of parts come to the same octets.
        hash.update(&part.len().to_be_bytes());
        hash.update(part);
    };
    add(entry.domain.as_str().as_bytes());
    add(entry.return_path.as_str().as_bytes());
    for key in &entry.keys {
        let SigningKey {
            selector,
            algorithm,
            state,
            private_key,
        } = key;
        add(selector.as_str().as_bytes());
        add(match algorithm {
            KeyAlgorithm::RSA2048 => b"RSA2048",
            KeyAlgorithm::RSA4096 => b"RSA4096",
            KeyAlgorithm::Ed25519 => b"Ed25519",
        });
        add(match state {
            SigningState::Standby => b"Standby",
            SigningState::Active => b"Active",
        });
        add(private_key.as_bytes());
    }
    hash.finish()
}

fn parse(key: &SigningKey) -> Result<DkimKey, String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.private_key.as_bytes())
        .map_err(|error| error.to_string())?;
    match key.algorithm {
        KeyAlgorithm::RSA2048 | KeyAlgorithm::RSA4096 => {
            RsaKey::<Sha256>::from_key_der(der.into()).map(DkimKey::Rsa)
        }
        // Version 1 and 2 of PKCS#8, with or without the public key.
        KeyAlgorithm::Ed25519 => {
            Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der()).map(DkimKey::Ed25519)
        }
    }
    .map_err(|error| error.to_string())
}

type Header<'m> = (&'m [u8], &'m [u8]);

/// The h= tag and the headers it selects, in its order.
struct Signed<'m> {
    names: Vec<String>,
    values: Vec<Header<'m>>,
}

impl<'m> Signed<'m> {
    /// Several of a name are taken from the bottom up (RFC 6376 §5.4.2).
    fn choose(headers: &[Header<'m>]) -> Result<Self, SignError> {
        let mut signed = Self {
            names: Vec::new(),
            values: Vec::new(),
        };
        for name in OVERSIGNED {
            signed.take_all(headers, name);
            if name == "From" && signed.values.is_empty() {
                return Err(SignError::NoFrom);
            }
            signed.names.push(name.to_owned());
        }
        for name in SIGNED {
            signed.take_all(headers, name);
        }
        Ok(signed)
    }

    fn take_all(&mut self, headers: &[Header<'m>], name: &str) {
        for header in headers.iter().rev() {
            if header
                .0
                .trim_ascii_end()
                .eq_ignore_ascii_case(name.as_bytes())
            {
                self.names.push(name.to_owned());
                self.values.push(*header);
            }
        }
    }
}

/// Headers as (name, value with line end), and the body.
fn split(message: &[u8]) -> (Vec<Header<'_>>, &[u8]) {
    let mut headers = Vec::new();
    let mut rest = message;
    loop {
        if let Some(body) = rest.strip_prefix(b"\r\n") {
            return (headers, body);
        }
        let (header, after) = rest.split_at(field_length(rest));
        if header.is_empty() {
            return (headers, rest);
        }
        if let Some(colon) = header.iter().position(|byte| *byte == b':') {
            let (name, value) = header.split_at(colon);
            headers.push((name, value.get(1..).unwrap_or_default()));
        }
        rest = after;
    }
}

/// Length of the first header field with its continuation lines (RFC 5322 §2.2.3).
fn field_length(text: &[u8]) -> usize {
    let mut end = 0;
    while let Some(newline) = text.get(end..).and_then(|rest| memchr(b'\n', rest)) {
        end += newline + 1;
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
    text.len()
}

#[cfg(test)]
#[path = "sign_tests.rs"]
mod tests;
