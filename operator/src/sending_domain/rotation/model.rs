//! A model of the world around the life cycle: an API server with two operators whose caches lag and
//! who end between any two writes, three name servers behind a primary that follow when they like,
//! three relays that load keyrings when they like, a person who publishes what the status lists,
//! removes what it no longer lists, changes the spec and deletes Secrets.
//!
//! What is checked at every signature and at every removal of a record:
//! * a receiver that verifies now, through any cache, finds the record;
//! * no record goes before everything signed with its key has left the queues and was verified;
//! * a domain that once had a key that signs always has one.
//!
//! And at the end of each world: every rotation ends when everybody does their part.

mod event;

use std::collections::{BTreeMap, BTreeSet};

use postrider_crds::{
    RecordState, RecordStatus, Selector,
    condition::types,
    relay_config::{KeyAlgorithm, SigningState},
};
use proptest::prelude::*;

use self::event::{Event, any_event};
use super::*;
use crate::{
    clock::SteadyTime,
    dns::{Sight, dkim::PublicKey},
    keys::signing_states,
    sending_domain::{
        observe::Read,
        plan::{
            Plan, plan,
            tests::{finding, verified},
        },
    },
};

/// TTL of every record and of "no such record", in seconds.
const TTL: i64 = 300;
/// `spec.delivery.expireAfter` of the model's pool.
const QUEUE_LIFE: i64 = 5 * 86_400;
/// Longest that an operator's cache lags, in seconds.
const MAX_LAG: i64 = 3_600;

/// A key's Secret.
#[derive(Clone, Debug)]
struct Stored {
    selector: Selector,
    algorithm: KeyAlgorithm,
    life: Life,
    version: u64,
}

type Secrets = BTreeMap<String, Stored>;
type Keyring = BTreeMap<Selector, SigningState>;

/// A process of the operator.
struct Operator {
    /// How many of the changes its cache has seen.
    seen: usize,
    steady: SteadyTime,
    rendered: Option<Keyring>,
}

/// A record on one name server: since when it is there, or not.
#[derive(Clone, Copy, Debug, Default)]
struct Presence {
    there: bool,
    since: i64,
}

struct World {
    now: i64,
    spec: postrider_crds::SendingDomainSpec,
    previous: postrider_crds::SendingDomainStatus,
    secrets: Secrets,
    /// Each state that the Secrets were in and when it began: what caches run behind.
    history: Vec<(i64, Secrets)>,
    operators: Vec<Operator>,
    rendered: Keyring,
    relays: Vec<Option<Keyring>>,
    primary: BTreeSet<String>,
    servers: Vec<BTreeMap<String, Presence>>,
    last_signed: BTreeMap<Selector, i64>,
    /// Keys that break the rules because somebody wanted it: revoked, or deleted by hand.
    forsaken: BTreeSet<Selector>,
    writes: u64,
    made: u32,
    signed_once: bool,
    /// When somebody deleted a Secret last.
    deleted: Option<i64>,
}

impl World {
    fn new() -> Self {
        let operator = || Operator {
            seen: 0,
            steady: SteadyTime::new(moment(0), std::time::Duration::ZERO),
            rendered: None,
        };
        Self {
            now: 0,
            spec: verified(KeyState::Active, true).spec,
            previous: postrider_crds::SendingDomainStatus::default(),
            secrets: Secrets::new(),
            history: vec![(0, Secrets::new())],
            operators: vec![operator(), operator()],
            rendered: Keyring::new(),
            relays: vec![Some(Keyring::new()); 3],
            primary: BTreeSet::new(),
            servers: vec![BTreeMap::new(); 3],
            last_signed: BTreeMap::new(),
            forsaken: BTreeSet::new(),
            writes: 0,
            made: 0,
            signed_once: false,
            deleted: None,
        }
    }

    fn name(&self, selector: &Selector) -> String {
        selector.record_name(&self.spec.domain)
    }

    fn presence(&self, server: usize, name: &str) -> Presence {
        self.servers[server].get(name).copied().unwrap_or_default()
    }

    fn cache(&self, operator: usize) -> &Secrets {
        &self.history[self.operators[operator].seen].1
    }

    fn sight(&self, name: &str) -> Sight {
        let cached = u32::try_from(TTL).unwrap();
        let have = (0..3).filter(|s| self.presence(*s, name).there).count();
        if have == 3 {
            return Sight::Everywhere { cached };
        }
        Sight::Elsewise {
            cached,
            some: have > 0,
            problem: "a server has it not".into(),
        }
    }

