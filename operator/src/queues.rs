//! What wakes the controllers: one bounded queue each, fed by watches and by the pods' reports.
//!
//! Guarantees: a request is never dropped while its controller runs; a full queue makes the sender
//! wait. Requests for the same object are merged behind the queue, by the controller. Caveat: a
//! queue whose controller has ended swallows requests, which is what a stopping process wants.

use std::fmt::Debug;

use kube::runtime::reflector::{Lookup, ObjectRef};
use postrider_crds::{RelayPool, SuppressionList};
use tokio::sync::mpsc;

use crate::stores::KeptDomain;

/// Requests a queue holds: a burst of watch events larger than this slows the watch down.
const QUEUE_LENGTH: usize = 1024;

/// Which objects to reconcile.
#[derive(Clone, Debug)]
pub enum Request<K: Lookup<DynamicType = ()> + 'static> {
    /// One.
    One(ObjectRef<K>),
    /// All that are known.
    All,
}

/// The receiving end of a controller's queue.
#[derive(Debug)]
pub struct Inbox<K: Lookup<DynamicType = ()> + 'static>(pub(crate) mpsc::Receiver<Request<K>>);

/// The receiving ends of all queues.
#[derive(Debug)]
pub struct Inboxes {
    /// For the RelayPool controller.
    pub pools: Inbox<RelayPool>,
    /// For the SendingDomain controller.
    pub domains: Inbox<KeptDomain>,
    /// For the SuppressionList controller.
    pub lists: Inbox<SuppressionList>,
}

/// A request to any controller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// The RelayPool of this namespace and name.
    Pool(String, String),
    /// The SendingDomain of this namespace and name.
    Domain(String, String),
    /// The SuppressionList of this namespace and name.
    List(String, String),
    /// Every object: what was missed is not known.
    Everything,
}

/// The sending ends of all queues.
#[derive(Clone, Debug)]
pub struct Queues {
    pools: mpsc::Sender<Request<RelayPool>>,
    domains: mpsc::Sender<Request<KeptDomain>>,
    lists: mpsc::Sender<Request<SuppressionList>>,
}

impl Queues {
    /// Empty queues.
    #[must_use]
    pub fn new() -> (Self, Inboxes) {
        let (pools, pool_inbox) = mpsc::channel(QUEUE_LENGTH);
        let (domains, domain_inbox) = mpsc::channel(QUEUE_LENGTH);
        let (lists, list_inbox) = mpsc::channel(QUEUE_LENGTH);
        let queues = Self {
            pools,
            domains,
            lists,
        };
        let inboxes = Inboxes {
            pools: Inbox(pool_inbox),
            domains: Inbox(domain_inbox),
            lists: Inbox(list_inbox),
        };
        (queues, inboxes)
    }

    /// Hands `trigger` to its controller, waiting for room.
    pub async fn send(&self, trigger: Trigger) {
        // A closed queue means its controller has ended: nobody is left to wake.
        match trigger {
            Trigger::Pool(namespace, name) => {
                let _ = self.pools.send(one(&namespace, &name)).await;
            }
            Trigger::Domain(namespace, name) => {
                let _ = self.domains.send(one(&namespace, &name)).await;
            }
            Trigger::List(namespace, name) => {
                let _ = self.lists.send(one(&namespace, &name)).await;
            }
            Trigger::Everything => {
                let _ = self.pools.send(Request::All).await;
                let _ = self.domains.send(Request::All).await;
                let _ = self.lists.send(Request::All).await;
            }
        }
    }
}

fn one<K: Lookup<DynamicType = ()>>(namespace: &str, name: &str) -> Request<K> {
    Request::One(ObjectRef::new(name).within(namespace))
}
