//! The names of a pool's egress addresses, as records to publish and as a condition. What is asked of
//! them is told in [`crate::dns::reverse`].
//!
//! The addresses are the pool's, and their names are in zones that no sending domain's owner has a
//! say over; so they are looked up once a pool and stand in its status. A SendingDomain goes by the
//! condition there ([`stated`]) and by its own `spec.verification.ptr`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use postrider_crds::{
    RecordPurpose, RecordState, RecordStatus, RecordType, RelayPool, Requirement,
    condition::{reasons, types},
};

use super::{
    dns::{Inputs, PoolLook},
    loaded::PoolKey,
    observe,
};
use crate::{
    Context,
    conditions::{Fact, Status},
    dns::{
        Finding,
        reverse::{Reverse, record_name},
    },
    looks::Looks,
    queues::Trigger,
    stores::Term,
};

/// Records of addresses that are listed: of a network of hundreds, enough to see what is wrong.
const MAX_LISTED: usize = 64;

/// The records to publish. While DNS gives no answer a record stays as `previous` has it.
#[must_use]
pub(super) fn records(seen: &Reverse, previous: &[RecordStatus]) -> Vec<RecordStatus> {
    let names = seen.names.iter().map(|(name, finding)| {
        let address = |text: &String| text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        let kind = match finding.wanted.as_ref().is_some_and(address) {
            true => RecordType::AAAA,
            false => RecordType::A,
        };
        record(kind, name.to_string(), finding, previous)
    });
    let addresses = listed(&seen.addresses).into_iter();
    let addresses = addresses.map(|(address, finding)| {
        record(RecordType::PTR, record_name(*address), finding, previous)
    });
    names.chain(addresses).collect()
}

/// The first [`MAX_LISTED`] addresses, those that lack something before those that do not, in the
/// order they have among all.
fn listed(all: &[(IpAddr, Finding)]) -> Vec<&(IpAddr, Finding)> {
    let mut ranked: Vec<_> = all.iter().enumerate().collect();
    ranked.sort_by_key(|(index, (_, finding))| (urgency(finding.state), *index));
    ranked.truncate(MAX_LISTED);
    ranked.sort_by_key(|(index, _)| *index);
    ranked.into_iter().map(|(_, entry)| entry).collect()
}

const fn urgency(state: RecordState) -> u8 {
    match state {
        RecordState::Missing | RecordState::Mismatch | RecordState::Conflict => 0,
        RecordState::Unknown => 1,
        RecordState::Verified => 2,
    }
}