    fn observe(&self, operator: usize) -> Observation {
        let mut observation = verified(KeyState::Active, true);
        observation.spec = self.spec.clone();
        observation.previous = self.previous.clone();
        let rendered = &self.operators[operator].rendered;
        let in_step = |relay: &Option<Keyring>| relay.is_some() && relay == rendered;
        let everywhere = self.relays.iter().all(in_step);
        let keys = self.cache(operator).iter().map(|(secret, stored)| {
            let name = self.name(&stored.selector);
            let sight = self.sight(&name);
            let there = matches!(sight, Sight::Everywhere { .. });
            let wanted_there = stored.life.state != KeyState::Withdrawn;
            let state = match (there == wanted_there, wanted_there) {
                (true, _) => RecordState::Verified,
                (false, true) => RecordState::Missing,
                (false, false) => RecordState::Mismatch,
            };
            let has = rendered
                .as_ref()
                .is_some_and(|r| r.contains_key(&stored.selector));
            KeyFacts {
                secret: secret.clone(),
                selector: stored.selector.clone(),
                algorithm: stored.algorithm,
                life: stored.life.clone(),
                read: Read {
                    uid: "u".into(),
                    version: stored.version.to_string(),
                },
                public: PublicKey::new(stored.algorithm, stored.selector.as_str().into()),
                loaded: everywhere && has,
                released: everywhere && !has,
                lagging: Vec::new(),
                finding: Some(finding(state)),
                sight,
            }
        });
        observation.keys = keys.collect();
        observation
    }

    fn plan(&self, operator: usize) -> (Observation, Plan) {
        let observation = self.observe(operator);
        let monotonic = std::time::Duration::from_secs(self.now.unsigned_abs());
        let now = self.operators[operator].steady.at(monotonic);
        let plan = plan(&observation, now);
        (observation, plan)
    }

    /// What `apply` does, with so many writes before the end.
    fn act(&mut self, operator: usize, mut writes: usize) {
        let (_, plan) = self.plan(operator);
        let monotonic = std::time::Duration::from_secs(self.now.unsigned_abs());
        let now = self.operators[operator].steady.at(monotonic);
        let mut may = || {
            let may = writes > 0;
            writes = writes.saturating_sub(1);
            may
        };
        for new in &plan.generate {
            if !may() {
                return;
            }
            if self.secrets.contains_key(&new.secret) {
                continue;
            }
            self.made += 1;
            let selector: Selector = format!("pr-{}", self.made).parse().unwrap();
            let life = Life::new(now, self.spec.dkim.rotation.trigger.clone());
            self.write(&new.secret, Some((selector, new.algorithm, life)));
        }
        for transition in &plan.transitions {
            if !may() {
                return;
            }
            let stored = self.secrets.get(&transition.secret);
            let Some(stored) = stored.filter(|s| s.version.to_string() == transition.read.version)
            else {
                return;
            };
            let (selector, algorithm) = (stored.selector.clone(), stored.algorithm);
            let to = transition.to.clone();
            self.write(&transition.secret, Some((selector, algorithm, to)));
        }
        for deletion in &plan.delete {
            if !may() {
                return;
            }
            let stored = self.secrets.get(&deletion.secret);
            if stored.is_none_or(|s| s.version.to_string() != deletion.read.version) {
                return;
            }
            self.write(&deletion.secret, None);
        }
        let known = self.cache(operator);
        let unseen = self
            .secrets
            .keys()
            .any(|secret| !known.contains_key(secret));
        if may() && !unseen {
            self.previous = plan.status;
        }
    }

    fn write(&mut self, secret: &str, to: Option<(Selector, KeyAlgorithm, Life)>) {
        self.writes += 1;
        match to {
            None => {
                self.secrets.remove(secret);
            }
            Some((selector, algorithm, life)) => {
                let stored = Stored {
                    selector,
                    algorithm,
                    life: Life::read(&written(&life), moment(-1_000_000_000)),
                    version: self.writes,
                };
                assert_eq!(stored.life, life, "what is written is what is read");
                self.secrets.insert(secret.to_owned(), stored);
            }
        }
        self.history.push((self.now, self.secrets.clone()));
        self.check_that_something_signs();
    }

    fn check_that_something_signs(&mut self) {
        let lives: Vec<&Life> = self.secrets.values().map(|s| &s.life).collect();
        let signs = signing_states(&lives).contains(&Some(SigningState::Active));
        self.signed_once |= signs;
        assert!(
            signs || !self.signed_once,
            "nothing signs: {:?}",
            self.secrets
        );
    }

    fn render(&mut self, operator: usize) {
        let cache = self.cache(operator);
        let lives: Vec<&Life> = cache.values().map(|s| &s.life).collect();
        let states = signing_states(&lives);
        let keyring: Keyring = cache
            .values()
            .zip(states)
            .filter_map(|(stored, state)| Some((stored.selector.clone(), state?)))
            .collect();
        self.operators[operator].rendered = Some(keyring.clone());
        self.rendered = keyring;
    }

