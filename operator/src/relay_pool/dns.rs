//! What DNS says of how a pool shows itself: SPF of the names given in EHLO ([`super::ehlo`]) and the
//! names of its addresses ([`super::reverse`]).
//!
//! Promises: nothing here decides whether a pool is Ready. DNS is asked when a look is due or the
//! names or addresses have changed, and never for longer than [`LOOK_TIMEOUT`]. What was verified stays
//! so until an answer says otherwise, or none has come for [`LASTS`].

use std::time::Duration;

use futures::future;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use postrider_crds::{
    DomainName, EgressRange, RecordState, RecordStatus, RelayPool, RelayPoolStatus,
    condition::{reasons, types},
};

use super::{
    ehlo::{self, EhloNames},
    reverse,
};
use crate::{
    Context,
    conditions::{Fact, Status},
    dns::{
        Finding, Resolver,
        reverse::{Expectation, Reverse},
    },
    looks::Recalled,
};

/// Time between looks once all is verified.
const SETTLED: Duration = Duration::from_secs(600);
/// Shortest time between looks before, where it is not [`PER_ADDRESS`].
const UNSETTLED: Duration = Duration::from_secs(15);
/// Shortest time between looks for each address, so that a large range keeps no resolver busy.
const PER_ADDRESS: Duration = Duration::from_secs(1);
/// A look that takes longer is given up; a pool has more to do than to wait for DNS.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// A look without an answer is repeated for this long before it takes back what was verified.
const LASTS: SignedDuration = SignedDuration::from_mins(5);

/// What a look depends on besides DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inputs {
    names: Vec<DomainName>,
    egress: Vec<EgressRange>,
}

/// What DNS says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolLook {
    /// SPF of the names given in EHLO.
    pub ehlo: EhloNames,
    /// The names of the egress addresses.
    pub reverse: Reverse,
    /// Since when each look has been without some answer.
    pub troubled: Option<Timestamp>,
}

impl Inputs {
    /// What a look at `pool` depends on.
    #[must_use]
    pub fn of(pool: &RelayPool) -> Self {
        Self {
            names: ehlo::names(pool),
            egress: pool.spec.egress.addresses.clone(),
        }
    }

    pub(super) fn names(&self) -> &[DomainName] {
        &self.names
    }

    pub(super) fn egress(&self) -> &[EgressRange] {
        &self.egress
    }

    fn expectation(&self) -> Expectation<'_> {
        Expectation {
            egress: &self.egress,
            names: &self.names,
        }
    }
}

impl PoolLook {
    /// The records of `pool` to publish. While DNS gives no answer a record wants what it wanted in
    /// `previous`.
    #[must_use]
    pub fn records(&self, pool: &RelayPool, previous: &[RecordStatus]) -> Vec<RecordStatus> {
        let mut records = ehlo::records(&self.ehlo, &pool.spec.egress.addresses, previous);
        records.extend(reverse::records(&self.reverse, previous));
        records
    }

    /// What to say of `pool`, whose stored status is `before`. While DNS gives no answer a record stays
    /// as it was, for a while wholly, then what is wanted of it.
    #[must_use]
    pub fn shown(&self, pool: &RelayPool, before: &RelayPoolStatus, now: Timestamp) -> Shown {
        let egress = &pool.spec.egress.addresses;
        let records = ehlo::records(&self.ehlo, egress, &before.records);
        let ehlo = ehlo::verified(&records, &self.ehlo);
        let (ehlo, mut records) = self.steady(pool, before, now, (ehlo, records));
        let names = reverse::records(&self.reverse, &before.records);
        let reverse = reverse::verified(&self.reverse);
        let (reverse, names) = self.steady(pool, before, now, (reverse, names));
        records.extend(names);
        Shown {
            records,
            facts: [ehlo, reverse],
        }
    }

    /// `fact` and its records, or those of `before` that an answer which did not come takes nothing of
    /// yet: they were verified, and nobody has changed the pool since.
    fn steady(
        &self,
        pool: &RelayPool,
        before: &RelayPoolStatus,
        now: Timestamp,
        (fact, records): (Fact, Vec<RecordStatus>),
    ) -> (Fact, Vec<RecordStatus>) {
        let lasts = self
            .troubled
            .is_none_or(|since| now.duration_since(since) >= LASTS);
        let mut conditions = before.conditions.iter();
        let verified = conditions.find(|condition| {
            condition.type_ == fact.type_
                && condition.status == Status::True.as_str()
                && condition.observed_generation == pool.metadata.generation
        });
        let Some(verified) = verified.filter(|_| fact.status == Status::Unknown && !lasts) else {
            return (fact, records);
        };
        let message = verified.message.clone();
        let fact = Fact::new(fact.type_, Status::True, reasons::VERIFIED, message);
        let ours = |record: &&RecordStatus| {
            let mut new = records.iter();
            new.any(|new| new.purpose == record.purpose)
        };
        (fact, before.records.iter().filter(ours).cloned().collect())
    }

