//! `check_host()` of RFC 7208 §4, on the [`Resolver`] port.
//!
//! Records and macros are read by mail-auth. Its evaluator is not used: it asks a resolver of its
//! own, takes the first of several records where §4.5 says permerror, ignores void lookups
//! (§4.6.4), and lets a nested `include` decide for the one around it (§5.2).
//!
//! Promises: at most [`MAX_TERMS`] terms that ask, [`MAX_VOID`] void lookups, and
//! [`MAX_EXCHANGES`] hosts for each `mx`, so an evaluation ends after a bounded number of lookups.

use std::net::IpAddr;

use futures::{FutureExt as _, future::BoxFuture};
use mail_auth::{
    common::parse::TxtRecordParser as _,
    spf::{Macro, Mechanism, Qualifier, Spf, Variables},
};

use super::is_spf;
use crate::dns::{
    Answer, Failure, Resolver,
    resolver::{FailureKind, MailExchange},
};

/// Terms that cause lookups (RFC 7208 §4.6.4).
const MAX_TERMS: u8 = 10;
/// Lookups without an answer, besides the first (RFC 7208 §4.6.4).
const MAX_VOID: u8 = 2;
/// Hosts of one `mx` term, and names of one address (RFC 7208 §4.6.4).
const MAX_EXCHANGES: usize = 10;

/// Why an evaluation ends without a result of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// RFC 7208 §2.6.7 permerror, with the reason.
    Permanent(String),
    /// RFC 7208 §2.6.6 temperror: this name got no answer.
    Unavailable(String, Failure),
}

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    /// The address the connection comes from.
    pub(super) address: IpAddr,
    /// The name given in EHLO.
    pub(super) helo: &'a str,
    /// The envelope sender.
    pub(super) sender: &'a str,
}

/// The result for `client` under `policy`, which is published at `domain`.
pub(super) async fn check_host(
    resolver: &dyn Resolver,
    client: Client<'_>,
    domain: &str,
    policy: &Spf,
) -> Result<Qualifier, Stop> {
    let mut evaluation = Evaluation {
        resolver,
        client,
        terms: 0,
        void: 0,
    };
    evaluation.policy(domain, policy).await
}

/// The counts that hold for a whole evaluation, includes and all.
struct Evaluation<'a> {
    resolver: &'a dyn Resolver,
    client: Client<'a>,
    terms: u8,
    void: u8,
}

