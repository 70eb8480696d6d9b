//! Mail that has waited long, to be found wherever it waits.
//!
//! Promises: nobody waits for the queue for the whole of a search; a leg that somebody has is not
//! found.

use jiff::Timestamp;

use super::{
    Claim, Custody, Due,
    queue::{Queue, Sweep},
};

impl Custody {
    /// Gives out a leg of a message accepted before `before`, in whatever line it stands, full or
    /// not due as that may be, and whatever keeps it back. `from` is where the search goes on, 0 at
    /// first.
    pub fn next_overdue(&self, before: Timestamp, from: &mut usize) -> Option<Due> {
        self.search(|queue| queue.claim_overdue(before, from))
    }

    /// The same of legs that admission or an order keeps back, and whose sender was not told that
    /// they are late; but for those of tenants that an order keeps back, since the notification
    /// would be too.
    pub fn next_late(&self, before: Timestamp, from: &mut usize) -> Option<Due> {
        self.search(|queue| queue.claim_late(before, from))
    }

    /// Whether an order keeps a claimed leg back.
    #[must_use]
    pub fn is_kept(&self, claim: &Claim) -> bool {
        let ticket = &claim.ticket;
        self.shared.queue().keeps(ticket.id, ticket.leg)
    }

    /// Goes on until `step` finds something. Finds nothing while the disk fails, since what becomes of
    /// it could not be recorded and would have to be kept in memory.
    pub(super) fn search(&self, mut step: impl FnMut(&mut Queue) -> Sweep) -> Option<Due> {
        self.shared.ailing().is_none().then_some(())?;
        loop {
            match step(&mut self.shared.queue()) {
                Sweep::Found(taken) => return Some(self.due(*taken)),
                Sweep::More => {}
                Sweep::End => return None,
            }
        }
    }
}
