//! Ready legs, in lanes by recipient domain, and who is next.
//!
//! Strategy, after Postfix's queue manager: what is ready waits here, costs nothing but its 32
//! bytes, and is claimed only when it has somewhere to go.
//!
//! - A *lane* is a recipient domain; a *gate* bounds what may be claimed for all lanes of one site.
//!   Until a lane's site is known it has a narrow gate of its own.
//! - A *flow* is what a tenant has ready in a lane of one priority, first in, first out. A tenant's
//!   flows at a gate are its *line* there, see [`line`]: it has one place among the lines of the
//!   gate and one among the tenant's, whatever its priorities, so that nobody is served more for
//!   calling all its mail urgent. A line whose gate is full is not asked, so a slow site costs the
//!   others nothing.
//! - Gates of sites that did not take mail lately (*suspects*) share half of what may be claimed
//!   at all, so that silent sites cannot starve the rest.
//! - Tenants are served by deficit round robin, in KiB; a tenant's lines take turns.
//!
//! Promises: pure; constant time per leg, whatever waits. Whenever a gate has room and legs wait at
//! it, one of its lines is where [`Lanes::pick`] finds it.

mod gates;
mod line;

use std::collections::{HashMap, VecDeque};

use postrider_crds::DomainName;
use slab::Slab;

use self::{gates::Gate, line::Line};
use super::{
    legs::{End, Legs, Position},
    wheel,
};
use crate::mail::{Priority, Site};

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
/// Lines of suspects that are called at a time when there is room.
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
    lines: Slab<Line>,
    tenants: Slab<Tenant>,
    /// Tenants with something to claim.
    turns: VecDeque<u32>,
    /// Lines that wait for room among the suspects.
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
    /// By tenant and priority; there is one for each that has ready legs here.
    flows: Vec<u32>,
    /// When it became idle, if it is.
    idle: u64,
}

/// One tenant's ready legs of one priority in one lane: the list of this number.
#[derive(Debug)]
struct Flow {
    tenant: u32,
    lane: u32,
    line: u32,
    priority: Priority,
}

#[derive(Debug, Default)]
struct Tenant {
    deficit: i64,
    /// Its lines that may have room.
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

    /// A leg of a tenant, of this priority, is ready: behind the others of it, or before them.
    pub(super) fn push(&mut self, legs: &mut Legs, leg: u32, whose: (u32, Priority), end: End) {
        if let Some(list) = self.ready(legs, leg, whose) {
            legs.push(list, leg, end);
        }
    }

    /// Takes the leg whose turn it is.
    pub(super) fn pick(&mut self, legs: &mut Legs) -> Option<u32> {
        loop {
            let tenant = self.tenants.get_mut(*self.turns.front()? as usize)?;
            let Some(&line) = tenant.turns.front() else {
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
            let Some((flow, leg)) = self.first_of(legs, line) else {
                let tenant = self.tenants.get_mut(*self.turns.front()? as usize)?;
                tenant.turns.pop_front();
                self.end_line(line);
                continue;
            };
            let entry = legs.get(leg)?;
            let (lane, cost) = (entry.lane, entry.cost);
            match self.admits(lane, cost) {
                Admits::Yes => {}
                Admits::NothingMore => return None,
                Admits::NotAt(stand) => {
                    self.step_aside(line, stand);
                    continue;
                }
            }
            self.claim(legs, leg);
            self.lines.get_mut(line as usize)?.gave();
            if legs.first(list_of(flow)).is_none() {
                self.end_flow(flow);
            }
            let tenant = self.tenants.get_mut(*self.turns.front()? as usize)?;
            tenant.turns.rotate_left(1);
            tenant.deficit -= i64::from(cost);
            return Some(leg);
        }
    }

    /// The flow of a line whose turn it is, and its first leg. Flows that lost all theirs end here.
    fn first_of(&mut self, legs: &Legs, line: u32) -> Option<(u32, u32)> {
        loop {
            let flow = self.lines.get(line as usize)?.next()?;
            match legs.first(list_of(flow)) {
                Some(leg) => return Some((flow, leg)),
                None => self.end_flow(flow),
            }
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

    fn ready(&mut self, legs: &mut Legs, leg: u32, whose: (u32, Priority)) -> Option<u32> {
        let (tenant, priority) = whose;
        let entry = legs.get_mut(leg)?;
        entry.position = Position::Ready;
        let key_of_lane = entry.lane;
        let lane = self.lanes.get(key_of_lane as usize)?;
        let is_it = |flow: &&u32| {
            let flow = self.flows.get(**flow as usize);
            flow.is_some_and(|flow| (flow.tenant, flow.priority) == whose)
        };
        if let Some(flow) = lane.flows.iter().find(is_it) {
            return Some(list_of(*flow));
        }
        let line = self.line_at(lane.gate, tenant);
        let flow = key(self.flows.insert(Flow {
            tenant,
            lane: key_of_lane,
            line,
            priority,
        }));
        self.lines.get_mut(line as usize)?.add(priority, flow);
        self.lanes.get_mut(key_of_lane as usize)?.flows.push(flow);
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

    /// A flow without legs ends.
    fn end_flow(&mut self, flow: u32) {
        let Some(entry) = self.flows.try_remove(flow as usize) else {
            return;
        };
        if let Some(lane) = self.lanes.get_mut(entry.lane as usize) {
            lane.flows.retain(|other| *other != flow);
        }
        if let Some(line) = self.lines.get_mut(entry.line as usize) {
            line.remove(entry.priority, flow);
        }
    }

    fn forget(&mut self, lane: u32) {
        let Some(entry) = self.lanes.try_remove(lane as usize) else {
            return;
        };
        self.names.remove(&entry.domain);
        for flow in entry.flows {
            self.end_flow(flow);
        }
        if let Some(gate) = self.gates.get_mut(entry.gate as usize) {
            gate.lanes -= 1;
        }
        self.drop_gate(entry.gate);
    }
}

enum Admits {
    Yes,
    /// Nor any other.
    NothingMore,
    /// Its line waits there.
    NotAt(Stand),
}

/// Where a line waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// At its gate.
    Gate,
    /// Among the suspects.
    Suspects,
}

fn list_of(flow: u32) -> u32 {
    wheel::LISTS + flow
}

fn key(slab: usize) -> u32 {
    u32::try_from(slab).expect("memory ends before 2^32 of them do")
}

#[cfg(test)]
mod tests;
