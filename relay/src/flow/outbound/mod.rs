//! Out of custody and to the receivers.
//!
//! Flow: a leg that is due is claimed; its age and its domain's admission are looked at; routing
//! names its site; it waits for one of the site's connections; the attempt is recorded, the
//! message signed with the keys active now, sent, and judged; custody records what became of it,
//! with the notification to the sender, in one commit, while the connection goes on with the next;
//! then the events go out. Once a minute what has grown too old is taken from wherever it waits, and
//! of what is kept back and late the sender is told. What an operator orders to be flushed or
//! expired is, as soon as it is ordered.
//!
//! Guarantees: custody bounds what is claimed at all, and for a site what [`Sites::terms`] says, so
//! a slow site holds up no other. At most [`MAX_CONNECTIONS`] are open, `connectionsPerSite` to a
//! site, and [`SUSPECT_CONNECTIONS`] to sites that did not take mail lately, so that silent sites
//! leave the others half. An attempt is recorded before the remote is dialed; mail of a domain with
//! active keys is never sent unsigned.
//!
//! Caveats: a remote that takes a message and loses the connection before saying so gets it
//! again. Stopping within the budget lets running transactions end; beyond it they are cut off
//! and their legs are due again.

mod attempt;
mod late;
mod orders;
mod settle;
mod sites;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use postrider_crds::{DomainName, relay_config::Admission};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    settle::Judged,
    sites::{Changed, Sites},
};
use crate::{
    config::{ConfigWatch, Settings},
    custody::{Claim, Custody, Due, Room, Trust},
    identity::Signer,
    mail::Site,
    outcome::{Classifier, Leg, Warned},
    ports::{Clock, Network, Random, Resolver},
    routing::{Failures, Route, route},
    telemetry::{Remote, Telemetry},
    transport::TlsClient,
};

/// Connections at a time. With 500 submission sessions and the spool's files this stays below the
/// usual limit of 1024 open files.
pub const MAX_CONNECTIONS: usize = 400;
/// Connections at a time to sites that did not take mail lately.
pub const SUSPECT_CONNECTIONS: usize = MAX_CONNECTIONS / 2;
/// Wait before a leg that custody could not record is given back, so that a broken disk is not
/// asked in a loop.
const DISK_PAUSE: Duration = Duration::from_secs(5);

/// Wait before a leg of a domain that may not send is given back: custody learns of new settings
/// a moment before or after this loop does, and must not be asked in a loop meanwhile.
const HELD_PAUSE: Duration = Duration::from_millis(200);

/// What the loop is built from.
pub struct Parts {
    /// Where legs come from and results go.
    pub custody: Custody,
    /// The settings in force.
    pub settings: ConfigWatch,
    /// DNS.
    pub resolver: Arc<dyn Resolver>,
    /// Connections.
    pub network: Arc<dyn Network>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter, shuffling, names.
    pub random: Arc<dyn Random>,
    /// Where events go.
    pub telemetry: Arc<Telemetry>,
    /// TLS towards receivers.
    pub tls: TlsClient,
}

/// The loop.
pub struct Outbound {
    parts: Parts,
    classifier: Classifier,
    sites: Sites,
    failures: Mutex<Failures>,
    connections: Semaphore,
    suspects: Semaphore,
    tasks: TaskTracker,
    /// Begin nothing.
    stop: CancellationToken,
    /// The budget is spent: end at once.
    cut: CancellationToken,
}

/// A leg on its way.
struct Job {
    claim: Claim,
    route: Route,
}

/// A worker's place among all connections.
#[derive(Default)]
struct Slot<'a> {
    among_all: Option<SemaphorePermit<'a>>,
    among_suspects: Option<SemaphorePermit<'a>>,
}

/// Whether a leg may be sent now.
enum Standing {
    /// By these keys; `None` for what the relay wrote in nobody's name.
    Send(Option<Arc<Signer>>),
    /// Its domain is not, or no longer, to be sent for; why.
    Held(String),
}

impl Outbound {
    /// A loop that has not started.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            classifier: Classifier::shipped(),
            sites: Sites::default(),
            failures: Mutex::new(Failures::default()),
            connections: Semaphore::new(MAX_CONNECTIONS),
            suspects: Semaphore::new(SUSPECT_CONNECTIONS),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Delivers until `stop` is cancelled or custody closes. Then nothing is begun, what runs has
    /// `budget` to end, and what waits is put back.
    pub async fn run(self, stop: CancellationToken, budget: Duration) {
        let outbound = Arc::new(Self { stop, ..self });
        outbound.spawn(outbound.clone().give_up_overdue());
        outbound.spawn(outbound.clone().warn_of_late());
        outbound.spawn(outbound.clone().carry_out_orders());
        while let Some(due) = outbound.next_due().await {
            outbound.spawn(outbound.clone().load(due).map(drop));
        }
        outbound.stop.cancel();
        outbound.tasks.close();
        let ended = tokio::time::timeout(budget, outbound.tasks.wait()).await;
        if ended.is_err() {
            let left = outbound.tasks.len();
            tracing::warn!(left, "deliveries cut off, they are due again");
            outbound.cut.cancel();
            outbound.tasks.wait().await;
        }
    }

