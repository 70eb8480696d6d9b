//! Ready legs, in lanes by recipient domain, and who is next.
//!
//! Strategy, after Postfix's queue manager: what is ready waits here, costs nothing but its 32
//! bytes, and is claimed only when it has somewhere to go.
//!
//! - A *lane* is a recipient domain; a *gate* bounds what may be claimed for all lanes of one site.
//!   Until a lane's site is known it has a narrow gate of its own. A lane whose gate is full is not
//!   asked, so a slow site costs the others nothing.
//! - Gates of sites that did not take mail lately (*suspects*) share half of what may be claimed
//!   at all, so that silent sites cannot starve the rest.
//! - Tenants are served by deficit round robin, in KiB; a tenant's lanes take turns; a lane's legs
//!   go first in, first out.
//!
//! Promises: pure; constant time per leg, whatever waits. Whenever a gate has room and legs wait at
//! it, one of its flows is where [`Lanes::pick`] finds it.

use std::collections::{HashMap, VecDeque};

use postrider_crds::DomainName;
use slab::Slab;

use super::{
    legs::{End, Legs, NONE, Position},
    wheel,
};
use crate::mail::Site;

/// What may be claimed at a time, in KiB: 256 MiB of messages.
const CLAIM_KIB: u64 = 256 << 10;
/// What of it suspects may have together.
const SUSPECT_KIB: u64 = CLAIM_KIB / 2;
/// What a small message counts for, in KiB: with it at most 4096 legs are claimed.
const LEAST_KIB: u16 = 64;
/// What a lane may have claimed before its site is known.
const UNKNOWN_SITE_CLAIMS: u32 = 64;
/// What a tenant may have claimed, in KiB, before the next one has its turn.
const QUANTUM: i64 = 256;
/// Flows of suspects that are called at a time when there is room.
const SUSPECTS_CALLED: u64 = 16;
/// Lanes without legs that are remembered, with their sites.
const IDLE_LANES: usize = 4096;

/// The ready legs.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Slab<Lane>,
    names: HashMap<DomainName, u32>,
    idle: VecDeque<(u32, u64)>,
    idled: u64,
    gates: Slab<Gate>,
    sites: HashMap<Site, u32>,
    flows: Slab<Flow>,
    tenants: Slab<Tenant>,
    /// Tenants with something to claim.
    turns: VecDeque<u32>,
    /// Flows that wait for room among the suspects.
    suspects: VecDeque<u32>,
    claimed_kib: u64,
    suspect_kib: u64,
}

#[derive(Debug)]
struct Lane {
    domain: DomainName,
    gate: u32,
    legs: u32,
    claimed: u32,
    kib: u64,
    /// By tenant; there is one for each that has ready legs here.
    flows: Vec<u32>,
    /// When it became idle, if it is.
    idle: u64,
}

/// One tenant's ready legs in one lane: the list of this number.
#[derive(Debug)]
struct Flow {
    tenant: u32,
    lane: u32,
    stand: Stand,
}

/// Where a flow is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Among its tenant's.
    Turn,
    /// Waiting at its gate.
    Gate,
    /// Waiting among the suspects.
    Suspects,
}

#[derive(Debug)]
struct Gate {
    site: Option<Site>,
    limit: u32,
    trust: Trust,
    lanes: u32,
    claimed: u32,
    kib: u64,
    waiting: VecDeque<u32>,
}

#[derive(Debug, Default)]
struct Tenant {
    deficit: i64,
    turns: VecDeque<u32>,
    has_turn: bool,
}

/// Whether a site took mail lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It did.
    Proven,
    /// It did not, or is not known.
    Suspect,
}

/// Whether a site has room for a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The claim may go on.
    Granted,
    /// Put the claim back; it is given out again when there is room.
    Full,
}

/// What a leg of so many bytes counts for.
pub(super) fn cost_of(bytes: u32) -> u16 {
    u16::try_from(bytes >> 10)
        .unwrap_or(u16::MAX)
        .max(LEAST_KIB)
}

impl Lanes {
    /// A new tenant.
    pub(super) fn tenant(&mut self) -> u32 {
        key(self.tenants.insert(Tenant::default()))
    }

    /// The lane of a domain, for one more leg.
    pub(super) fn enter(&mut self, domain: &DomainName) -> u32 {
        let found = self.names.get(domain).copied();
        let lane = found.unwrap_or_else(|| {
            let gate = self.gates.insert(Gate::of(None));
            let lane = key(self.lanes.insert(Lane {
                domain: domain.clone(),
                gate: key(gate),
                legs: 0,
                claimed: 0,
                kib: 0,
                flows: Vec::new(),
                idle: 0,
            }));
            self.names.insert(domain.clone(), lane);
            lane
        });
        if let Some(entry) = self.lanes.get_mut(lane as usize) {
            entry.legs += 1;
            entry.idle = 0;
        }
        lane
    }