fn record(
    kind: RecordType,
    name: String,
    finding: &Finding,
    previous: &[RecordStatus],
) -> RecordStatus {
    let same = |record: &&RecordStatus| {
        finding.state == RecordState::Unknown
            && record.purpose == RecordPurpose::PTR
            && (record.r#type, &record.name) == (kind, &name)
    };
    let known = previous.iter().find(same).map(|r| r.wanted.clone());
    RecordStatus {
        r#type: kind,
        wanted: known.or_else(|| finding.wanted.clone()).unwrap_or_default(),
        name,
        seen: finding.seen.clone(),
        state: finding.state,
        purpose: RecordPurpose::PTR,
        message: finding.message.clone(),
    }
}

/// The condition.
#[must_use]
pub(super) fn verified(seen: &Reverse) -> Fact {
    let fact = |status, reason, message| Fact::new(types::PTR_VERIFIED, status, reason, message);
    let names = seen.names.iter();
    let names = names.map(|(name, finding)| (name.to_string(), finding));
    let addresses = seen.addresses.iter();
    let all: Vec<(String, &Finding)> = names
        .chain(addresses.map(|(address, finding)| (record_name(*address), finding)))
        .collect();
    if all.is_empty() {
        let message = "not looked up: spec.egress.addresses is empty or there are no relays";
        return fact(
            Status::Unknown,
            reasons::NO_EGRESS_ADDRESSES,
            message.to_owned(),
        );
    }
    for (rank, status) in [(0, Status::False), (1, Status::Unknown)] {
        let mut open = all.iter().filter(|(_, f)| urgency(f.state) == rank);
        if let Some((name, finding)) = open.next() {
            let more = match open.count() {
                0 => String::new(),
                count => format!("; and {count} more, see status.records"),
            };
            let message = format!("{name}: {}{more}", finding.message);
            return fact(status, finding.reason, message);
        }
    }
    let message =
        "every egress address has a name that leads back to it, and relays give such names";
    fact(Status::True, reasons::VERIFIED, message.to_owned())
}

/// What the stored status of `pool` says, for its SendingDomains.
#[must_use]
pub fn stated(pool: &RelayPool) -> Option<Fact> {
    read(&pool.status.as_ref()?.conditions)
}

/// What there is to say to its SendingDomains: what the stored status of `pool` does, or, before it says
/// anything, what the first of `looks` has found and the status is about to say. Who judged a domain in
/// between would write it once more for that alone.
#[must_use]
pub fn known(pool: &RelayPool, looks: &Looks<Inputs, PoolLook>) -> Option<Fact> {
    let found = || Some(verified(&looks.last(&pool.uid()?)?.reverse));
    stated(pool).or_else(found)
}

/// What `conditions`, those of a pool or of a SendingDomain, say of the names of addresses.
#[must_use]
pub fn read(conditions: &[Condition]) -> Option<Fact> {
    let condition = conditions.iter().find(|c| c.type_ == types::PTR_VERIFIED)?;
    let status = match condition.status.as_str() {
        "True" => Status::True,
        "False" => Status::False,
        _ => Status::Unknown,
    };
    // What verified() and the judgement below it give as reasons.
    let known = [
        reasons::VERIFIED,
        reasons::RECORD_MISSING,
        reasons::RECORD_MISMATCH,
        reasons::DNS_UNAVAILABLE,
        reasons::NO_EGRESS_ADDRESSES,
    ];
    let mut known = known.into_iter();
    let reason = known.find(|reason| *reason == condition.reason);
    Some(Fact::new(
        types::PTR_VERIFIED,
        status,
        reason.unwrap_or(reasons::PENDING),
        condition.message.clone(),
    ))
}

/// What the SendingDomains of each pool were last woken for.
#[derive(Debug, Default)]
pub struct Told(Mutex<HashMap<PoolKey, Fact>>);

impl Told {
    /// Notes `fact`; true when it is news. An answer that did not come is none to who knows better: a
    /// name server that is away for a minute must not have thousands of domains written.
    fn is_news(&self, pool: PoolKey, fact: Option<Fact>) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match fact {
            Some(fact) if fact.status == Status::Unknown && told.contains_key(&pool) => false,
            Some(fact) => told.insert(pool, fact.clone()) != Some(fact),
            None => told.remove(&pool).is_some(),
        }
    }
}