    fn sign(&mut self, relay: usize) {
        let Some(keyring) = self.relays[relay].clone() else {
            return;
        };
        for (selector, state) in keyring {
            if state != SigningState::Active {
                continue;
            }
            self.last_signed.insert(selector.clone(), self.now);
            if self.forsaken.contains(&selector) {
                continue;
            }
            let name = self.name(&selector);
            for server in 0..3 {
                let presence = self.presence(server, &name);
                assert!(
                    presence.there && presence.since + TTL <= self.now,
                    "{selector} signs at {} and server {server} has {presence:?}",
                    self.now
                );
            }
        }
    }

    /// The person makes the primary hold what the status lists, and nothing else.
    fn publish(&mut self) {
        let is_key = |record: &&RecordStatus| {
            record.name.contains("_domainkey") && !record.wanted.ends_with("p=")
        };
        let records = self.previous.records.iter().filter(is_key);
        self.primary = records.map(|record| record.name.clone()).collect();
    }

    fn replicate(&mut self, server: usize) {
        let signed = self.last_signed.iter();
        let signed: BTreeMap<String, (Selector, i64)> = signed
            .map(|(selector, at)| (self.name(selector), (selector.clone(), *at)))
            .collect();
        let names: BTreeSet<String> = self.servers[server]
            .keys()
            .chain(&self.primary)
            .cloned()
            .collect();
        for name in names {
            let there = self.primary.contains(&name);
            let before = self.presence(server, &name);
            if before.there == there {
                continue;
            }
            if let Some((selector, at)) = signed.get(&name).filter(|_| !there) {
                let forsaken = self.forsaken.contains(selector);
                assert!(
                    forsaken || at + QUEUE_LIFE <= self.now,
                    "{selector} signed at {at} and its record goes at {}",
                    self.now
                );
            }
            let since = self.now;
            self.servers[server].insert(name, Presence { there, since });
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Tick(seconds) => {
                // Caches lag, for so long and no longer; relays likewise.
                for second in (0..*seconds).step_by(usize::try_from(MAX_LAG).unwrap()) {
                    self.now += MAX_LAG.min(seconds - second);
                    self.catch_up();
                }
            }
            Event::Plan { operator, writes } => self.act(*operator, *writes),
            Event::Sync { operator } => self.operators[*operator].seen = self.history.len() - 1,
            Event::Render { operator } => self.render(*operator),
            Event::Restart { operator, skew } => {
                // Waits are measured from the API server's time, so the machine's does not matter.
                let machine = moment(self.now + skew);
                let steady = SteadyTime::new(
                    SteadyTime::best(Some(moment(self.now)), machine),
                    std::time::Duration::from_secs(self.now.unsigned_abs()),
                );
                self.operators[*operator] = Operator {
                    seen: self.history.len() - 1,
                    steady,
                    rendered: None,
                };
            }
            Event::Load { relay } => self.relays[*relay] = Some(self.rendered.clone()),
            Event::Replace { relay } => self.relays[*relay] = None,
            Event::Sign { relay } => self.sign(*relay),
            Event::Publish => self.publish(),
            Event::Replicate { server } => self.replicate(*server),
            Event::Trigger(n) => self.spec.dkim.rotation.trigger = Some(format!("t{n}")),
            Event::Every(hours) => {
                let every = hours.map(|hours| postrider_crds::Duration::from_secs(hours * 3_600));
                self.spec.dkim.rotation.every = every;
            }
            Event::Algorithms(n) => self.list_algorithms(*n),
            Event::Revoke => self.revoke(),
            Event::Delete(n) => self.delete(*n),
        }
    }

    fn catch_up(&mut self) {
        for operator in &mut self.operators {
            let late = self.now - MAX_LAG;
            let known = self.history.iter().rposition(|(at, _)| *at <= late);
            operator.seen = operator.seen.max(known.unwrap_or(0));
        }
    }

    fn list_algorithms(&mut self, n: u8) {
        let choices = [
            serde_json::json!([{"algorithm": "RSA2048"}, {"algorithm": "Ed25519"}]),
            serde_json::json!([{"algorithm": "Ed25519"}]),
            serde_json::json!([{"algorithm": "RSA4096"}, {"algorithm": "Ed25519"}]),
        ];
        let choice = choices[usize::from(n) % choices.len()].clone();
        self.spec.dkim.keys = serde_json::from_value(choice).unwrap();
    }

