//! Asks DNS what the decisions need.

use futures::future::join_all;
use postrider_crds::DomainName;

use super::{Destination, destinations, exchanges};
use crate::{
    mail::{Outcome, Site},
    ports::{Random, Resolver},
};

/// Where a domain's mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What shares limits and connections.
    pub site: Site,
    /// Addresses in the order to try; never empty.
    pub destinations: Vec<Destination>,
}

/// The route of `domain`, or what becomes of its mail without one.
pub async fn route(
    domain: &DomainName,
    own_name: &str,
    resolver: &dyn Resolver,
    random: &dyn Random,
) -> Result<Route, Outcome> {
    let found = exchanges(domain, resolver.mx(domain).await, own_name, random)?;
    let lookups = found.hosts.into_iter().map(|host| async move {
        let answer = resolver.addresses(&host).await;
        (host, answer)
    });
    let answers = join_all(lookups).await;
    Ok(Route {
        site: found.site,
        destinations: destinations(domain, found.source, answers, random)?,
    })
}
