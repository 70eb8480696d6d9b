//! Names of the addresses that mail leaves from, and addresses of the names given in EHLO: what a
//! receiver looks up before it has read a line (RFC 1912 §2.1, RFC 8601 §2.7.3, RFC 5321 §4.1.1.1).
//!
//! Asked for is that every address has a name which leads back to it (forward-confirmed), that every
//! name given in EHLO leads to one of the addresses, and that an address which such a name leads to
//! has one of these names. Which relay leaves by which address is not known where addresses are
//! translated on the way, so no more than that can be asked.
//!
//! Promises: an answer that did not come makes what depends on it unknown, never failed. [`judge`]
//! is pure; [`look`] asks about each name and address once, [`AT_ONCE`] at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use futures::future::join_all;
use postrider_crds::{DomainName, EgressRange, RecordState, condition::reasons};

use super::{
    Answer, Failure, Finding, Resolver,
    resolver::{FailureKind, reverse_name},
};

/// Questions under way.
const AT_ONCE: usize = 64;
/// Names of one address that are followed back, as many as RFC 7208 §5.5 has receivers follow.
const MAX_NAMES: usize = 10;

/// What a pool shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// Where mail leaves from.
    pub egress: &'a [EgressRange],
    /// The names given in EHLO.
    pub names: &'a [DomainName],
}

impl Expectation<'_> {
    /// Every address, once, in the order of the ranges.
    fn addresses(&self) -> Vec<IpAddr> {
        let mut seen = BTreeSet::new();
        let all = self.egress.iter().flat_map(EgressRange::addresses);
        all.filter(|address| seen.insert(*address)).collect()
    }
}

/// What DNS says of the addresses and of the names, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reverse {
    /// Each address and the record with its name.
    pub addresses: Vec<(IpAddr, Finding)>,
    /// Each name given in EHLO and the record with its address.
    pub names: Vec<(DomainName, Finding)>,
}

impl Reverse {
    /// All findings, those of names first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let names = self.names.iter().map(|(_, finding)| finding);
        names.chain(self.addresses.iter().map(|(_, finding)| finding))
    }

    /// The same, before anybody has looked.
    #[must_use]
    pub fn unseen(expected: Expectation<'_>) -> Self {
        let unseen = || Finding {
            state: RecordState::Unknown,
            reason: reasons::PENDING,
            seen: None,
            message: "not looked up yet".into(),
            wanted: None,
            found_at: None,
        };
        let addresses = expected.addresses();
        Self {
            names: named(expected, &addresses, |_, _| unseen()),
            addresses: addressed(expected, &addresses, |_| unseen()),
        }
    }
}

/// The owner name of the record with the name of `address`, without trailing dot.
#[must_use]
pub fn record_name(address: IpAddr) -> String {
    reverse_name(address)
}

/// Answers about the names of addresses and the addresses of names.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    names: BTreeMap<IpAddr, Answer<String>>,
    addresses: BTreeMap<(String, Family), Answer<IpAddr>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Asks DNS and judges.
pub async fn check(resolver: &dyn Resolver, expected: Expectation<'_>) -> Reverse {
    judge(&look(resolver, expected).await, expected)
}

