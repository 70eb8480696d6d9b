//! Orders in any order on a queue in any state, against a model that is two plain lists.

use std::collections::BTreeMap;

use postrider_crds::queue::Order;
use proptest::prelude::*;

use super::{
    orders::{About, Orders},
    queue::Queue,
    spool::{Place, record::Head},
    state::State,
    *,
};

const DOMAINS: [&str; 3] = ["one.test", "two.test", "three.test"];
const TENANTS: [&str; 2] = ["apps/one", "apps/two"];
/// Messages there may be.
const MOST: u64 = 8;

#[derive(Clone, Debug)]
enum Step {
    Insert {
        first: usize,
        second: usize,
        tenant: usize,
    },
    Advance(i64),
    Claim,
    Settle {
        pick: usize,
        defer: Option<i64>,
    },
    PutBack {
        pick: usize,
    },
    Give {
        verb: usize,
        scope: usize,
        pick: usize,
        lasts: i64,
    },
    Route {
        domain: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3_usize, 0..3_usize, 0..2_usize)
            .prop_map(|(first, second, tenant)| Step::Insert { first, second, tenant }),
        2 => (0..300_i64).prop_map(Step::Advance),
        5 => Just(Step::Claim),
        4 => (any::<usize>(), prop::option::of(0..800_i64))
            .prop_map(|(pick, defer)| Step::Settle { pick, defer }),
        1 => any::<usize>().prop_map(|pick| Step::PutBack { pick }),
        5 => (0..6_usize, 0..4_usize, any::<usize>(), 1..900_i64)
            .prop_map(|(verb, scope, pick, lasts)| Step::Give { verb, scope, pick, lasts }),
        1 => (0..3_usize).prop_map(|domain| Step::Route { domain }),
    ];
    prop::collection::vec(step, 1..150)
}

/// A leg that is not done.
#[derive(Clone, Debug)]
struct ModelLeg {
    domain: &'static str,
    tenant: &'static str,
    /// `None` while it is claimed.
    due: Option<Timestamp>,
    /// When it is due once it is put back.
    was: Timestamp,
}

#[derive(Default)]
struct Model {
    legs: BTreeMap<(MessageId, u32), ModelLeg>,
    orders: Vec<Order>,
    routed: [bool; 3],
}

/// How a leg is kept, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    No,
    Suspended,
    Held,
}

impl Model {
    fn kept(&self, id: MessageId, leg: &ModelLeg, now: Timestamp) -> Kept {
        let is_about = |order: &&Order| match &order.scope {
            Scope::Message(of) => *of == id,
            Scope::Domain(of) => of.as_str() == leg.domain,
            Scope::Tenant(of) => of == leg.tenant,
            Scope::Site(of) => {
                let at = DOMAINS
                    .iter()
                    .position(|domain| *domain == leg.domain)
                    .unwrap();
                self.routed[at] && of.as_str() == format!("mx.{}", leg.domain)
            }
        };
        let last = |verb| {
            let orders = self.orders.iter().filter(is_about);
            let orders = orders.filter(|order| order.verb == verb);
            orders.map(|order| order.number).max().unwrap_or(0)
        };
        let suspended = self.orders.iter().filter(is_about).any(|order| {
            order.verb == Verb::Suspend && order.until.is_none_or(|until| now < until)
        });
        match (last(Verb::Hold) > last(Verb::Release), suspended) {
            (true, _) => Kept::Held,
            (false, true) => Kept::Suspended,
            (false, false) => Kept::No,
        }
    }

    /// Legs that may be given out.
    fn due(&self, now: Timestamp) -> Vec<(MessageId, u32)> {
        let due = self.legs.iter().filter(|((id, _), leg)| {
            leg.due.is_some_and(|due| due <= now) && self.kept(*id, leg, now) == Kept::No
        });
        due.map(|(key, _)| *key).collect()
    }

    /// Due, deferred, suspended, held.
    fn states(&self, now: Timestamp) -> [u64; 4] {
        let mut classes: BTreeMap<MessageId, usize> = BTreeMap::new();
        for ((id, _), leg) in &self.legs {
            let class = match (leg.due, self.kept(*id, leg, now)) {
                (None, _) => 0,
                (Some(due), Kept::No) => usize::from(due > now),
                (Some(_), Kept::Suspended) => 2,
                (Some(_), Kept::Held) => 3,
            };
            let least = classes.entry(*id).or_insert(class);
            *least = class.min(*least);
        }
        let mut states = [0; 4];
        for class in classes.values() {
            states[*class] += 1;
        }
        states
    }
}

struct Run {
    queue: Queue,
    orders: Arc<Orders>,
    model: Model,
    claimed: Vec<(MessageId, u32)>,
    now: Timestamp,
    next: u64,
}

impl Run {
    fn insert(&mut self, first: usize, second: usize, tenant: usize) {
        if self.next >= MOST {
            return;
        }
        self.next += 1;
        let mut new = envelope(&[
            &format!("a@{}", DOMAINS[first]),
            &format!("b@{}", DOMAINS[second]),
        ]);
        new.tenant = TENANTS[tenant].to_owned();
        let id = id(self.next);
        let head = Head {
            id,
            accepted: self.now,
            state: State::new(&new, self.now, &[]),
            envelope: Arc::new(new),
        };
        let place = Place {
            segment: 1,
            offset: self.next,
            length: 1,
        };
        self.queue.insert(head, body(self.next), place, self.now);
        let domains = if first == second {
            vec![first]
        } else {
            vec![first, second]
        };
        for (leg, domain) in (0..).zip(domains) {
            let leg_of_model = ModelLeg {
                domain: DOMAINS[domain],
                tenant: TENANTS[tenant],
                due: Some(self.now),
                was: self.now,
            };
            self.model.legs.insert((id, leg), leg_of_model);
        }
    }

