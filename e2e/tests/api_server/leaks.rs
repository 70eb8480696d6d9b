//! Finds private keys where they are not to be, in whatever form they came there.
//!
//! Promises: what is public of a key, which DNS and certificates repeat, is not looked for. A find is
//! told by the name of the secret and the place, and never repeats what was found.

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};

/// Octets of a secret that are looked for at a time: few enough to find a part of it, too many to
/// be anything else.
const PIECE: usize = 16;

/// Secrets to look for.
#[derive(Default)]
pub(crate) struct Leaks {
    /// Octets to look for, to the name of the secret.
    needles: BTreeMap<Vec<u8>, String>,
}

impl Leaks {
    /// Looks for every private key in `data`, the value of a Secret; tells how many there are.
    pub(crate) fn look_for_keys(&mut self, name: &str, data: &[u8]) -> usize {
        let keys: Vec<PrivateKeyDer<'_>> = PrivateKeyDer::pem_slice_iter(data)
            .filter_map(Result::ok)
            .collect();
        for key in &keys {
            let secrets = secrets_of(key.secret_der());
            assert!(!secrets.is_empty(), "{name} holds a key of unknown form");
            secrets
                .iter()
                .for_each(|secret| self.look_for(name, secret));
        }
        keys.len()
    }

    /// Looks for `secret` in every form.
    pub(crate) fn look_for(&mut self, name: &str, secret: &[u8]) {
        for piece in secret.chunks(PIECE).filter(|piece| piece.len() == PIECE) {
            for form in forms(piece) {
                self.needles.insert(form, name.to_owned());
            }
        }
    }

    /// Names of the secrets that `hay` has a part of.
    pub(crate) fn find(&self, hay: &[u8]) -> BTreeSet<&str> {
        let patterns: Vec<(&Vec<u8>, &String)> = self.needles.iter().collect();
        let search = AhoCorasick::new(patterns.iter().map(|(needle, _)| needle));
        let search = search.expect("few enough needles");
        // Texts are broken into lines, and breaks are written in many ways.
        let joined: Vec<u8> = hay
            .iter()
            .copied()
            .filter(|b| !b.is_ascii_whitespace())
            .collect();
        let text = String::from_utf8_lossy(&joined)
            .replace("\\r", "")
            .replace("\\n", "");
        [hay, text.as_bytes()]
            .into_iter()
            .flat_map(|hay| search.find_overlapping_iter(hay))
            .map(|found| patterns[found.pattern().as_usize()].1.as_str())
            .collect()
    }
}

/// What `piece` looks like as it is, in hexadecimal, as a list of numbers, in base64 wherever it
/// stands in what was encoded, and in base64 of base64, as Secrets have their PEM.
fn forms(piece: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<String> = piece.iter().map(u8::to_string).collect();
    let mut forms = vec![
        piece.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        numbers.join(", ").into_bytes(),
        numbers.join(",").into_bytes(),
    ];
    for once in encoded(piece) {
        forms.extend(encoded(once.as_bytes()).map(String::into_bytes));
        forms.push(once.into_bytes());
    }
    forms.extend(encoded(piece).map(|text| text.replace('+', "-").replace('/', "_").into_bytes()));
    forms
}

/// The digits of base64 that depend on `octets` alone, for each way it may stand in what was encoded.
fn encoded(octets: &[u8]) -> [String; 3] {
    [0, 1, 2].map(|before| {
        let mut padded = vec![0; before];
        padded.extend(octets);
        let text = STANDARD_NO_PAD.encode(&padded);
        // The first digits hold bits of what is before, the last those of what is after.
        let first = (before * 8).div_ceil(6);
        let whole = padded.len() * 8 / 6;
        text[first..whole].to_owned()
    })
}