impl<'a> Evaluation<'a> {
    fn policy<'s>(
        &'s mut self,
        domain: &'s str,
        policy: &'s Spf,
    ) -> BoxFuture<'s, Result<Qualifier, Stop>> {
        async move {
            for directive in &policy.directives {
                if self.matches(domain, &directive.mechanism).await? {
                    return Ok(directive.qualifier.clone());
                }
            }
            let Some(redirect) = &policy.redirect else {
                return Ok(Qualifier::Neutral);
            };
            self.count_term()?;
            let target = self.expand(redirect, domain).await;
            let next = self.fetch(&target).await?;
            self.policy(&target, &next).await
        }
        .boxed()
    }

    async fn matches(&mut self, domain: &str, mechanism: &Mechanism) -> Result<bool, Stop> {
        let asks = match mechanism {
            Mechanism::All => return Ok(true),
            Mechanism::Ip4 { addr, mask } => {
                return Ok(within(self.client.address, IpAddr::V4(*addr), *mask, 0));
            }
            Mechanism::Ip6 { addr, mask } => {
                return Ok(within(self.client.address, IpAddr::V6(*addr), 0, *mask));
            }
            Mechanism::A { macro_string, .. }
            | Mechanism::Mx { macro_string, .. }
            | Mechanism::Include { macro_string }
            | Mechanism::Ptr { macro_string }
            | Mechanism::Exists { macro_string } => macro_string,
        };
        self.count_term()?;
        let target = self.expand(asks, domain).await;
        match mechanism {
            Mechanism::All | Mechanism::Ip4 { .. } | Mechanism::Ip6 { .. } => Ok(true),
            Mechanism::A {
                ip4_mask, ip6_mask, ..
            } => self.host_matches(&target, *ip4_mask, *ip6_mask).await,
            Mechanism::Mx {
                ip4_mask, ip6_mask, ..
            } => self.exchange_matches(&target, *ip4_mask, *ip6_mask).await,
            Mechanism::Include { .. } => {
                let included = self.fetch(&target).await?;
                // RFC 7208 §5.2: only pass is a match; errors go up.
                Ok(self.policy(&target, &included).await? == Qualifier::Pass)
            }
            Mechanism::Ptr { .. } => Ok(self.name_matches(&target).await),
            Mechanism::Exists { .. } => {
                // RFC 7208 §5.7: A records, whatever the family of the connection.
                let answer = self.resolver.ipv4(&target).await;
                Ok(!self.records(&target, answer)?.is_empty())
            }
        }
    }

    async fn host_matches(&mut self, host: &str, mask4: u32, mask6: u128) -> Result<bool, Stop> {
        let answer = addresses(self.resolver, self.client.address, host).await;
        let found = self.records(host, answer)?;
        let client = self.client.address;
        Ok(found
            .into_iter()
            .any(|address| within(client, address, mask4, mask6)))
    }

    async fn exchange_matches(
        &mut self,
        domain: &str,
        mask4: u32,
        mask6: u128,
    ) -> Result<bool, Stop> {
        let answer = self.resolver.mx(domain).await;
        let exchanges: Vec<MailExchange> = self.records(domain, answer)?;
        if exchanges.len() > MAX_EXCHANGES {
            return Err(Stop::Permanent(format!("{domain} has more than ten MX")));
        }
        for exchange in exchanges.iter().filter(|mx| !mx.host.is_empty()) {
            if self.host_matches(&exchange.host, mask4, mask6).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// RFC 7208 §5.5; trouble only means that nothing matches.
    async fn name_matches(&mut self, target: &str) -> bool {
        let suffix = format!(".{target}");
        let names = self.validated_names().await;
        names
            .iter()
            .any(|name| name == target || name.ends_with(&suffix))
    }

    /// The names of the client's address that map back to it.
    async fn validated_names(&self) -> Vec<String> {
        let client = self.client.address;
        let Answer::Found { records, .. } = self.resolver.ptr(client).await else {
            return Vec::new();
        };
        let mut names = Vec::new();
        for name in records.into_iter().take(MAX_EXCHANGES) {
            let answer = addresses(self.resolver, client, &name).await;
            if matches!(answer, Answer::Found { records, .. } if records.contains(&client)) {
                names.push(name);
            }
        }
        names
    }

    /// The policy an `include` or `redirect` points at (RFC 7208 §5.2, §6.1).
    async fn fetch(&mut self, domain: &str) -> Result<Spf, Stop> {
        let answer = self.resolver.txt(domain).await;
        let records = self.records(domain, answer)?;
        let mut policies = records.iter().filter(|record| is_spf(record));
        match (policies.next(), policies.next()) {
            (Some(record), None) => Spf::parse(record.as_bytes())
                .map_err(|_| Stop::Permanent(format!("the record of {domain} is not valid"))),
            (Some(_), Some(_)) => Err(Stop::Permanent(format!("{domain} has several records"))),
            (None, _) => Err(Stop::Permanent(format!("{domain} has no record"))),
        }
    }

    /// The records of `answer`, counting void lookups.
    fn records<T>(&mut self, name: &str, answer: Answer<T>) -> Result<Vec<T>, Stop> {
        match answer {
            Answer::Found { records, .. } => return Ok(records),
            // RFC 7208 §4.3: a name that cannot be asked for is one that does not exist.
            Answer::Unavailable(Failure {
                kind: FailureKind::BadName,
                ..
            })
            | Answer::NoData
            | Answer::NxDomain => self.void += 1,
            Answer::Unavailable(failure) => {
                return Err(Stop::Unavailable(name.to_owned(), failure));
            }
        }
        if self.void > MAX_VOID {
            return Err(Stop::Permanent("more than two lookups find nothing".into()));
        }
        Ok(Vec::new())
    }

    fn count_term(&mut self) -> Result<(), Stop> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(Stop::Permanent("more than ten terms need lookups".into()));
        }
        Ok(())
    }

    /// `text` with its macros expanded (RFC 7208 §7), without trailing dot.
    async fn expand(&self, text: &Macro, domain: &str) -> String {
        let mut variables = Variables::new();
        variables.set_ip(&self.client.address);
        variables.set_sender(self.client.sender.as_bytes());
        variables.set_helo_domain(self.client.helo.as_bytes());
        variables.set_domain(domain.as_bytes());
        if text.needs_ptr() {
            let names = self.validated_names().await;
            let name = names.into_iter().next().unwrap_or_else(|| "unknown".into());
            variables.set_validated_domain(name.into_bytes());
        }
        let expanded = text.eval(&variables, domain, true).to_ascii_lowercase();
        expanded.trim_end_matches('.').to_owned()
    }
}

/// The addresses of `host` in the family of `client`.
async fn addresses(resolver: &dyn Resolver, client: IpAddr, host: &str) -> Answer<IpAddr> {
    match client {
        IpAddr::V4(_) => resolver.ipv4(host).await,
        IpAddr::V6(_) => resolver.ipv6(host).await,
    }
}

/// True when both addresses are of one family and agree in the bits of its mask.
fn within(client: IpAddr, network: IpAddr, mask4: u32, mask6: u128) -> bool {
    match (client, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u32::from(a) & mask4 == u32::from(b) & mask4,
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) & mask6 == u128::from(b) & mask6,
        _ => false,
    }
}
