//! What every controller of a scope (a watched namespace, or the whole cluster) is given.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    apply::Writer,
    backoff::Backoff,
    clock::{Clock, SteadyTime},
    dns::{PolicyHosts, Resolver},
    events::Events,
    looks::{Calendar, Looks},
    metrics::Metrics,
    queues::Queues,
    relay_pool::{
        QueuesWritten,
        credentials::VerifierCache,
        dns::{self, PoolLook},
        event_readings::Readings,
        loaded::Loaded,
        pace::Paces,
        reverse::Told,
    },
    sending_domain::{
        makers::KeyMakers,
        observe::{Inputs, Look},
    },
    settings::Settings,
    start::Start,
    stores::Stores,
};

/// What every controller of a scope is given.
pub struct Context {
    /// The namespace watched; `None`: all.
    pub namespace: Option<String>,
    /// The command line.
    pub settings: Arc<Settings>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Wall time that does not jump.
    pub steady: SteadyTime,
    /// Caches of all watched objects of the scope.
    pub stores: Stores,
    /// Wakes controllers of the scope.
    pub queues: Queues,
    /// Writes objects.
    pub writer: Writer,
    /// Publishes events.
    pub events: Events,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// Waits between failures.
    pub backoff: Backoff,
    /// Asks DNS.
    pub resolver: Arc<dyn Resolver>,
    /// Asks the hosts of MTA-STS policies.
    pub policies: Arc<dyn PolicyHosts>,
    /// What DNS said of each SendingDomain, until the next look is due.
    pub looks: Looks<Inputs, Look>,
    /// When SendingDomains may be looked at.
    pub calendar: Calendar,
    /// What DNS said of the names and addresses of each pool, until the next look is due.
    pub pool_looks: Looks<dns::Inputs, PoolLook>,
    /// What the SendingDomains of each pool know of the names of its addresses.
    pub reverse_told: Told,
    /// What relays have loaded, by their own reports.
    pub loaded: Loaded,
    /// Makes private keys.
    pub key_makers: KeyMakers,
    /// How hard each pool may push.
    pub paces: Paces,
    /// Why pods of each pool are not made, by events.
    pub refused_pods: Readings,
    /// Why pods of each pool do not run, by events.
    pub stuck_pods: Readings,
    /// Password verifiers already derived.
    pub verifiers: VerifierCache,
    /// When each pool's queue depth was last written.
    pub queues_written: QueuesWritten,
    /// How far the start has come.
    pub start: Start,
    /// Cancelled when the process is asked to stop.
    pub stop: CancellationToken,
}

impl Context {
    /// Wall time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time that waits are measured by which outlive the process.
    #[must_use]
    pub fn steady_now(&self) -> Timestamp {
        self.steady.at(self.clock.monotonic())
    }
}
