//! From a name to its zone, from the zone to its servers, from the servers to what each says; over
//! aliases into other zones.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{self, BoxFuture},
    stream,
};
use hickory_resolver::{
    TokioResolver,
    net::{DnsError, NetError},
    proto::rr::{Name, RData, Record, RecordType},
};

use super::{
    Authorities, AuthoritySettings, MAX_NEGATIVE_TTL, MAX_TTL, Said, ServerAnswer, Trouble,
    exchange,
};
use crate::dns::resolver::{joined, may_be_edns, plain};

/// Servers of a zone that are asked; the root has 13, nobody needs more.
const MAX_SERVERS: usize = 13;
/// Addresses of one server that are asked.
const MAX_ADDRESSES: usize = 8;
/// Aliases followed one after the other.
const MAX_ALIASES: usize = 4;
/// Different aliases that the servers of one zone may give at a time.
const MAX_TARGETS: usize = 2;
/// Questions to name servers under way for one name.
const PARALLEL: usize = 8;

/// Finds name servers through `resolver`.
pub(in crate::dns) struct Walk<'a> {
    pub(in crate::dns) resolver: &'a TokioResolver,
    /// The same without EDNS.
    pub(in crate::dns) plain: &'a TokioResolver,
    pub(in crate::dns) settings: &'a AuthoritySettings,
}

/// A zone's servers and how long a name that is missing in it is remembered.
struct Zone {
    servers: Vec<Server>,
    negative_ttl: u32,
}

/// One address of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Server {
    name: String,
    address: SocketAddr,
}

/// What a server says: an end, or another name to ask about.
enum Step {
    End(Said),
    Alias { target: Name, ttl: u32 },
}

impl Walk<'_> {
    /// What the servers of `name`'s zone say of its records of type `kind`.
    pub(in crate::dns) async fn ask(&self, name: Name, kind: RecordType) -> Authorities {
        self.follow(name, kind, MAX_ALIASES).await
    }

    fn follow(&self, name: Name, kind: RecordType, aliases: usize) -> BoxFuture<'_, Authorities> {
        async move {
            let zone = match self.zone_of(&name).await {
                Ok(zone) => zone,
                Err(problem) => return Authorities::Unknown(problem),
            };
            let steps: Vec<(Server, Step)> = stream::iter(zone.servers)
                .map(|server| async {
                    let step = ask(&server, &name, kind).await;
                    (server, step)
                })
                .buffered(PARALLEL)
                .collect()
                .await;
            self.gathered(steps, zone.negative_ttl, (kind, aliases))
                .await
        }
        .boxed()
    }

    /// The answers in `steps`, and those of the zones that aliases lead to.
    async fn gathered(
        &self,
        steps: Vec<(Server, Step)>,
        negative_ttl: u32,
        (kind, aliases): (RecordType, usize),
    ) -> Authorities {
        let (mut answers, mut targets) = (Vec::new(), BTreeSet::new());
        let mut cached = negative_ttl;
        for (server, step) in steps {
            match step {
                Step::End(said) => answers.push(answer(&server, said)),
                Step::Alias { target, ttl } => {
                    cached = cached.max(ttl.min(MAX_TTL));
                    targets.insert(target);
                }
            }
        }
        if !targets.is_empty() && (aliases == 0 || targets.len() > MAX_TARGETS) {
            let problem = "its aliases (CNAME) lead too far or to too many names";
            return Authorities::Unknown(problem.into());
        }
        let ends = targets
            .into_iter()
            .map(|target| self.follow(target, kind, aliases.saturating_sub(1)));
        for end in future::join_all(ends).await {
            match end {
                Authorities::Answered {
                    answers: more,
                    cached: longer,
                } => {
                    answers.extend(more);
                    cached = cached.max(longer);
                }
                Authorities::Unknown(problem) => return Authorities::Unknown(problem),
            }
        }
        answers = without_needless(answers);
        Authorities::Answered { answers, cached }
    }

    /// The zone that holds `name`: the nearest name above, itself included, that has an SOA.
    async fn zone_of(&self, name: &Name) -> Result<Zone, String> {
        if let Some(servers) = self.configured(name) {
            let ttl = self.negative_ttl_of(name).await.unwrap_or(MAX_NEGATIVE_TTL);
            return Ok(Zone {
                servers,
                negative_ttl: ttl,
            });
        }
        let (apex, negative_ttl) = self.apex_of(name).await?;
        let servers = self.servers_of(&apex).await?;
        Ok(Zone {
            servers,
            negative_ttl,
        })
    }

    /// The servers that the settings name for `name`.
    fn configured(&self, name: &Name) -> Option<Vec<Server>> {
        let text = plain(name);
        let within = |zone: &str| {
            let rest = text.strip_suffix(zone);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let zones = self.settings.servers.iter();
        let nearest = zones
            .clone()
            .map(|server| &server.zone)
            .filter(|zone| within(zone.as_str()))
            .max_by_key(|zone| zone.as_str().len())?;
        let servers = zones.filter(|server| server.zone == *nearest);
        let servers = servers.map(|server| Server {
            name: nearest.to_string(),
            address: server.address,
        });
        Some(servers.collect())
    }

    async fn negative_ttl_of(&self, name: &Name) -> Option<u32> {
        self.apex_of(name).await.ok().map(|(_, ttl)| ttl)
    }

    /// The apex of the zone that holds `name`, and its negative TTL (RFC 2308 §5).
    async fn apex_of(&self, name: &Name) -> Result<(Name, u32), String> {
        let mut at = name.clone();
        loop {
            for record in self.records(&at, RecordType::SOA).await? {
                // Behind an alias there is another zone's SOA.
                if let RData::SOA(soa) = &record.data
                    && record.name == at
                {
                    // The smaller of this and the SOA's own TTL counts; a resolver shows only the
                    // rest of the latter.
                    return Ok((at, soa.minimum.min(MAX_NEGATIVE_TTL)));
                }
            }
            if at.is_root() {
                return Err(format!("no zone above {} has an SOA record", plain(name)));
            }
            at = at.base_name();
        }
    }

    async fn servers_of(&self, apex: &Name) -> Result<Vec<Server>, String> {
        let zone = plain(apex);
        let records = self.records(apex, RecordType::NS).await?;
        let names: BTreeSet<Name> = records
            .iter()
            .filter_map(|record| match &record.data {
                RData::NS(ns) => Some(ns.0.clone()),
                _ => None,
            })
            .take(MAX_SERVERS)
            .collect();
        if names.is_empty() {
            return Err(format!("the zone {zone} has no NS record"));
        }
        let mut servers = Vec::new();
        for name in names {
            let (four, six) = future::join(
                self.records(&name, RecordType::A),
                self.records(&name, RecordType::AAAA),
            )
            .await;
            let addresses: BTreeSet<IpAddr> = four?
                .iter()
                .chain(&six?)
                .filter_map(address_of)
                .take(MAX_ADDRESSES)
                .collect();
            let name = plain(&name);
            if addresses.is_empty() {
                return Err(format!("the name server {name} of {zone} has no address"));
            }
            servers.extend(addresses.into_iter().map(|address| Server {
                name: name.clone(),
                address: SocketAddr::new(address, self.settings.port),
            }));
        }
        servers.sort();
        Ok(servers)
    }

    /// Records the configured resolver has; none when it is sure that there are none.
    async fn records(&self, name: &Name, kind: RecordType) -> Result<Vec<Record>, String> {
        let lookup = async {
            match self.resolver.lookup(name.clone(), kind).await {
                Err(error) if may_be_edns(&error) => self.plain.lookup(name.clone(), kind).await,
                first => first,
            }
        };
        match tokio::time::timeout(crate::dns::resolver::LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(lookup)) => Ok(lookup.answers().to_vec()),
            Ok(Err(error)) if is_negative(&error) => Ok(Vec::new()),
            Ok(Err(_)) | Err(_) => Err(format!(
                "the resolver gave no answer about {kind} records of {}, by which its name servers are found",
                plain(name)
            )),
        }
    }
}

