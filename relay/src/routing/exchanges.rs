//! The decisions of routing. Pure.

use std::net::IpAddr;

use postrider_crds::DomainName;

use crate::{
    mail::{Class, EnhancedCode, Outcome, Reply, Site},
    ports::{Answer, MailExchange, Random, ResolveError},
};

/// Most MX hosts looked at. Large providers publish five; more than ten is a way to waste our time.
pub const MAX_EXCHANGES: usize = 10;
/// Most addresses of one attempt: with a connect timeout of 30 s each, at most six minutes.
pub const MAX_DESTINATIONS: usize = 12;

/// The hosts that take a domain's mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanges {
    /// Host names in the order to try; never empty.
    pub hosts: Vec<String>,
    /// What shares limits and connections.
    pub site: Site,
    /// Whether these come from MX records, or the domain stands for itself.
    pub source: Source,
}

/// Where exchanges come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// MX records.
    Mx,
    /// The domain's own addresses, as it has no MX (RFC 5321 §5.1, "implicit MX").
    Implicit,
}

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The MX host, which a certificate has to name.
    pub host: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// What DNS says about the addresses of one host.
pub type HostAddresses = (String, Result<Answer<IpAddr>, ResolveError>);

/// The hosts for `domain`, given its MX answer and the name of this relay.
pub fn exchanges(
    domain: &DomainName,
    answer: Result<Answer<MailExchange>, ResolveError>,
    own_name: &str,
    random: &dyn Random,
) -> Result<Exchanges, Outcome> {
    let records = match answer {
        Ok(Answer::Records(records)) => records,
        Ok(Answer::NoData) => return implicit(domain, own_name),
        Ok(Answer::NxDomain) => {
            return Err(permanent(
                EnhancedCode(5, 1, 2),
                format!("domain {domain} does not exist"),
            ));
        }
        Err(error) => return Err(trouble(&error)),
    };
    // A null MX counts only alone (RFC 7505 §3).
    let mut hosts: Vec<MailExchange> = records.into_iter().filter(|r| !r.host.is_empty()).collect();
    if hosts.is_empty() {
        return Err(Outcome::Bounced {
            class: Class::Dns,
            reply: Reply::new(
                556,
                EnhancedCode(5, 1, 10),
                format!("domain {domain} accepts no mail (null MX)"),
            ),
        });
    }
    // Hosts at our own preference or behind it would hand the mail back (RFC 5321 §5.1).
    let own = hosts.iter().filter(|r| is_own(&r.host, own_name));
    if let Some(limit) = own.map(|r| r.preference).min() {
        hosts.retain(|r| r.preference < limit);
    }
    if hosts.is_empty() {
        return Err(looping(domain));
    }
    Ok(ordered(hosts, random))
}

/// Addresses to try in order, from what DNS says about the hosts of `exchanges`.
pub fn destinations(
    domain: &DomainName,
    source: Source,
    answers: Vec<HostAddresses>,
    random: &dyn Random,
) -> Result<Vec<Destination>, Outcome> {
    let mut found = Vec::new();
    let mut error = None;
    for (host, answer) in answers {
        match answer {
            Ok(Answer::Records(addresses)) => {
                for address in alternate(addresses, random) {
                    found.push(Destination {
                        host: host.clone(),
                        address,
                    });
                }
            }
            Ok(Answer::NoData | Answer::NxDomain) => {}
            Err(cause) => error = Some(cause),
        }
    }
    found.truncate(MAX_DESTINATIONS);
    match (found.is_empty(), error, source) {
        (false, _, _) => Ok(found),
        (true, Some(error), _) => Err(trouble(&error)),
        (true, None, Source::Mx) => Err(permanent(
            EnhancedCode(5, 4, 4),
            format!("no MX host of {domain} has an address"),
        )),
        (true, None, Source::Implicit) => Err(permanent(
            EnhancedCode(5, 1, 2),
            format!("domain {domain} has neither MX nor address records"),
        )),
    }
}

