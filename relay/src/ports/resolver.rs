//! Where mail goes, as DNS says.
//!
//! Promises: every answer is typed: records, no such record (NODATA), no such name (NXDOMAIN), or
//! trouble, which is never taken for an answer. CNAMEs are followed by the resolver. Every lookup
//! ends within 20 seconds; answers are cached by their TTL, in bounded number.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::BoxFuture;
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, RecordType},
};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
};
use postrider_crds::DomainName;
use postrider_process::no_tls;

/// Longest a lookup takes, all servers and retries together.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Most answers kept; at some 500 octets each, 8 MiB.
const CACHE_ENTRIES: u64 = 16_384;
/// Wait for one server before the next is asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(4);

/// What DNS says about a name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// At least one record.
    Records(Vec<T>),
    /// The name exists, with no record of the type.
    NoData,
    /// The name does not exist.
    NxDomain,
}

/// An MX record (RFC 5321 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailExchange {
    /// Lower is tried first.
    pub preference: u16,
    /// Host name in lower case without trailing dot; empty for the root, which says that the
    /// domain takes no mail (RFC 7505 §3).
    pub host: String,
}

/// DNS gave no answer; asking again may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lookup of {name} failed: {cause}")]
pub struct ResolveError {
    /// What was asked.
    pub name: String,
    /// What happened.
    pub cause: String,
}

/// Why no resolver can be made.
#[derive(Debug, thiserror::Error)]
pub enum ResolverSetupError {
    /// The system's configuration is missing or not understood.
    #[error("cannot read /etc/resolv.conf: {0}; name servers in RelayConfig resolvers")]
    System(String),
    /// The resolver cannot start.
    #[error("cannot start the resolver: {0}")]
    Start(String),
}

/// The DNS as seen from here.
pub trait Resolver: Send + Sync + 'static {
    /// MX records of a domain, in any order.
    fn mx<'a>(
        &'a self,
        domain: &'a DomainName,
    ) -> BoxFuture<'a, Result<Answer<MailExchange>, ResolveError>>;

    /// IPv6 and IPv4 addresses of a host, in any order.
    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Answer<IpAddr>, ResolveError>>;
}

/// The real DNS, through the servers configured or those of `/etc/resolv.conf`.
#[derive(Clone)]
pub struct DnsResolver {
    resolver: TokioResolver,
}

impl DnsResolver {
    /// A resolver that asks `servers`, or those of `/etc/resolv.conf` where there are none.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, ResolverSetupError> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio()
                .map_err(|error| ResolverSetupError::System(error.to_string()))?
        } else {
            TokioResolver::builder_with_config(config_of(servers), TokioRuntimeProvider::default())
        };
        set_options(builder.options_mut());
        let resolver = builder
            .with_tls_config(no_tls())
            .build()
            .map_err(|error| ResolverSetupError::Start(error.to_string()))?;
        Ok(Self { resolver })
    }

    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, ResolveError> {
        // The trailing dot keeps search domains out of it. Host names in MX records may hold what
        // IDNA does not allow.
        let absolute = Name::from_ascii(format!("{name}.")).map_err(|error| ResolveError {
            name: name.to_owned(),
            cause: error.to_string(),
        })?;
        let lookup = self.resolver.lookup(absolute, kind);
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, lookup)
            .await
            .map_err(|_| ResolveError {
                name: name.to_owned(),
                cause: format!("no answer within {LOOKUP_TIMEOUT:?}"),
            })?;
        match found {
            Ok(lookup) => {
                let records: Vec<T> = lookup
                    .answers()
                    .iter()
                    .filter_map(|record| pick(&record.data))
                    .collect();
                Ok(if records.is_empty() {
                    Answer::NoData
                } else {
                    Answer::Records(records)
                })
            }
            Err(error) => negative(&error).ok_or_else(|| ResolveError {
                name: name.to_owned(),
                cause: error.to_string(),
            }),
        }
    }
}

