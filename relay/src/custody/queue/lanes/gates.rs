//! Gates: what may be claimed for a site, and the lines that wait for it.
//!
//! Promises: pure. Whenever a gate has room and lines wait at it, one of them is called.

use std::collections::VecDeque;

use postrider_crds::DomainName;

use super::{
    LEAST_KIB, Lanes, Room, SUSPECT_KIB, SUSPECTS_CALLED, Stand, Trust, UNKNOWN_SITE_CLAIMS, key,
    line::Line,
};
use crate::mail::Site;

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) site: Option<Site>,
    pub(super) limit: u32,
    pub(super) trust: Trust,
    pub(super) lanes: u32,
    pub(super) claimed: u32,
    pub(super) kib: u64,
    /// Lines of tenants with ready legs here, one each.
    pub(super) lines: Vec<u32>,
    /// Those of them that wait for room.
    pub(super) waiting: VecDeque<u32>,
}

impl Lanes {
    /// The lane of `domain` is one of `site`'s, which may have `limit` claims. Whether what is
    /// claimed for it now, this claim included, is within that.
    pub(in super::super) fn bind(
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

    /// Calls as many of the lines that wait at a gate as it has room for.
    pub(super) fn ring(&mut self, gate: u32) {
        let Some(entry) = self.gates.get_mut(gate as usize) else {
            return;
        };
        let room = entry.limit.saturating_sub(entry.claimed) as usize;
        let room = room.min(entry.waiting.len());
        let called: Vec<u32> = entry.waiting.drain(..room).collect();
        for line in called {
            self.take_turn(line);
        }
    }

    /// Calls some of the lines that wait among the suspects, as far as there is room.
    pub(super) fn ring_suspects(&mut self) {
        let room = SUSPECT_KIB.saturating_sub(self.suspect_kib) / u64::from(LEAST_KIB);
        for _ in 0..room.min(SUSPECTS_CALLED) {
            let Some(line) = self.suspects.pop_front() else {
                return;
            };
            self.take_turn(line);
        }
    }

    /// A site is a suspect no more: its lines do not wait among them.
    fn clear(&mut self, gate: u32) {
        let lines = &self.lines;
        let is_cleared = |line: &u32| {
            let line = lines.get(*line as usize);
            line.is_none_or(|line| line.gate == gate)
        };
        let (cleared, others): (VecDeque<u32>, _) =
            self.suspects.iter().partition(|line| is_cleared(line));
        self.suspects = others;
        for line in cleared {
            self.take_turn(line);
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
            self.move_flow(flow, to);
        }
        self.ring(from);
        self.drop_gate(from);
    }

    /// A flow joins its tenant's line at another gate. The line it leaves ends when its turn comes,
    /// if that was its last.
    fn move_flow(&mut self, flow: u32, to: u32) {
        let Some(entry) = self.flows.get(flow as usize) else {
            return;
        };
        let (tenant, priority, from) = (entry.tenant, entry.priority, entry.line);
        if let Some(line) = self.lines.get_mut(from as usize) {
            line.remove(priority, flow);
        }
        let line = self.line_at(to, tenant);
        if let Some(line) = self.lines.get_mut(line as usize) {
            line.add(priority, flow);
        }
        if let Some(entry) = self.flows.get_mut(flow as usize) {
            entry.line = line;
        }
    }

    /// The line of a tenant at a gate.
    pub(super) fn line_at(&mut self, gate: u32, tenant: u32) -> u32 {
        let lines = &self.lines;
        let is_tenants = |line: &&u32| {
            let line = lines.get(**line as usize);
            line.is_some_and(|line| line.tenant == tenant)
        };
        let entry = self.gates.get(gate as usize);
        let found = entry.and_then(|gate| gate.lines.iter().find(is_tenants));
        if let Some(line) = found {
            return *line;
        }
        let line = key(self.lines.insert(Line::new(tenant, gate)));
        if let Some(gate) = self.gates.get_mut(gate as usize) {
            gate.lines.push(line);
        }
        self.take_turn(line);
        line
    }

    /// A line without flows, which stands nowhere any more, ends. Another may use its room.
    pub(super) fn end_line(&mut self, line: u32) {
        let Some(entry) = self.lines.try_remove(line as usize) else {
            return;
        };
        if let Some(gate) = self.gates.get_mut(entry.gate as usize) {
            gate.lines.retain(|other| *other != line);
        }
        self.ring(entry.gate);
        self.ring_suspects();
    }

    /// The line that has its turn waits elsewhere.
    pub(super) fn step_aside(&mut self, line: u32, stand: Stand) {
        let Some(entry) = self.lines.get(line as usize) else {
            return;
        };
        if let Some(tenant) = self.tenants.get_mut(entry.tenant as usize) {
            tenant.turns.pop_front();
        }
        match (stand, self.gates.get_mut(entry.gate as usize)) {
            (Stand::Gate, Some(gate)) => gate.waiting.push_back(line),
            _ => self.suspects.push_back(line),
        }
    }

    /// Puts a line behind its tenant's others.
    pub(super) fn take_turn(&mut self, line: u32) {
        let Some(entry) = self.lines.get(line as usize) else {
            return;
        };
        let key = entry.tenant;
        if let Some(tenant) = self.tenants.get_mut(key as usize) {
            tenant.turns.push_back(line);
            if !tenant.has_turn {
                tenant.has_turn = true;
                self.turns.push_back(key);
            }
        }
    }

    pub(super) fn drop_gate(&mut self, gate: u32) {
        if self
            .gates
            .get(gate as usize)
            .is_some_and(|gate| gate.lanes == 0)
            && let Some(gone) = self.gates.try_remove(gate as usize)
        {
            if let Some(site) = gone.site {
                self.sites.remove(&site);
            }
            // They have no legs, and end when their turn comes.
            for line in gone.waiting {
                self.take_turn(line);
            }
        }
    }
}

impl Gate {
    pub(super) fn of(site: Option<Site>) -> Self {
        Self {
            lanes: u32::from(site.is_none()),
            site,
            limit: UNKNOWN_SITE_CLAIMS,
            trust: Trust::Suspect,
            claimed: 0,
            kib: 0,
            lines: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// What of `kib` counts among the suspects.
    pub(super) fn suspect(&self, kib: u64) -> i64 {
        match self.trust {
            Trust::Suspect => i64::try_from(kib).unwrap_or(i64::MAX),
            Trust::Proven => 0,
        }
    }
}
