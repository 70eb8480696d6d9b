//! The lanes against what they promise: who goes first, and that nobody is left out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::custody::queue::legs::Leg;

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
        let lane = self.lanes.enter(domain);
        let mut leg = Leg::new(0, 0, lane);
        leg.cost = LEAST_KIB;
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

    fn bind(&mut self, domain: &DomainName, limit: u32) {
        self.lanes.bind(domain, &site(), limit, Trust::Proven);
    }
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
            let leg = world.legs.remove(leg).unwrap();
            world.lanes.leave(leg.lane);
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
}