/// The secret numbers of a private key in DER: PKCS#8 (RFC 5208) with RSA (RFC 8017 appendix A.1.2),
/// Ed25519 (RFC 8410) or ECDSA (RFC 5915), or the latter alone.
fn secrets_of(der: &[u8]) -> Vec<Vec<u8>> {
    let Some((SEQUENCE, body, _)) = element(der) else {
        return Vec::new();
    };
    let parts = elements(body);
    let octets = parts.iter().find(|(tag, _)| *tag == OCTET_STRING);
    if let Some((_, inner)) = octets.filter(|_| parts.iter().any(|(tag, _)| *tag == SEQUENCE)) {
        return match element(inner) {
            Some((SEQUENCE, _, _)) => secrets_of(inner),
            Some((OCTET_STRING, seed, _)) => vec![seed.to_vec()],
            _ => Vec::new(),
        };
    }
    if let Some((_, scalar)) = octets {
        return vec![scalar.to_vec()];
    }
    // version, modulus, publicExponent, and what is secret.
    let numbers = parts.iter().filter(|(tag, _)| *tag == INTEGER);
    numbers.skip(3).map(|(_, number)| number.to_vec()).collect()
}

const INTEGER: u8 = 2;
const OCTET_STRING: u8 = 4;
const SEQUENCE: u8 = 0x30;

/// The first element of `der`: its tag, what is in it, what comes after.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(first), rest),
        _ => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
    };
    let (body, rest) = rest.split_at_checked(length)?;
    Some((tag, body, rest))
}

fn elements(mut der: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let Some((tag, body, rest)) = element(der) {
        found.push((tag, body));
        der = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use postrider_crds::relay_config::KeyAlgorithm::{Ed25519, RSA2048, RSA4096};
    use postrider_operator::sending_domain::key;

    use super::*;

    fn keys() -> Vec<String> {
        let ours = [RSA2048, RSA4096, Ed25519].map(|kind| key::generate(kind).expect("a key"));
        let theirs = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        ours.into_iter().chain([theirs]).collect()
    }

    fn der(pem: &str) -> Vec<u8> {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key");
        key.secret_der().to_vec()
    }

    fn found(leaks: &Leaks, hay: &[u8]) -> bool {
        leaks.find(hay).contains("key")
    }

    /// Every way a key may be written is found, whole and in part, anywhere in a text.
    #[test]
    fn what_is_planted_is_found() {
        for pem in keys() {
            let mut leaks = Leaks::default();
            assert_eq!(leaks.look_for_keys("key", pem.as_bytes()), 1);
            let (der, object) = (der(&pem), serde_json::json!({"text": pem}).to_string());
            let hex: String = der.iter().map(|byte| format!("{byte:02X}")).collect();
            let secret = STANDARD_NO_PAD.encode(pem.as_bytes());
            let last = pem.lines().rev().nth(1).expect("a body");
            let plants: [Vec<u8>; 9] = [
                pem.clone().into_bytes(),
                pem.replace('\n', " ").into_bytes(),
                object.into_bytes(),
                format!("{der:?}").into_bytes(),
                hex.to_lowercase().into_bytes(),
                hex.into_bytes(),
                secret.into_bytes(),
                URL_SAFE_NO_PAD.encode(&der).into_bytes(),
                der,
            ];
            for (number, plant) in plants.iter().enumerate() {
                assert!(found(&leaks, plant), "plant {number}");
                let hidden = [b"2026-11-27 INFO \xff x", plant.as_slice(), b" y"].concat();
                assert!(found(&leaks, &hidden), "plant {number} in a text");
            }
            // One line of it, as a log that is cut would have. The first may tell nothing secret.
            let longest = pem
                .lines()
                .rev()
                .nth(2)
                .filter(|line| !line.starts_with('-'));
            let line = longest.unwrap_or(last);
            assert!(found(&leaks, line.as_bytes()), "a line");
        }
    }

    #[test]
    fn what_is_public_is_not_found() {
        for (pem, kind) in keys().iter().zip([RSA2048, RSA4096, Ed25519]) {
            let mut leaks = Leaks::default();
            leaks.look_for_keys("key", pem.as_bytes());
            let public = key::public_key(kind, pem).expect("public");
            assert!(!found(&leaks, public.record().as_bytes()));
            assert!(!found(&leaks, format!("{public:?}").as_bytes()));
            let other = key::generate(Ed25519).expect("a key");
            assert!(!found(&leaks, other.as_bytes()));
        }
        let mut leaks = Leaks::default();
        leaks.look_for("key", b"a password of tests");
        assert!(found(&leaks, b"AUTH a password of tests"));
        assert!(!found(&leaks, b"a password"));
    }
}
