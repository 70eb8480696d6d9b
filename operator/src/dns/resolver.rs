//! The port that asks DNS questions, and its implementation on hickory.
//!
//! Promises: a question has one of four answers, and "no answer" is never mistaken for "no
//! record". Nothing is cached here, positive or negative: a record published now is seen by the
//! next look, as soon as the resolvers asked have it. A lookup ends within [`LOOKUP_TIMEOUT`].
//!
//! Failure modes: every one is a [`Failure`], which prints the same bytes for the same kind of
//! trouble with the same servers.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType, rdata::TXT},
    },
    system_conf::read_system_conf,
};
use postrider_crds::RecordType as Kind;
use postrider_process::no_tls;

use super::authority::{Authorities, AuthoritySettings, walk::Walk};
use crate::metrics::{LookupResult, Metrics};

/// Longest wait for one answer, retries and the turn to TCP included.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest wait for one server; two servers or two attempts fit [`LOOKUP_TIMEOUT`].
const SERVER_TIMEOUT: Duration = Duration::from_secs(3);

/// The answer to a question about records of one type at one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// There are records.
    Found {
        /// The records, in the order of the answer; never empty.
        records: Vec<T>,
        /// Seconds the answer may be kept: the smallest TTL among the records.
        ttl: u32,
    },
    /// The name exists, without a record of this type (RFC 2308 §2.2).
    NoData,
    /// The name does not exist (RFC 2308 §2.1).
    NxDomain,
    /// Nobody answered, so nothing is known.
    Unavailable(Failure),
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The servers that were asked, as text.
    pub servers: Arc<str>,
}

/// Kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No answer in time.
    Timeout,
    /// SERVFAIL (RFC 1035 §4.1.1).
    ServerFailure,
    /// REFUSED (RFC 1035 §4.1.1).
    Refused,
    /// Another error code, such as FORMERR or NOTIMP.
    ErrorResponse,
    /// The server cannot be reached.
    Unreachable,
    /// The answer cannot be read.
    BadAnswer,
    /// The name cannot be asked for.
    BadName,
}

impl FailureKind {
    const fn text(self) -> &'static str {
        match self {
            Self::Timeout => "did not answer in time",
            Self::ServerFailure => "answered SERVFAIL",
            Self::Refused => "answered REFUSED",
            Self::ErrorResponse => "answered with an error",
            Self::Unreachable => "cannot be reached",
            Self::BadAnswer => "gave an answer that cannot be read",
            Self::BadName => "cannot be asked for this name",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the resolver {} {}", self.servers, self.kind.text())
    }
}

/// A mail exchange (RFC 5321 §5.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MailExchange {
    /// Lower is tried first.
    pub preference: u16,
    /// Lower-case host name without trailing dot; empty for a null MX (RFC 7505).
    pub host: String,
}

impl<T> Answer<T> {
    /// What the answer counts as.
    const fn result(&self) -> LookupResult {
        match self {
            Self::Found { .. } => LookupResult::Found,
            Self::NoData | Self::NxDomain => LookupResult::Empty,
            Self::Unavailable(_) => LookupResult::Failed,
        }
    }
}

/// Asks DNS. Names are given without trailing dot and are taken as fully qualified: no search
/// list and no hosts file is consulted.
pub trait Resolver: Send + Sync {
    /// TXT records; the strings of one record are joined (RFC 7208 §3.3, RFC 6376 §3.6.2.2), and
    /// what is no UTF-8 is replaced.
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<String>>;
    /// MX records, most preferred first.
    fn mx<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<MailExchange>>;
    /// A records.
    fn ipv4<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>>;
    /// AAAA records.
    fn ipv6<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>>;
    /// Names an address maps back to, lower case, without trailing dot.
    fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Answer<String>>;
    /// What each name server of the name's zone says of its TXT or MX records, the latter as text:
    /// `10 mail.example.net.`
    fn authorities<'a>(&'a self, name: &'a str, kind: Kind) -> BoxFuture<'a, Authorities>;
}

/// Why a resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// `/etc/resolv.conf` is unusable.
    #[error("/etc/resolv.conf cannot be used: {0}; name resolvers with --resolver")]
    SystemConfiguration(NetError),
    /// The resolver does not start.
    #[error("the DNS resolver cannot be set up: {0}")]
    Setup(NetError),
}