    /// A leg, ready no more and not claimed, is gone from its lane.
    pub(super) fn leave(&mut self, lane: u32) {
        let Some(entry) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        entry.legs = entry.legs.saturating_sub(1);
        if entry.legs == 0 {
            self.idled += 1;
            entry.idle = self.idled;
            self.idle.push_back((lane, self.idled));
        }
        while self.idle.len() > IDLE_LANES {
            if let Some((lane, since)) = self.idle.pop_front()
                && self
                    .lanes
                    .get(lane as usize)
                    .is_some_and(|l| l.idle == since)
            {
                self.forget(lane);
            }
        }
    }

    /// The domain of a lane.
    pub(super) fn domain(&self, lane: u32) -> Option<&DomainName> {
        Some(&self.lanes.get(lane as usize)?.domain)
    }

    /// The site of a lane, once it is known.
    pub(super) fn site(&self, lane: u32) -> Option<&Site> {
        let lane = self.lanes.get(lane as usize)?;
        self.gates.get(lane.gate as usize)?.site.as_ref()
    }

    /// Domains with legs whose site is not known yet.
    pub(super) fn unrouted(&self) -> Vec<DomainName> {
        let lanes = self.lanes.iter().filter(|(_, lane)| {
            let gate = self.gates.get(lane.gate as usize);
            lane.legs > 0 && gate.is_some_and(|gate| gate.site.is_none())
        });
        lanes.map(|(_, lane)| lane.domain.clone()).collect()
    }

    /// A leg is ready: behind the others, or before them.
    pub(super) fn push(&mut self, legs: &mut Legs, leg: u32, tenant: u32, end: End) {
        if let Some(list) = self.ready(legs, leg, tenant) {
            legs.push(list, leg, end);
        }
    }

    /// Takes the leg whose turn it is.
    pub(super) fn pick(&mut self, legs: &mut Legs) -> Option<u32> {
        loop {
            let tenant = self.tenants.get_mut(*self.turns.front()? as usize)?;
            let Some(&flow) = tenant.turns.front() else {
                tenant.has_turn = false;
                tenant.deficit = tenant.deficit.min(0);
                self.turns.pop_front();
                continue;
            };
            if tenant.deficit <= 0 {
                tenant.deficit += QUANTUM;
                self.turns.rotate_left(1);
                continue;
            }
            let Some(leg) = legs.first(list_of(flow)) else {
                tenant.turns.pop_front();
                self.end_flow(flow);
                continue;
            };
            let cost = legs.get(leg)?.cost;
            let lane = self.flows.get(flow as usize)?.lane;
            match self.admits(lane, cost) {
                Admits::Yes => {}
                Admits::NothingMore => return None,
                Admits::NotAt(stand) => {
                    self.step_aside(flow, stand);
                    continue;
                }
            }
            self.claim(legs, leg);
            let tenant = self.tenants.get_mut(*self.turns.front()? as usize)?;
            tenant.turns.rotate_left(1);
            tenant.deficit -= i64::from(cost);
            return Some(leg);
        }
    }

    /// Claims a leg, whether there is room or not.
    pub(super) fn claim(&mut self, legs: &mut Legs, leg: u32) {
        legs.unlink(leg);
        if let Some(leg) = legs.get_mut(leg) {
            leg.position = Position::Claimed;
            self.count(leg.lane, leg.cost);
        }
    }

    /// A claimed leg of this cost is claimed no more.
    pub(super) fn release(&mut self, lane: u32, cost: u16) {
        let cost = u64::from(cost);
        let Some(lane) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        lane.claimed = lane.claimed.saturating_sub(1);
        lane.kib = lane.kib.saturating_sub(cost);
        self.claimed_kib = self.claimed_kib.saturating_sub(cost);
        let gate = lane.gate;
        let Some(entry) = self.gates.get_mut(gate as usize) else {
            return;
        };
        entry.claimed = entry.claimed.saturating_sub(1);
        entry.kib = entry.kib.saturating_sub(cost);
        if entry.trust == Trust::Suspect {
            self.suspect_kib = self.suspect_kib.saturating_sub(cost);
        }
        self.ring(gate);
        self.ring_suspects();
    }

