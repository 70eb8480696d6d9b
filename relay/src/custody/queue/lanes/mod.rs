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
//! Promises: pure. A leg that becomes ready, is claimed or is done takes constant time on the
//! average, however many legs, tenants and sites wait. Whenever a gate has room and legs wait at
//! it, one of its lines is where [`Lanes::pick`] finds it.

mod flow;
mod gates;
mod lane;
mod line;
mod rings;
mod stand;

use std::collections::{HashMap, VecDeque};

use slab::Slab;

use self::{
    flow::{Flows, list_of},
    gates::Gate,
    lane::{Lane, Register},
    rings::{Links, Ring},
    stand::{Lines, Stand},
};
use super::legs::{Legs, Position};
use crate::mail::Site;

/// What may be claimed at a time, in KiB: 256 MiB of messages.
const CLAIM_KIB: u64 = 256 << 10;
/// What of it suspects may have together.
const SUSPECT_KIB: u64 = CLAIM_KIB / 2;
/// What a small message counts for, in KiB: with it at most 4096 legs are claimed.
const LEAST_KIB: u16 = 64;
/// What a tenant may have claimed, in KiB, before the next one has its turn.
const QUANTUM: i64 = 256;

/// The ready legs.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Slab<Lane>,
    register: Register,
    gates: Slab<Gate>,
    sites: HashMap<Site, u32>,
    flows: Flows,
    lines: Lines,
    tenants: Slab<Tenant>,
    /// Tenants with something to claim.
    turns: VecDeque<u32>,
    /// Lines that wait for room among the suspects.
    suspects: Ring,
    /// Of flows, in their lanes.
    lane_links: Links,
    /// Of flows, among those of their priority in a line.
    rank_links: Links,
    /// Of lines, where they stand.
    stand_links: Links,
    /// Of lines among the suspects, beside the others of their gates.
    aside_links: Links,
    claimed_kib: u64,
    suspect_kib: u64,
}

#[derive(Debug, Default)]
struct Tenant {
    deficit: i64,
    /// Its lines that may have room.
    lines: Ring,
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

    /// Takes the leg whose turn it is.
    pub(super) fn pick(&mut self, legs: &mut Legs) -> Option<u32> {
        loop {
            let whose = *self.turns.front()? as usize;
            let tenant = self.tenants.get_mut(whose)?;
            let Some(line) = tenant.lines.first() else {
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
                // It has ended.
                continue;
            };
            let entry = legs.get(leg)?;
            let cost = entry.cost;
            match self.admits(entry.lane, cost) {
                Admits::Yes => {}
                Admits::NothingMore => return None,
                Admits::NotAt(stand) => {
                    self.move_line(line, stand);
                    continue;
                }
            }
            self.claim(legs, leg);
            self.lines.get_mut(line)?.gave(&self.rank_links);
            let tenant = self.tenants.get_mut(whose)?;
            tenant.lines.pass(&self.stand_links);
            tenant.deficit -= i64::from(cost);
            if legs.first(list_of(flow)).is_none() {
                self.end_flow(flow);
            }
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
        self.ring(gate, 1);
        self.ring_suspects();
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
}

enum Admits {
    Yes,
    /// Nor any other.
    NothingMore,
    /// Its line waits there.
    NotAt(Stand),
}

fn key(slab: usize) -> u32 {
    u32::try_from(slab).expect("memory ends before 2^32 of them do")
}

#[cfg(test)]
mod tests;
