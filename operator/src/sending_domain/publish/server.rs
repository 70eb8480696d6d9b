//! A name server that takes updates: one signed question or update at a time, over TCP.
//!
//! Promises: everything sent is signed with TSIG (RFC 8945) and only an answer signed with the same
//! key counts as success; an answer without signature can only refuse. An exchange ends within
//! [`EXCHANGE_TIMEOUT`]. The secret is in no error and in no `Debug`.

use std::{fmt, net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{
        Name, RData, RecordType as WireType, TSigner,
        rdata::tsig::{TsigAlgorithm, TsigError},
    },
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use postrider_crds::PublishedRecord;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::update::{self, Seen, Step};

/// Longest wait for one answer, the connection included.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// By how many seconds the clocks of client and server may differ (RFC 8945 §10: 300 advised).
const FUDGE: u16 = 300;

/// Why a server did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// It cannot be reached or does not answer.
    #[error(
        "the name server {server} {problem}; check spec.publish.rfc2136.server and the network"
    )]
    Unreachable {
        /// The server.
        server: String,
        /// What happened.
        problem: &'static str,
    },
    /// It does not accept the key.
    #[error(
        "the name server {server} does not accept the TSIG key {key}: {problem}; compare name, algorithm and secret with the server's"
    )]
    Key {
        /// The server.
        server: String,
        /// Name of the key.
        key: String,
        /// What it says.
        problem: &'static str,
    },
    /// It does not do this with this zone.
    #[error("the name server {server} answers {code} for the zone {zone}: {remedy}")]
    Refused {
        /// The server.
        server: String,
        /// The zone.
        zone: String,
        /// The code of its answer.
        code: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Its answer cannot be read or is not signed.
    #[error("the name server {server} {problem}; is something between it and the operator?")]
    BadAnswer {
        /// The server.
        server: String,
        /// What is wrong with the answer.
        problem: &'static str,
    },
    /// A name cannot be asked for.
    #[error("{name:?} is no name for a record")]
    Name {
        /// The name.
        name: String,
    },
}

/// Whether an update was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// It was.
    Done,
    /// Somebody changed the records in between: nothing was done.
    Overtaken,
}

/// A secret that is shared with a server, from its Kubernetes Secret.
#[derive(Clone)]
pub struct Key {
    name: String,
    algorithm: TsigAlgorithm,
    secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// Reads the keys `name`, `secret` and `algorithm` of `object`.
    ///
    /// # Errors
    ///
    /// With a sentence that names the key that cannot be used, and never what it holds.
    pub fn from_secret(object: &Secret) -> Result<Self, String> {
        let secret = object.metadata.name.as_deref().unwrap_or_default();
        let text = |key: &str| {
            let bytes = object.data.as_ref().and_then(|data| data.get(key))?;
            Some(std::str::from_utf8(&bytes.0).ok()?.trim().to_owned())
        };
        let wrong =
            |key: &str, remedy: &str| format!("Secret {secret}: {key} cannot be used; {remedy}");
        let name = text("name").filter(|name| update::name(name).is_some_and(|n| !n.is_root()));
        let name = name.ok_or_else(|| {
            wrong(
                "name",
                "put the name of the TSIG key there, as the server knows it",
            )
        })?;
        let bytes = text("secret").and_then(|text| STANDARD.decode(text).ok());
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        let algorithm = match text("algorithm").as_deref() {
            None | Some("hmac-sha256") => TsigAlgorithm::HmacSha256,
            Some("hmac-sha384") => TsigAlgorithm::HmacSha384,
            Some("hmac-sha512") => TsigAlgorithm::HmacSha512,
            Some(_) => {
                return Err(wrong(
                    "algorithm",
                    "use hmac-sha256, hmac-sha384 or hmac-sha512",
                ));
            }
        };
        Ok(Self {
            name: name.trim_end_matches('.').to_owned(),
            algorithm,
            secret: bytes.ok_or_else(|| {
                wrong(
                    "secret",
                    "put the shared secret there, base64 as tsig-keygen prints it",
                )
            })?,
        })
    }
}

