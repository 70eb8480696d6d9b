//! SendingDomains: their DKIM keys, the DNS records they need, and whether the world agrees.
//!
//! Flow: a change of the object, its pool, its Secrets or the relays' reports, or a due look at
//! DNS, wakes [`reconcile`]. [`observe`] gathers the facts, [`plan`] decides, [`apply`] writes.
//!
//! Guarantees: DNS is asked when a look is due ([`crate::looks`]) or what the look depends on has
//! changed, never because something else woke the controller; and no more domains are looked at in
//! a second than [`crate::looks::Calendar`] has room for, so that thousands together are no burden
//! to anybody's name servers. At rest nothing is written.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use kube::{ResourceExt as _, runtime::controller::Action};

use self::{
    closing::Step,
    observe::{Inputs, Observation},
};
use crate::{Context, Error, controller, looks::Recalled, queues::Inbox, stores::KeptDomain};

pub mod answers;
pub mod apply;
pub mod closing;
pub mod key;
pub mod makers;
pub mod moving;
pub mod observe;
pub mod plan;
pub mod publish;
pub mod queued;
pub mod records;
pub mod rotation;

/// A wait is made shorter or longer by up to this part of it, so that many domains spread.
const JITTER: f64 = 0.1;

/// How often it is looked again at what a deletion or a pool that was left waits for, besides when
/// relays report something else: a volume may go, and time passes.
const LEAVING: Duration = Duration::from_secs(15);

/// Runs the controller until the process stops.
pub async fn run(ctx: Arc<Context>, inbox: Inbox<KeptDomain>) {
    let store = ctx.stores.domains.clone();
    controller::run(ctx, store, inbox, reconcile).await;
}

/// Makes the world match what is kept of a domain.
fn reconcile(
    kept: Arc<KeptDomain>,
    ctx: Arc<Context>,
) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        let domain = kept.whole();
        let closing = match closing::step(&domain, &ctx).await? {
            Step::Staying => None,
            Step::Waiting(waits) => Some(waits),
            // The change wakes us again.
            Step::Left => return Ok(Action::await_change()),
            // Its key Secrets go with it: they have it as their owner.
            Step::Leaving => return publish::farewell(&domain, &ctx).await,
        };
        let mut observation = observe::gather(&domain, &ctx)?;
        if closing::hold(&domain, &observation, &ctx).await?
            || moving::note(&domain, &observation, &ctx).await?
        {
            return Ok(Action::await_change());
        }
        observation.closing = closing;
        let (uid, inputs) = (observation.uid.clone(), observation.inputs());
        let started = ctx.clock.monotonic();
        let kept = match turn(&ctx, &observation, &inputs, started) {
            Turn::Kept(look, due) => Some((*look, due)),
            Turn::Look => None,
            Turn::Wait(wait) => return Ok(Action::requeue(wait)),
        };
        let look = match &kept {
            Some((look, _)) => look.clone(),
            None => look(&ctx, &observation).await,
        };
        let observation = observation.with_look(&look);
        let mut plan = plan::plan(&observation, ctx.steady_now());
        let closing = observation.closing.is_some();
        let leaving = closing || observation.waits_for_mail();
        if closing {
            publish::keep(&domain, &observation, &mut plan, &ctx).await?;
        } else if kept.is_some() {
            publish::show_again(&mut plan, &observation);
        } else {
            let outcome = publish::sync(&domain, &observation, &plan, &ctx).await?;
            publish::show(&mut plan, &observation, outcome, ctx.now());
        }
        apply::apply(&domain, &plan, &ctx).await?;
        let key = (domain.namespace().unwrap_or_default(), domain.name_any());
        ctx.metrics
            .show_conditions("SendingDomain", &key, &plan.status.conditions);
        ctx.metrics.show_keys(&key, &plan.status.dkim.active);
        let now = ctx.clock.monotonic();
        let due = kept.map_or_else(
            || {
                let due = now + jittered(plan.next_look, fastrand::f64());
                let due = ctx.calendar.book(due, now);
                ctx.looks.keep(uid, &inputs, look, due);
                due
            },
            |(_, due)| due,
        );
        let next = due.saturating_sub(now);
        let sooner = [plan.next_step, leaving.then_some(LEAVING)];
        Ok(Action::requeue(
            sooner.into_iter().flatten().fold(next, Duration::min),
        ))
    }
    .boxed()
}

/// What DNS says now; nothing is asked about a domain that another SendingDomain has.
async fn look(ctx: &Context, observation: &Observation) -> observe::Look {
    if observation.rival.is_some() {
        return observe::Look::default();
    }
    let (resolver, policies) = (ctx.resolver.as_ref(), ctx.policies.as_ref());
    observe::look(resolver, policies, observation).await
}

/// What a domain may do about DNS.
enum Turn {
    /// It has a look that is good until the next is due.
    Kept(Box<observe::Look>, Duration),
    /// It may look.
    Look,
    /// It is not its turn for so long.
    Wait(Duration),
}

fn turn(ctx: &Context, observation: &Observation, inputs: &Inputs, now: Duration) -> Turn {
    match ctx.looks.recall(&observation.uid, inputs, now) {
        Recalled::Good(look, due) => Turn::Kept(Box::new(look), due),
        Recalled::Due => Turn::Look,
        // What a person has just changed is looked at now; all others when it is their turn.
        Recalled::Unknown if observation.rival.is_some() || observation.is_edited() => Turn::Look,
        Recalled::Unknown => {
            let wait = ctx.calendar.wait(&observation.uid, now);
            wait.map_or(Turn::Look, Turn::Wait)
        }
    }
}

/// `wait`, changed by up to [`JITTER`] of it; `random` is in 0..1.
fn jittered(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_near() {
        let wait = Duration::from_secs(600);
        assert_eq!(jittered(wait, 0.0), Duration::from_secs(540));
        assert_eq!(jittered(wait, 0.5), wait);
        assert!(jittered(wait, 1.0) <= Duration::from_secs(661));
    }
}
