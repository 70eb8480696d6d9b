//! What the name servers of a zone say themselves, without any cache in between.
//!
//! [`walk`] finds a name's zone and its servers through the configured resolver and asks each
//! address of each server, [`exchange`] puts one question to one address.
//!
//! Promises: a server that gives no sound answer is named with what it did, and is never taken for one
//! that says "no such record". An address that this machine has no route to counts only when a
//! server has no other.

use std::{fmt, net::SocketAddr, sync::Arc};

use postrider_crds::DomainName;

mod exchange;
pub(super) mod walk;

#[cfg(test)]
mod tests;

/// The port name servers answer at (RFC 1035 §4.2).
pub const DNS_PORT: u16 = 53;
/// Longest negative TTL that is believed, in seconds: resolvers keep no negative answer longer (RFC
/// 2308 §5 warns of more than a day).
const MAX_NEGATIVE_TTL: u32 = 86_400;
/// Longest TTL that is believed, in seconds: resolvers keep no answer for more than a week.
const MAX_TTL: u32 = 7 * 86_400;

/// How name servers are found and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// Their port.
    pub port: u16,
    /// Servers to ask in place of those a zone names, the most special zone first served.
    pub servers: Vec<ZoneServer>,
}

impl Default for AuthoritySettings {
    fn default() -> Self {
        Self {
            port: DNS_PORT,
            servers: Vec::new(),
        }
    }
}

/// A server to ask about a zone and everything below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneServer {
    /// The zone.
    pub zone: DomainName,
    /// Where its server answers.
    pub address: SocketAddr,
}

impl std::str::FromStr for ZoneServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write ZONE=ADDRESS:PORT, such as example.com=10.0.0.53:53";
        let (zone, address) = text.split_once('=').ok_or_else(|| form.to_owned())?;
        Ok(Self {
            zone: zone.parse().map_err(|error| format!("{error}; {form}"))?,
            address: address
                .parse()
                .map_err(|_| format!("{address:?} is no ADDRESS:PORT; {form}"))?,
        })
    }
}

/// What the servers of a name's zone say of its TXT records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// Each server's answer.
    Answered {
        /// By name and address; never empty.
        answers: Vec<ServerAnswer>,
        /// Seconds for which caches may keep that there is no record (RFC 2308 §5), or an alias on
        /// the way to it.
        cached: u32,
    },
    /// The servers could not be found; why.
    Unknown(String),
}

/// What one address of one server said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerAnswer {
    /// `name (address)`.
    pub server: Arc<str>,
    /// What it said.
    pub said: Said,
}

/// What a server says of a name's TXT records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// These.
    Records {
        /// The strings of each joined.
        texts: Vec<String>,
        /// Seconds they may be kept.
        ttl: u32,
    },
    /// The name exists, without a TXT record.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// Nothing that could be used.
    Nothing(Trouble),
}

/// Why a server's answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// None came in time.
    Timeout,
    /// The server cannot be reached.
    Unreachable,
    /// There is no route to the address from here.
    NoRoute,
    /// SERVFAIL.
    ServerFailure,
    /// REFUSED.
    Refused,
    /// Another error code.
    ErrorResponse,
    /// An answer without authority: the server is lame (RFC 1912 §2.8).
    Lame,
    /// An answer that cannot be read.
    BadAnswer,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "did not answer in time",
            Self::Unreachable => "cannot be reached",
            Self::NoRoute => "has an address that cannot be reached from here",
            Self::ServerFailure => "answered SERVFAIL",
            Self::Refused => "answered REFUSED",
            Self::ErrorResponse => "answered with an error",
            Self::Lame => "answered without authority for the zone",
            Self::BadAnswer => "gave an answer that cannot be read",
        })
    }
}