/// A name server, the zone to update and the key for it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// How the user names it.
    pub label: String,
    /// The zone.
    pub zone: Name,
    /// The key.
    pub key: Key,
    /// The SendingDomain whose records are ours: its UID.
    pub owner: String,
    /// How long they may be cached, in seconds.
    pub ttl: u32,
}

impl Server {
    /// What it has at the name of `record`, asked with `now` as the time of the signature.
    ///
    /// # Errors
    ///
    /// When it gives no answer of its own.
    pub async fn seen(
        &self,
        record: &PublishedRecord,
        now: Timestamp,
    ) -> Result<Seen, ServerError> {
        let unnameable = || ServerError::Name {
            name: record.name.clone(),
        };
        let name = update::name(&record.name).ok_or_else(unnameable)?;
        let beside = update::name_of_registry(record).ok_or_else(unnameable)?;
        let data = self
            .ask(&name, update::wire_type(record.r#type), now)
            .await?;
        let registry = self.ask(&beside, WireType::TXT, now).await?;
        Ok(Seen {
            alias: data.iter().any(|data| matches!(data, RData::CNAME(_))),
            values: data.iter().filter_map(update::value).collect(),
            registry: registry.iter().filter_map(update::value).collect(),
        })
    }

    /// Takes `step` for `record`.
    ///
    /// # Errors
    ///
    /// When it does not take the update.
    pub async fn take(
        &self,
        record: &PublishedRecord,
        step: &Step,
        now: Timestamp,
    ) -> Result<Updated, ServerError> {
        let Some(message) = update::message(&self.zone, record, &self.owner, self.ttl, step) else {
            return Ok(Updated::Done);
        };
        let answer = self.exchange(message, now).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(Updated::Done),
            ResponseCode::YXDomain
            | ResponseCode::YXRRSet
            | ResponseCode::NXRRSet
            | ResponseCode::NXDomain => Ok(Updated::Overtaken),
            code => Err(self.refused(code)),
        }
    }

    async fn ask(
        &self,
        name: &Name,
        kind: WireType,
        now: Timestamp,
    ) -> Result<Vec<RData>, ServerError> {
        let mut message = Message::query();
        message.metadata.recursion_desired = false;
        message.add_query(Query::query(name.clone(), kind));
        let answer = self.exchange(message, now).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain if !answer.metadata.authoritative => {
                Err(self.refused(ResponseCode::NotAuth))
            }
            ResponseCode::NXDomain => Ok(Vec::new()),
            ResponseCode::NoError => {
                let own = answer.answers.iter().filter(|record| record.name == *name);
                Ok(own.map(|record| record.data.clone()).collect())
            }
            code => Err(self.refused(code)),
        }
    }

    async fn exchange(&self, mut message: Message, now: Timestamp) -> Result<Message, ServerError> {
        let bad = |problem| ServerError::BadAnswer {
            server: self.label.clone(),
            problem,
        };
        let unreachable = |problem| ServerError::Unreachable {
            server: self.label.clone(),
            problem,
        };
        let key_name =
            update::name(&self.key.name).ok_or_else(|| self.key_error("it has no usable name"))?;
        let signer = TSigner::new(
            self.key.secret.clone(),
            self.key.algorithm.clone(),
            key_name,
            FUDGE,
        )
        .map_err(|_| self.key_error("its algorithm is not supported"))?;
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let verifier = message
            .finalize(&signer, seconds)
            .map_err(|_| self.key_error("nothing can be signed with it"))?;
        let mut verifier =
            verifier.ok_or_else(|| self.key_error("nothing can be signed with it"))?;
        let question = message
            .to_vec()
            .map_err(|_| bad("was to be asked what does not fit a message"))?;
        let exchanged =
            tokio::time::timeout(EXCHANGE_TIMEOUT, over_tcp(self.address, &question)).await;
        let answer = exchanged
            .map_err(|_| unreachable("does not answer in time"))?
            .map_err(|_| unreachable("cannot be reached"))?;
        if let Ok(verified) = verifier.verify(&answer) {
            let message = verified.into_message();
            let trouble = message.signature().and_then(|tsig| tsig.data.error);
            return match trouble {
                Some(_) => Err(self.unverified(&message)),
                None => Ok(message),
            };
        }
        let unsigned =
            Message::from_vec(&answer).map_err(|_| bad("gave an answer that cannot be read"))?;
        Err(self.unverified(&unsigned))
    }