async fn look(resolver: &dyn Resolver, expected: Expectation<'_>) -> View {
    let mut view = View::default();
    let addresses = expected.addresses();
    for some in addresses.chunks(AT_ONCE) {
        let answers = join_all(some.iter().map(|address| resolver.ptr(*address))).await;
        view.names.extend(some.iter().copied().zip(answers));
    }
    let families: BTreeSet<Family> = addresses.iter().copied().map(Family::of).collect();
    let mut wanted: BTreeSet<(String, Family)> = BTreeSet::new();
    for name in expected.names {
        wanted.extend(families.iter().map(|family| (name.to_string(), *family)));
    }
    for (address, answer) in &view.names {
        let family = Family::of(*address);
        wanted.extend(followed(answer).into_iter().map(|name| (name, family)));
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    for some in wanted.chunks(AT_ONCE) {
        let asked = some.iter().map(|(name, family)| match family {
            Family::V4 => resolver.ipv4(name),
            Family::V6 => resolver.ipv6(name),
        });
        let answers = join_all(asked).await;
        view.addresses.extend(some.iter().cloned().zip(answers));
    }
    view
}

/// The names of an answer that are followed back, sorted: servers turn their order.
fn followed(answer: &Answer<String>) -> Vec<String> {
    let Answer::Found { records, .. } = answer else {
        return Vec::new();
    };
    let names: BTreeSet<&String> = records.iter().filter(|name| !name.is_empty()).collect();
    names.into_iter().take(MAX_NAMES).cloned().collect()
}

impl View {
    /// Whether `name` leads to `address`; errors when nobody says.
    fn leads(&self, name: &str, address: IpAddr) -> Result<bool, &Failure> {
        let key = (name.to_owned(), Family::of(address));
        match self.addresses.get(&key) {
            Some(Answer::Found { records, .. }) => Ok(records.contains(&address)),
            // A name that cannot be asked for leads nowhere.
            Some(Answer::Unavailable(failure)) if failure.kind != FailureKind::BadName => {
                Err(failure)
            }
            _ => Ok(false),
        }
    }
}

/// Judges what was seen.
pub(super) fn judge(view: &View, expected: Expectation<'_>) -> Reverse {
    let addresses = expected.addresses();
    Reverse {
        names: named(expected, &addresses, |name, _| {
            judge_name(view, name, &addresses)
        }),
        addresses: addressed(expected, &addresses, |address| {
            judge_address(view, address, expected.names)
        }),
    }
}

/// A finding for each name; a record is wanted for each, though nothing is known of it.
fn named(
    expected: Expectation<'_>,
    addresses: &[IpAddr],
    finding: impl Fn(&DomainName, IpAddr) -> Finding,
) -> Vec<(DomainName, Finding)> {
    // As many names as addresses: each its own. Otherwise they share.
    let pairs = expected.names.iter().zip(addresses.iter().cycle());
    let found = pairs.map(|(name, address)| {
        let mut finding = finding(name, *address);
        finding.wanted.get_or_insert_with(|| address.to_string());
        (name.clone(), finding)
    });
    found.collect()
}

/// The same for each address.
fn addressed(
    expected: Expectation<'_>,
    addresses: &[IpAddr],
    finding: impl Fn(IpAddr) -> Finding,
) -> Vec<(IpAddr, Finding)> {
    let pairs = addresses.iter().zip(expected.names.iter().cycle());
    let found = pairs.map(|(address, name)| {
        let mut finding = finding(*address);
        finding.wanted.get_or_insert_with(|| format!("{name}."));
        (*address, finding)
    });
    found.collect()
}

fn judge_name(view: &View, name: &DomainName, egress: &[IpAddr]) -> Finding {
    let families = [Family::V4, Family::V6];
    let answers = families.map(|family| view.addresses.get(&(name.to_string(), family)));
    let (mut found, mut failed) = (BTreeSet::<IpAddr>::new(), None);
    for answer in answers.into_iter().flatten() {
        match answer {
            Answer::Found { records, .. } => found.extend(records),
            Answer::Unavailable(failure) => failed = Some(failure),
            Answer::NoData | Answer::NxDomain => {}
        }
    }
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    let seen = texts.join(" | ");
    if let Some(ours) = egress.iter().find(|address| found.contains(address)) {
        return Finding::verified(&seen, String::new()).wanting(&ours.to_string());
    }
    match failed {
        Some(failure) => Finding::unknown(name.as_str(), failure),
        None if found.is_empty() => Finding::missing(
            "relays give this name in EHLO; publish this record, so that it leads to where their mail comes from".into(),
        ),
        None => Finding::mismatch(
            reasons::RECORD_MISMATCH,
            &seen,
            "relays give this name in EHLO, and it leads to none of spec.egress.addresses; publish this record, or correct the addresses".into(),
        ),
    }
}

fn judge_address(view: &View, address: IpAddr, given: &[DomainName]) -> Finding {
    let answer = match view.names.get(&address) {
        Some(Answer::Unavailable(failure)) => {
            return Finding::unknown(&record_name(address), failure);
        }
        Some(answer) => answer,
        None => &Answer::NxDomain,
    };
    let names = followed(answer);
    if names.is_empty() {
        return Finding::missing(format!(
            "{address} has no name, so that many receivers refuse its mail; have whoever gave you the address publish this record"
        ));
    }
    let texts: Vec<String> = names.iter().map(|name| format!("{name}.")).collect();
    let seen = texts.join(" | ");
    let confirmed: Vec<&String> = names
        .iter()
        .filter(|name| view.leads(name, address) == Ok(true))
        .collect();
    if confirmed.is_empty() {
        return unconfirmed(view, address, &names, &seen);
    }
    let leading: Vec<&str> = given
        .iter()
        .map(DomainName::as_str)
        .filter(|name| view.leads(name, address) == Ok(true))
        .collect();
    let fits = confirmed
        .iter()
        .any(|name| leading.contains(&name.as_str()));
    let is_given = |name: &&String| given.iter().any(|other| other.as_str() == name.as_str());
    let mut open = names.iter().filter(is_given);
    let open = open.find_map(|name| Some((name, view.leads(name, address).err()?)));
    match (leading.first(), open) {
        (Some(_), Some((name, failure))) if !fits => Finding::unknown(name, failure),
        (Some(first), None) if !fits => Finding::mismatch(
            reasons::RECORD_MISMATCH,
            &seen,
            format!("relays give {first} in EHLO, which leads to {address}, and the address has another name; publish this record"),
        )
        .wanting(&format!("{first}.")),
        _ => Finding::verified(&seen, String::new()).wanting(&seen),
    }
}

/// None of `names` is known to lead back to `address`.
fn unconfirmed(view: &View, address: IpAddr, names: &[String], seen: &str) -> Finding {
    let failed = names.iter().find_map(|name| {
        let failure = view.leads(name, address).err()?;
        Some(Finding::unknown(name, failure))
    });
    failed.unwrap_or_else(|| {
        let kind = match address {
            IpAddr::V4(_) => "A",
            IpAddr::V6(_) => "AAAA",
        };
        let name = names.first().map_or("", String::as_str);
        let message = format!(
            "{name} does not lead back to {address}, so that many receivers refuse its mail; publish {kind} {name} {address}, or this record"
        );
        Finding::mismatch(reasons::RECORD_MISMATCH, seen, message)
    })
}

#[cfg(test)]
mod tests;
