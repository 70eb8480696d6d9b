//! DNS through the resolvers that are configured now.
//!
//! Promises: the same question is asked once within [`MOMENT`], so that mail for one domain in a
//! hurry costs no lookup each; an answer is believed that much longer than its TTL says. Trouble is
//! not remembered. At most [`ANSWERS`] answers of a kind are.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use postrider_crds::DomainName;

use crate::{
    config::ConfigWatch,
    ports::{Answer, Clock, DnsResolver, MailExchange, ResolveError, Resolver, ResolverSetupError},
};

/// How long an answer is given again unasked.
const MOMENT: Duration = Duration::from_secs(5);
/// Answers remembered of each kind, of some 500 octets.
const ANSWERS: usize = 1024;

/// Follows the `resolvers` of the configuration. One that cannot be set up leaves the one before
/// in use.
pub(super) struct ConfiguredResolver {
    settings: ConfigWatch,
    clock: Arc<dyn Clock>,
    current: Mutex<Current>,
}

struct Current {
    servers: Vec<SocketAddr>,
    resolver: DnsResolver,
    exchanges: Arc<Memory<MailExchange>>,
    addresses: Arc<Memory<IpAddr>>,
}

impl Current {
    fn new(servers: Vec<SocketAddr>) -> Result<Self, ResolverSetupError> {
        Ok(Self {
            resolver: DnsResolver::new(&servers)?,
            servers,
            exchanges: Arc::default(),
            addresses: Arc::default(),
        })
    }
}

impl ConfiguredResolver {
    pub(super) fn new(
        settings: ConfigWatch,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ResolverSetupError> {
        let current = Current::new(settings.borrow().relay.resolvers.clone())?;
        Ok(Self {
            settings,
            clock,
            current: Mutex::new(current),
        })
    }

    fn with_current<T>(&self, with: impl FnOnce(&Current) -> T) -> T {
        let settings = self.settings.borrow();
        let wanted = &settings.relay.resolvers;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.servers != *wanted {
            match Current::new(wanted.clone()) {
                Ok(new) => *current = new,
                Err(error) => tracing::error!(%error, "new resolvers are not used"),
            }
        }
        with(&current)
    }
}

impl Resolver for ConfiguredResolver {
    fn mx<'a>(
        &'a self,
        domain: &'a DomainName,
    ) -> BoxFuture<'a, Result<Answer<MailExchange>, ResolveError>> {
        Box::pin(async move {
            let (resolver, memory) =
                self.with_current(|c| (c.resolver.clone(), Arc::clone(&c.exchanges)));
            let now = self.clock.monotonic();
            match memory.recall(domain.as_str(), now) {
                Some(answer) => Ok(answer),
                None => memory.note(domain.as_str(), now, resolver.mx(domain).await),
            }
        })
    }

    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Answer<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let (resolver, memory) =
                self.with_current(|c| (c.resolver.clone(), Arc::clone(&c.addresses)));
            let now = self.clock.monotonic();
            match memory.recall(host, now) {
                Some(answer) => Ok(answer),
                None => memory.note(host, now, resolver.addresses(host).await),
            }
        })
    }
}

/// Answers of the last moment, with when they were asked for.
struct Memory<T>(Mutex<HashMap<String, (Duration, Answer<T>)>>);

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Memory<T> {
    fn recall(&self, name: &str, now: Duration) -> Option<Answer<T>> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, answer) = answers.get(name)?;
        (now.saturating_sub(*asked) < MOMENT).then(|| answer.clone())
    }

    fn note(
        &self,
        name: &str,
        asked: Duration,
        answer: Result<Answer<T>, ResolveError>,
    ) -> Result<Answer<T>, ResolveError> {
        let answer = answer?;
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS {
            answers.clear();
        }
        answers.insert(name.to_owned(), (asked, answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_given_again_for_a_moment_and_trouble_never() {
        let memory = Memory::<u8>::default();
        let at = Duration::from_secs;
        let records = Answer::Records(vec![1]);
        assert_eq!(memory.recall("a.example", at(1)), None);
        assert_eq!(
            memory.note("a.example", at(1), Ok(records.clone())),
            Ok(records.clone())
        );
        assert_eq!(memory.recall("a.example", at(5)), Some(records));
        assert_eq!(memory.recall("a.example", at(6)), None);
        assert_eq!(memory.recall("b.example", at(1)), None);
        let trouble = ResolveError {
            name: "c.example".into(),
            cause: "timed out".into(),
        };
        assert!(memory.note("c.example", at(1), Err(trouble)).is_err());
        assert_eq!(memory.recall("c.example", at(1)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let memory = Memory::<u8>::default();
        for number in 0..3 * ANSWERS {
            memory
                .note(&number.to_string(), Duration::ZERO, Ok(Answer::NoData))
                .unwrap();
        }
        assert!(memory.0.lock().unwrap().len() <= ANSWERS);
        let last = (3 * ANSWERS - 1).to_string();
        assert_eq!(memory.recall(&last, Duration::ZERO), Some(Answer::NoData));
    }
}