    /// The lane of `domain` is one of `site`'s, which may have `limit` claims. Whether what is
    /// claimed for it now, this claim included, is within that.
    pub(super) fn bind(
        &mut self,
        domain: &DomainName,
        site: &Site,
        limit: u32,
        trust: Trust,
    ) -> Room {
        let Some(&lane) = self.names.get(domain) else {
            return Room::Granted;
        };
        let gate = match self.sites.get(site) {
            Some(gate) => *gate,
            None => {
                let gate = key(self.gates.insert(Gate::of(Some(site.clone()))));
                self.sites.insert(site.clone(), gate);
                gate
            }
        };
        self.move_lane(lane, gate);
        let Some(entry) = self.gates.get_mut(gate as usize) else {
            return Room::Granted;
        };
        entry.limit = limit.max(1);
        let was = std::mem::replace(&mut entry.trust, trust);
        let over = entry.claimed > entry.limit;
        match (was, trust) {
            (Trust::Suspect, Trust::Proven) => {
                self.suspect_kib = self.suspect_kib.saturating_sub(entry.kib);
                self.clear(gate);
            }
            (Trust::Proven, Trust::Suspect) => self.suspect_kib += entry.kib,
            (Trust::Proven, Trust::Proven) | (Trust::Suspect, Trust::Suspect) => {}
        }
        let full = over || (trust == Trust::Suspect && self.suspect_kib > SUSPECT_KIB);
        self.ring(gate);
        match full {
            true => Room::Full,
            false => Room::Granted,
        }
    }

    fn ready(&mut self, legs: &mut Legs, leg: u32, tenant: u32) -> Option<u32> {
        let entry = legs.get_mut(leg)?;
        entry.position = Position::Ready;
        let lane_key = entry.lane;
        let lane = self.lanes.get_mut(lane_key as usize)?;
        let flows = &self.flows;
        let is_tenants = |flow: &&u32| {
            flows
                .get(**flow as usize)
                .is_some_and(|f| f.tenant == tenant)
        };
        if let Some(flow) = lane.flows.iter().find(is_tenants) {
            return Some(list_of(*flow));
        }
        let flow = key(self.flows.insert(Flow {
            tenant,
            lane: lane_key,
            stand: Stand::Turn,
        }));
        lane.flows.push(flow);
        self.take_turn(flow);
        Some(list_of(flow))
    }

    /// Whether a leg of this cost may be claimed in a lane.
    fn admits(&self, lane: u32, cost: u16) -> Admits {
        let gate = self.lanes.get(lane as usize).map(|lane| lane.gate);
        let Some(gate) = gate.and_then(|gate| self.gates.get(gate as usize)) else {
            return Admits::NothingMore;
        };
        let cost = u64::from(cost);
        if self.claimed_kib + cost > CLAIM_KIB {
            return Admits::NothingMore;
        }
        if gate.claimed >= gate.limit {
            return Admits::NotAt(Stand::Gate);
        }
        if gate.trust == Trust::Suspect && self.suspect_kib + cost > SUSPECT_KIB {
            return Admits::NotAt(Stand::Suspects);
        }
        Admits::Yes
    }

    /// Counts a claim.
    fn count(&mut self, lane: u32, cost: u16) {
        let cost = u64::from(cost);
        self.claimed_kib += cost;
        let Some(lane) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        lane.claimed += 1;
        lane.kib += cost;
        if let Some(gate) = self.gates.get_mut(lane.gate as usize) {
            gate.claimed += 1;
            gate.kib += cost;
            if gate.trust == Trust::Suspect {
                self.suspect_kib += cost;
            }
        }
    }

    /// The flow that has its turn waits elsewhere.
    fn step_aside(&mut self, flow: u32, stand: Stand) {
        let Some(entry) = self.flows.get_mut(flow as usize) else {
            return;
        };
        entry.stand = stand;
        if let Some(tenant) = self.tenants.get_mut(entry.tenant as usize) {
            tenant.turns.pop_front();
        }
        let gate = self.lanes.get(entry.lane as usize).map(|lane| lane.gate);
        match (
            stand,
            gate.and_then(|gate| self.gates.get_mut(gate as usize)),
        ) {
            (Stand::Gate, Some(gate)) => gate.waiting.push_back(flow),
            _ => self.suspects.push_back(flow),
        }
    }

    /// Puts a flow in line behind its tenant's others.
    fn take_turn(&mut self, flow: u32) {
        let Some(entry) = self.flows.get_mut(flow as usize) else {
            return;
        };
        entry.stand = Stand::Turn;
        let key = entry.tenant;
        if let Some(tenant) = self.tenants.get_mut(key as usize) {
            tenant.turns.push_back(flow);
            if !tenant.has_turn {
                tenant.has_turn = true;
                self.turns.push_back(key);
            }
        }
    }

    /// A flow without legs, which stands nowhere any more, ends. Another may use its room.
    fn end_flow(&mut self, flow: u32) {
        let Some(entry) = self.flows.try_remove(flow as usize) else {
            return;
        };
        if let Some(lane) = self.lanes.get_mut(entry.lane as usize) {
            lane.flows.retain(|other| *other != flow);
            let gate = lane.gate;
            self.ring(gate);
        }
        self.ring_suspects();
    }

