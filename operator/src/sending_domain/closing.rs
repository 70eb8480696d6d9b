//! The end of a SendingDomain: it stays until its mail has left the queues of its pool.
//!
//! Flow: [`FINALIZER`] holds every SendingDomain that a pool serves. Once it is being deleted, the
//! pool's keyring closes it: relays refuse new mail of it, go on signing and sending what they have,
//! and count that in their reports. When none is left, [`step`] takes the finalizer off; only then
//! are published records withdrawn ([`super::publish::farewell`]), and the keys go with the object.
//!
//! Guarantees: nothing is given up while a pod may hold mail of the domain, that is before each has
//! counted none by the keyring that closes it. Nobody is waited for who is not there: no pool, one
//! that is being deleted, a pod that has neither come up nor a volume. The wait ends by itself once
//! everything that was queued has expired, and at once by [`ABANDON_ANNOTATION`].
//!
//! Caveats: volumes kept of former members count nothing; what they may hold is told at the end.

use jiff::{SignedDuration, Timestamp};
use kube::{Resource as _, ResourceExt as _};
use postrider_crds::{
    RelayPool, SendingDomain,
    condition::{reasons, types},
    relay_config::Admission,
};

use super::{observe::Observation, publish};
use crate::{
    Context, Error,
    conditions::{Fact, Status},
    events::{Notice, Severity},
    relay_pool::{
        build::SPOOL,
        domains,
        loaded::{PoolKey, PoolState, Remainder},
    },
    stores::{self, Term},
};

/// Keeps a SendingDomain until its mail has left the queues.
pub const FINALIZER: &str = "postrider.dev/deliver-queued";
/// Set to `true`, it lets a deletion leave mail behind in the queues, where it is held.
pub const ABANDON_ANNOTATION: &str = "postrider.dev/abandon-queue";
/// Seconds for which mail may be queued beyond its age: relays look for what is too old now and then,
/// and may be told late that the domain takes no more.
const SLACK: i64 = 3_600;
/// Pods that a message names.
const NAMED: usize = 3;

/// What is known of the mail of a SendingDomain that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queue {
    /// There is no pool that has mail of it.
    None,
    /// Relays are not told yet that it takes no more.
    Untold,
    /// What relays have counted.
    Counted(Remainder),
}

/// All that is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What is queued.
    pub queue: Queue,
    /// Somebody does not want to wait.
    pub abandoned: bool,
    /// When everything that was queued has expired.
    pub until: Timestamp,
}

/// Whether the deletion waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Waiting(Wait),
    /// It need not, or no more.
    Over(End),
}

/// What a deletion waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What is queued.
    pub queue: Queue,
    /// When the wait ends whatever is queued.
    pub until: Timestamp,
}

/// Why a deletion waits no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was queued that could be.
    NoPool,
    /// Nothing is queued any more.
    Empty,
    /// Somebody did not want to wait, or it took too long. What was known then.
    Left(Queue),
}

/// Judges `facts` as of `now`.
#[must_use]
pub fn judge(facts: &Facts, now: Timestamp) -> Verdict {
    match &facts.queue {
        Queue::None => Verdict::Over(End::NoPool),
        Queue::Counted(rest) if rest.messages == 0 && rest.unheard.is_empty() => {
            Verdict::Over(End::Empty)
        }
        queue if facts.abandoned || facts.until <= now => Verdict::Over(End::Left(queue.clone())),
        queue => Verdict::Waiting(Wait {
            queue: queue.clone(),
            until: facts.until,
        }),
    }
}