impl Resolver for DnsResolver {
    fn mx<'a>(
        &'a self,
        domain: &'a DomainName,
    ) -> BoxFuture<'a, Result<Answer<MailExchange>, ResolveError>> {
        let pick = |data: &RData| match data {
            RData::MX(mx) => Some(MailExchange {
                preference: mx.preference,
                host: host_name(&mx.exchange.to_ascii()),
            }),
            _ => None,
        };
        Box::pin(self.records(domain.as_str(), RecordType::MX, pick))
    }

    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Answer<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let pick = |data: &RData| match data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            };
            let (six, four) = tokio::join!(
                self.records(host, RecordType::AAAA, pick),
                self.records(host, RecordType::A, pick),
            );
            merge(six, four)
        })
    }
}

/// Both families as one answer. An answer of one family stands although the other is in trouble;
/// "nothing there" needs both.
fn merge(
    six: Result<Answer<IpAddr>, ResolveError>,
    four: Result<Answer<IpAddr>, ResolveError>,
) -> Result<Answer<IpAddr>, ResolveError> {
    match (six, four) {
        (Ok(Answer::Records(mut six)), Ok(Answer::Records(four))) => {
            six.extend(four);
            Ok(Answer::Records(six))
        }
        (Ok(Answer::Records(one)), _) | (_, Ok(Answer::Records(one))) => Ok(Answer::Records(one)),
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(Answer::NoData), _) | (_, Ok(Answer::NoData)) => Ok(Answer::NoData),
        (Ok(Answer::NxDomain), Ok(Answer::NxDomain)) => Ok(Answer::NxDomain),
    }
}

fn host_name(presentation: &str) -> String {
    presentation.trim_end_matches('.').to_ascii_lowercase()
}

fn config_of(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|server| {
        let connections =
            [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    ResolverConfig::from_name_servers(servers.collect())
}

fn set_options(options: &mut ResolverOpts) {
    options.timeout = SERVER_TIMEOUT;
    options.cache_size = CACHE_ENTRIES;
    options.edns0 = true;
    // Mail follows DNS alone (RFC 5321 §5.1).
    options.use_hosts_file = ResolveHosts::Never;
}

/// The negative answer in an error, if it is one.
fn negative<T>(error: &NetError) -> Option<Answer<T>> {
    let NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) = error else {
        return None;
    };
    match *response_code {
        ResponseCode::NXDomain => Some(Answer::NxDomain),
        ResponseCode::NoError => Some(Answer::NoData),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble() -> ResolveError {
        ResolveError {
            name: "x.org".into(),
            cause: "refused".into(),
        }
    }

    #[test]
    fn one_family_is_enough_but_nothing_needs_both() {
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let some = || Ok(Answer::Records(vec![ip]));
        assert_eq!(merge(Err(trouble()), some()), some());
        assert_eq!(merge(some(), Ok(Answer::NoData)), some());
        assert_eq!(merge(Ok(Answer::NoData), Err(trouble())), Err(trouble()));
        assert_eq!(
            merge(Ok(Answer::NoData), Ok(Answer::NxDomain)),
            Ok(Answer::NoData)
        );
        assert_eq!(
            merge(Ok(Answer::NxDomain), Ok(Answer::NxDomain)),
            Ok(Answer::NxDomain)
        );
    }

    #[test]
    fn only_a_definite_no_is_an_answer() {
        let no = |code| {
            let query = hickory_proto::op::Query::new();
            NetError::Dns(DnsError::NoRecordsFound(NoRecords::new(query, code)))
        };
        assert_eq!(
            negative::<()>(&no(ResponseCode::NXDomain)),
            Some(Answer::NxDomain)
        );
        assert_eq!(
            negative::<()>(&no(ResponseCode::NoError)),
            Some(Answer::NoData)
        );
        assert_eq!(negative::<()>(&no(ResponseCode::ServFail)), None);
        assert_eq!(negative::<()>(&NetError::Timeout), None);
    }

    #[test]
    fn names_lose_case_and_dot_and_the_root_is_empty() {
        assert_eq!(host_name("MX1.Example.ORG."), "mx1.example.org");
        assert_eq!(host_name("."), "");
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod server_tests;
