//! Whether stored messages are what they say they are, decided by software that is not ours:
//! dkimpy, pyspf and checkdmarc, in `e2e/judge/judge.py`.
//!
//! Guarantees: only the name server of the [`Case`] is asked, at the moment of the call; every
//! DKIM-Signature field gets a verdict of its own.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    error::Error,
    python::{Python, Script, json_lines, parse_lines},
};
use crate::cluster::Cache;

/// The judges, ready to be asked.
#[derive(Debug, Clone)]
pub struct Judge {
    pub(super) python: Python,
}

impl Judge {
    /// Finds the judges' Python packages in `cache`; installs them there if they are missing.
    ///
    /// # Errors
    /// When there is no `python3` with `venv`, or the packages cannot be had.
    pub async fn prepare(cache: &Cache) -> Result<Self, Error> {
        Ok(Self {
            python: Python::ready(cache).await?,
        })
    }

    /// The verdict on each case, in their order.
    ///
    /// # Errors
    /// When a message cannot be read. A message that fails is a verdict, not an error.
    pub async fn verify(&self, cases: &[Case]) -> Result<Vec<Verdict>, Error> {
        let questions: Vec<_> = cases.iter().map(Question::from).collect();
        let input = json_lines(JUDGE, &questions)?;
        let output = self.python.run(JUDGE, &input).await?;
        parse_lines(JUDGE, &output, Some(cases.len()))
    }

    /// Signs messages, whose lines end in CRLF, with dkimpy: for tests of receivers and judges.
    ///
    /// # Errors
    /// When a key cannot be used.
    pub async fn sign(&self, orders: &[SignOrder]) -> Result<Vec<Vec<u8>>, Error> {
        let input = json_lines(SIGN, orders)?;
        let output = self.python.run(SIGN, &input).await?;
        let signed: Vec<Octets> = parse_lines(SIGN, &output, Some(orders.len()))?;
        Ok(signed.into_iter().map(|octets| octets.0).collect())
    }
}

/// A stored message and what its receiver knew of its journey.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file with the message, in CRLF or LF lines.
    pub message: PathBuf,
    /// Who delivered it.
    pub client_ip: IpAddr,
    /// The name the client gave in EHLO.
    pub helo: String,
    /// The envelope sender; empty for the null reverse-path.
    pub mail_from: String,
    /// Whom to ask about names.
    pub nameserver: SocketAddr,
}

/// What the judges say of one message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// dkimpy on each signature, from the top of the message down.
    pub dkim: Vec<DkimVerdict>,
    /// pyspf on the client's address.
    pub spf: SpfVerdict,
    /// The two aligned with the From domain over its record.
    pub dmarc: DmarcVerdict,
}

/// One DKIM signature (RFC 6376).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DkimVerdict {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `a=`, `rsa-sha256` or `ed25519-sha256`.
    pub algorithm: String,
    /// What came of it.
    pub result: Outcome,
    /// Why, unless it passed.
    pub detail: String,
}

/// The client's right to use the envelope domain (RFC 7208).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SpfVerdict {
    /// The domain asked about: of the envelope sender, or the HELO name if that is null.
    pub domain: String,
    /// What came of it.
    pub result: Outcome,
    /// The judge's explanation.
    pub detail: String,
}

/// The From domain's policy (RFC 7489).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DmarcVerdict {
    /// The From domain.
    pub domain: String,
    /// What came of it.
    pub result: Outcome,
    /// `none`, `quarantine` or `reject` as published for this domain; empty without a record.
    pub policy: String,
    /// Which of `dkim` and `spf` passed in alignment.
    pub aligned_by: Vec<String>,
    /// Why it is neither pass nor fail.
    pub detail: String,
}

/// The results of RFC 8601 section 2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing to verify.
    None,
    /// Verified.
    Pass,
    /// Refuted.
    Fail,
    /// Refuted, but the domain is not sure (SPF only).
    SoftFail,
    /// The domain says nothing either way.
    Neutral,
    /// The name server did not answer.
    TempError,
    /// A record or key is missing or unusable.
    PermError,
}

/// A signature to make.
#[derive(Debug, Clone, Serialize)]
pub struct Signature {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `rsa-sha256` or `ed25519-sha256`.
    pub algorithm: &'static str,
    /// A PEM private key for RSA, the base64 of the seed for Ed25519.
    pub key: String,
}

/// A message to sign.
#[derive(Debug, Clone, Serialize)]
pub struct SignOrder {
    /// The message, in CRLF lines.
    pub message: String,
    /// The signatures to put on top, the first one topmost.
    pub signatures: Vec<Signature>,
}

/// Octets, base64 in JSON.
struct Octets(Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// A case in the script's words.
#[derive(Serialize)]
struct Question<'a> {
    message: &'a PathBuf,
    client_ip: IpAddr,
    helo: &'a str,
    mail_from: &'a str,
    nameserver: Nameserver,
}

/// A name server in the scripts' words.
#[derive(Serialize)]
pub(super) struct Nameserver {
    ip: IpAddr,
    port: u16,
}

impl From<SocketAddr> for Nameserver {
    fn from(address: SocketAddr) -> Self {
        Self {
            ip: address.ip(),
            port: address.port(),
        }
    }
}

impl<'a> From<&'a Case> for Question<'a> {
    fn from(case: &'a Case) -> Self {
        Self {
            message: &case.message,
            client_ip: case.client_ip,
            helo: &case.helo,
            mail_from: &case.mail_from,
            nameserver: case.nameserver.into(),
        }
    }
}

const JUDGE: Script = Script {
    name: "judge.py",
    text: include_str!("../../judge/judge.py"),
};
const SIGN: Script = Script {
    name: "sign.py",
    text: include_str!("../../judge/sign.py"),
};