impl Wait {
    /// `Ready` of a SendingDomain that waits, in place of `ready`, which tells why mail is held
    /// where it is not sent.
    pub(super) fn ready(
        &self,
        observation: &Observation,
        admission: Admission,
        ready: &Fact,
    ) -> Fact {
        let (domain, pool) = (&observation.spec.domain, &observation.spec.pool_ref.name);
        let queued = |messages| {
            let count = coarse(messages);
            match admission {
                Admission::Send => {
                    format!("{count} of {domain} queued, which go on being signed and sent")
                }
                Admission::Hold | Admission::Reject => {
                    format!("{count} of {domain} held ({})", ready.message)
                }
            }
        };
        let (reason, what) = match &self.queue {
            Queue::Counted(rest) if rest.messages > 0 => {
                let mut what = queued(rest.messages);
                if !rest.unheard.is_empty() {
                    what = format!("{what}; {}", uncounted(&rest.unheard));
                }
                (reasons::QUEUE_NOT_EMPTY, what)
            }
            Queue::Counted(rest) => (reasons::QUEUE_UNKNOWN, uncounted(&rest.unheard)),
            Queue::Untold | Queue::None => {
                let what = format!("RelayPool {pool} has to tell its relays");
                (reasons::QUEUE_UNKNOWN, what)
            }
        };
        let until = self.until;
        let message = format!(
            "being deleted: {what}; it goes by {until} at the latest; to leave the mail behind, held, annotate the SendingDomain with {ABANDON_ANNOTATION}=true"
        );
        Fact::new(types::READY, Status::False, reason, message)
    }

    /// The event for `ready`, when it differs in more than numbers from the `Ready` stored.
    pub(super) fn notice(observation: &Observation, ready: &Fact) -> Option<Notice> {
        let mut before = observation.previous.conditions.iter();
        let told = before.any(|c| c.type_ == types::READY && c.reason == ready.reason);
        (!told).then(|| Notice {
            severity: Severity::Normal,
            reason: ready.reason,
            action: "Close",
            note: ready.message.clone(),
        })
    }
}

/// A count that changes seldom while a queue empties, so that the status does.
fn coarse(messages: u64) -> String {
    match messages {
        1 => "1 message".to_owned(),
        0..10 => format!("{messages} messages"),
        _ => {
            let step = 10_u64.pow(messages.ilog10());
            let above = messages.div_ceil(step).saturating_mul(step);
            format!("at most {above} messages")
        }
    }
}

fn uncounted(pods: &[String]) -> String {
    let named = pods.get(..NAMED.min(pods.len())).unwrap_or_default();
    let more = match pods.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "waiting for {}{more} to report what is queued",
        named.join(", ")
    )
}

/// What the deletion of a SendingDomain has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is not being deleted.
    Staying,
    /// Its mail is waited for.
    Waiting(Wait),
    /// Its mail has just been waited for: the object has changed.
    Left,
    /// Its mail is not waited for.
    Leaving,
}

