//! The lanes against what they promise: who goes first, and that nobody is left out.

use std::collections::BTreeMap;

use postrider_crds::DomainName;
use proptest::prelude::*;

use super::*;
use crate::{
    custody::queue::legs::{End, Leg},
    mail::Priority,
};

/// Lanes with legs of which the tenant, priority and arrival are known.
#[derive(Default)]
struct World {
    lanes: Lanes,
    legs: Legs,
    tenants: Vec<u32>,
    known: BTreeMap<u32, Known>,
    arrivals: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    tenant: usize,
    priority: i8,
    lane: u32,
    arrival: usize,
}

impl World {
    fn new(tenants: usize) -> Self {
        let mut world = Self::default();
        world.tenants = (0..tenants).map(|_| world.lanes.tenant()).collect();
        world
    }

    fn push(&mut self, tenant: usize, priority: i8, domain: &DomainName) -> u32 {
        self.push_large(tenant, priority, domain, LEAST_KIB)
    }

    fn push_large(&mut self, tenant: usize, priority: i8, domain: &DomainName, kib: u16) -> u32 {
        let lane = self.lanes.enter(domain);
        let mut leg = Leg::new(0, 0, lane);
        leg.cost = kib;
        let leg = self.legs.insert(leg);
        let whose = (self.tenants[tenant], Priority::new(priority).unwrap());
        self.lanes.push(&mut self.legs, leg, whose, End::Back);
        self.arrivals += 1;
        let known = Known {
            tenant,
            priority,
            lane,
            arrival: self.arrivals,
        };
        self.known.insert(leg, known);
        leg
    }

    /// The leg whose turn it is, which stays claimed.
    fn pick(&mut self) -> Option<(u32, Known)> {
        let leg = self.lanes.pick(&mut self.legs)?;
        Some((leg, self.known[&leg]))
    }

    /// The same, and it is done at once.
    fn serve(&mut self) -> Option<Known> {
        let (leg, known) = self.pick()?;
        self.finish(leg);
        Some(known)
    }

    fn finish(&mut self, leg: u32) {
        let leg = self.legs.remove(leg).unwrap();
        self.lanes.release(leg.lane, leg.cost);
        self.lanes.leave(leg.lane);
    }

    /// A ready leg is taken from its line, as what is held is.
    fn lose(&mut self, leg: u32) {
        let leg = self.legs.remove(leg).unwrap();
        self.lanes.leave(leg.lane);
    }

    /// A claimed leg is ready again.
    fn put_back(&mut self, leg: u32) {
        let known = self.known[&leg];
        let entry = self.legs.get(leg).unwrap();
        self.lanes.release(entry.lane, entry.cost);
        let priority = Priority::new(known.priority).unwrap();
        let whose = (self.tenants[known.tenant], priority);
        self.lanes.push(&mut self.legs, leg, whose, End::Front);
    }

    fn bind(&mut self, domain: &DomainName, limit: u32) {
        self.lanes.bind(domain, &site(), limit, Trust::Proven);
    }
}

