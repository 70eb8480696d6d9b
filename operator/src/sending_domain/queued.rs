//! What a pool has of the mail of a SendingDomain that takes none there any more, because it is being
//! deleted or has left the pool, and whether that is waited for.
//!
//! Flow: the pool's keyring closes the domain: relays refuse new mail of it, go on signing and sending
//! what they have, and count that in their reports. Once none is left, the domain is done with the pool.
//!
//! Guarantees: nothing is given up while a pod may hold mail of the domain, that is before each has
//! counted none by the keyring that closes it. Nobody is waited for who is not there: no pool, one
//! that is being deleted, a pod that has neither come up nor a volume. The wait ends by itself once
//! everything that was queued has expired.
//!
//! Caveats: volumes kept of former members count nothing; what they may hold is told at the end.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use postrider_crds::{DomainName, SendingDomain, condition::reasons, relay_config::Admission};

use crate::{
    Context,
    events::{Notice, Severity},
    relay_pool::{
        build::SPOOL,
        domains,
        loaded::{PoolKey, PoolState, Remainder},
    },
    stores::{self, Term},
};

/// Set to `true`, it lets a deletion leave mail behind in the queues, where it is held.
pub const ABANDON_ANNOTATION: &str = "postrider.dev/abandon-queue";
/// Seconds for which mail may be queued beyond its age: relays look for what is too old now and then,
/// and may be told late that the domain takes no more.
const SLACK: i64 = 3_600;
/// Pods that a message names.
const NAMED: usize = 3;

/// What is known of the mail of a SendingDomain in a pool that takes no more of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queue {
    /// There is no pool that has mail of it.
    None,
    /// Relays are not told yet that they take no more.
    Untold,
    /// What relays have counted.
    Counted(Remainder),
}

/// All that is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The pool.
    pub pool: String,
    /// What is queued there.
    pub queue: Queue,
    /// Somebody does not want to wait.
    pub abandoned: bool,
    /// When everything that was queued has expired.
    pub until: Timestamp,
    /// Volumes kept of former members, by name.
    pub retained: Vec<String>,
}

/// Whether a pool is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Waiting(Wait),
    /// It need not be, or no more.
    Over(End),
}

impl Verdict {
    /// What is waited for, if anything is.
    #[must_use]
    pub const fn wait(&self) -> Option<&Wait> {
        match self {
            Self::Waiting(wait) => Some(wait),
            Self::Over(_) => None,
        }
    }
}

/// What is waited for in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The pool.
    pub pool: String,
    /// What is queued there.
    pub queue: Queue,
    /// When the wait ends whatever is queued.
    pub until: Timestamp,
}

/// How the wait for a pool has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The pool.
    pub pool: String,
    /// Why.
    pub why: Why,
}

/// Why a pool is waited for no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing was queued that could be.
    NoPool,
    /// Nothing is queued any more, but for what these volumes of former members may have.
    Empty(Vec<String>),
    /// Somebody did not want to wait, or it took too long. What was known then.
    Left(Queue),
}

/// Judges `facts` as of `now`.
#[must_use]
pub fn judge(facts: Facts, now: Timestamp) -> Verdict {
    let Facts {
        pool,
        queue,
        abandoned,
        until,
        retained,
    } = facts;
    let why = match queue {
        Queue::None => Why::NoPool,
        Queue::Counted(rest) if rest.messages == 0 && rest.unheard.is_empty() => {
            Why::Empty(retained)
        }
        queue if abandoned || until <= now => Why::Left(queue),
        queue => return Verdict::Waiting(Wait { pool, queue, until }),
    };
    Verdict::Over(End { pool, why })
}