/// True for NXDOMAIN and "no such record".
fn is_negative(error: &NetError) -> bool {
    use hickory_resolver::proto::op::ResponseCode::{NXDomain, NoError};
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            matches!(none.response_code, NoError | NXDomain)
        }
        _ => false,
    }
}

fn address_of(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

/// Asks one server about `kind` records of `name`, aliases within its answer left to be followed.
async fn ask(server: &Server, name: &Name, kind: RecordType) -> Step {
    let message = match exchange::ask(server.address, name, kind).await {
        Ok(message) => message,
        Err(trouble) => return Step::End(Said::Nothing(trouble)),
    };
    let here = |record: &&Record| record.name == *name;
    for record in message.answers.iter().filter(here) {
        if let RData::CNAME(alias) = &record.data {
            return Step::Alias {
                target: alias.0.to_lowercase(),
                ttl: record.ttl,
            };
        }
    }
    let (mut texts, mut longest) = (Vec::new(), 0);
    for record in message.answers.iter().filter(here) {
        let text = match &record.data {
            RData::TXT(txt) => joined(txt),
            RData::MX(mx) => format!("{} {}.", mx.preference, plain(&mx.exchange)),
            RData::A(a) => a.0.to_string(),
            RData::AAAA(aaaa) => aaaa.0.to_string(),
            RData::PTR(pointer) => plain(&pointer.0),
            _ => continue,
        };
        texts.push(text);
        longest = longest.max(record.ttl);
    }
    use hickory_resolver::proto::op::ResponseCode::NXDomain;
    Step::End(if !texts.is_empty() {
        texts.sort();
        Said::Records {
            texts,
            ttl: longest,
        }
    } else if message.metadata.response_code == NXDomain {
        Said::NxDomain
    } else {
        Said::NoData
    })
}

fn answer(server: &Server, said: Said) -> ServerAnswer {
    let ip = server.address.ip();
    let at = match server.address.port() {
        super::DNS_PORT => ip.to_string(),
        _ => server.address.to_string(),
    };
    ServerAnswer {
        server: format!("{} ({at})", server.name).into(),
        said,
    }
}

/// Without addresses nobody here can reach, of servers that answered at another.
fn without_needless(mut answers: Vec<ServerAnswer>) -> Vec<ServerAnswer> {
    let unreachable = |answer: &ServerAnswer| answer.said == Said::Nothing(Trouble::NoRoute);
    let name = |answer: &ServerAnswer| {
        let name = answer.server.split(' ').next();
        name.unwrap_or_default().to_owned()
    };
    let reached: BTreeSet<String> = answers
        .iter()
        .filter(|answer| !unreachable(answer))
        .map(name)
        .collect();
    answers.retain(|answer| !unreachable(answer) || !reached.contains(&name(answer)));
    answers.sort();
    answers
}