    /// Whether SPF passes for all names given in EHLO.
    fn shows_ehlo(&self) -> bool {
        let verified = |finding: &Finding| finding.state == RecordState::Verified;
        let mut names = self.ehlo.0.iter();
        names.all(|(_, finding)| finding.as_ref().is_some_and(verified))
    }

    /// Whether some answer has not come.
    fn lacks_answers(&self) -> bool {
        let ehlo = self.ehlo.0.iter().map(|(_, finding)| finding.as_ref());
        let mut all = ehlo.chain(self.reverse.findings().map(Some));
        all.any(|finding| finding.is_none_or(|f| f.state == RecordState::Unknown))
    }

    fn is_settled(&self) -> bool {
        let ehlo = self.ehlo.0.iter().map(|(_, finding)| finding.as_ref());
        let reverse = self.reverse.findings().map(Some);
        let mut states = ehlo.chain(reverse).map(|finding| finding.map(|f| f.state));
        states.all(|state| state == Some(RecordState::Verified))
    }
}

/// Asks DNS about all of it, in no more than [`LOOK_TIMEOUT`].
pub async fn look(resolver: &dyn Resolver, inputs: &Inputs) -> PoolLook {
    let expected = inputs.expectation();
    let (ehlo, reverse) = future::join(
        tokio::time::timeout(LOOK_TIMEOUT, ehlo::look(resolver, inputs)),
        tokio::time::timeout(LOOK_TIMEOUT, crate::dns::reverse::check(resolver, expected)),
    )
    .await;
    PoolLook {
        ehlo: ehlo.unwrap_or_else(|_| ehlo::unseen(inputs.names())),
        reverse: reverse.unwrap_or_else(|_| Reverse::unseen(expected)),
        troubled: None,
    }
}

/// What to say of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The records to publish.
    pub records: Vec<RecordStatus>,
    /// The conditions.
    pub facts: [Fact; 2],
}

/// What DNS says, by a look that is still good or by a new one, and when the next is due, in
/// monotonic time.
pub(super) async fn look_when_due(ctx: &Context, pool: &RelayPool) -> (PoolLook, Duration) {
    let inputs = Inputs::of(pool);
    let uid = pool.uid().unwrap_or_default();
    let started = ctx.clock.monotonic();
    if let Recalled::Good(seen, due) = ctx.pool_looks.recall(&uid, &inputs, started) {
        return (seen, due);
    }
    let mut seen = look(ctx.resolver.as_ref(), &inputs).await;
    if !inputs.egress.is_empty() && seen.lacks_answers() {
        let before = ctx.pool_looks.last(&uid).and_then(|last| last.troubled);
        seen.troubled = Some(before.unwrap_or_else(|| ctx.now()));
    }
    let wait = match inputs.egress.is_empty() || seen.is_settled() {
        true => SETTLED,
        false => unsettled(pool, &seen, ctx.now()),
    };
    let due = ctx.clock.monotonic() + wait;
    ctx.pool_looks.keep(uid, &inputs, seen.clone(), due);
    (seen, due)
}

