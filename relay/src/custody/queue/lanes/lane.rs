//! Lanes: a recipient domain that legs are for, and which gate they go through.
//!
//! Promises: pure. A lane is there while it has legs, and a while after that, so that its site is
//! not asked for again.

use std::collections::{HashMap, VecDeque};

use postrider_crds::DomainName;
use slab::Slab;

use super::{Lanes, gates::Gate, key, rings::Ring};
use crate::mail::Site;

/// Lanes without legs that are remembered, with their sites.
const IDLE_LANES: usize = 4096;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) domain: DomainName,
    pub(super) gate: u32,
    legs: u32,
    pub(super) claimed: u32,
    pub(super) kib: u64,
    /// What is ready here, by tenant and priority.
    pub(super) flows: Ring,
    /// When it became idle, if it is.
    idle: u64,
}

/// The names of lanes, and which of them are idle.
#[derive(Debug, Default)]
pub(super) struct Register {
    names: HashMap<DomainName, u32>,
    idle: VecDeque<(u32, u64)>,
    idled: u64,
}

impl Lanes {
    /// The lane of a domain, for one more leg.
    pub(in super::super) fn enter(&mut self, domain: &DomainName) -> u32 {
        let found = self.register.find(domain);
        let lane = found.unwrap_or_else(|| {
            let gate = key(self.gates.insert(Gate::of(None)));
            let lane = key(self.lanes.insert(Lane::new(domain.clone(), gate)));
            self.register.names.insert(domain.clone(), lane);
            lane
        });
        if let Some(entry) = self.lanes.get_mut(lane as usize) {
            entry.legs += 1;
            entry.idle = 0;
        }
        lane
    }

    /// A leg, ready no more and not claimed, is gone from its lane.
    pub(in super::super) fn leave(&mut self, lane: u32) {
        let Some(entry) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        entry.legs = entry.legs.saturating_sub(1);
        if entry.legs == 0 {
            entry.idle = self.register.idles(lane);
        }
        while let Some(lane) = self.register.idle_for_longest(&self.lanes) {
            self.forget(lane);
        }
    }

    /// The domain of a lane.
    pub(in super::super) fn domain(&self, lane: u32) -> Option<&DomainName> {
        Some(&self.lanes.get(lane as usize)?.domain)
    }

    /// The site of a lane, once it is known.
    pub(in super::super) fn site(&self, lane: u32) -> Option<&Site> {
        let lane = self.lanes.get(lane as usize)?;
        self.gates.get(lane.gate as usize)?.site.as_ref()
    }

    /// The site of a domain's lane, once it is known.
    pub(in super::super) fn site_of(&self, domain: &DomainName) -> Option<&Site> {
        self.site(self.register.find(domain)?)
    }

    /// Domains with legs whose site is not known yet.
    pub(in super::super) fn unrouted(&self) -> Vec<DomainName> {
        let lanes = self.lanes.iter().filter(|(_, lane)| {
            let gate = self.gates.get(lane.gate as usize);
            lane.legs > 0 && gate.is_some_and(|gate| gate.site.is_none())
        });
        lanes.map(|(_, lane)| lane.domain.clone()).collect()
    }

    fn forget(&mut self, lane: u32) {
        let Some(entry) = self.lanes.get(lane as usize) else {
            return;
        };
        // They lost their legs and had no turn since.
        let flows: Vec<u32> = entry.flows.members(&self.lane_links).collect();
        for flow in flows {
            self.end_flow(flow);
        }
        let entry = self.lanes.remove(lane as usize);
        self.register.names.remove(&entry.domain);
        if let Some(gate) = self.gates.get_mut(entry.gate as usize) {
            gate.lanes -= 1;
        }
        self.drop_gate(entry.gate);
    }
}

impl Lane {
    fn new(domain: DomainName, gate: u32) -> Self {
        Self {
            domain,
            gate,
            legs: 0,
            claimed: 0,
            kib: 0,
            flows: Ring::default(),
            idle: 0,
        }
    }
}

impl Register {
    /// The lane of a domain.
    pub(super) fn find(&self, domain: &DomainName) -> Option<u32> {
        self.names.get(domain).copied()
    }

    /// A lane has become idle; when.
    fn idles(&mut self, lane: u32) -> u64 {
        self.idled += 1;
        self.idle.push_back((lane, self.idled));
        self.idled
    }

    /// The lane that has been idle for longest, where there are too many.
    fn idle_for_longest(&mut self, lanes: &Slab<Lane>) -> Option<u32> {
        while self.idle.len() > IDLE_LANES {
            let (lane, since) = self.idle.pop_front()?;
            // It may have had legs since.
            if lanes.get(lane as usize).is_some_and(|l| l.idle == since) {
                return Some(lane);
            }
        }
        None
    }
}