fn implicit(domain: &DomainName, own_name: &str) -> Result<Exchanges, Outcome> {
    if is_own(domain.as_str(), own_name) {
        return Err(looping(domain));
    }
    Ok(Exchanges {
        hosts: vec![domain.to_string()],
        site: Site::of_domain(domain),
        source: Source::Implicit,
    })
}

fn ordered(mut hosts: Vec<MailExchange>, random: &dyn Random) -> Exchanges {
    shuffle(&mut hosts, random);
    // The sort is stable: equal preferences stay shuffled.
    hosts.sort_by_key(|r| r.preference);
    let mut names: Vec<String> = Vec::new();
    for record in hosts {
        if names.len() < MAX_EXCHANGES && !names.contains(&record.host) {
            names.push(record.host);
        }
    }
    let mut set: Vec<&str> = names.iter().map(String::as_str).collect();
    set.sort_unstable();
    Exchanges {
        site: Site::of_hosts(set),
        hosts: names,
        source: Source::Mx,
    }
}

/// Families in turn, each shuffled. IPv4 goes first: receivers ask more of IPv6 senders, and a
/// pool's verified egress addresses are usually IPv4.
fn alternate(mut addresses: Vec<IpAddr>, random: &dyn Random) -> Vec<IpAddr> {
    shuffle(&mut addresses, random);
    let (four, six): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    let mut ordered = Vec::with_capacity(four.len() + six.len());
    let (mut four, mut six) = (four.into_iter(), six.into_iter());
    loop {
        match (four.next(), six.next()) {
            (None, None) => return ordered,
            pair => ordered.extend([pair.0, pair.1].into_iter().flatten()),
        }
    }
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], random: &dyn Random) {
    for last in (1..items.len()).rev() {
        let range = last as u64 + 1;
        let chosen = usize::try_from(random.next_u64() % range).unwrap_or(last);
        items.swap(last, chosen);
    }
}

fn is_own(host: &str, own_name: &str) -> bool {
    host.eq_ignore_ascii_case(own_name.trim_end_matches('.'))
}

fn looping(domain: &DomainName) -> Outcome {
    permanent(
        EnhancedCode(5, 4, 6),
        format!("mail for {domain} would come back to this relay"),
    )
}

fn permanent(enhanced: EnhancedCode, text: String) -> Outcome {
    Outcome::Bounced {
        class: Class::Dns,
        reply: Reply::new(550, enhanced, text),
    }
}