/// What must hold between any two calls.
fn check(lanes: &Lanes) {
    let mut standing = 0;
    for (number, tenant) in &lanes.tenants {
        let turns = lanes.turns.iter().filter(|turn| **turn == key(number));
        assert_eq!(turns.count(), usize::from(tenant.has_turn));
        assert!(tenant.has_turn || tenant.lines.is_empty());
        for line in tenant.lines.members(&lanes.stand_links) {
            let line = lanes.lines.get(line).unwrap();
            assert_eq!((line.stand, line.tenant), (Stand::Called, key(number)));
            standing += 1;
        }
    }
    let suspects: Vec<u32> = lanes.suspects.members(&lanes.stand_links).collect();
    let mut aside = 0;
    let (mut kib, mut suspect_kib) = (0, 0);
    for (number, gate) in &lanes.gates {
        for line in gate.waiting.members(&lanes.stand_links) {
            let line = lanes.lines.get(line).unwrap();
            assert_eq!((line.stand, line.gate), (Stand::Gate, key(number)));
            standing += 1;
        }
        for line in gate.aside.members(&lanes.aside_links) {
            assert!(suspects.contains(&line));
            let line = lanes.lines.get(line).unwrap();
            assert_eq!((line.stand, line.gate), (Stand::Suspects, key(number)));
            aside += 1;
        }
        let may_go =
            |(_, line): &(u32, &line::Line)| line.gate == key(number) && line.stand != Stand::Gate;
        let is_called = lanes.lines.iter().any(|line| may_go(&line));
        assert!(gate.claimed >= gate.limit || gate.waiting.is_empty() || is_called);
        let of_gate = lanes
            .lanes
            .iter()
            .filter(|(_, lane)| lane.gate == key(number));
        let count =
            |(claimed, kib), (_, lane): (_, &Lane)| (claimed + lane.claimed, kib + lane.kib);
        assert_eq!((gate.claimed, gate.kib), of_gate.fold((0, 0), count));
        kib += gate.kib;
        suspect_kib += if gate.trust == Trust::Suspect {
            gate.kib
        } else {
            0
        };
    }
    assert_eq!((lanes.claimed_kib, lanes.suspect_kib), (kib, suspect_kib));
    assert_eq!(aside, suspects.len());
    assert_eq!(standing + aside, lanes.lines.iter().count());
    assert!(lanes.lines.iter().all(|(_, line)| !line.is_empty()));
    assert!(suspects.is_empty() || suspect_kib > 0 || !lanes.turns.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize, i8, u32, u16),
    Pick,
    Finish(prop::sample::Index),
    PutBack(prop::sample::Index),
    Lose(prop::sample::Index),
    /// A domain is one of a site, of so many claims, which is trusted or not.
    Bind(u32, u32, u32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    // Two of the largest are all that suspects may have.
    let kib = prop_oneof![Just(LEAST_KIB), Just(u16::MAX)];
    prop_oneof![
        4 => (0..4_usize, -1..=1_i8, 0..6_u32, kib)
            .prop_map(|(tenant, priority, domain, kib)| Step::Push(tenant, priority, domain, kib)),
        4 => Just(Step::Pick),
        2 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => any::<prop::sample::Index>().prop_map(Step::PutBack),
        1 => any::<prop::sample::Index>().prop_map(Step::Lose),
        3 => (0..6_u32, 0..3_u32, 1..4_u32, any::<bool>())
            .prop_map(|(domain, site, limit, proven)| Step::Bind(domain, site, limit, proven)),
    ]
}

fn site() -> Site {
    Site::of_domain(&domain(99))
}

fn domain(number: u32) -> DomainName {
    format!("d{number}.test").parse().unwrap()
}

#[test]
fn an_urgent_leg_overtakes_its_tenants_backlog_and_no_one_elses() {
    let mut world = World::new(2);
    world.push(0, 0, &domain(1));
    world.push(1, 0, &domain(1));
    world.bind(&domain(1), 1);
    let first = world.pick().unwrap();
    for _ in 0..100 {
        world.push(0, 0, &domain(1));
        world.push(1, 0, &domain(1));
    }
    world.push(0, 9, &domain(1));
    world.finish(first.0);
    let next: Vec<_> = (0..8).map(|_| world.serve().unwrap()).collect();
    let of_first = next.iter().filter(|leg| leg.tenant == 0);
    assert_eq!(of_first.clone().next().unwrap().priority, 9, "{next:?}");
    assert_eq!(of_first.count(), 4, "{next:?}");
}

#[test]
fn it_overtakes_what_waits_for_other_domains_of_the_site() {
    let mut world = World::new(1);
    for number in 0..50 {
        world.push(0, 0, &domain(number));
        world.bind(&domain(number), 1);
    }
    let (claimed, _) = world.pick().unwrap();
    assert!(world.pick().is_none(), "the site is full");
    world.push(0, 4, &domain(60));
    world.bind(&domain(60), 1);
    world.finish(claimed);
    assert_eq!(world.serve().unwrap().priority, 4);
}

proptest! {
    #[test]
    fn what_has_room_is_given_out_in_order(
        pushes in prop::collection::vec((0..3_usize, -9..=9_i8, 0..4_u32), 1..120),
        limit in 1..6_u32,
        moved in 0..120_usize,
        lost: Vec<prop::sample::Index>,
    ) {
        let mut world = World::new(3);
        let mut left = BTreeMap::new();
        for (at, (tenant, priority, number)) in pushes.iter().enumerate() {
            let leg = world.push(*tenant, *priority, &domain(*number));
            left.insert(leg, world.known[&leg]);
            if at >= moved {
                world.bind(&domain(*number), limit);
            }
        }
        // Some are taken from their lines, as what is held is.
        for index in lost.iter().take(left.len() / 4) {
            let leg = *left.keys().nth(index.index(left.len())).unwrap();
            left.remove(&leg);
            world.lose(leg);
        }
        while let Some(served) = world.serve() {
            let found = left.iter().find(|(_, known)| **known == served).map(|(leg, _)| *leg);
            let leg = found.expect("what is given out waits");
            left.remove(&leg);
            // First in, first out within a flow.
            let same = |other: &&Known| (other.tenant, other.priority, other.lane)
                == (served.tenant, served.priority, served.lane);
            prop_assert!(left.values().filter(same).all(|other| other.arrival > served.arrival));
        }
        prop_assert!(left.is_empty(), "{left:?}");
        prop_assert!(world.lanes.lines.is_empty() && world.lanes.flows.is_empty());
        prop_assert_eq!((world.lanes.claimed_kib, world.lanes.suspect_kib), (0, 0));
    }

    #[test]
    fn priorities_gain_a_tenant_nothing(
        urgent in prop::collection::vec((-9..=9_i8, 0..4_u32), 200..300),
        limit in 1..8_u32,
    ) {
        let mut world = World::new(2);
        for number in 0..4 {
            world.push(0, 0, &domain(number));
            world.bind(&domain(number), limit);
        }
        for (at, (priority, number)) in urgent.iter().enumerate() {
            world.push(0, *priority, &domain(*number));
            world.push(1, 0, &domain(at as u32 % 4));
        }
        let mut claimed = VecDeque::new();
        let mut served = [0_i32; 2];
        for _ in 0..200 {
            while let Some((leg, known)) = world.pick() {
                claimed.push_back(leg);
                served[known.tenant] += 1;
            }
            let leg = claimed.pop_front().unwrap();
            world.finish(leg);
            // One quantum is four small legs, and the site has them in hand for a while.
            let apart = (served[0] - served[1]).abs();
            prop_assert!(apart <= 4 + limit as i32, "{served:?}");
        }
    }

    #[test]
    fn no_priority_starves(
        backlog in prop::collection::btree_set(-9..=8_i8, 1..6),
        limit in 1..4_u32,
    ) {
        let mut world = World::new(1);
        for priority in &backlog {
            world.push(0, *priority, &domain(1));
        }
        world.bind(&domain(1), limit);
        // The highest never runs out.
        let mut served = Vec::new();
        for _ in 0..8 * (backlog.len() + 1) {
            world.push(0, 9, &domain(1));
            world.push(0, 9, &domain(1));
            served.push(world.serve().unwrap().priority);
        }
        for priority in &backlog {
            prop_assert!(served.contains(priority), "{priority} of {served:?}");
        }
        let urgent = served.iter().filter(|priority| **priority == 9).count();
        prop_assert_eq!(urgent, served.len() - backlog.len());
    }

    #[test]
    fn many_tenants_share_a_site_alike(
        tenants in 3..40_usize,
        priorities in prop::collection::vec(-9..=9_i8, 1..20),
        limit in 1..12_u32,
    ) {
        let mut world = World::new(tenants);
        for number in 0..20 * tenants {
            let priority = priorities[number % priorities.len()];
            world.push(number % tenants, priority, &domain(number as u32 % 3));
        }
        for number in 0..3 {
            world.bind(&domain(number), limit);
        }
        let (mut claimed, mut served) = (VecDeque::new(), vec![0_u32; tenants]);
        for _ in 0..10 * tenants {
            while let Some((leg, known)) = world.pick() {
                claimed.push_back(leg);
                served[known.tenant] += 1;
            }
            let leg = claimed.pop_front().unwrap();
            world.finish(leg);
        }
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        prop_assert!(most - least <= 4 + limit, "{served:?}");
    }

    #[test]
    fn whatever_happens_who_has_room_is_called(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new(4);
        let (mut ready, mut claimed) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push(tenant, priority, number, kib) => {
                    ready.push(world.push_large(tenant, priority, &domain(number), kib));
                }
                Step::Pick => {
                    if let Some((leg, _)) = world.pick() {
                        let at = ready.iter().position(|other| *other == leg);
                        ready.swap_remove(at.expect("what is given out is ready"));
                        claimed.push(leg);
                    }
                }
                Step::Finish(index) if !claimed.is_empty() => {
                    let leg = claimed.swap_remove(index.index(claimed.len()));
                    world.finish(leg);
                }
                Step::PutBack(index) if !claimed.is_empty() => {
                    let leg = claimed.swap_remove(index.index(claimed.len()));
                    world.put_back(leg);
                    ready.push(leg);
                }
                Step::Lose(index) if !ready.is_empty() => {
                    let leg = ready.swap_remove(index.index(ready.len()));
                    world.lose(leg);
                }
                Step::Bind(number, site, limit, proven) => {
                    let trust = if proven { Trust::Proven } else { Trust::Suspect };
                    let site = Site::of_domain(&domain(90 + site));
                    world.lanes.bind(&domain(number), &site, limit, trust);
                }
                Step::Finish(_) | Step::PutBack(_) | Step::Lose(_) => {}
            }
            check(&world.lanes);
        }
        // What is left comes out, each once, as room comes back.
        while !ready.is_empty() || !claimed.is_empty() {
            while let Some((leg, _)) = world.pick() {
                check(&world.lanes);
                let at = ready.iter().position(|other| *other == leg);
                ready.swap_remove(at.expect("what is given out is ready"));
                claimed.push(leg);
            }
            prop_assert!(!claimed.is_empty(), "{ready:?} are stuck");
            world.finish(claimed.remove(0));
        }
        prop_assert_eq!(world.pick(), None);
        prop_assert!(world.lanes.lines.is_empty() && world.lanes.flows.is_empty());
    }
}