/// Goes on with the deletion of `domain`, if it is being deleted.
pub(super) async fn step(domain: &SendingDomain, ctx: &Context) -> Result<Step, Error> {
    if domain.metadata.deletion_timestamp.is_none() {
        return Ok(Step::Staying);
    }
    if !holds(domain) {
        return Ok(Step::Leaving);
    }
    let namespace = domain.namespace().unwrap_or_default();
    let pool = stores::get(&ctx.stores.pools, &namespace, &domain.spec.pool_ref.name);
    let end = match judge(
        &observe(domain, pool.as_deref(), &namespace, ctx),
        ctx.steady_now(),
    ) {
        Verdict::Waiting(wait) => return Ok(Step::Waiting(wait)),
        Verdict::Over(end) => end,
    };
    let others = domain.finalizers().iter().filter(|f| *f != FINALIZER);
    let others: Vec<_> = others.cloned().collect();
    match ctx.writer.finalizers(domain, &others).await {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    if let Some(notice) = farewell_notice(domain, pool.as_deref(), &end) {
        ctx.events.publish(&notice, &domain.object_ref(&())).await;
    }
    Ok(Step::Left)
}

/// Puts the finalizer onto `domain`, when it has a pool that may take its mail and has it not yet, with
/// that of [`publish`] where records will be put into a zone; tells whether the object has changed.
pub(super) async fn hold(
    domain: &SendingDomain,
    observation: &Observation,
    ctx: &Context,
) -> Result<bool, Error> {
    let served = observation.pool.is_some() && observation.rival.is_none();
    if !served || holds(domain) || domain.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let mut finalizers = domain.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    // What publishing will need goes with it: a write for each of thousands of domains less.
    let updates = observation.spec.publish.as_ref();
    let updates = updates.is_some_and(|publish| publish.rfc2136.is_some());
    if updates && !finalizers.iter().any(|f| f == publish::FINALIZER) {
        finalizers.push(publish::FINALIZER.to_owned());
    }
    ctx.writer.finalizers(domain, &finalizers).await?;
    Ok(true)
}

fn holds(domain: &SendingDomain) -> bool {
    domain.finalizers().iter().any(|f| f == FINALIZER)
}

fn observe(
    domain: &SendingDomain,
    pool: Option<&RelayPool>,
    namespace: &str,
    ctx: &Context,
) -> Facts {
    let claim = Term::Domain(domain.spec.domain.clone());
    let claims: Vec<_> = ctx.stores.domains_with(namespace, &claim).collect();
    // What another SendingDomain of the domain has in the queue is its own to wait for.
    let served = domains::rival(domain, &claims).is_none();
    let pool = pool.filter(|pool| served && pool.metadata.deletion_timestamp.is_none());
    let deleted = domain.metadata.deletion_timestamp.as_ref();
    let lifetime = pool.map_or(0, |pool| pool.spec.delivery.expire_after.as_secs());
    let wait = SignedDuration::from_secs(i64::try_from(lifetime).unwrap_or(i64::MAX))
        .saturating_add(SignedDuration::from_secs(SLACK));
    let until = deleted.map_or(Timestamp::MIN, |time| {
        time.0.saturating_add(wait).unwrap_or(Timestamp::MAX)
    });
    let abandon = domain.annotations().get(ABANDON_ANNOTATION);
    Facts {
        queue: pool.map_or(Queue::None, |_| queue(domain, namespace, ctx)),
        abandoned: abandon.is_some_and(|value| value == "true"),
        until,
    }
}

fn queue(domain: &SendingDomain, namespace: &str, ctx: &Context) -> Queue {
    let pool = PoolKey {
        namespace: namespace.to_owned(),
        name: domain.spec.pool_ref.name.clone(),
    };
    let uid = domain.uid().unwrap_or_default();
    let remainder = |state: &PoolState| state.remainder(&domain.spec.domain, &uid);
    let remainder = ctx.loaded.with(&pool, remainder);
    let Some(mut remainder) = remainder else {
        return Queue::Untold;
    };
    // Without pod and volume there is nothing that could have taken mail.
    remainder.unheard.retain(|pod| {
        let volume = format!("{SPOOL}-{pod}");
        stores::get(&ctx.stores.pods, namespace, pod).is_some()
            || stores::get(&ctx.stores.claims, namespace, &volume).is_some()
    });
    Queue::Counted(remainder)
}

/// What to tell of a deletion whose wait is over.
fn farewell_notice(domain: &SendingDomain, pool: Option<&RelayPool>, end: &End) -> Option<Notice> {
    let notice = |severity, reason, note| {
        Some(Notice {
            severity,
            reason,
            action: "Close",
            note,
        })
    };
    let (name, pool_name) = (&domain.spec.domain, &domain.spec.pool_ref.name);
    let retained = pool.and_then(|pool| pool.status.as_ref());
    let retained = retained.map_or(&[][..], |status| &status.retained_spools);
    match end {
        End::NoPool => None,
        End::Empty if !retained.is_empty() => {
            let note = format!(
                "no relay has mail of {name}; volumes kept of former members may, and will hold it unsigned: {}",
                retained.join(", ")
            );
            notice(Severity::Warning, reasons::QUEUE_LEFT, note)
        }
        End::Empty => {
            let note = format!("nothing of {name} is queued any more");
            notice(Severity::Normal, reasons::QUEUE_EMPTY, note)
        }
        End::Left(queue) => {
            let what = match queue {
                Queue::Counted(rest) if rest.unheard.is_empty() => coarse(rest.messages),
                Queue::Counted(rest) => format!(
                    "{} and what is queued at {}",
                    coarse(rest.messages),
                    rest.unheard.join(", ")
                ),
                Queue::Untold | Queue::None => "what is queued".to_owned(),
            };
            let note = format!(
                "left behind in RelayPool {pool_name}, where mail of {name} is held from now on: {what}"
            );
            notice(Severity::Warning, reasons::QUEUE_LEFT, note)
        }
    }
}

#[cfg(test)]
mod tests;
