//! Stored password verifiers in the form of SCRAM-SHA-256 (RFC 5802 §3, RFC 7677), so that a relay
//! holds no password yet can check one given by PLAIN or LOGIN.
//!
//! Promises: a verifier is a function of password, salt and iteration count only, so rendering it
//! twice gives the same bytes. `Debug` prints no key material, nor anything made of it.

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// Iterations of PBKDF2 (RFC 7677 §4 asks for at least 4096).
pub const ITERATIONS: u32 = 4096;
/// Length of salt and keys in octets.
const KEY_LENGTH: usize = 32;

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScramVerifier {
    /// Salt, base64.
    salt: String,
    /// Iterations of PBKDF2.
    iterations: NonZeroU32,
    /// `StoredKey` of RFC 5802 §3, base64.
    stored_key: String,
    /// `ServerKey` of RFC 5802 §3, base64.
    server_key: String,
}

/// Tells one [`ScramVerifier`] from another: a digest of it, to be kept in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; digest::SHA256_OUTPUT_LEN]);

impl ScramVerifier {
    /// The verifier of `password`. `salt_seed` is hashed into the salt: give what names the
    /// credential uniquely, so equal passwords of two credentials look different.
    #[must_use]
    pub fn derive(password: &[u8], salt_seed: &[u8]) -> Self {
        let salt = digest::digest(&digest::SHA256, salt_seed);
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let (stored_key, server_key) = keys(password, salt.as_ref(), iterations);
        Self {
            salt: STANDARD.encode(salt),
            iterations,
            stored_key: STANDARD.encode(stored_key),
            server_key: STANDARD.encode(server_key),
        }
    }

    /// True when `password` is the one this verifier was derived from. Constant time in the
    /// comparison; the cost is that of [`ITERATIONS`] rounds.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        let (Ok(salt), Ok(expected)) = (
            STANDARD.decode(&self.salt),
            STANDARD.decode(&self.stored_key),
        ) else {
            return false;
        };
        let (stored_key, _) = keys(password, &salt, self.iterations);
        constant_time::verify_slices_are_equal(&stored_key, &expected).is_ok()
    }

    /// The same for equal verifiers, another for any other.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.iterations.get().to_be_bytes());
        for field in [&self.salt, &self.stored_key, &self.server_key] {
            // The length keeps `ab` + `c` apart from `a` + `bc`.
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field.as_bytes());
        }
        let mut fingerprint = [0; digest::SHA256_OUTPUT_LEN];
        fingerprint.copy_from_slice(context.finish().as_ref());
        Fingerprint(fingerprint)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprint").finish_non_exhaustive()
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").finish_non_exhaustive()
    }
}

/// `StoredKey` and `ServerKey` (RFC 5802 §3).
fn keys(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> (Vec<u8>, Vec<u8>) {
    let mut salted = [0_u8; KEY_LENGTH];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password,
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    (stored_key.as_ref().to_vec(), server_key.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let (stored, server) = keys(b"pencil", &salt, NonZeroU32::new(4096).unwrap());
        assert_eq!(
            STANDARD.encode(stored),
            "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        );
        assert_eq!(
            STANDARD.encode(server),
            "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn only_the_password_matches_and_nothing_leaks() {
        let verifier = ScramVerifier::derive(b"correct horse", b"apps/legacy");
        assert!(verifier.matches(b"correct horse"));
        assert!(!verifier.matches(b"correct horsf"));
        assert!(!verifier.matches(b""));
        assert_eq!(format!("{verifier:?}"), "ScramVerifier { .. }");
        assert_ne!(
            verifier,
            ScramVerifier::derive(b"correct horse", b"apps/other")
        );
    }

    #[test]
    fn a_fingerprint_is_that_of_one_verifier() {
        let one = ScramVerifier::derive(b"correct horse", b"apps/legacy");
        let fingerprint = one.fingerprint();
        let same = ScramVerifier::derive(b"correct horse", b"apps/legacy");
        assert_eq!(same.fingerprint(), fingerprint);
        assert_eq!(format!("{fingerprint:?}"), "Fingerprint { .. }");
        let changed = |change: fn(&mut ScramVerifier)| {
            let mut other = one.clone();
            change(&mut other);
            other
        };
        for other in [
            ScramVerifier::derive(b"correct horsf", b"apps/legacy"),
            ScramVerifier::derive(b"correct horse", b"apps/other"),
            changed(|other| other.iterations = other.iterations.saturating_add(1)),
            changed(|other| other.server_key.push('=')),
            changed(|other| {
                let first = other.stored_key.remove(0);
                other.salt.push(first);
            }),
        ] {
            assert_ne!(other.fingerprint(), fingerprint);
        }
    }
}
