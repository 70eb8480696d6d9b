//! Certificates: reading, judging and issuing them. Pure but for the randomness of new keys.
//!
//! Promises: what to do with a certificate is a function of the certificate and the time
//! ([`judge`]). Keys are ECDSA P-256; a leaf lives 90 days and is renewed after 60, a CA lives ten
//! years and is renewed in its last year. Validity starts an hour back, for clocks that lag.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

const DAY: u64 = 86_400;
/// How long a leaf is valid.
const LEAF_LIFETIME: Duration = Duration::from_secs(90 * DAY);
/// A leaf is renewed when no more than this is left.
const LEAF_MARGIN: Duration = Duration::from_secs(30 * DAY);
/// How long a CA is valid.
const CA_LIFETIME: Duration = Duration::from_secs(3650 * DAY);
/// A CA is renewed when no more than this is left.
const CA_MARGIN: Duration = Duration::from_secs(365 * DAY);
/// How far back validity starts.
const BACKDATE: Duration = Duration::from_secs(3600);

/// A certificate (chain) and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// Leaf first.
    pub certificate: String,
    /// PKCS#8.
    pub key: String,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// DNS names.
    pub names: BTreeSet<String>,
    /// End of validity.
    pub expires: Timestamp,
}

/// What a certificate is for, which decides when it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signs the others.
    Ca,
    /// Proves a server or a client.
    Leaf,
}

/// What to do with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it, look again then.
    Keep {
        /// When to renew it.
        renew_at: Timestamp,
    },
    /// Issue another.
    Issue,
}

/// Judges a certificate by what it says; `None`: there is none, or it cannot be read.
#[must_use]
pub fn judge(
    facts: Option<&Facts>,
    purpose: Purpose,
    wanted: &BTreeSet<String>,
    now: Timestamp,
) -> Verdict {
    let margin = match purpose {
        Purpose::Ca => CA_MARGIN,
        Purpose::Leaf => LEAF_MARGIN,
    };
    let Some(facts) = facts.filter(|facts| facts.names == *wanted) else {
        return Verdict::Issue;
    };
    match facts.expires.checked_sub(margin) {
        Ok(renew_at) if now < renew_at => Verdict::Keep { renew_at },
        _ => Verdict::Issue,
    }
}

/// Reads a certificate and checks that `key` is its key.
///
/// # Errors
///
/// Says which of the two is unusable and why.
pub fn read(certificate: &[u8], key: &[u8]) -> Result<Facts, ReadError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|e| ReadError::Certificate(e.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| ReadError::Certificate("no certificate in it".into()))?
        .clone();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| ReadError::Key(e.to_string()))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|e| ReadError::Key(e.to_string()))?;
    let (_, parsed) =
        X509Certificate::from_der(&leaf).map_err(|e| ReadError::Certificate(e.to_string()))?;
    let alternatives = parsed
        .subject_alternative_name()
        .map_err(|e| ReadError::Certificate(e.to_string()))?;
    let names = alternatives
        .map(|a| a.value.general_names.as_slice())
        .unwrap_or_default();
    let dns_name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    let seconds = parsed.validity().not_after.timestamp();
    Ok(Facts {
        names: names.iter().filter_map(dns_name).collect(),
        expires: Timestamp::from_second(seconds)
            .map_err(|e| ReadError::Certificate(e.to_string()))?,
    })
}

/// Why a certificate and key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The certificate.
    #[error("tls.crt is no PEM certificate: {0}")]
    Certificate(String),
    /// The key, or its fit.
    #[error("tls.key is no PEM private key of the certificate: {0}")]
    Key(String),
}

/// Issues a CA called `name`.
///
/// # Errors
///
/// When a key cannot be made.
pub fn issue_ca(name: &str, now: Timestamp) -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, CA_LIFETIME);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To be connected to.
    Server,
    /// To connect.
    Client,
}

/// Issues a leaf for `names`, signed by `ca`.
///
/// # Errors
///
/// When the CA cannot be read or a name is no DNS name.
pub fn issue_leaf(
    ca: &Pair,
    names: &BTreeSet<String>,
    usage: Usage,
    now: Timestamp,
) -> Result<Pair, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key)?)?;
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    params.distinguished_name.remove(DnType::CommonName);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    set_validity(&mut params, now, LEAF_LIFETIME);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, lifetime: Duration) {
    let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_epoch;
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn days(from: Timestamp, days: u64) -> Timestamp {
        from + Duration::from_secs(days * DAY)
    }

    #[test]
    fn a_leaf_is_kept_for_60_days_and_as_long_as_its_names_are_wanted() {
        let now = at("2026-01-01T00:00:00Z");
        let ca = issue_ca("pool", now).unwrap();
        let wanted = names(&["a.example.net", "*.b.example.net"]);
        let leaf = issue_leaf(&ca, &wanted, Usage::Server, now).unwrap();
        let facts = read(leaf.certificate.as_bytes(), leaf.key.as_bytes()).unwrap();
        assert_eq!(facts.names, wanted);
        assert_eq!(facts.expires, days(now, 90));
        let verdict =
            |wanted: &BTreeSet<String>, now| judge(Some(&facts), Purpose::Leaf, wanted, now);
        let keep = Verdict::Keep {
            renew_at: days(now, 60),
        };
        assert_eq!(verdict(&wanted, now), keep);
        assert_eq!(verdict(&wanted, days(now, 59)), keep);
        assert_eq!(verdict(&wanted, days(now, 60)), Verdict::Issue);
        assert_eq!(verdict(&names(&["a.example.net"]), now), Verdict::Issue);
        assert_eq!(judge(None, Purpose::Leaf, &wanted, now), Verdict::Issue);
    }

    #[test]
    fn a_ca_is_renewed_in_its_last_year() {
        let now = at("2026-01-01T00:00:00Z");
        let ca = issue_ca("pool", now).unwrap();
        let facts = read(ca.certificate.as_bytes(), ca.key.as_bytes()).unwrap();
        let verdict = |now| judge(Some(&facts), Purpose::Ca, &names(&[]), now);
        assert_eq!(
            verdict(days(now, 3284)),
            Verdict::Keep {
                renew_at: days(now, 3285)
            }
        );
        assert_eq!(verdict(days(now, 3285)), Verdict::Issue);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let now = at("2026-01-01T00:00:00Z");
        let (one, two) = (issue_ca("one", now).unwrap(), issue_ca("two", now).unwrap());
        let read = |certificate: &str, key: &str| {
            read(certificate.as_bytes(), key.as_bytes())
                .expect_err("unfit")
                .to_string()
        };
        assert!(read(&one.certificate, &two.key).contains("tls.key"));
        assert!(read(&one.key, &one.key).contains("tls.crt"));
        assert!(read(&one.certificate, "nonsense").contains("tls.key"));
    }
}
