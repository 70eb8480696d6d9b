//! A resolver made of maps and a failure list, for tests of everything that asks DNS.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{FutureExt as _, future, future::BoxFuture};
use postrider_crds::RecordType;

use super::{
    authority::{Authorities, Said, ServerAnswer, Trouble},
    mta_sts::{self, PolicyHosts},
    resolver::{Answer, Failure, FailureKind, MailExchange, Resolver},
};

/// A zone: what is not in it does not exist.
#[derive(Default)]
pub(crate) struct FakeResolver {
    /// TXT records by name.
    pub(crate) txt: BTreeMap<String, Vec<String>>,
    /// MX records by name.
    pub(crate) mx: BTreeMap<String, Vec<(u16, String)>>,
    /// Addresses, of both kinds, by name.
    pub(crate) addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Names by address.
    pub(crate) ptr: BTreeMap<IpAddr, Vec<String>>,
    /// What the name servers say of a name, where that is not what the resolver says.
    pub(crate) authorities: BTreeMap<String, Authorities>,
    /// Names that get no answer.
    pub(crate) failing: BTreeSet<String>,
    /// How many questions were asked.
    pub(crate) asked: AtomicUsize,
}

impl FakeResolver {
    pub(crate) fn with_txt(mut self, name: &str, records: &[&str]) -> Self {
        let records = records.iter().map(|r| (*r).to_owned()).collect();
        self.txt.insert(name.to_owned(), records);
        self
    }

    pub(crate) fn with_mx(mut self, name: &str, records: &[(u16, &str)]) -> Self {
        let records = records.iter().map(|(p, h)| (*p, (*h).to_owned())).collect();
        self.mx.insert(name.to_owned(), records);
        self
    }

    pub(crate) fn with_addresses(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.addresses.insert(name.to_owned(), addresses);
        self
    }

    pub(crate) fn with_failing(mut self, name: &str) -> Self {
        self.failing.insert(name.to_owned());
        self
    }

    /// The failure every failing name has.
    pub(crate) fn failure() -> Failure {
        Failure {
            kind: FailureKind::Timeout,
            servers: Arc::from("192.0.2.53:53"),
        }
    }

    fn exists(&self, name: &str) -> bool {
        self.txt.contains_key(name)
            || self.mx.contains_key(name)
            || self.addresses.contains_key(name)
    }

    fn answer<T: Clone>(&self, name: &str, records: Option<Vec<T>>) -> Answer<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.failing.contains(name) {
            return Answer::Unavailable(Self::failure());
        }
        match records {
            Some(records) if !records.is_empty() => Answer::Found { records, ttl: 60 },
            _ if self.exists(name) => Answer::NoData,
            _ => Answer::NxDomain,
        }
    }

    fn of_family(&self, name: &str, is_v4: fn(&IpAddr) -> bool) -> Option<Vec<IpAddr>> {
        let all = self.addresses.get(name)?;
        Some(all.iter().copied().filter(is_v4).collect())
    }
}

impl Resolver for FakeResolver {
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<String>> {
        future::ready(self.answer(name, self.txt.get(name).cloned())).boxed()
    }

    fn mx<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<MailExchange>> {
        let records = self.mx.get(name).map(|records| {
            let exchange = |(preference, host): &(u16, String)| MailExchange {
                preference: *preference,
                host: host.clone(),
            };
            records.iter().map(exchange).collect()
        });
        future::ready(self.answer(name, records)).boxed()
    }

    fn ipv4<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
        future::ready(self.answer(name, self.of_family(name, IpAddr::is_ipv4))).boxed()
    }

    fn ipv6<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
        future::ready(self.answer(name, self.of_family(name, IpAddr::is_ipv6))).boxed()
    }

    fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Answer<String>> {
        let answer = self.answer(&address.to_string(), self.ptr.get(&address).cloned());
        future::ready(answer).boxed()
    }

    fn authorities<'a>(&'a self, name: &'a str, kind: RecordType) -> BoxFuture<'a, Authorities> {
        let records = match kind {
            RecordType::MX => self.mx.get(name).map(|records| {
                let text = |(preference, host): &(u16, String)| format!("{preference} {host}.");
                records.iter().map(text).collect()
            }),
            RecordType::TXT | RecordType::CNAME => self.txt.get(name).cloned(),
            RecordType::A | RecordType::AAAA | RecordType::PTR => {
                unreachable!("no test asks name servers for {kind:?}")
            }
        };
        let said = match self.answer(name, records) {
            Answer::Found { records, ttl } => Said::Records {
                texts: records,
                ttl,
            },
            Answer::NoData => Said::NoData,
            Answer::NxDomain => Said::NxDomain,
            Answer::Unavailable(_) => Said::Nothing(Trouble::Timeout),
        };
        let answers = vec![ServerAnswer {
            server: "ns.example.net (192.0.2.53)".into(),
            said,
        }];
        let same = Authorities::Answered {
            answers,
            cached: 300,
        };
        future::ready(self.authorities.get(name).cloned().unwrap_or(same)).boxed()
    }
}

/// Policies by host; one that is not there does not answer.
#[derive(Default)]
pub(crate) struct FakePolicies(pub(crate) BTreeMap<String, Result<String, mta_sts::Trouble>>);

impl PolicyHosts for FakePolicies {
    fn policy<'a>(
        &'a self,
        host: &'a str,
        _: &'a [IpAddr],
    ) -> BoxFuture<'a, Result<String, mta_sts::Trouble>> {
        let silent = || Err(mta_sts::Trouble::Unavailable("gives no answer".into()));
        future::ready(self.0.get(host).cloned().unwrap_or_else(silent)).boxed()
    }
}