    /// Runs `task` until it ends or everything is cut off; what it has claimed is given back then.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        // It is some KiB large, and would else be copied at every layer of the spawn.
        let mut task = Box::pin(task);
        self.tasks.spawn(async move {
            tokio::select! {
                () = &mut task => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// The next leg, `None` when there will be none.
    async fn next_due(&self) -> Option<Due> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            due = self.parts.custody.next_ready() => due,
        }
    }

    /// Takes a leg on its way. Whether its message could be read.
    async fn load(self: Arc<Self>, due: Due) -> bool {
        let Some(claim) = self.parts.custody.load(due).await else {
            return false;
        };
        self.take(claim).await;
        true
    }

    /// Takes a leg as far as its site's queue.
    async fn take(self: Arc<Self>, claim: Claim) {
        let settings = self.settings();
        let now = self.parts.clock.wall();
        let hold = match standing(&settings, &claim) {
            Standing::Send(_) => None,
            Standing::Held(why) => Some(why),
        };
        let delivery = &settings.relay.delivery;
        if let Some(ruling) = leg(&claim).expired(delivery, now, hold.as_deref()) {
            let remote = nowhere(&claim);
            let rulings = claim
                .recipients
                .iter()
                .map(|i| (*i, ruling.clone()))
                .collect();
            let judged = Judged::without_attempt(claim, rulings, remote);
            return self.settle(judged, &settings).await;
        }
        if hold.is_some() {
            return self.put_back_after(HELD_PAUSE, claim).await;
        }
        let (resolver, random) = (&*self.parts.resolver, &*self.parts.random);
        let found = route(&claim.domain, &settings.relay.hostname, resolver, random).await;
        match found {
            Ok(route) => self.queue(Job { claim, route }, &settings).await,
            Err(outcome) => self.unrouted(claim, outcome, &settings).await,
        }
    }

    /// Gives a leg to its site; back to custody, which waits for room, where there is none.
    async fn queue(self: Arc<Self>, job: Job, settings: &Settings) {
        let site = job.route.site.clone();
        let workers = connections(settings);
        if self.bind(&job.claim.domain, &site, settings) == Room::Full {
            return self.parts.custody.put_back(job.claim).await;
        }
        match self.sites.push(&site, job, workers) {
            sites::Pushed::Queued => {}
            sites::Pushed::NeedsWorker => self.spawn(self.clone().work(site)),
        }
    }

    /// Tells custody what may be claimed for a site.
    fn bind(&self, domain: &DomainName, site: &Site, settings: &Settings) -> Room {
        let now = self.parts.clock.monotonic();
        let (limit, trust) = self.sites.terms(site, connections(settings), now);
        self.parts.custody.bind(domain, site, limit, trust)
    }

    /// Not attempted; given back after a pause, or at once when everything stops.
    async fn put_back_after(&self, pause: Duration, claim: Claim) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
        self.parts.custody.put_back(claim).await;
    }

    /// One of a site's connections: works on the site's legs until there are none for a while.
    async fn work(self: Arc<Self>, site: Site) {
        let seat = sites::Seat::new(&self.sites, &site);
        let (mut link, mut slot) = (None, Slot::default());
        loop {
            let limit = connections(&self.settings());
            let Some(job) = self.sites.next(&site, limit, &self.stop).await else {
                break;
            };
            self.fill(&mut slot, &site).await;
            if self.stop.is_cancelled() {
                // No connection is needed to put legs back.
                self.parts.custody.put_back(job.claim).await;
                continue;
            }
            link = self.attempt(job, link).await;
        }
        seat.given_up();
        if let Some(link) = link {
            link.quit().await;
        }
    }

    /// Takes the place among all connections that the site's standing asks for.
    async fn fill<'a>(&'a self, slot: &mut Slot<'a>, site: &Site) {
        let take = async {
            match self.sites.trust(site, self.parts.clock.monotonic()) {
                Trust::Proven => slot.among_suspects = None,
                Trust::Suspect if slot.among_suspects.is_none() => {
                    // Nobody waits for one with the other in hand.
                    slot.among_all = None;
                    slot.among_suspects = self.suspects.acquire().await.ok();
                }
                Trust::Suspect => {}
            }
            if slot.among_all.is_none() {
                slot.among_all = self.connections.acquire().await.ok();
            }
        };
        tokio::select! {
            () = take => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// An attempt at a site has ended. It answered when it took mail or kept the connection.
    fn learn(&self, domain: &DomainName, site: &Site, answered: bool) {
        let now = self.parts.clock.monotonic();
        let changed = match answered {
            true => self.sites.succeeded(site, now),
            false => self.sites.failed(site, now),
        };
        if changed == Changed::Yes {
            self.bind(domain, site, &self.settings());
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.parts.settings.borrow().clone()
    }
}

fn connections(settings: &Settings) -> u32 {
    settings.relay.delivery.connections_per_site.max(1)
}

/// Whether `claim` may be sent as of `settings`.
fn standing(settings: &Settings, claim: &Claim) -> Standing {
    let Some(name) = &claim.envelope.domain else {
        return Standing::Send(None);
    };
    let Some(domain) = settings.domain(name) else {
        return Standing::Held(format!("this relay no longer sends for {name}"));
    };
    match (domain.entry.admission, domain.entry.reason.as_str()) {
        (Admission::Send, _) => Standing::Send(Some(domain.signer.clone())),
        (Admission::Hold | Admission::Reject, "") => Standing::Held(format!("{name} may not send")),
        (Admission::Hold | Admission::Reject, reason) => {
            Standing::Held(format!("{name} may not send: {reason}"))
        }
    }
}

fn leg(claim: &Claim) -> Leg {
    Leg {
        accepted: claim.accepted,
        attempts: claim.attempts,
        warned: if claim.delay_warned {
            Warned::Yes
        } else {
            Warned::No
        },
    }
}

/// The remote of a leg that came to none.
fn nowhere(claim: &Claim) -> Remote {
    Remote {
        site: Site::of_domain(&claim.domain),
        host: None,
        address: None,
    }
}
