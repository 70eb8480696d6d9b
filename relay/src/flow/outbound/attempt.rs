//! One attempt of one leg: record, sign, connect, send.

use std::sync::{Arc, PoisonError};

use postrider_crds::{Mailbox, relay_config::TlsMode};

use super::{DISK_PAUSE, HELD_PAUSE, Job, Outbound, Standing, nowhere, settle::Judged, standing};
use crate::{
    config::Settings,
    custody::{Claim, StoreError},
    identity::{SignError, Signer},
    mail::{Class, EnhancedCode, Outcome, Reply},
    routing::{Destination, Route},
    telemetry::{Event, Remote, Stage, TlsPolicy, TlsResult},
    transport::{
        Failure, Link, LinkOptions, MAX_RECIPIENTS, Payload, Security, Stage as At, Transaction,
        Verdict,
    },
};

/// Transactions after which a connection is closed; receivers distrust longer ones.
const MAX_TRANSACTIONS: u32 = 100;

/// A connection on its way through an attempt, and where the attempt came to.
struct Course<'a> {
    route: &'a Route,
    settings: &'a Settings,
    link: Option<Link>,
    remote: Remote,
}

/// A message as receivers are to see it.
struct Outgoing {
    sender: Option<Mailbox>,
    payload: Payload,
}

impl Outbound {
    /// Attempts a leg over `link` or a new connection, and gives back what connection is left.
    pub(super) async fn attempt(self: &Arc<Self>, job: Job, link: Option<Link>) -> Option<Link> {
        let Job { claim, route } = job;
        let settings = self.settings();
        // It may have waited, and the world moved on.
        let Standing::Send(signer) = standing(&settings, &claim) else {
            self.put_back_after(HELD_PAUSE, claim).await;
            return link;
        };
        let Some(claim) = self.started(claim, &route).await else {
            return link;
        };
        let started = self.parts.clock.monotonic();
        let mut course = Course {
            route: &route,
            settings: &settings,
            link,
            remote: Remote {
                site: route.site.clone(),
                ..nowhere(&claim)
            },
        };
        let outcomes: Vec<(usize, Outcome)> = match self.outgoing(&claim, signer.as_deref()) {
            Ok(outgoing) => {
                let verdicts = self.send(&claim, &outgoing, &mut course).await;
                let judge = |(index, verdict)| (index, self.classifier.outcome(verdict));
                verdicts.into_iter().map(judge).collect()
            }
            Err(error) => {
                self.parts.telemetry.signing_failed();
                tracing::error!(message.id = %claim.id, %error, "message cannot be signed");
                all(&claim, &unsigned(&error))
            }
        };
        let took = |(_, outcome): &(usize, Outcome)| matches!(outcome, Outcome::Delivered { .. });
        let answered = course.link.is_some() || outcomes.iter().any(took);
        self.learn(&claim.domain, &route.site, answered);
        let tls = course.link.as_ref().and_then(Link::tls);
        let judged = Judged {
            took: self.parts.clock.monotonic().saturating_sub(started),
            tls: tls.map(|tls| tls.version.clone()),
            remote: course.remote,
            ..self.judge(claim, outcomes, &settings)
        };
        let link = course.link.filter(Link::is_usable);
        // The connection does not wait for the disk. What is being recorded still counts as claimed
        // for the site, which bounds it.
        let outbound = Arc::clone(self);
        self.spawn(async move { outbound.settle(judged, &settings).await });
        link
    }

    /// A leg for which DNS knows no way, now or ever. It counts as an attempt.
    pub(super) async fn unrouted(&self, claim: Claim, outcome: Outcome, settings: &Settings) {
        let remote = nowhere(&claim);
        let route = Route {
            site: remote.site.clone(),
            destinations: Vec::new(),
        };
        if let Some(claim) = self.started(claim, &route).await {
            let outcomes = all(&claim, &outcome);
            let judged = self.judge(claim, outcomes, settings);
            self.settle(judged, settings).await;
        }
    }