    /// What an answer that does not verify says: it may refuse, and nothing else.
    fn unverified(&self, answer: &Message) -> ServerError {
        let trouble = answer.signature().and_then(|tsig| tsig.data.error);
        match (trouble, answer.metadata.response_code) {
            (Some(TsigError::BadKey), _) => self.key_error("it knows no such key"),
            (Some(TsigError::BadSig), _) => self.key_error("the signature is wrong (BADSIG)"),
            (Some(TsigError::BadTime), _) => self.key_error("the clocks differ too much (BADTIME)"),
            (Some(TsigError::BadTrunc | TsigError::Unknown(_)), _) => {
                self.key_error("it refuses the signature")
            }
            (None, ResponseCode::NoError | ResponseCode::NXDomain) => ServerError::BadAnswer {
                server: self.label.clone(),
                problem: "gave an answer that is not signed with the key",
            },
            (None, code) => self.refused(code),
        }
    }

    fn key_error(&self, problem: &'static str) -> ServerError {
        ServerError::Key {
            server: self.label.clone(),
            key: self.key.name.clone(),
            problem,
        }
    }

    fn refused(&self, code: ResponseCode) -> ServerError {
        let remedy = match code {
            ResponseCode::Refused => "allow the key to query and update the zone",
            ResponseCode::NotAuth | ResponseCode::NotZone => {
                "name the zone's primary server and the zone as it is configured there"
            }
            ResponseCode::ServFail => "look into the server's log",
            _ => "see that the server takes dynamic updates of the zone",
        };
        ServerError::Refused {
            server: self.label.clone(),
            zone: self.zone.to_ascii(),
            code: code.to_str().to_owned(),
            remedy,
        }
    }
}

/// One message out and one in, each with its length before it (RFC 1035 §4.2.2).
async fn over_tcp(address: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(fields: &[(&str, &str)]) -> Secret {
        let data = fields
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())));
        let mut secret = Secret {
            data: Some(data.collect()),
            ..Secret::default()
        };
        secret.metadata.name = Some("dns".into());
        secret
    }

    #[test]
    fn a_key_is_read_or_refused_by_field_without_a_word_of_it() {
        let good = secret(&[("name", "update-key."), ("secret", "c2VjcmV0\n")]);
        let key = Key::from_secret(&good).unwrap();
        assert_eq!(
            (key.name.as_str(), key.secret.as_slice()),
            ("update-key", &b"secret"[..])
        );
        assert!(!format!("{key:?}").contains("115"));
        for (fields, field) in [
            (&[("secret", "c2VjcmV0")][..], "name"),
            (&[("name", "k")], "secret"),
            (&[("name", "k"), ("secret", "hunter2!")], "secret"),
            (
                &[
                    ("name", "k"),
                    ("secret", "c2VjcmV0"),
                    ("algorithm", "hmac-md5"),
                ],
                "algorithm",
            ),
        ] {
            let problem = Key::from_secret(&secret(fields)).unwrap_err();
            assert!(
                problem.starts_with(&format!("Secret dns: {field} cannot")),
                "{problem}"
            );
            assert!(!problem.contains("hunter2"));
        }
    }
}