    /// Revokes a key that signs, but not while an operator may count on one whose Secret is gone: no
    /// operator can see to it that a domain signs whose keys are all taken away at one time.
    fn revoke(&mut self) {
        if self.deleted.is_some_and(|at| self.now - at < MAX_LAG) {
            return;
        }
        let mut secrets = self.secrets.values();
        let active = secrets.find(|stored| stored.life.state == KeyState::Active);
        if let Some(selector) = active.map(|stored| stored.selector.clone()) {
            self.forsaken.insert(selector.clone());
            self.spec.dkim.rotation.revoke = vec![selector];
        }
    }

    /// Deletes a Secret by hand, not the last of those that sign or have signed and are not revoked.
    fn delete(&mut self, n: usize) {
        let signed = |s: &Stored| {
            matches!(s.life.state, KeyState::Active | KeyState::Retiring)
                && !self.forsaken.contains(&s.selector)
        };
        let remaining = self.secrets.values().filter(|s| signed(s)).count();
        let secret = self
            .secrets
            .keys()
            .nth(n % self.secrets.len().max(1))
            .cloned();
        if let Some(secret) = secret.filter(|_| remaining > 1) {
            let selector = self.secrets[&secret].selector.clone();
            self.forsaken.insert(selector);
            self.deleted = Some(self.now);
            self.write(&secret, None);
        }
    }

    /// Everybody does their part for a while.
    fn cooperate(&mut self) -> Plan {
        // Keys that age never come to rest.
        self.spec.dkim.rotation.every = None;
        for round in 0..600 {
            for operator in 0..2 {
                self.happen(&Event::Sync { operator });
                self.happen(&Event::Plan {
                    operator,
                    writes: 99,
                });
            }
            for operator in 0..2 {
                self.happen(&Event::Sync { operator });
                self.happen(&Event::Render { operator });
            }
            for n in 0..3 {
                self.happen(&Event::Load { relay: n });
                self.happen(&Event::Sign { relay: n });
            }
            self.happen(&Event::Publish);
            for server in 0..3 {
                self.happen(&Event::Replicate { server });
            }
            let (observation, plan) = self.plan(0);
            let conditions = &plan.status.conditions;
            let rotating = conditions
                .iter()
                .find(|c| c.type_ == types::ROTATING)
                .unwrap();
            let steady = plan.transitions.is_empty() && plan.generate.is_empty();
            let over = observation
                .keys
                .iter()
                .all(|k| k.life.state == KeyState::Active);
            if rotating.status == "False" && steady && over && plan.delete.is_empty() {
                return plan;
            }
            self.happen(&Event::Tick(if round % 8 == 7 { 86_400 } else { 120 }));
        }
        panic!(
            "rotation does not end: {:?} {:?}",
            self.secrets,
            self.plan(0).1
        );
    }
}

fn moment(second: i64) -> Timestamp {
    crate::sending_domain::plan::tests::at(second)
}

fn written(life: &Life) -> BTreeMap<String, String> {
    let all = life.annotations().into_iter();
    all.filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

fn run(events: &[Event]) {
    let mut world = World::new();
    for event in events {
        world.happen(event);
    }
    let end = world.cooperate();
    let listed = world.spec.dkim.keys.len();
    assert_eq!(end.status.dkim.active.len(), listed);
    assert!(world.signed_once);
}

#[test]
fn a_domain_comes_up_and_rotates() {
    let mut world = World::new();
    world.cooperate();
    let first: BTreeSet<Selector> = world.secrets.values().map(|s| s.selector.clone()).collect();
    world.happen(&Event::Trigger(1));
    let end = world.cooperate();
    let second: BTreeSet<Selector> = world.secrets.values().map(|s| s.selector.clone()).collect();
    assert_eq!(second.len(), 2);
    assert!(first.is_disjoint(&second));
    assert_eq!(end.status.dkim.trigger.as_deref(), Some("t1"));
    assert!(world.made == 4, "each key once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_signature_fails_whatever_happens_in_whichever_order(
        events in proptest::collection::vec(any_event(), 0..250),
    ) {
        run(&events);
    }

    #[test]
    fn worlds_that_are_half_way_through_a_rotation_hold_too(
        events in proptest::collection::vec(any_event(), 0..250),
        deleted in proptest::collection::vec((0..300_usize, 0..8_usize), 0..3),
    ) {
        let mut world = World::new();
        world.cooperate();
        world.happen(&Event::Trigger(255));
        for (n, event) in events.iter().enumerate() {
            world.happen(event);
            for (_, secret) in deleted.iter().filter(|(at, _)| *at == n) {
                world.happen(&Event::Delete(*secret));
            }
        }
        world.cooperate();
    }
}