    /// Records the attempt. Without a record there is none.
    async fn started(&self, claim: Claim, route: &Route) -> Option<Claim> {
        let started = self.parts.custody.attempt_started(&claim).await;
        if let Err(StoreError::Kept(_)) = started {
            self.parts.custody.put_back(claim).await;
            return None;
        }
        if let Err(error) = started {
            tracing::error!(message.id = %claim.id, %error, "attempt cannot be recorded");
            self.put_back_after(DISK_PAUSE, claim).await;
            return None;
        }
        let time = self.parts.clock.wall();
        self.parts.telemetry.emit(&Event {
            time,
            message: Some(claim.id),
            tenant: Some(claim.envelope.tenant.clone()),
            domain: claim.envelope.domain.clone(),
            stage: Stage::AttemptStarted {
                recipient_domain: claim.domain.clone(),
                attempt: claim.attempts + 1,
                site: route.site.clone(),
                age: super::settle::age(claim.accepted, time),
            },
        });
        Some(claim)
    }

    /// Signs with every active key, or not at all where none is active.
    fn outgoing(&self, claim: &Claim, signer: Option<&Signer>) -> Result<Outgoing, SignError> {
        let headers = match signer {
            Some(signer) => signer.sign(&claim.body, self.parts.clock.wall())?,
            None => Vec::new(),
        };
        let original = claim.envelope.return_path.mailbox();
        Ok(Outgoing {
            // `<>` stays `<>` (RFC 5321 §4.5.5).
            sender: original.map(|mailbox| match signer {
                Some(signer) => signer.return_path(claim.id),
                None => mailbox.clone(),
            }),
            payload: Payload::new(headers.into(), claim.body.clone()),
        })
    }

    /// Sends to all recipients, as many transactions as that takes.
    async fn send(
        &self,
        claim: &Claim,
        outgoing: &Outgoing,
        course: &mut Course<'_>,
    ) -> Vec<(usize, Verdict)> {
        let mut verdicts = Vec::with_capacity(claim.recipients.len());
        let mut failure = None;
        for indexes in claim.recipients.chunks(MAX_RECIPIENTS) {
            let mailbox = |index: &usize| {
                let recipient = claim.envelope.recipients.get(*index);
                recipient.map(|recipient| recipient.mailbox.clone())
            };
            let transaction = Transaction {
                sender: outgoing.sender.clone(),
                recipients: indexes.iter().filter_map(mailbox).collect(),
                payload: outgoing.payload.clone(),
                priority: claim.envelope.priority,
            };
            let answers = match &failure {
                None => self.transact(transaction, course).await,
                // A site that was not reached is not tried again for the rest.
                Some(failure) => vec![Verdict::Broken(Failure::clone(failure)); indexes.len()],
            };
            if let (None, Some(Verdict::Broken(broken))) = (&course.link, answers.first()) {
                failure = Some(broken.clone());
            }
            verdicts.extend(indexes.iter().copied().zip(answers));
        }
        verdicts
    }

    /// One transaction, on the connection there is or a new one. A connection that turns out to
    /// have been closed between transactions is replaced, once.
    async fn transact(&self, transaction: Transaction, course: &mut Course<'_>) -> Vec<Verdict> {
        if let Some(mut link) = course.link.take() {
            if is_fit(&link, course.route, security(course.settings)) {
                let verdicts = link.deliver(transaction.clone()).await;
                course.note(link.destination());
                if !is_stale(&verdicts) {
                    course.link = Some(link);
                    return verdicts;
                }
            } else {
                link.quit().await;
            }
        }
        match self.connect(course).await {
            Ok(mut link) => {
                let verdicts = link.deliver(transaction).await;
                course.link = Some(link);
                verdicts
            }
            Err(failure) => vec![Verdict::Broken(failure); transaction.recipients.len()],
        }
    }