fn trouble(error: &ResolveError) -> Outcome {
    Outcome::Deferred {
        class: Class::Dns,
        reply: Reply::new(451, EnhancedCode(4, 4, 3), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fixed(u64);
    impl Random for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    fn mx(preference: u16, host: &str) -> MailExchange {
        MailExchange {
            preference,
            host: host.into(),
        }
    }

    fn domain() -> DomainName {
        "example.org".parse().unwrap()
    }

    fn of(records: &[(u16, &str)]) -> Result<Exchanges, Outcome> {
        let records = records.iter().map(|(p, h)| mx(*p, h)).collect();
        exchanges(
            &domain(),
            Ok(Answer::Records(records)),
            "mail.example.net",
            &Fixed(0),
        )
    }

    fn code(outcome: Outcome) -> String {
        match outcome {
            Outcome::Delivered { .. } => "delivered".into(),
            Outcome::Deferred { reply, .. } | Outcome::Bounced { reply, .. } => {
                reply.enhanced.unwrap().to_string()
            }
        }
    }

    fn failed() -> ResolveError {
        ResolveError {
            name: "example.org".into(),
            cause: "timed out".into(),
        }
    }

    #[test]
    fn hosts_go_by_preference_and_the_site_is_their_set() {
        let one = of(&[(20, "b.mx"), (10, "c.mx"), (30, "a.mx")]).unwrap();
        assert_eq!(one.hosts, ["c.mx", "b.mx", "a.mx"]);
        let other = of(&[(10, "a.mx"), (10, "b.mx"), (5, "c.mx"), (7, "a.mx")]).unwrap();
        assert_eq!(one.site, other.site);
        assert_eq!(other.hosts, ["c.mx", "a.mx", "b.mx"]);
    }

    #[test]
    fn equal_preferences_are_shuffled() {
        let records = || {
            Ok(Answer::Records(vec![
                mx(1, "a.mx"),
                mx(1, "b.mx"),
                mx(1, "c.mx"),
            ]))
        };
        let firsts: std::collections::BTreeSet<String> = (0..6)
            .map(|n| {
                let found = exchanges(&domain(), records(), "x.net", &Fixed(n)).unwrap();
                found.hosts[0].clone()
            })
            .collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn what_dns_denies_is_permanent_and_trouble_is_not() {
        let answer = |answer| exchanges(&domain(), answer, "mail.example.net", &Fixed(0));
        assert_eq!(code(of(&[(0, "")]).unwrap_err()), "5.1.10");
        assert_eq!(of(&[(0, ""), (5, "a.mx")]).unwrap().hosts, ["a.mx"]);
        assert_eq!(code(answer(Ok(Answer::NxDomain)).unwrap_err()), "5.1.2");
        assert_eq!(code(answer(Err(failed())).unwrap_err()), "4.4.3");
        let implicit = answer(Ok(Answer::NoData)).unwrap();
        assert_eq!(
            (implicit.hosts, implicit.source),
            (vec!["example.org".to_owned()], Source::Implicit)
        );
    }

    #[test]
    fn mail_does_not_come_back() {
        let found = of(&[
            (10, "a.mx"),
            (20, "MAIL.example.net"),
            (20, "b.mx"),
            (30, "c.mx"),
        ]);
        assert_eq!(found.unwrap().hosts, ["a.mx"]);
        assert_eq!(
            code(of(&[(10, "mail.example.net"), (20, "b.mx")]).unwrap_err()),
            "5.4.6"
        );
        let own = exchanges(&domain(), Ok(Answer::NoData), "example.org.", &Fixed(0));
        assert_eq!(code(own.unwrap_err()), "5.4.6");
    }

    #[test]
    fn addresses_alternate_between_families_within_a_host() {
        let ips = |list: &[&str]| {
            Ok(Answer::Records(
                list.iter().map(|a| a.parse().unwrap()).collect(),
            ))
        };
        let answers = vec![
            (
                "a.mx".into(),
                ips(&["2001:db8::1", "2001:db8::2", "192.0.2.1"]),
            ),
            ("gone.mx".into(), Ok(Answer::NxDomain)),
            ("down.mx".into(), Err(failed())),
            ("b.mx".into(), ips(&["192.0.2.9"])),
        ];
        let found = destinations(&domain(), Source::Mx, answers, &Fixed(1)).unwrap();
        let hosts: Vec<&str> = found.iter().map(|d| d.host.as_str()).collect();
        assert_eq!(hosts, ["a.mx", "a.mx", "a.mx", "b.mx"]);
        let four: Vec<bool> = found.iter().map(|d| d.address.is_ipv4()).collect();
        assert_eq!(four, [true, false, false, true]);
    }

    #[test]
    fn hosts_without_addresses() {
        let none = |source, answers| {
            code(destinations(&domain(), source, answers, &Fixed(0)).unwrap_err())
        };
        let gone = || ("a.mx".to_owned(), Ok(Answer::NxDomain));
        assert_eq!(none(Source::Mx, vec![gone()]), "5.4.4");
        assert_eq!(none(Source::Implicit, vec![gone()]), "5.1.2");
        assert_eq!(
            none(Source::Mx, vec![gone(), ("b.mx".into(), Err(failed()))]),
            "4.4.3"
        );
    }

    proptest! {
        #[test]
        fn lists_are_bounded_and_never_empty(
            records in proptest::collection::vec((0_u16..4, "[a-d]{0,2}"), 1..40),
            seed: u64,
        ) {
            let records = records.iter().map(|(p, h)| mx(*p, h)).collect();
            if let Ok(found) = exchanges(&domain(), Ok(Answer::Records(records)), "a", &Fixed(seed)) {
                prop_assert!((1..=MAX_EXCHANGES).contains(&found.hosts.len()));
                prop_assert!(!found.hosts.iter().any(|h| h == "a" || h.is_empty()));
            }
        }
    }
}
