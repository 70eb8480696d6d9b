//! Flows: what a tenant has ready in a lane of one priority, first in, first out.
//!
//! Promises: pure. A flow is found by lane, tenant and priority; it stands in its tenant's line at
//! the gate of its lane. It may lose its legs without being told, and ends when its turn comes.

use std::collections::HashMap;

use slab::Slab;

use super::{Lanes, key};
use crate::{
    custody::queue::{
        legs::{End, Legs, Position},
        wheel,
    },
    mail::Priority,
};

/// One tenant's ready legs of one priority in one lane: the list of this number.
#[derive(Clone, Copy, Debug)]
struct Flow {
    whose: Whose,
    /// Its tenant's line at the lane's gate.
    line: u32,
}

/// Lane, tenant and priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Whose {
    lane: u32,
    tenant: u32,
    priority: Priority,
}

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: Slab<Flow>,
    numbers: HashMap<Whose, u32>,
}

impl Lanes {
    /// A leg of a tenant, of this priority, is ready: behind the others of it, or before them.
    pub(in super::super) fn push(
        &mut self,
        legs: &mut Legs,
        leg: u32,
        (tenant, priority): (u32, Priority),
        end: End,
    ) {
        let Some(entry) = legs.get_mut(leg) else {
            return;
        };
        entry.position = Position::Ready;
        let whose = Whose {
            lane: entry.lane,
            tenant,
            priority,
        };
        let flow = match self.flows.numbers.get(&whose) {
            Some(flow) => Some(*flow),
            None => self.begin_flow(whose),
        };
        if let Some(flow) = flow {
            legs.push(list_of(flow), leg, end);
        }
    }

    /// The flow of a line whose turn it is, and its first leg. Flows that lost all theirs end here.
    pub(super) fn first_of(&mut self, legs: &Legs, line: u32) -> Option<(u32, u32)> {
        loop {
            let flow = self.lines.get(line)?.next()?;
            match legs.first(list_of(flow)) {
                Some(leg) => return Some((flow, leg)),
                None => self.end_flow(flow),
            }
        }
    }

    fn begin_flow(&mut self, whose: Whose) -> Option<u32> {
        let gate = self.lanes.get(whose.lane as usize)?.gate;
        let line = self.line_at(gate, whose.tenant);
        let flow = key(self.flows.flows.insert(Flow { whose, line }));
        self.flows.numbers.insert(whose, flow);
        let lane = self.lanes.get_mut(whose.lane as usize)?;
        lane.flows.join(&mut self.lane_links, flow);
        self.join_line(flow, line, whose.priority);
        Some(flow)
    }

    /// A flow without legs ends.
    pub(super) fn end_flow(&mut self, flow: u32) {
        let Some(Flow { whose, line }) = self.flows.flows.try_remove(flow as usize) else {
            return;
        };
        self.flows.numbers.remove(&whose);
        if let Some(lane) = self.lanes.get_mut(whose.lane as usize) {
            lane.flows.leave(&mut self.lane_links, flow);
        }
        self.leave_line(flow, line, whose.priority);
    }

    /// A flow joins its tenant's line at another gate.
    pub(super) fn move_flow(&mut self, flow: u32, gate: u32) {
        let Some(Flow { whose, line }) = self.flows.flows.get(flow as usize).copied() else {
            return;
        };
        self.leave_line(flow, line, whose.priority);
        let line = self.line_at(gate, whose.tenant);
        self.join_line(flow, line, whose.priority);
        if let Some(entry) = self.flows.flows.get_mut(flow as usize) {
            entry.line = line;
        }
    }

    fn join_line(&mut self, flow: u32, line: u32, priority: Priority) {
        if let Some(line) = self.lines.get_mut(line) {
            line.join(&mut self.rank_links, priority, flow);
        }
    }

    fn leave_line(&mut self, flow: u32, line: u32, priority: Priority) {
        let Some(entry) = self.lines.get_mut(line) else {
            return;
        };
        entry.leave(&mut self.rank_links, priority, flow);
        if entry.is_empty() {
            self.end_line(line);
        }
    }
}

#[cfg(test)]
impl Flows {
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.numbers.is_empty()
    }
}

/// The list of a flow's legs.
pub(super) fn list_of(flow: u32) -> u32 {
    wheel::LISTS + flow
}
