//! How much waits under which site, recipient domain and tenant.
//!
//! Promises: counted a slice at a time, so that nobody waits for it; what changes meanwhile may be
//! counted as it was or as it is.

use std::collections::HashMap;

use postrider_crds::queue::{Breakdown, Depth};

use super::{
    Class, Holding, Queue, SWEEP,
    legs::{NONE, Position},
};
use crate::custody::orders::Kept;

/// Names of each kind that are told; the rest is only counted.
const TOP: usize = 100;

/// A count under way.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    from: usize,
    sites: Tally,
    domains: Tally,
    tenants: Tally,
}

/// Depths by name.
#[derive(Debug, Default)]
struct Tally(HashMap<String, Row>);

/// Depths under one name.
#[derive(Clone, Copy, Debug)]
struct Row {
    depths: [u64; 4],
    /// When the oldest was accepted.
    oldest: u32,
}

impl Queue {
    /// Counts the next messages. Whether that was the end.
    pub(crate) fn survey(&self, survey: &mut Survey) -> bool {
        let end = (survey.from + SWEEP).min(self.messages.numbers());
        for slot in survey.from..end {
            let slot = u32::try_from(slot).unwrap_or(NONE);
            let Some(message) = self.messages.get(slot) else {
                continue;
            };
            if let Some(tenant) = self.origins.tenant_name(message.origin) {
                survey.tenants.add(tenant, message.class, message.accepted);
            }
            self.each_key(slot, |key| {
                let Some(leg) = self.legs.get(key) else {
                    return;
                };
                let class = match (leg.position, message.holding, self.kept(key)) {
                    (Position::Ready | Position::Claimed, ..) => Class::Due,
                    (_, Holding::Held, _) | (.., Some(Kept::Held)) => Class::Held,
                    (.., Some(Kept::Suspended)) => Class::Suspended,
                    (.., None) => Class::Deferred,
                };
                if let Some(domain) = self.lanes.domain(leg.lane) {
                    survey.domains.add(domain.as_str(), class, message.accepted);
                }
                let site = self.lanes.site(leg.lane);
                let site = site.map_or("", |site| site.as_str());
                survey.sites.add(site, class, message.accepted);
            });
        }
        survey.from = end;
        end >= self.messages.numbers()
    }
}

impl Survey {
    /// By site, domain and tenant, as of `now` in seconds since 1970.
    pub(crate) fn result(self, now: u32) -> [Breakdown; 3] {
        [self.sites, self.domains, self.tenants].map(|tally| tally.breakdown(now))
    }
}

impl Tally {
    fn add(&mut self, name: &str, class: Class, accepted: u32) {
        let row = match self.0.get_mut(name) {
            Some(row) => row,
            None => self.0.entry(name.to_owned()).or_insert(Row {
                depths: [0; 4],
                oldest: accepted,
            }),
        };
        if let Some(depth) = row.depths.get_mut(class as usize) {
            *depth += 1;
        }
        row.oldest = row.oldest.min(accepted);
    }

    fn breakdown(self, now: u32) -> Breakdown {
        let left_out = self.0.len().saturating_sub(TOP);
        let mut rows: Vec<_> = self.0.into_iter().collect();
        let total = |row: &Row| row.depths.iter().sum::<u64>();
        rows.sort_unstable_by(|(a, first), (b, second)| {
            total(second).cmp(&total(first)).then_with(|| a.cmp(b))
        });
        rows.truncate(TOP);
        let depth = |(name, row): (String, Row)| {
            let [due, deferred, suspended, held] = row.depths;
            Depth {
                name,
                due,
                deferred,
                suspended,
                held,
                oldest_seconds: now.saturating_sub(row.oldest).into(),
            }
        };
        Breakdown {
            top: rows.into_iter().map(depth).collect(),
            left_out: left_out as u64,
        }
    }
}

const _: () = assert!(
    Class::Due as usize == 0
        && Class::Deferred as usize == 1
        && Class::Suspended as usize == 2
        && Class::Held as usize == 3,
    "depths are in the order of the classes"
);
