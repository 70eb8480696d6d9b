//! Gates: what may be claimed for a site, and the lines that wait for it.
//!
//! Promises: pure. That a lane moves to another gate costs as much as it has flows, and happens
//! when its site becomes known or is another.

use postrider_crds::DomainName;

use super::{Lanes, Room, SUSPECT_KIB, Trust, key, rings::Ring};
use crate::mail::Site;

/// What a lane may have claimed before its site is known.
const UNKNOWN_SITE_CLAIMS: u32 = 64;

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) site: Option<Site>,
    pub(super) limit: u32,
    pub(super) trust: Trust,
    pub(super) lanes: u32,
    pub(super) claimed: u32,
    pub(super) kib: u64,
    /// Lines that wait for room here.
    pub(super) waiting: Ring,
    /// Those that wait among the suspects.
    pub(super) aside: Ring,
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
        let Some(lane) = self.register.find(domain) else {
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
        let suspect_kib = self.suspect_kib;
        self.move_lane(lane, gate);
        let Some(entry) = self.gates.get_mut(gate as usize) else {
            return Room::Granted;
        };
        let limit = limit.max(1);
        let more = limit.saturating_sub(std::mem::replace(&mut entry.limit, limit));
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
        self.ring(gate, more);
        if self.suspect_kib < suspect_kib {
            self.ring_suspects();
        }
        match full {
            true => Room::Full,
            false => Room::Granted,
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
        let (claimed, kib) = (entry.claimed, entry.kib);
        let flows: Vec<u32> = entry.flows.members(&self.lane_links).collect();
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
        self.ring(from, claimed);
        self.drop_gate(from);
    }

    /// Lets go of a gate that is no lane's.
    pub(super) fn drop_gate(&mut self, gate: u32) {
        if self
            .gates
            .get(gate as usize)
            .is_some_and(|gate| gate.lanes == 0)
            && let Some(gone) = self.gates.try_remove(gate as usize)
        {
            debug_assert!(gone.waiting.is_empty() && gone.aside.is_empty());
            if let Some(site) = gone.site {
                self.sites.remove(&site);
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
            waiting: Ring::default(),
            aside: Ring::default(),
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