    /// Calls as many of the flows that wait at a gate as it has room for.
    fn ring(&mut self, gate: u32) {
        let Some(entry) = self.gates.get_mut(gate as usize) else {
            return;
        };
        let room = entry.limit.saturating_sub(entry.claimed) as usize;
        let room = room.min(entry.waiting.len());
        let called: Vec<u32> = entry.waiting.drain(..room).collect();
        for flow in called {
            self.take_turn(flow);
        }
    }

    /// Calls some of the flows that wait among the suspects, as far as there is room.
    fn ring_suspects(&mut self) {
        let room = SUSPECT_KIB.saturating_sub(self.suspect_kib) / u64::from(LEAST_KIB);
        for _ in 0..room.min(SUSPECTS_CALLED) {
            let Some(flow) = self.suspects.pop_front() else {
                return;
            };
            self.take_turn(flow);
        }
    }

    /// A site is a suspect no more: its flows do not wait among them.
    fn clear(&mut self, gate: u32) {
        let (lanes, flows) = (&self.lanes, &self.flows);
        let is_cleared = |flow: &u32| {
            let lane = flows
                .get(*flow as usize)
                .and_then(|f| lanes.get(f.lane as usize));
            lane.is_none_or(|lane| lane.gate == gate)
        };
        let (cleared, others): (VecDeque<u32>, _) =
            self.suspects.iter().partition(|f| is_cleared(f));
        self.suspects = others;
        for flow in cleared {
            self.take_turn(flow);
        }
    }

    fn move_lane(&mut self, lane: u32, to: u32) {
        let Some(entry) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        let from = std::mem::replace(&mut entry.gate, to);
        if from == to {
            return;
        }
        let (claimed, kib, flows) = (entry.claimed, entry.kib, entry.flows.clone());
        let mut suspect = 0_i64;
        if let Some(gate) = self.gates.get_mut(from as usize) {
            gate.claimed = gate.claimed.saturating_sub(claimed);
            gate.kib = gate.kib.saturating_sub(kib);
            gate.lanes -= 1;
            gate.waiting.retain(|flow| !flows.contains(flow));
            suspect -= gate.suspect(kib);
        }
        if let Some(gate) = self.gates.get_mut(to as usize) {
            gate.claimed += claimed;
            gate.kib += kib;
            gate.lanes += 1;
            suspect += gate.suspect(kib);
        }
        self.suspect_kib = self.suspect_kib.saturating_add_signed(suspect);
        for flow in flows {
            if self
                .flows
                .get(flow as usize)
                .is_some_and(|f| f.stand == Stand::Gate)
            {
                self.take_turn(flow);
            }
        }
        self.ring(from);
        self.drop_gate(from);
    }

    fn forget(&mut self, lane: u32) {
        let Some(entry) = self.lanes.try_remove(lane as usize) else {
            return;
        };
        self.names.remove(&entry.domain);
        for flow in entry.flows {
            // It has no legs, and ends when its turn comes.
            if let Some(flow) = self.flows.get_mut(flow as usize) {
                flow.lane = NONE;
            }
        }
        if let Some(gate) = self.gates.get_mut(entry.gate as usize) {
            gate.lanes -= 1;
        }
        self.drop_gate(entry.gate);
    }

    fn drop_gate(&mut self, gate: u32) {
        if self
            .gates
            .get(gate as usize)
            .is_some_and(|gate| gate.lanes == 0)
            && let Some(gone) = self.gates.try_remove(gate as usize)
        {
            if let Some(site) = gone.site {
                self.sites.remove(&site);
            }
            for flow in gone.waiting {
                self.take_turn(flow);
            }
        }
    }
}

enum Admits {
    Yes,
    /// Nor any other.
    NothingMore,
    NotAt(Stand),
}

impl Gate {
    fn of(site: Option<Site>) -> Self {
        Self {
            lanes: u32::from(site.is_none()),
            site,
            limit: UNKNOWN_SITE_CLAIMS,
            trust: Trust::Suspect,
            claimed: 0,
            kib: 0,
            waiting: VecDeque::new(),
        }
    }

    /// What of `kib` counts among the suspects.
    fn suspect(&self, kib: u64) -> i64 {
        match self.trust {
            Trust::Suspect => i64::try_from(kib).unwrap_or(i64::MAX),
            Trust::Proven => 0,
        }
    }
}

fn list_of(flow: u32) -> u32 {
    wheel::LISTS + flow
}

fn key(slab: usize) -> u32 {
    u32::try_from(slab).expect("memory ends before 2^32 of them do")
}