/// [`Resolver`] on hickory: UDP, and TCP where an answer is truncated; without EDNS where a server does
/// not know it or something on the way drops it (RFC 6891 §7, §6.2.5).
#[derive(Clone)]
pub struct HickoryResolver {
    inner: TokioResolver,
    /// The same without EDNS.
    plain: TokioResolver,
    servers: Arc<str>,
    authorities: AuthoritySettings,
    metrics: Arc<Metrics>,
}

impl HickoryResolver {
    /// A resolver that asks `servers`, or those of `/etc/resolv.conf` when there are none.
    pub fn new(servers: &[SocketAddr], metrics: Arc<Metrics>) -> Result<Self, ResolverError> {
        let name_servers = if servers.is_empty() {
            let (config, _) = read_system_conf().map_err(ResolverError::SystemConfiguration)?;
            config.name_servers
        } else {
            servers.iter().copied().map(name_server).collect()
        };
        let label = describe(&name_servers);
        let config = ResolverConfig::from_name_servers(name_servers);
        let build = |options| {
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config.clone(), provider);
            *builder.options_mut() = options;
            let built = builder.with_tls_config(no_tls()).build();
            built.map_err(ResolverError::Setup)
        };
        Ok(Self {
            inner: build(options())?,
            plain: build(without_edns())?,
            servers: label.into(),
            authorities: AuthoritySettings::default(),
            metrics,
        })
    }

    /// The same resolver, which finds and asks name servers as `settings` say.
    #[must_use]
    pub fn with_authorities(self, settings: AuthoritySettings) -> Self {
        Self {
            authorities: settings,
            ..self
        }
    }

    async fn ask<T>(
        &self,
        name: Result<Name, FailureKind>,
        record_type: RecordType,
        pick: fn(&RData) -> Option<T>,
    ) -> Answer<T> {
        let answer = match name {
            Err(kind) => self.unavailable(kind),
            Ok(name) => {
                let lookup = async {
                    let first = self.inner.lookup(name.clone(), record_type).await;
                    match first {
                        Err(error) if may_be_edns(&error) => {
                            self.plain.lookup(name, record_type).await
                        }
                        first => first,
                    }
                };
                match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
                    Err(_) => self.unavailable(FailureKind::Timeout),
                    Ok(Ok(lookup)) => found(lookup.answers(), pick),
                    Ok(Err(error)) => self.without_records(&error),
                }
            }
        };
        self.metrics.dns_lookup(answer.result());
        answer
    }

    fn without_records<T>(&self, error: &NetError) -> Answer<T> {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => {
                match response_code {
                    ResponseCode::NoError => Answer::NoData,
                    ResponseCode::NXDomain => Answer::NxDomain,
                    code => self.unavailable(kind_of_code(*code)),
                }
            }
            NetError::Dns(DnsError::ResponseCode(code)) => self.unavailable(kind_of_code(*code)),
            NetError::Timeout => self.unavailable(FailureKind::Timeout),
            NetError::Proto(_) | NetError::Truncated | NetError::QueryCaseMismatch => {
                self.unavailable(FailureKind::BadAnswer)
            }
            _ => self.unavailable(FailureKind::Unreachable),
        }
    }

    fn unavailable<T>(&self, kind: FailureKind) -> Answer<T> {
        Answer::Unavailable(Failure {
            kind,
            servers: Arc::clone(&self.servers),
        })
    }
}

impl Resolver for HickoryResolver {
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<String>> {
        self.ask(absolute(name), RecordType::TXT, |data| match data {
            RData::TXT(txt) => Some(joined(txt)),
            _ => None,
        })
        .boxed()
    }

    fn mx<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<MailExchange>> {
        let lookup = self.ask(absolute(name), RecordType::MX, |data| match data {
            RData::MX(mx) => Some(MailExchange {
                preference: mx.preference,
                host: plain(&mx.exchange),
            }),
            _ => None,
        });
        lookup.map(in_order).boxed()
    }

