//! Where the lines of tenants stand, and who calls them.
//!
//! A line that may have room is *called*: it has its turn among the lines of its tenant, and the
//! tenant among all. Else it waits at its gate, or among the suspects.
//!
//! Promises: pure; constant time per move. A line without flows ends at once. Whenever a gate has
//! room and lines wait at it, one of its lines is called, or waits among the suspects.

use std::collections::HashMap;

use slab::Slab;

use super::{LEAST_KIB, Lanes, SUSPECT_KIB, key, line::Line};

/// Lines of suspects that are called at a time when there is room.
const SUSPECTS_CALLED: u64 = 16;

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// It has its turn.
    Called,
    /// It waits for room at its gate.
    Gate,
    /// It waits for room among the suspects.
    Suspects,
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Slab<Line>,
    /// By gate and tenant.
    numbers: HashMap<(u32, u32), u32>,
}

impl Lanes {
    /// The line of a tenant at a gate.
    pub(super) fn line_at(&mut self, gate: u32, tenant: u32) -> u32 {
        if let Some(line) = self.lines.numbers.get(&(gate, tenant)) {
            return *line;
        }
        let line = Line::new(tenant, gate, Stand::Called);
        let line = key(self.lines.lines.insert(line));
        self.lines.numbers.insert((gate, tenant), line);
        self.take_stand(line, Stand::Called);
        line
    }

    /// A line without flows ends. Another may use its room.
    pub(super) fn end_line(&mut self, line: u32) {
        self.leave_stand(line);
        let Some(entry) = self.lines.lines.try_remove(line as usize) else {
            return;
        };
        self.lines.numbers.remove(&(entry.gate, entry.tenant));
        self.ring(entry.gate, 1);
        self.ring_suspects();
    }

    /// A line waits, or has its turn, elsewhere.
    pub(super) fn move_line(&mut self, line: u32, stand: Stand) {
        self.leave_stand(line);
        self.take_stand(line, stand);
    }

    /// A gate has room for so many more: as many of the lines that wait at it are called.
    pub(super) fn ring(&mut self, gate: u32, more: u32) {
        let Some(entry) = self.gates.get(gate as usize) else {
            return;
        };
        for _ in 0..more.min(entry.limit.saturating_sub(entry.claimed)) {
            let entry = self.gates.get(gate as usize);
            let Some(line) = entry.and_then(|gate| gate.waiting.first()) else {
                return;
            };
            self.move_line(line, Stand::Called);
        }
    }

    /// Calls some of the lines that wait among the suspects, as far as there is room.
    pub(super) fn ring_suspects(&mut self) {
        let room = SUSPECT_KIB.saturating_sub(self.suspect_kib) / u64::from(LEAST_KIB);
        for _ in 0..room.min(SUSPECTS_CALLED) {
            let Some(line) = self.suspects.first() else {
                return;
            };
            self.move_line(line, Stand::Called);
        }
    }

    /// A site is a suspect no more: its lines do not wait among them.
    pub(super) fn clear(&mut self, gate: u32) {
        while let Some(gate) = self.gates.get(gate as usize)
            && let Some(line) = gate.aside.first()
        {
            self.move_line(line, Stand::Called);
        }
    }

    fn take_stand(&mut self, line: u32, stand: Stand) {
        let Some(entry) = self.lines.get_mut(line) else {
            return;
        };
        entry.stand = stand;
        let (tenant, gate) = (entry.tenant, self.gates.get_mut(entry.gate as usize));
        match (stand, gate) {
            (Stand::Called, _) => self.give_turn(tenant, line),
            (Stand::Gate, Some(gate)) => gate.waiting.join(&mut self.stand_links, line),
            (Stand::Suspects, Some(gate)) => {
                self.suspects.join(&mut self.stand_links, line);
                gate.aside.join(&mut self.aside_links, line);
            }
            (Stand::Gate | Stand::Suspects, None) => {}
        }
    }

    /// Puts a line behind its tenant's others.
    fn give_turn(&mut self, tenant: u32, line: u32) {
        let Some(entry) = self.tenants.get_mut(tenant as usize) else {
            return;
        };
        entry.lines.join(&mut self.stand_links, line);
        if !entry.has_turn {
            entry.has_turn = true;
            self.turns.push_back(tenant);
        }
    }

    fn leave_stand(&mut self, line: u32) {
        let Some(entry) = self.lines.get(line) else {
            return;
        };
        let gate = self.gates.get_mut(entry.gate as usize);
        match (entry.stand, gate) {
            (Stand::Called, _) => {
                if let Some(tenant) = self.tenants.get_mut(entry.tenant as usize) {
                    tenant.lines.leave(&mut self.stand_links, line);
                }
            }
            (Stand::Gate, Some(gate)) => gate.waiting.leave(&mut self.stand_links, line),
            (Stand::Suspects, Some(gate)) => {
                self.suspects.leave(&mut self.stand_links, line);
                gate.aside.leave(&mut self.aside_links, line);
            }
            (Stand::Gate | Stand::Suspects, None) => {}
        }
    }
}

impl Lines {
    pub(super) fn get(&self, line: u32) -> Option<&Line> {
        self.lines.get(line as usize)
    }

    pub(super) fn get_mut(&mut self, line: u32) -> Option<&mut Line> {
        self.lines.get_mut(line as usize)
    }
}

#[cfg(test)]
impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.numbers.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Line)> {
        self.lines.iter().map(|(line, entry)| (key(line), entry))
    }
}
