//! Orders on their way in: recorded, then in force, then answered and told.
//!
//! Promises: an order that was answered is on stable storage, and no attempt is recorded after the
//! answer that it forbids. One that could not be written is not in force.

use std::sync::Arc;

use jiff::Timestamp;
use postrider_crds::queue::{Command, Scope};
use tokio::sync::oneshot;

use super::{Made, Pending, Store};
use crate::{
    custody::{
        OrderError, RecipientResult, StoreError,
        orders::{Obeyed, Orders},
        queue::Queue,
        spool::record::{Encoded, Record},
    },
    mail::MessageId,
    telemetry::{Event, OrderChange, Stage},
};

/// A change of the orders in force.
pub(crate) enum OrderJob {
    /// An operator gives one.
    Give {
        command: Command,
        reply: oneshot::Sender<Result<Obeyed, OrderError>>,
    },
    /// One was carried out.
    CarriedOut {
        number: u64,
        reply: oneshot::Sender<Result<(), OrderError>>,
    },
}

impl Store {
    /// Changes the orders in force.
    pub(super) fn order(&mut self, job: OrderJob) {
        match job {
            OrderJob::Give { command, reply } => {
                let given = self.give(command);
                // Whoever asked may have gone; the order stays.
                drop(reply.send(given));
            }
            OrderJob::CarriedOut { number, reply } => drop(reply.send(self.carried_out(number))),
        }
    }

    fn give(&mut self, command: Command) -> Result<Obeyed, OrderError> {
        self.may_change_orders()?;
        let now = self.shared.clock.wall();
        let asked = command.clone();
        let shared = Arc::clone(&self.shared);
        let is_queued = |id| shared.queue().contains(id);
        let (next, obeyed) = self.spool.orders().obey(command, now, is_queued)?;
        self.put_orders(next, now)?;
        for order in &obeyed.ended {
            let (order, by) = (order.clone(), asked.clone());
            self.tell_order(OrderChange::Ended { order, by }, now);
        }
        if let Some(order) = &obeyed.order {
            self.tell_order(OrderChange::Given(order.clone()), now);
        }
        Ok(obeyed)
    }

    fn carried_out(&mut self, number: u64) -> Result<(), OrderError> {
        self.may_change_orders()?;
        let now = self.shared.clock.wall();
        let Some((next, order)) = self.spool.orders().carried_out(number) else {
            return Ok(());
        };
        self.put_orders(next, now)?;
        self.tell_order(OrderChange::CarriedOut(order), now);
        Ok(())
    }

    fn may_change_orders(&self) -> Result<(), OrderError> {
        if self.is_restoring() {
            return Err(OrderError::Restoring);
        }
        if self.spool.hides_orders() {
            return Err(OrderError::LeftOut);
        }
        match self.shared.ailing() {
            Some(error) => Err(OrderError::Disk(error)),
            None => Ok(()),
        }
    }

    /// Records a table and puts it in force.
    fn put_orders(&mut self, orders: Orders, now: Timestamp) -> Result<(), OrderError> {
        let orders = Arc::new(orders);
        if !orders.is_empty() {
            self.spool.announce_orders();
        }
        let record = Encoded::of(Record::Orders(Arc::clone(&orders)));
        self.write(vec![record], vec![Pending::Orders])
            .map_err(OrderError::Disk)?;
        self.shared.queue().put_in_force(orders, now);
        self.shared.wake.notify_one();
        self.shared.ordered.notify_one();
        Ok(())
    }

    fn tell_order(&self, change: OrderChange, now: Timestamp) {
        let (OrderChange::Given(order)
        | OrderChange::Ended { order, .. }
        | OrderChange::CarriedOut(order)) = &change;
        let (message, tenant) = match &order.scope {
            Scope::Message(id) => (Some(*id), None),
            Scope::Tenant(tenant) => (None, Some(tenant.clone())),
            Scope::Domain(_) | Scope::Site(_) => (None, None),
        };
        self.shared.telemetry.emit(&Event {
            time: now,
            message,
            tenant,
            domain: None,
            stage: Stage::Order(change),
        });
    }
}

/// The record by which a leg is due earlier. It says no more than a settlement that put it off
/// until then, so it undoes nothing that is recorded beside it.
pub(super) fn hasten(
    queue: &Queue,
    (id, leg): (MessageId, u32),
    due: Timestamp,
    reply: oneshot::Sender<Result<(), StoreError>>,
) -> Made {
    let Some((attempts, recipient, place)) = queue.put_off(id, leg) else {
        // It is done, or under way.
        drop(reply.send(Ok(())));
        return None;
    };
    let record = Record::Settled {
        id,
        home: place.segment,
        leg,
        attempts,
        delay_warned: false,
        results: vec![(recipient, RecipientResult::Deferred { until: due })],
        notification: None,
    };
    Some((Encoded::of(record), Pending::Hasten(reply, due)))
}

/// A leg is due earlier, as recorded.
pub(super) fn hastened(queue: &mut Queue, record: &Record, due: Timestamp) {
    if let Record::Settled { id, leg, .. } = record {
        queue.hasten(*id, *leg, due);
    }
}
