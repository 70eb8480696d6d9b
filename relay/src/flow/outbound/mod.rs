//! Out of custody and to the receivers.
//!
//! Flow: a leg that is due is claimed; its age and its domain's admission are looked at; routing
//! names its site; it waits for one of the site's connections; the attempt is recorded, the
//! message signed with the keys active now, sent, and judged; custody records what became of it,
//! with the notification to the sender, in one commit; then the events go out.
//!
//! Guarantees: at most [`CLAIM_KIB`] of messages are claimed and [`MAX_CONNECTIONS`] are open; a
//! site has at most `connectionsPerSite` connections and 256 legs waiting for them, so a slow
//! site holds up no other; an attempt is recorded before the remote is dialed; mail of a domain
//! with active keys is never sent unsigned.
//!
//! Caveats: a remote that takes a message and loses the connection before saying so gets it
//! again. Stopping within the budget lets running transactions end; beyond it they are cut off
//! and their legs are due again.

mod attempt;
mod settle;
mod sites;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use postrider_crds::relay_config::Admission;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{settle::Judged, sites::Sites};
use crate::{
    config::{ConfigWatch, Settings},
    custody::{Claim, Custody, RecipientResult, Settlement},
    identity::Signer,
    mail::Site,
    outcome::{Classifier, Leg, Warned, next_attempt},
    ports::{Clock, Network, Random, Resolver},
    routing::{Failures, Route, route},
    telemetry::{Remote, Telemetry},
    transport::TlsClient,
};

/// Messages claimed at a time, in KiB: 256 MiB.
pub const CLAIM_KIB: u32 = 256 << 10;
/// What a small message counts for, in KiB: with it at most 4096 legs are claimed.
const LEAST_KIB: u32 = 64;
/// Connections at a time. With 500 submission sessions and the spool's files this stays below the
/// usual limit of 1024 open files.
pub const MAX_CONNECTIONS: usize = 400;
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
    claims: Arc<Semaphore>,
    connections: Semaphore,
    tasks: TaskTracker,
    /// Begin nothing.
    stop: CancellationToken,
    /// The budget is spent: end at once.
    cut: CancellationToken,
}

/// A leg on its way, with its share of the claim budget.
struct Job {
    claim: Claim,
    route: Route,
    _share: OwnedSemaphorePermit,
}

/// Whether a leg may be sent now.
enum Standing {
    /// By these keys; `None` for what the relay wrote in nobody's name.
    Send(Option<Arc<Signer>>),
    /// Its domain is not, or no longer, to be sent for.
    Held,
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
            claims: Arc::new(Semaphore::new(CLAIM_KIB as usize)),
            connections: Semaphore::new(MAX_CONNECTIONS),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Delivers until `stop` is cancelled or custody closes. Then nothing is begun, what runs has
    /// `budget` to end, and what waits is put back.
    pub async fn run(self, stop: CancellationToken, budget: Duration) {
        let outbound = Arc::new(Self { stop, ..self });
        while let Some((claim, share)) = outbound.next_claim().await {
            outbound.spawn(outbound.clone().take(claim, share));
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
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// The next leg with room for it, `None` when there will be none.
    async fn next_claim(&self) -> Option<(Claim, OwnedSemaphorePermit)> {
        let claim = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            claim = self.parts.custody.next_due() => claim?,
        };
        let kib = u32::try_from(claim.body.len() >> 10).unwrap_or(CLAIM_KIB);
        let share = self
            .claims
            .clone()
            .acquire_many_owned(kib.clamp(LEAST_KIB, CLAIM_KIB));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            share = share => if let Ok(share) = share {
                return Some((claim, share));
            },
        }
        self.parts.custody.put_back(claim).await;
        None
    }

    /// Takes a leg as far as its site's queue.
    async fn take(self: Arc<Self>, claim: Claim, share: OwnedSemaphorePermit) {
        let settings = self.settings();
        let now = self.parts.clock.wall();
        if let Some(ruling) = leg(&claim).expired(&settings.relay.delivery, now) {
            let remote = nowhere(&claim);
            let rulings = claim
                .recipients
                .iter()
                .map(|i| (*i, ruling.clone()))
                .collect();
            let judged = Judged::without_attempt(claim, rulings, remote);
            return self.settle(judged, &settings).await;
        }
        if matches!(standing(&settings, &claim), Standing::Held) {
            return self.put_back_after(HELD_PAUSE, claim).await;
        }
        let (resolver, random) = (&*self.parts.resolver, &*self.parts.random);
        let found = route(&claim.domain, &settings.relay.hostname, resolver, random).await;
        match found {
            Ok(route) => {
                let job = Job {
                    claim,
                    route,
                    _share: share,
                };
                self.queue(job, &settings).await;
            }
            Err(outcome) => self.unrouted(claim, outcome, &settings).await,
        }
    }

    /// Gives a leg to its site, or puts it off when the site is too far behind.
    async fn queue(self: Arc<Self>, job: Job, settings: &Settings) {
        let site = job.route.site.clone();
        let workers = settings.relay.delivery.connections_per_site.max(1);
        match self.sites.push(&site, job, workers).await {
            Ok(sites::Pushed::Queued) => {}
            Ok(sites::Pushed::NeedsWorker) => {
                self.spawn(self.clone().work(site));
            }
            Err(job) => self.put_off(job.claim, settings).await,
        }
    }

    /// Not attempted; given back after a pause, or at once when everything stops.
    async fn put_back_after(&self, pause: Duration, claim: Claim) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
        self.parts.custody.put_back(claim).await;
    }

    /// Not attempted, and not looked at again for a while. Nothing is counted.
    async fn put_off(&self, claim: Claim, settings: &Settings) {
        let until = next_attempt(
            settings.relay.delivery.retry,
            1,
            self.parts.clock.wall(),
            &*self.parts.random,
        );
        let deferred = RecipientResult::Deferred { until };
        let settlement = Settlement {
            results: claim.recipients.iter().map(|i| (*i, deferred)).collect(),
            delay_warned: claim.delay_warned,
            notification: None,
        };
        let id = claim.id;
        if let Err(error) = self.parts.custody.settle(claim, settlement).await {
            tracing::error!(message.id = %id, %error, "leg could not be put off");
        }
    }

    /// One of a site's connections: works on the site's legs until there are none for a while.
    async fn work(self: Arc<Self>, site: Site) {
        let seat = sites::Seat::new(&self.sites, &site);
        let mut link = None;
        // When everything stops, no connection is needed to put legs back.
        let _connection = tokio::select! {
            permit = self.connections.acquire() => permit.ok(),
            () = self.stop.cancelled() => None,
        };
        loop {
            let limit = self.settings().relay.delivery.connections_per_site.max(1);
            match self.sites.next(&site, limit, &self.stop).await {
                Some(job) if self.stop.is_cancelled() => {
                    self.parts.custody.put_back(job.claim).await;
                }
                Some(job) => link = self.attempt(job, link).await,
                None => break,
            }
        }
        seat.given_up();
        if let Some(link) = link {
            link.quit().await;
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.parts.settings.borrow().clone()
    }
}

/// Whether `claim` may be sent as of `settings`.
fn standing(settings: &Settings, claim: &Claim) -> Standing {
    let Some(name) = &claim.envelope.domain else {
        return Standing::Send(None);
    };
    match settings.domains.get(name) {
        Some(domain) if domain.entry.admission == Admission::Send => {
            Standing::Send(Some(domain.signer.clone()))
        }
        Some(_) | None => Standing::Held,
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