    fn ipv4<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
        self.ask(absolute(name), RecordType::A, |data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            _ => None,
        })
        .boxed()
    }

    fn ipv6<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
        self.ask(absolute(name), RecordType::AAAA, |data| match data {
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
        .boxed()
    }

    fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Answer<String>> {
        self.ask(
            Ok(Name::from(address)),
            RecordType::PTR,
            |data| match data {
                RData::PTR(name) => Some(plain(name)),
                _ => None,
            },
        )
        .boxed()
    }

    fn authorities<'a>(&'a self, name: &'a str, kind: Kind) -> BoxFuture<'a, Authorities> {
        async move {
            let walk = Walk {
                resolver: &self.inner,
                plain: &self.plain,
                settings: &self.authorities,
            };
            let authorities = match absolute(name) {
                Ok(name) => walk.ask(name, wire(kind)).await,
                Err(kind) => Authorities::Unknown(format!("{name} {}", kind.text())),
            };
            self.metrics.dns_lookup(match &authorities {
                Authorities::Answered { .. } => LookupResult::Found,
                Authorities::Unknown(_) => LookupResult::Failed,
            });
            authorities
        }
        .boxed()
    }
}

/// The strings of a TXT record as one (RFC 7208 §3.3).
pub(super) fn joined(txt: &TXT) -> String {
    let strings = txt.txt_data.iter();
    let octets: Vec<u8> = strings.flat_map(|s| s.iter().copied()).collect();
    String::from_utf8_lossy(&octets).into_owned()
}

/// Looks at records of the wanted type only: a CNAME on the way is no record of the answer.
fn found<T>(answers: &[Record], pick: fn(&RData) -> Option<T>) -> Answer<T> {
    let picked = answers
        .iter()
        .filter_map(|record| Some((pick(&record.data)?, record.ttl)));
    let (records, ttls): (Vec<T>, Vec<u32>) = picked.unzip();
    match ttls.into_iter().min() {
        Some(ttl) => Answer::Found { records, ttl },
        None => Answer::NoData,
    }
}

fn in_order(answer: Answer<MailExchange>) -> Answer<MailExchange> {
    match answer {
        Answer::Found { mut records, ttl } => {
            records.sort();
            Answer::Found { records, ttl }
        }
        other => other,
    }
}

/// True for what a question may have met because of its EDNS.
pub(super) fn may_be_edns(error: &NetError) -> bool {
    let code = match error {
        NetError::Timeout | NetError::Proto(_) => return true,
        NetError::Dns(DnsError::ResponseCode(code)) => *code,
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
        _ => return false,
    };
    matches!(
        code,
        ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS
    )
}

fn kind_of_code(code: ResponseCode) -> FailureKind {
    match code {
        ResponseCode::ServFail => FailureKind::ServerFailure,
        ResponseCode::Refused => FailureKind::Refused,
        _ => FailureKind::ErrorResponse,
    }
}

/// `name` as a fully qualified name; underscores are welcome.
fn absolute(name: &str) -> Result<Name, FailureKind> {
    let mut name = Name::from_str_relaxed(name).map_err(|_| FailureKind::BadName)?;
    name.set_fqdn(true);
    Ok(name)
}

/// The name that tells the names of `address` (RFC 1035 §3.5, RFC 3596 §2.5).
pub(super) fn reverse_name(address: IpAddr) -> String {
    plain(&Name::from(address))
}

const fn wire(kind: Kind) -> RecordType {
    match kind {
        Kind::TXT => RecordType::TXT,
        Kind::MX => RecordType::MX,
        Kind::CNAME => RecordType::CNAME,
        Kind::A => RecordType::A,
        Kind::AAAA => RecordType::AAAA,
        Kind::PTR => RecordType::PTR,
    }
}

pub(super) fn plain(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    // A negative answer of a configured resolver counts; there is no better one to wait for.
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn describe(servers: &[NameServerConfig]) -> String {
    let mut texts: Vec<String> = servers
        .iter()
        .map(|server| match server.connections.first() {
            Some(connection) => SocketAddr::new(server.ip, connection.port).to_string(),
            None => server.ip.to_string(),
        })
        .collect();
    texts.sort();
    texts.dedup();
    texts.join(", ")
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = SERVER_TIMEOUT;
    options.attempts = 1;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    options.negative_max_ttl = Some(Duration::ZERO);
    options
}

fn without_edns() -> ResolverOpts {
    let mut options = options();
    options.edns0 = false;
    options
}

#[cfg(test)]
mod tests;
