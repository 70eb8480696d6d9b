//! The private half of a DKIM key, kept small: thousands of them are in memory all the time.
//!
//! Promises: the text that comes out is the one that went in, to the octet; `Debug` prints nothing of
//! it.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

/// Octets of base64 on a line (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// A private key, PKCS#8 in PEM.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PrivateKey(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// What [`pem`] makes the text of, three quarters of its length.
    Der(Box<[u8]>),
    /// A text in another form.
    Text(Box<str>),
}

impl PrivateKey {
    /// The text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Der(der) => Cow::Owned(pem(der)),
            Form::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl From<String> for PrivateKey {
    fn from(text: String) -> Self {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes());
        Self(match der {
            Ok(der) if pem(der.secret_pkcs8_der()) == text => {
                Form::Der(der.secret_pkcs8_der().into())
            }
            Ok(_) | Err(_) => Form::Text(text.into()),
        })
    }
}

impl From<&str> for PrivateKey {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// RFC 7468 §10.
pub(crate) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(PEM_LINE));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str("-----END PRIVATE KEY-----\n");
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_in_another_form_stays_as_it_is() {
        let usual = pem(b"a key of more than one line of base64, which has 64 characters");
        assert!(matches!(PrivateKey::from(usual.as_str()).0, Form::Der(_)));
        for other in [
            usual.replace('\n', "\r\n"),
            usual.trim_end().to_owned(),
            format!("a remark\n{usual}"),
            usual.replacen("=", "", 1),
            "no PEM at all".to_owned(),
            String::new(),
        ] {
            assert_eq!(PrivateKey::from(other.as_str()).text(), other);
        }
    }

    #[test]
    fn lines_are_short() {
        let text = pem(&[7; 1_000]);
        assert!(text.lines().all(|line| line.len() <= PEM_LINE));
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    }

    #[test]
    fn it_does_not_print() {
        let key = PrivateKey::from("secret");
        assert_eq!(format!("{key:?}"), "PrivateKey");
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(der in proptest::collection::vec(any::<u8>(), 1..200)) {
            let text = pem(&der);
            let key = PrivateKey::from(text.clone());
            prop_assert!(matches!(&key.0, Form::Der(kept) if **kept == der[..]));
            prop_assert_eq!(key.text(), text);
        }
    }
}
