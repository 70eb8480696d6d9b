//! What an operator asks of custody: orders about mail, and how much waits for what.
//!
//! Flow: an order is recorded, put in force and answered. Standing ones are followed by the queue
//! itself. Passing ones are carried out by whoever asks for [`Custody::next_order`], who then says
//! so; after a crash they are begun again.
//!
//! Promises: an order that was answered survives a crash; no sweep over the queue holds its lock for
//! more than a slice.

use futures::future::join_all;
use jiff::Timestamp;
use postrider_crds::{
    DomainName,
    queue::{Breakdown, Command, Order, Scope},
    relay_config::QueueReport,
};
use tokio::{sync::oneshot, task::yield_now};

use super::{
    Custody, Due, Job, Obeyed, OrderError, StoreError, orders::About, queue::Survey, state::second,
    store::OrderJob,
};
use crate::mail::MessageId;

/// Legs hastened at a time: they share a sync with each other and with what comes in.
const HASTENED: usize = 256;

/// How much waits for what, in detail.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Messages by state.
    pub queue: QueueReport,
    /// Orders in force.
    pub orders: Vec<Order>,
    /// By site.
    pub sites: Breakdown,
    /// By recipient domain.
    pub domains: Breakdown,
    /// By tenant.
    pub tenants: Breakdown,
}

impl Custody {
    /// Obeys a command; returns once it is on stable storage. From then on no attempt is recorded
    /// that it forbids; one that was recorded before is finished.
    ///
    /// # Errors
    ///
    /// When there is no such message or order, the disk fails, or what is in force is not known yet.
    pub async fn order(&self, command: Command) -> Result<Obeyed, OrderError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Order(OrderJob::Give { command, reply });
        if self.jobs.send(job).await.is_err() {
            return Err(OrderError::Closed);
        }
        answer.await.unwrap_or(Err(OrderError::Closed))
    }

    /// Orders in force.
    #[must_use]
    pub fn orders(&self) -> Vec<Order> {
        self.shared.queue().orders().list().to_vec()
    }

    /// Waits for an order to carry out: a flush or an expiry. `None` once closed. It stays the next
    /// one until [`Custody::carried_out`].
    pub async fn next_order(&self) -> Option<Order> {
        loop {
            let woken = self.shared.ordered.notified();
            if self.shared.is_closing() {
                return None;
            }
            let order = self.shared.queue().orders().passing().cloned();
            if order.is_some() {
                return order;
            }
            woken.await;
        }
    }

    /// An order has been carried out and is not begun again.
    ///
    /// # Errors
    ///
    /// When that cannot be recorded; then it is the next order still.
    pub async fn carried_out(&self, number: u64) -> Result<(), OrderError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Order(OrderJob::CarriedOut { number, reply });
        if self.jobs.send(job).await.is_err() {
            return Err(OrderError::Closed);
        }
        answer.await.unwrap_or(Err(OrderError::Closed))
    }

    /// Makes due what `order` is about and waits for its next attempt; returns once that is on
    /// stable storage. What other orders keep back stays there, and is due when it is let go.
    ///
    /// # Errors
    ///
    /// When the disk fails; some of it may be due then.
    pub async fn flush(&self, order: &Order) -> Result<(), StoreError> {
        // The second that has begun: what is due does not wait for the next.
        let now = self.shared.clock.wall().as_second();
        let due = Timestamp::from_second(now).unwrap_or_default();
        let mut from = 0;
        loop {
            let found = self
                .shared
                .queue()
                .put_off_legs(About::order(order), &mut from, HASTENED);
            let (legs, is_end) = (found.0.into_iter(), found.1);
            for hastened in join_all(legs.map(|(id, leg)| self.hasten(id, leg, due))).await {
                hastened?;
            }
            if is_end {
                return Ok(());
            }
            yield_now().await;
        }
    }

    async fn hasten(&self, id: MessageId, leg: u32, due: Timestamp) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Hasten {
            id,
            leg,
            due,
            reply,
        };
        if self.jobs.send(job).await.is_err() {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Gives out a leg that `order` is about, in whatever line it stands, kept back or not; those
    /// that are out already are left. `from` is where the search goes on, 0 at first.
    pub fn next_ordered(&self, order: &Order, from: &mut usize) -> Option<Due> {
        self.search(|queue| queue.claim_ordered(About::order(order), from))
    }

    /// Messages that `order` is about.
    pub async fn count_about(&self, order: &Order) -> u64 {
        self.count_all(About::order(order)).await
    }

    /// Messages of this scope.
    pub async fn count(&self, scope: &Scope) -> u64 {
        let before = None;
        self.count_all(About { scope, before }).await
    }

    async fn count_all(&self, about: About<'_>) -> u64 {
        let (mut from, mut count) = (0, 0);
        while !self
            .shared
            .queue()
            .count_about(about, &mut from, &mut count)
        {
            yield_now().await;
        }
        count
    }

    /// Recipient domains with mail whose site is not known yet.
    #[must_use]
    pub fn unrouted(&self) -> Vec<DomainName> {
        self.shared.queue().unrouted()
    }

    /// How much waits for what.
    pub async fn overview(&self) -> Overview {
        let mut survey = Survey::default();
        while !self.shared.queue().survey(&mut survey) {
            yield_now().await;
        }
        let now = second(self.shared.clock.wall());
        let [sites, domains, tenants] = survey.result(now);
        Overview {
            queue: self.report(),
            orders: self.orders(),
            sites,
            domains,
            tenants,
        }
    }
}