/// The sooner the fresher the news: a quarter of the time since the conditions have last changed, or
/// answers ceased to come.
fn unsettled(pool: &RelayPool, seen: &PoolLook, now: Timestamp) -> Duration {
    let conditions = pool.status.iter().flat_map(|status| &status.conditions);
    let ours = [types::EHLO_VERIFIED, types::PTR_VERIFIED];
    let changed = conditions
        .filter(|condition| ours.contains(&condition.type_.as_str()))
        .map(|condition| condition.last_transition_time.0)
        .chain(seen.troubled)
        .max();
    let age = changed.map_or(0, |changed| now.as_second() - changed.as_second());
    let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
    let ranges = pool.spec.egress.addresses.iter();
    let addresses = ranges.flat_map(EgressRange::addresses).count();
    // Names given in EHLO are few and soon published.
    let soonest = match seen.shows_ehlo() {
        true => PER_ADDRESS.saturating_mul(u32::try_from(addresses).unwrap_or(u32::MAX)),
        false => UNSETTLED,
    };
    (age / 4).max(soonest).clamp(UNSETTLED, SETTLED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{conditions::merge, dns::fake::FakeResolver};

    fn pool() -> RelayPool {
        let spec =
            json!({"hostname": "mail.example.net", "egress": {"addresses": ["203.0.113.10"]}});
        RelayPool::new("default", serde_json::from_value(spec).unwrap())
    }

    #[tokio::test]
    async fn a_look_is_settled_when_all_of_it_is_verified() {
        let inputs = Inputs::of(&pool());
        let mut resolver = FakeResolver::default()
            .with_txt("mail.example.net", &["v=spf1 ip4:203.0.113.10 -all"])
            .with_addresses("mail.example.net", &["203.0.113.10"]);
        assert!(!look(&resolver, &inputs).await.is_settled());
        let address = "203.0.113.10".parse().unwrap();
        resolver
            .ptr
            .insert(address, vec!["mail.example.net".into()]);
        let seen = look(&resolver, &inputs).await;
        assert!(seen.is_settled());
        let records = seen.records(&pool(), &[]);
        let kinds: Vec<_> = records
            .iter()
            .map(|r| format!("{:?} {:?}", r.purpose, r.r#type))
            .collect();
        assert_eq!(kinds, ["EHLO TXT", "PTR A", "PTR PTR"]);
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn named() -> FakeResolver {
        let mut resolver = FakeResolver::default()
            .with_txt("mail.example.net", &["v=spf1 ip4:203.0.113.10 -all"])
            .with_addresses("mail.example.net", &["203.0.113.10"]);
        let names = vec!["mail.example.net".into()];
        resolver.ptr.insert("203.0.113.10".parse().unwrap(), names);
        resolver
    }

    /// The status of `pool` that `shown` makes at `generation`.
    fn stored(shown: &Shown, generation: i64) -> RelayPoolStatus {
        RelayPoolStatus {
            conditions: merge(&[], &shown.facts, generation, at(0)),
            records: shown.records.clone(),
            ..RelayPoolStatus::default()
        }
    }

    #[tokio::test]
    async fn what_was_verified_stays_so_until_an_answer_or_a_long_silence() {
        let mut pool = pool();
        pool.metadata.generation = Some(3);
        let inputs = Inputs::of(&pool);
        let good = look(&named(), &inputs).await;
        let verified = good.shown(&pool, &RelayPoolStatus::default(), at(0));
        assert!(
            verified
                .facts
                .iter()
                .all(|fact| fact.status == Status::True)
        );
        let silent = look(&named().with_failing("mail.example.net"), &inputs).await;
        let nobody = named()
            .with_failing("mail.example.net")
            .with_failing("203.0.113.10");
        let nobody = look(&nobody, &inputs).await;
        let unasked = PoolLook {
            ehlo: ehlo::unseen(inputs.names()),
            reverse: Reverse::unseen(inputs.expectation()),
            troubled: None,
        };
        let unnamed = look(&FakeResolver::default(), &inputs).await;
        let mut half = named().with_failing("203.0.113.10");
        half.txt.clear();
        let half = look(&half, &inputs).await;
        let (yes, no, open) = (Status::True, Status::False, Status::Unknown);
        for (name, look, troubled, generation, wanted) in [
            ("nothing is wrong", &good, None, 3, [yes, yes]),
            ("one name, just now", &silent, Some(100), 3, [yes, yes]),
            ("nobody, for minutes", &nobody, Some(-199), 3, [yes, yes]),
            ("no time to look", &unasked, Some(100), 3, [yes, yes]),
            ("nobody, for long", &nobody, Some(-200), 3, [open, open]),
            ("the pool was changed", &nobody, Some(100), 2, [open, open]),
            ("records are gone", &unnamed, None, 3, [no, no]),
            ("one is gone, one silent", &half, Some(100), 3, [no, yes]),
        ] {
            let look = PoolLook {
                troubled: troubled.map(at),
                ..look.clone()
            };
            let before = stored(&verified, generation);
            let shown = look.shown(&pool, &before, at(100));
            let found = shown.facts.clone().map(|fact| fact.status);
            assert_eq!(found, wanted, "{name}");
            assert_eq!(look.troubled.is_some(), look.lacks_answers(), "{name}");
            if wanted == [yes, yes] {
                assert_eq!(shown, verified, "{name}: nothing is written");
            }
        }
        let fresh = PoolLook {
            troubled: Some(at(100)),
            ..nobody
        };
        let shown = fresh.shown(&pool, &RelayPoolStatus::default(), at(100));
        assert_eq!(shown.facts.map(|fact| fact.status), [open, open]);
    }

    #[test]
    fn looks_slow_down_with_the_age_of_the_trouble() {
        let mut pool = pool();
        let seen = PoolLook::default();
        assert_eq!(unsettled(&pool, &seen, at(0)), UNSETTLED);
        let fact = Fact::new(types::PTR_VERIFIED, Status::False, "RecordMissing", "-");
        pool.status = Some(RelayPoolStatus {
            conditions: merge(&[], &[fact], 1, at(0)),
            ..RelayPoolStatus::default()
        });
        for (age, wait) in [(10, 15), (100, 25), (1_000, 250), (100_000, 600), (-5, 15)] {
            assert_eq!(
                unsettled(&pool, &seen, at(age)),
                Duration::from_secs(wait),
                "{age}"
            );
        }
        let troubled = PoolLook {
            troubled: Some(at(99_900)),
            ..seen.clone()
        };
        let soon = unsettled(&pool, &troubled, at(100_000));
        assert_eq!(soon, Duration::from_secs(25), "answers ceased a while ago");
        let range =
            json!({"hostname": "mail.example.net", "egress": {"addresses": ["203.0.113.0/24"]}});
        pool.spec = serde_json::from_value(range).unwrap();
        assert_eq!(unsettled(&pool, &seen, at(10)), 256 * PER_ADDRESS);
        let missing = PoolLook {
            ehlo: ehlo::unseen(&ehlo::names(&pool)),
            ..seen
        };
        assert_eq!(unsettled(&pool, &missing, at(10)), UNSETTLED);
    }
}