/// Wakes the SendingDomains that go by what the stored status of `pool` says, when that has changed.
/// Called with the pool as the caches have it, which is what they will see.
pub(super) async fn tell(ctx: &Context, pool: &RelayPool) {
    let key = observe::key(pool);
    if !ctx.reverse_told.is_news(key.clone(), stated(pool)) {
        return;
    }
    let PoolKey { namespace, name } = key;
    for domain in ctx.stores.domains_with(&namespace, &Term::Pool(name)) {
        if domain.spec.verification.ptr != Requirement::Off {
            let name = domain.metadata.name.clone().unwrap_or_default();
            ctx.queues
                .send(Trigger::Domain(namespace.clone(), name))
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, time::Duration};

    use jiff::Timestamp;
    use postrider_crds::{DomainName, EgressRange, RelayPoolStatus};
    use serde_json::json;

    use super::*;
    use crate::{
        conditions::merge,
        dns::{
            fake::FakeResolver,
            reverse::{Expectation, check},
        },
    };

    async fn look(resolver: &FakeResolver, egress: &str) -> Reverse {
        let egress: [EgressRange; 1] = [egress.parse().unwrap()];
        let names: [DomainName; 1] = ["mail.example.net".parse().unwrap()];
        let expected = Expectation {
            egress: &egress,
            names: &names,
        };
        check(resolver, expected).await
    }

    fn good(addresses: &[&str]) -> FakeResolver {
        let mut resolver = FakeResolver::default().with_addresses("mail.example.net", addresses);
        for address in addresses {
            let names = vec!["mail.example.net".to_owned()];
            resolver.ptr.insert(address.parse().unwrap(), names);
        }
        resolver
    }

    #[tokio::test]
    async fn records_and_condition_tell_the_same() {
        let all = look(&good(&["203.0.113.10"]), "203.0.113.10").await;
        let told: Vec<String> = records(&all, &[])
            .iter()
            .map(|r| format!("{:?} {} {} {:?}", r.r#type, r.name, r.wanted, r.state))
            .collect();
        assert_eq!(
            told,
            [
                "A mail.example.net 203.0.113.10 Verified",
                "PTR 10.113.0.203.in-addr.arpa mail.example.net. Verified",
            ]
        );
        assert_eq!(verified(&all).status, Status::True);
        let nothing = look(&FakeResolver::default(), "2001:db8::10").await;
        assert_eq!(records(&nothing, &[])[0].r#type, RecordType::AAAA);
        let fact = verified(&nothing);
        assert_eq!(
            (fact.status, fact.reason),
            (Status::False, reasons::RECORD_MISSING)
        );
        assert!(
            fact.message.starts_with("mail.example.net: "),
            "{}",
            fact.message
        );
        assert!(fact.message.ends_with("; and 1 more, see status.records"));
        assert_eq!(
            verified(&Reverse::default()).reason,
            reasons::NO_EGRESS_ADDRESSES
        );
    }

    #[tokio::test]
    async fn trouble_keeps_what_was_wanted() {
        let elsewhere = good(&["203.0.113.10"]);
        let before = records(&look(&elsewhere, "203.0.113.10").await, &[]);
        let mut changed = before.clone();
        changed[1].wanted = "other.example.net.".into();
        let dead = elsewhere.with_failing("203.0.113.10");
        let seen = look(&dead, "203.0.113.10").await;
        let during = records(&seen, &changed);
        assert_eq!(during[1].wanted, "other.example.net.");
        assert_eq!(during[1].state, RecordState::Unknown);
        assert_eq!(verified(&seen).reason, reasons::DNS_UNAVAILABLE);
        assert!(dead.asked.load(Ordering::Relaxed) > 0);
    }

    #[tokio::test]
    async fn of_many_addresses_those_without_a_name_are_listed() {
        let range: EgressRange = "203.0.113.0/24".parse().unwrap();
        let all: Vec<String> = range.addresses().map(|a| a.to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut resolver = good(&all);
        let lost: IpAddr = "203.0.113.200".parse().unwrap();
        resolver.ptr.remove(&lost);
        let listed = records(&look(&resolver, "203.0.113.0/24").await, &[]);
        assert_eq!(listed.len(), 1 + MAX_LISTED);
        assert_eq!(listed.last().unwrap().name, "200.113.0.203.in-addr.arpa");
        assert_eq!(listed[1].name, "0.113.0.203.in-addr.arpa");
    }

    #[tokio::test]
    async fn before_a_pool_states_anything_its_look_says_the_same() {
        let egress =
            json!({"hostname": "mail.example.net", "egress": {"addresses": ["203.0.113.10"]}});
        let mut pool = RelayPool::new("default", serde_json::from_value(egress).unwrap());
        pool.metadata.uid = Some("u".into());
        let looks = Looks::default();
        assert_eq!(known(&pool, &looks), None, "not looked yet");
        for resolver in [good(&["203.0.113.10"]), FakeResolver::default()] {
            let seen = PoolLook {
                reverse: look(&resolver, "203.0.113.10").await,
                ..PoolLook::default()
            };
            let [_, fact] = seen
                .shown(&pool, &RelayPoolStatus::default(), Timestamp::UNIX_EPOCH)
                .facts;
            looks.keep("u".into(), &Inputs::of(&pool), seen, Duration::ZERO);
            pool.status = None;
            let early = known(&pool, &looks);
            pool.status = Some(RelayPoolStatus {
                conditions: merge(&[], &[fact], 1, Timestamp::UNIX_EPOCH),
                ..RelayPoolStatus::default()
            });
            assert_eq!(early, stated(&pool));
            assert_eq!(early, known(&pool, &Looks::default()));
        }
    }

    #[tokio::test]
    async fn a_domain_is_told_what_the_pool_states_and_only_once() {
        let spec = json!({"hostname": "mail.example.net"});
        let mut pool = RelayPool::new("default", serde_json::from_value(spec).unwrap());
        assert_eq!(stated(&pool), None);
        let key = || PoolKey {
            namespace: "mail".into(),
            name: "default".into(),
        };
        let told = Told::default();
        assert!(!told.is_news(key(), stated(&pool)));
        let nothing = look(&FakeResolver::default(), "203.0.113.10").await;
        let named = look(&good(&["203.0.113.10"]), "203.0.113.10").await;
        // Nobody answers, and then the same as before.
        let unknown = Reverse::default();
        for (seen, news) in [
            (&nothing, true),
            (&named, true),
            (&unknown, false),
            (&named, false),
        ] {
            let fact = verified(seen);
            let conditions = merge(&[], std::slice::from_ref(&fact), 1, Timestamp::UNIX_EPOCH);
            pool.status = Some(RelayPoolStatus {
                conditions,
                ..RelayPoolStatus::default()
            });
            assert_eq!(stated(&pool), Some(fact));
            assert_eq!(told.is_news(key(), stated(&pool)), news);
            assert!(!told.is_news(key(), stated(&pool)));
        }
    }
}