/// What the name servers of its zone say of one wanted record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// They were not asked.
    #[default]
    NotLooked,
    /// Each gives it.
    Everywhere {
        /// Seconds for which caches may still have something else.
        cached: u32,
    },
    /// At least one is known not to give it.
    Elsewise {
        /// Seconds for which caches may keep what they give instead.
        cached: u32,
        /// At least one other gives it.
        some: bool,
        /// Which server, and what it says.
        problem: String,
    },
    /// None is known not to give it, and at least one gave no answer.
    Unsure {
        /// Which server, and what it did.
        problem: String,
    },
    /// None can be reached from here.
    Unreachable {
        /// Seconds for which caches may have something else, by what the resolver knows of the zone.
        cached: u32,
        /// Which server, and what it did.
        problem: String,
    },
}

/// What the servers of a zone agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// All that answered say the same: these texts, or none.
    Same(Vec<String>),
    /// They do not; which two.
    Split(String),
    /// None gave an answer; which, and what it did.
    Silent(String),
}

impl Trouble {
    /// True when nothing was heard, as behind a firewall.
    const fn is_silence(self) -> bool {
        match self {
            Self::Timeout | Self::Unreachable | Self::NoRoute => true,
            Self::ServerFailure
            | Self::Refused
            | Self::ErrorResponse
            | Self::Lame
            | Self::BadAnswer => false,
        }
    }
}

impl Authorities {
    /// These answers beside what is wanted; `matches` tells whether the texts are as wanted.
    #[must_use]
    pub fn sight(&self, matches: impl Fn(&[String]) -> bool) -> Sight {
        let (answers, cached) = match self {
            Self::Unknown(problem) => {
                return Sight::Unsure {
                    problem: problem.clone(),
                };
            }
            Self::Answered { answers, cached } => (answers, *cached),
        };
        let (mut some, mut longest) = (false, cached);
        let (mut other, mut silent) = (None, None);
        let unheard = |answer: &ServerAnswer| match answer.said {
            Said::Nothing(trouble) => trouble.is_silence(),
            Said::Records { .. } | Said::NoData | Said::NxDomain => false,
        };
        let unreachable = answers.iter().all(unheard);
        for answer in answers {
            let server = &answer.server;
            match &answer.said {
                Said::Records { texts, .. } if matches(texts) => some = true,
                Said::Records { ttl, .. } => {
                    longest = longest.max((*ttl).min(MAX_TTL));
                    other.get_or_insert_with(|| format!("{server} answers with another record"));
                }
                Said::NoData => {
                    other.get_or_insert_with(|| format!("{server} answers with no record"));
                }
                Said::NxDomain => {
                    other.get_or_insert_with(|| {
                        format!("{server} answers that the name does not exist")
                    });
                }
                Said::Nothing(trouble) => {
                    silent.get_or_insert_with(|| format!("{server} {trouble}"));
                }
            }
        }
        match (other, silent) {
            (Some(problem), _) => Sight::Elsewise {
                cached: longest,
                some,
                problem,
            },
            (None, Some(problem)) if unreachable => Sight::Unreachable { cached, problem },
            (None, Some(problem)) => Sight::Unsure { problem },
            (None, None) => Sight::Everywhere { cached: longest },
        }
    }

    /// What those that answered agree on, whatever is wanted.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        let answers = match self {
            Self::Unknown(problem) => return Agreement::Silent(problem.clone()),
            Self::Answered { answers, .. } => answers,
        };
        let texts = |answer: &ServerAnswer| match &answer.said {
            Said::Records { texts, .. } => Some(texts.clone()),
            Said::NoData | Said::NxDomain => Some(Vec::new()),
            Said::Nothing(_) => None,
        };
        let mut heard = answers
            .iter()
            .filter_map(|answer| Some((&answer.server, texts(answer)?)));
        let Some((first, agreed)) = heard.next() else {
            let silent = answers.first().map(|answer| match &answer.said {
                Said::Nothing(trouble) => format!("{} {trouble}", answer.server),
                Said::Records { .. } | Said::NoData | Said::NxDomain => String::new(),
            });
            return Agreement::Silent(silent.unwrap_or_default());
        };
        match heard.find(|(_, other)| *other != agreed) {
            Some((other, _)) => Agreement::Split(format!(
                "the name servers {first} and {other} answer differently"
            )),
            None => Agreement::Same(agreed),
        }
    }
}
