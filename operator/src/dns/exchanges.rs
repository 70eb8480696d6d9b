//! Which hosts take a domain's mail (RFC 5321 §5.1, RFC 7505).

use postrider_crds::DomainName;

use super::{Answer, Failure, Resolver};

/// A domain that mail goes to.
#[derive(Clone, Copy, Debug)]
pub struct Addressee<'a> {
    /// The domain.
    pub domain: &'a DomainName,
    /// The host that will take its mail if none does yet.
    pub exchange: Option<&'a str>,
}

impl Addressee<'_> {
    /// The hosts that take its mail, most preferred first; none when it takes no mail.
    pub(super) async fn hosts(self, resolver: &dyn Resolver) -> Result<Vec<String>, Failure> {
        let mut hosts = exchanges(resolver, self.domain).await?;
        if hosts.is_empty() {
            hosts.extend(self.exchange.map(str::to_owned));
        }
        Ok(hosts)
    }
}

async fn exchanges(resolver: &dyn Resolver, domain: &DomainName) -> Result<Vec<String>, Failure> {
    match resolver.mx(domain.as_str()).await {
        Answer::Unavailable(failure) => Err(failure),
        Answer::NxDomain => Ok(Vec::new()),
        // A null MX has the root as its host.
        Answer::Found { records, .. } => {
            let hosts = records.into_iter().map(|mx| mx.host);
            Ok(hosts.filter(|host| !host.is_empty()).collect())
        }
        // Without MX, the domain's own addresses count.
        Answer::NoData => {
            let addresses = addresses(resolver, domain.as_str()).await?;
            let itself = (!addresses.is_empty()).then(|| domain.to_string());
            Ok(itself.into_iter().collect())
        }
    }
}

/// The addresses of `host`, of both kinds, sorted. Errors when there is none and one of the two
/// questions got no answer.
pub(super) async fn addresses(
    resolver: &dyn Resolver,
    host: &str,
) -> Result<Vec<std::net::IpAddr>, Failure> {
    let (v4, v6) = futures::join!(resolver.ipv4(host), resolver.ipv6(host));
    let (mut found, mut failed) = (Vec::new(), None);
    for answer in [v4, v6] {
        match answer {
            Answer::Found { records, .. } => found.extend(records),
            Answer::Unavailable(failure) => failed = Some(failure),
            Answer::NoData | Answer::NxDomain => {}
        }
    }
    found.sort();
    match failed {
        Some(failure) if found.is_empty() => Err(failure),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::fake::FakeResolver;

    #[tokio::test]
    async fn table_of_domains() {
        let resolver = FakeResolver::default()
            .with_mx("a.test", &[(10, "mx1.test"), (20, "mx2.test")])
            .with_mx("null.test", &[(0, "")])
            .with_addresses("b.test", &["2001:db8::1"])
            .with_txt("text.test", &["x"])
            .with_failing("dead.test");
        let of = async |name: &str| exchanges(&resolver, &name.parse().unwrap()).await;
        assert_eq!(of("a.test").await.unwrap(), ["mx1.test", "mx2.test"]);
        assert_eq!(of("b.test").await.unwrap(), ["b.test"]);
        for none in ["null.test", "text.test", "nowhere.test"] {
            assert!(of(none).await.unwrap().is_empty(), "{none}");
        }
        assert!(of("dead.test").await.is_err());
        let addressee = Addressee {
            domain: &"nowhere.test".parse().unwrap(),
            exchange: Some("mx.test"),
        };
        assert_eq!(addressee.hosts(&resolver).await.unwrap(), ["mx.test"]);
    }
}
