//! Where messages come from, and whether admission keeps them back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use postrider_crds::{DomainName, relay_config::Admission};

use super::{Holding, Outline, Queue, lanes::Lanes};
use crate::{custody::AdmissionOf, mail::MessageId};

/// Whom a message is counted for, and the domain it is sent for.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) tenant: String,
    pub(crate) domain: Option<DomainName>,
}

/// A message whose holding changed.
#[derive(Clone, Debug)]
pub(crate) struct HoldingChange {
    pub(crate) id: MessageId,
    pub(crate) origin: Arc<Origin>,
    pub(crate) now: Holding,
}

/// Every origin since the start. There are as many as configurations have named.
pub(super) struct Origins {
    admission: AdmissionOf,
    /// By tenant, then by domain.
    numbers: HashMap<String, (u32, HashMap<Option<DomainName>, u32>)>,
    origins: Vec<Known>,
}

struct Known {
    origin: Arc<Origin>,
    tenant: u32,
    holding: Holding,
    /// Messages in the queue.
    messages: u64,
}

impl Origins {
    pub(super) fn new(admission: AdmissionOf) -> Self {
        Self {
            admission,
            numbers: HashMap::new(),
            origins: Vec::new(),
        }
    }

    /// The number of an origin that has one message more, and whether its messages are held.
    pub(super) fn enter(&mut self, outline: &Outline<'_>, lanes: &mut Lanes) -> (u32, Holding) {
        let found = self.numbers.get(outline.tenant);
        // The map is asked by what it owns; most mail has a domain, which lives in the envelope.
        let known = found.and_then(|(_, domains)| domains.get(outline.domain));
        if let Some(known) = known.and_then(|n| Some((*n, self.origins.get_mut(*n as usize)?))) {
            known.1.messages += 1;
            return (known.0, known.1.holding);
        }
        let tenants = self.numbers.entry(outline.tenant.to_owned());
        let (tenant, domains) = tenants.or_insert_with(|| (lanes.tenant(), HashMap::new()));
        let number = u32::try_from(self.origins.len()).expect("memory ends before 2^32 do");
        domains.insert(outline.domain.clone(), number);
        let holding = holding_of(&self.admission, outline.domain.as_ref());
        self.origins.push(Known {
            origin: Arc::new(Origin {
                tenant: outline.tenant.to_owned(),
                domain: outline.domain.clone(),
            }),
            tenant: *tenant,
            holding,
            messages: 1,
        });
        (number, holding)
    }

    /// A message of an origin is gone.
    pub(super) fn leave(&mut self, number: u32) {
        if let Some(known) = self.origins.get_mut(number as usize) {
            debug_assert!(known.messages > 0, "what leaves has entered");
            known.messages = known.messages.saturating_sub(1);
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<Arc<Origin>> {
        let known = self.origins.get(number as usize)?;
        Some(Arc::clone(&known.origin))
    }

    pub(super) fn tenant_name(&self, number: u32) -> Option<&str> {
        let known = self.origins.get(number as usize)?;
        Some(&known.origin.tenant)
    }

    pub(super) fn tenant(&self, number: u32) -> u32 {
        let known = self.origins.get(number as usize);
        known.map_or(0, |known| known.tenant)
    }
}

impl Queue {
    /// Holds and frees messages as `admission` says from now on.
    pub(crate) fn apply_admission(
        &mut self,
        admission: AdmissionOf,
        now: Timestamp,
    ) -> Vec<HoldingChange> {
        let mut any = false;
        for known in &mut self.origins.origins {
            let holding = holding_of(&admission, known.origin.domain.as_ref());
            any |= holding != known.holding;
            known.holding = holding;
        }
        self.origins.admission = admission;
        let mut changes = Vec::new();
        if any {
            for (slot, message) in self.messages.iter() {
                let known = self.origins.origins.get(message.origin as usize);
                if let Some(known) = known.filter(|known| known.holding != message.holding) {
                    let change = HoldingChange {
                        id: MessageId::from_u128(message.id),
                        origin: Arc::clone(&known.origin),
                        now: known.holding,
                    };
                    changes.push((slot, change));
                }
            }
        }
        self.advance(now);
        for (slot, change) in &changes {
            self.set_holding(*slot, change.now);
        }
        changes.sort_unstable_by_key(|(_, change)| change.id);
        changes.into_iter().map(|(_, change)| change).collect()
    }

    /// Adds to each count of `counts` the messages that are sent for the domain.
    pub(crate) fn count(&self, counts: &mut BTreeMap<DomainName, u64>) {
        for known in &self.origins.origins {
            let domain = known.origin.domain.as_ref();
            if let Some(count) = domain.and_then(|domain| counts.get_mut(domain)) {
                *count += known.messages;
            }
        }
    }

    fn set_holding(&mut self, slot: u32, holding: Holding) {
        let Some(message) = self.messages.get_mut(slot) else {
            return;
        };
        message.holding = holding;
        if holding == Holding::Held {
            self.cool(slot);
        }
        for key in self.keys_of(slot) {
            if !self.is_out(key) {
                self.take_from_line(key);
                self.stand_in_line(key, super::End::Back);
            }
        }
        self.classify(slot);
    }

    /// Whether a leg is claimed, and finished first.
    pub(super) fn is_out(&self, key: u32) -> bool {
        let leg = self.legs.get(key);
        leg.is_some_and(|leg| leg.position == super::Position::Claimed)
    }
}

fn holding_of(admission: &AdmissionOf, domain: Option<&DomainName>) -> Holding {
    match admission(domain) {
        Admission::Send => Holding::Free,
        Admission::Hold | Admission::Reject => Holding::Held,
    }
}