/// What is known of the mail of `domain` in the pool `pool`, which takes no more of it since `since`.
pub(super) fn observe(
    domain: &SendingDomain,
    pool: &str,
    since: Option<Timestamp>,
    ctx: &Context,
) -> Facts {
    let namespace = domain.namespace().unwrap_or_default();
    let claim = Term::Domain(domain.spec.domain.clone());
    let claims: Vec<_> = ctx.stores.domains_with(&namespace, &claim).collect();
    // What another SendingDomain of the domain has in the queue is its own to wait for.
    let served = domains::serves(pool, domain, &claims);
    let found = stores::get(&ctx.stores.pools, &namespace, pool);
    let found = found.filter(|pool| served && pool.metadata.deletion_timestamp.is_none());
    let lifetime = found.as_ref();
    let lifetime = lifetime.map_or(0, |pool| pool.spec.delivery.expire_after.as_secs());
    let wait = SignedDuration::from_secs(i64::try_from(lifetime).unwrap_or(i64::MAX))
        .saturating_add(SignedDuration::from_secs(SLACK));
    let until = since.map_or(Timestamp::MIN, |since| {
        since.saturating_add(wait).unwrap_or(Timestamp::MAX)
    });
    let deleted = domain.metadata.deletion_timestamp.is_some();
    let abandon = domain.annotations().get(ABANDON_ANNOTATION);
    let status = found.as_ref().and_then(|pool| pool.status.as_ref());
    Facts {
        pool: pool.to_owned(),
        queue: match &found {
            Some(_) => queue(domain, pool, &namespace, ctx),
            None => Queue::None,
        },
        abandoned: deleted && abandon.is_some_and(|value| value == "true"),
        until,
        retained: status.map_or_else(Vec::new, |status| status.retained_spools.clone()),
    }
}

fn queue(domain: &SendingDomain, pool: &str, namespace: &str, ctx: &Context) -> Queue {
    let pool = PoolKey {
        namespace: namespace.to_owned(),
        name: pool.to_owned(),
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

impl Wait {
    /// A condition's reason for waiting, and what is waited for. Mail that is not sent is held because
    /// of `held`.
    pub(super) fn words(
        &self,
        domain: &DomainName,
        admission: Admission,
        held: &str,
    ) -> (&'static str, String) {
        match &self.queue {
            Queue::Counted(rest) if rest.messages > 0 => {
                let count = coarse(rest.messages);
                let mut what = match admission {
                    Admission::Send => {
                        format!("{count} of {domain} queued, which go on being signed and sent")
                    }
                    Admission::Hold | Admission::Reject => {
                        format!("{count} of {domain} held ({held})")
                    }
                };
                if !rest.unheard.is_empty() {
                    what = format!("{what}; {}", uncounted(&rest.unheard));
                }
                (reasons::QUEUE_NOT_EMPTY, what)
            }
            Queue::Counted(rest) => (reasons::QUEUE_UNKNOWN, uncounted(&rest.unheard)),
            Queue::Untold | Queue::None => {
                let what = format!("RelayPool {} has to tell its relays", self.pool);
                (reasons::QUEUE_UNKNOWN, what)
            }
        }
    }
}

impl End {
    /// What to tell of it to whoever watches `domain`, in an event of this action.
    pub(super) fn notice(&self, domain: &DomainName, action: &'static str) -> Option<Notice> {
        let pool = &self.pool;
        let (severity, reason, note) = match &self.why {
            Why::NoPool => return None,
            Why::Empty(retained) if !retained.is_empty() => {
                let note = format!(
                    "no relay of RelayPool {pool} has mail of {domain}; volumes kept of former members may, and will hold it unsigned: {}",
                    retained.join(", ")
                );
                (Severity::Warning, reasons::QUEUE_LEFT, note)
            }
            Why::Empty(_) => {
                let note = format!("nothing of {domain} is queued in RelayPool {pool} any more");
                (Severity::Normal, reasons::QUEUE_EMPTY, note)
            }
            Why::Left(queue) => {
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
                    "left behind in RelayPool {pool}, where mail of {domain} is held from now on: {what}"
                );
                (Severity::Warning, reasons::QUEUE_LEFT, note)
            }
        };
        Some(Notice {
            severity,
            reason,
            action,
            note,
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

#[cfg(test)]
pub(super) mod tests;
