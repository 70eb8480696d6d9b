//! DNS through the resolvers that are configured now.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use futures::future::BoxFuture;
use postrider_crds::DomainName;

use crate::{
    config::ConfigWatch,
    ports::{Answer, DnsResolver, MailExchange, ResolveError, Resolver, ResolverSetupError},
};

/// Follows the `resolvers` of the configuration. One that cannot be set up leaves the one before
/// in use.
pub(super) struct ConfiguredResolver {
    settings: ConfigWatch,
    current: Mutex<(Vec<SocketAddr>, DnsResolver)>,
}

impl ConfiguredResolver {
    pub(super) fn new(settings: ConfigWatch) -> Result<Self, ResolverSetupError> {
        let servers = settings.borrow().relay.resolvers.clone();
        let resolver = DnsResolver::new(&servers)?;
        Ok(Self {
            settings,
            current: Mutex::new((servers, resolver)),
        })
    }

    fn current(&self) -> DnsResolver {
        let wanted = self.settings.borrow().relay.resolvers.clone();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != wanted {
            match DnsResolver::new(&wanted) {
                Ok(resolver) => *current = (wanted, resolver),
                Err(error) => tracing::error!(%error, "new resolvers are not used"),
            }
        }
        current.1.clone()
    }
}

impl Resolver for ConfiguredResolver {
    fn mx<'a>(
        &'a self,
        domain: &'a DomainName,
    ) -> BoxFuture<'a, Result<Answer<MailExchange>, ResolveError>> {
        let resolver = self.current();
        Box::pin(async move { resolver.mx(domain).await })
    }

    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Answer<IpAddr>, ResolveError>> {
        let resolver = self.current();
        Box::pin(async move { resolver.addresses(host).await })
    }
}