    fn claim(&mut self) -> Result<(), TestCaseError> {
        let expected = self.model.due(self.now);
        let taken = self.queue.claim(self.now);
        prop_assert_eq!(taken.is_some(), !expected.is_empty(), "{:?}", expected);
        if let Some(taken) = taken {
            let key = (taken.id, taken.leg);
            prop_assert!(expected.contains(&key));
            let leg = self.model.legs.get_mut(&key).unwrap();
            leg.was = leg.due.take().unwrap();
            self.claimed.push(key);
        }
        Ok(())
    }

    fn settle(&mut self, pick: usize, defer: Option<i64>) {
        if self.claimed.is_empty() {
            return;
        }
        let (id, leg) = self.claimed.swap_remove(pick % self.claimed.len());
        let until = defer.map(|seconds| self.now + SignedDuration::from_secs(seconds));
        let result = until.map_or(RecipientResult::Delivered, |until| {
            RecipientResult::Deferred { until }
        });
        let results = [(0, result), (1, result)];
        let legs = self.model.legs.keys().filter(|(of, _)| *of == id).count();
        // Recipients of the other leg stay as they are.
        let several = legs > 1 || leg == 1;
        let results = match (several, leg) {
            (true, 0) => &results[..1],
            (true, _) => &results[1..],
            (false, _) => &results[..],
        };
        self.queue.settle(id, leg, results, false);
        match until {
            Some(until) => self.model.legs.get_mut(&(id, leg)).unwrap().due = Some(until),
            None => drop(self.model.legs.remove(&(id, leg))),
        }
    }

    fn put_back(&mut self, pick: usize) {
        if self.claimed.is_empty() {
            return;
        }
        let key = self.claimed.swap_remove(pick % self.claimed.len());
        self.queue.put_back(key.0, key.1, None);
        let leg = self.model.legs.get_mut(&key).unwrap();
        leg.due = Some(leg.was);
    }

    fn give(&mut self, verb: usize, scope: usize, (pick, lasts): (usize, i64)) {
        let scope = match scope {
            0 => Scope::Message(id(1 + pick as u64 % MOST)),
            1 => at_domain(DOMAINS[pick % 3]),
            2 => Scope::Tenant(TENANTS[pick % 2].into()),
            _ => Scope::Site(format!("mx.{}", DOMAINS[pick % 3]).parse().unwrap()),
        };
        let verb = Verb::ALL[verb];
        if matches!(
            (verb, &scope),
            (Verb::Suspend | Verb::Resume, Scope::Message(_))
        ) {
            // Refused before it comes here.
            return;
        }
        let until = (verb == Verb::Suspend && pick % 2 == 0)
            .then(|| self.now + SignedDuration::from_secs(lasts));
        let command = Command {
            until,
            ..command(verb, scope)
        };
        let queue = &self.queue;
        let Ok((next, obeyed)) = self.orders.obey(command, self.now, |id| queue.contains(id))
        else {
            return;
        };
        self.orders = Arc::new(next);
        self.model.orders = self.orders.list().to_vec();
        self.queue.put_in_force(Arc::clone(&self.orders), self.now);
        if let Some(order) = obeyed.order.filter(|order| order.verb == Verb::Flush) {
            self.flush(&order);
        }
    }

    /// What waits is due now, whether something keeps it or not.
    fn flush(&mut self, order: &Order) {
        let (legs, is_end) = self
            .queue
            .put_off_legs(About::order(order), &mut 0, usize::MAX);
        assert!(is_end);
        for (id, leg) in legs {
            let key = self.model.legs.get_mut(&(id, leg)).unwrap();
            assert!(key.due.is_some_and(|due| due > self.now), "{key:?}");
            key.due = Some(self.now);
            self.queue.hasten(id, leg, self.now);
        }
        let missed = self
            .queue
            .put_off_legs(About::order(order), &mut 0, usize::MAX)
            .0;
        assert!(missed.is_empty(), "{missed:?}");
    }

    fn route(&mut self, at: usize) {
        let domain: DomainName = DOMAINS[at].parse().unwrap();
        let site = Site::of_hosts([format!("mx.{domain}").as_str()]);
        // Only lanes there are can be routed, and none is forgotten so soon.
        let is_there = self
            .model
            .legs
            .values()
            .any(|leg| leg.domain == DOMAINS[at]);
        if is_there {
            let _ = self.queue.bind(&domain, &site, 1000, Trust::Proven);
            self.model.routed[at] = true;
            // As its legs come up they are found to be kept; here at once.
            self.queue.put_in_force(Arc::clone(&self.orders), self.now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_queue_obeys_as_the_model_does(steps in steps()) {
        let mut run = Run {
            queue: Queue::new(Arc::new(|_| Admission::Send), 1000),
            orders: Arc::default(),
            model: Model::default(),
            claimed: Vec::new(),
            // Orders are about what came before them.
            now: start() + SignedDuration::from_secs(1),
            next: 0,
        };
        for step in steps {
            match step {
                Step::Insert { first, second, tenant } => run.insert(first, second, tenant),
                Step::Advance(seconds) => run.now += SignedDuration::from_secs(seconds),
                Step::Claim => run.claim()?,
                Step::Settle { pick, defer } => run.settle(pick, defer),
                Step::PutBack { pick } => run.put_back(pick),
                Step::Give { verb, scope, pick, lasts } => run.give(verb, scope, (pick, lasts)),
                Step::Route { domain } => run.route(domain),
            }
            let report = run.queue.figures(run.now).report;
            let states = [report.due, report.deferred, report.suspended, report.held];
            prop_assert_eq!(states, run.model.states(run.now));
        }
    }
}