    /// The first destination that takes a session.
    async fn connect(&self, course: &mut Course<'_>) -> Result<Link, Failure> {
        let settings = course.settings;
        let mut destinations = course.route.destinations.clone();
        let now = self.parts.clock.monotonic();
        self.failures(|failures| failures.put_last(&mut destinations, now));
        let options = LinkOptions {
            own_name: settings.relay.hostname.clone(),
            port: settings.relay.delivery.port,
            clock: self.parts.clock.clone(),
            network: self.parts.network.clone(),
            tls: self.parts.tls.clone(),
        };
        let mut last = Failure::Connect("no destination was tried".into());
        for destination in &destinations {
            if self.stop.is_cancelled() {
                last = Failure::Connect("the relay is stopping".into());
                break;
            }
            course.note(destination);
            match self.open(destination, security(settings), &options).await {
                Ok(link) => {
                    self.failures(|failures| failures.forget(destination.address));
                    return Ok(link);
                }
                Err(failure) => {
                    if is_silence(&failure) {
                        let now = self.parts.clock.monotonic();
                        self.failures(|failures| failures.record(destination.address, now));
                    }
                    last = failure;
                }
            }
        }
        Err(last)
    }

    /// Opens a session; after a failed handshake that was not required, again in clear.
    async fn open(
        &self,
        destination: &Destination,
        security: Security,
        options: &LinkOptions,
    ) -> Result<Link, Failure> {
        let telemetry = &self.parts.telemetry;
        let policy = match security {
            Security::Required => TlsPolicy::Required,
            Security::Opportunistic | Security::Plain => TlsPolicy::Opportunistic,
        };
        let opened = match Link::open(destination, security, options).await {
            Err(Failure::Tls(cause)) => {
                telemetry.tls_session(policy, TlsResult::Failed);
                if security == Security::Required {
                    return Err(Failure::Tls(cause));
                }
                let host = &destination.host;
                tracing::warn!(host, cause, "TLS failed, sending in clear");
                Link::open(destination, Security::Plain, options).await
            }
            opened => opened,
        };
        if let Ok(link) = &opened {
            let result = match link.tls() {
                Some(_) => TlsResult::Encrypted,
                None => TlsResult::Plaintext,
            };
            telemetry.tls_session(policy, result);
        }
        opened
    }

    fn failures<T>(&self, with: impl FnOnce(&mut crate::routing::Failures) -> T) -> T {
        with(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Course<'_> {
    fn note(&mut self, destination: &Destination) {
        self.remote.host = Some(destination.host.clone());
        self.remote.address = Some(destination.address);
    }
}

fn security(settings: &Settings) -> Security {
    match settings.relay.delivery.tls {
        TlsMode::Opportunistic => Security::Opportunistic,
        TlsMode::Required => Security::Required,
    }
}

/// Whether `link` serves `route` as well as a new connection would.
fn is_fit(link: &Link, route: &Route, security: Security) -> bool {
    // What fell back to clear is as good as opportunistic gets.
    let is_secure = link.security() == security
        || (security == Security::Opportunistic && link.security() == Security::Plain);
    link.is_usable()
        && is_secure
        && link.transactions() < MAX_TRANSACTIONS
        && route.destinations.contains(link.destination())
}

/// Whether a reused connection went away before it heard of the message.
fn is_stale(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| match verdict {
        Verdict::Broken(Failure::Lost { stage, .. } | Failure::Refused { stage, .. }) => {
            matches!(stage, At::Idle | At::Reset | At::Mail)
        }
        Verdict::Broken(_) | Verdict::Accepted(_) | Verdict::Refused(_) => false,
    })
}

/// Whether the address itself did not answer.
fn is_silence(failure: &Failure) -> bool {
    match failure {
        Failure::Connect(_) | Failure::Lost { .. } | Failure::TimedOut(_) => true,
        Failure::Protocol { .. } | Failure::Refused { .. } | Failure::Tls(_) => false,
    }
}

fn all(claim: &Claim, outcome: &Outcome) -> Vec<(usize, Outcome)> {
    let recipients = claim.recipients.iter();
    recipients.map(|index| (*index, outcome.clone())).collect()
}

/// Ours to cure, so it waits.
fn unsigned(error: &SignError) -> Outcome {
    Outcome::Deferred {
        class: Class::Other,
        reply: Reply::new(451, EnhancedCode(4, 3, 5), error.to_string()),
    }
}
