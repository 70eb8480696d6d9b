//! Writes what a plan asks for: key Secrets, steps of keys, the status, events. In that order, so that
//! a status never tells of what was not written.
//!
//! Guarantees: a crash between any two writes is made good by the next plan. A key's Secret has a
//! name that depends on the object and the keys there are alone, and is created, never applied: a
//! second attempt collides and changes nothing. A step is written only onto the version of the
//! Secret it was planned on; where somebody was faster, all is planned anew. Nobody waits for a key to
//! be made ([`super::makers`]): until it is, everything else is written. Where a new key is
//! refused, the status tells that beside all the rest; where a step is, it stays what it was but for that.

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Resource as _, ResourceExt as _};
use postrider_crds::{Selector, SendingDomain, SendingDomainStatus, condition::reasons};

use super::{
    makers::Urgency,
    observe::{self, Read},
    plan::{GENERATE_KEY, NewKey, Plan},
};
use crate::{
    Context, Error,
    error::Retry,
    events::Notice,
    keys::{DkimKey, Life},
    names::DOMAIN_MANAGER,
    refusal::Refusal,
};

/// Writes `plan` for `domain`.
///
/// # Errors
///
/// When the API server refuses or does not answer, or a key cannot be made.
pub async fn apply(domain: &SendingDomain, plan: &Plan, ctx: &Context) -> Result<(), Error> {
    let keys = write_keys(domain, plan, ctx).await?;
    let namespace = domain.namespace().unwrap_or_default();
    let as_read = |secret: &str, read: &Read| {
        let mut object = Secret::default();
        object.metadata.name = Some(secret.to_owned());
        object.metadata.namespace = Some(namespace.clone());
        object.metadata.uid = Some(read.uid.clone());
        object.metadata.resource_version = Some(read.version.clone());
        object
    };
    for transition in &plan.transitions {
        let object = as_read(&transition.secret, &transition.read);
        let annotations = transition.to.annotations();
        ctx.writer.annotate_as_read(&object, &annotations).await?;
    }
    for deletion in &plan.delete {
        let object = as_read(&deletion.secret, &deletion.read);
        ctx.writer.delete_as_read(&object).await?;
    }
    for secret in &plan.vanished {
        let uid = domain.uid().unwrap_or_default();
        let live: Option<Secret> = ctx.writer.get(&namespace, secret).await?;
        if live.is_some_and(|live| observe::owns(domain, &uid, &live)) {
            let object = format!("Secret {secret}");
            return Err(Error::Stale { object });
        }
    }
    let (status, notices) = match &keys {
        Keys::Refused(refusal, _) => refusal_shown(domain, plan, refusal, ctx),
        Keys::Awaited | Keys::Written => (plan.status.clone(), plan.notices.clone()),
    };
    let current = domain.status.as_ref();
    ctx.writer
        .status(DOMAIN_MANAGER, domain, current, &status)
        .await?;
    let reference = reference(domain);
    for notice in &notices {
        if !matches!(keys, Keys::Awaited) || notice.reason != reasons::KEYS_GENERATED {
            ctx.events.publish(notice, &reference).await;
        }
    }
    match keys {
        Keys::Refused(_, error) => Err(error),
        Keys::Awaited | Keys::Written => Ok(()),
    }
}

/// Status and events of `plan`, of which a key is refused.
fn refusal_shown(
    domain: &SendingDomain,
    plan: &Plan,
    refusal: &Refusal,
    ctx: &Context,
) -> (SendingDomainStatus, Vec<Notice>) {
    let mut status = plan.status.clone();
    let before = domain.status.as_ref();
    let before = before.map_or(&[][..], |status| &status.conditions);
    let generation = domain.metadata.generation.unwrap_or_default();
    refusal.show(&mut status.conditions, before, generation, ctx.steady_now());
    let others = plan.notices.iter().filter(|n| n.action != GENERATE_KEY);
    let untold = Some(refusal).filter(|refusal| !refusal.is_told(before));
    let notices = others.cloned().chain(untold.map(Refusal::notice));
    (status, notices.collect())
}

/// How far the keys are that a plan wants.
enum Keys {
    /// They are being made; the domain is woken afterwards.
    Awaited,
    /// Their Secrets exist.
    Written,
    /// The API server refuses one, which keeps nobody from the rest of the plan: it does not depend
    /// on it.
    Refused(Refusal, Error),
}

/// Creates the Secrets of the keys that `plan` wants, once all are made.
async fn write_keys(domain: &SendingDomain, plan: &Plan, ctx: &Context) -> Result<Keys, Error> {
    let urgency = match plan.status.dkim.active.is_empty() {
        true => Urgency::First,
        false => Urgency::Replacement,
    };
    let Some(made) = ctx.key_makers.fetch(domain, &plan.generate, urgency) else {
        return Ok(Keys::Awaited);
    };
    for (nth, (new, private_key)) in plan.generate.iter().zip(&made).enumerate() {
        let private_key = private_key.clone().map_err(|error| Error::Key {
            name: new.secret.clone(),
            problem: error.to_string(),
        })?;
        let Err(error) = write_key(domain, new, private_key, ctx).await else {
            continue;
        };
        let (left, unstored) = (plan.generate.get(nth..), made.get(nth..));
        ctx.key_makers.give_back(
            domain,
            left.unwrap_or_default(),
            unstored.unwrap_or_default().to_vec(),
        );
        return match error.refusal() {
            Some(refusal) => Ok(Keys::Refused(refusal, error)),
            None => Err(error),
        };
    }
    Ok(Keys::Written)
}

/// Creates the Secret of a key, owned by `domain`. Another attempt came first: fine.
async fn write_key(
    domain: &SendingDomain,
    new: &NewKey,
    private_key: String,
    ctx: &Context,
) -> Result<(), Error> {
    let failed = |problem: String| Error::Key {
        name: new.secret.clone(),
        problem,
    };
    let selector = selector(&domain.spec.dkim.selector_prefix, fastrand::u64(..))
        .map_err(|error| failed(error.to_string()))?;
    let life = Life::new(ctx.steady_now(), domain.spec.dkim.rotation.trigger.clone());
    let made = Made {
        selector,
        life,
        private_key,
    };
    let secret = secret(domain, new, made);
    match ctx.writer.create(&secret).await {
        Err(error) if error.retry() == Retry::Soon => {
            tracing::info!(secret = new.secret, "the key's Secret exists already");
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

/// `<prefix>-<short id>`. 40 random bits: of a thousand keys that a domain may have in its life, two
/// share a selector once in two million lives.
fn selector(
    prefix: &Selector,
    random: u64,
) -> Result<Selector, postrider_crds::domain::SelectorError> {
    let id = random & 0xff_ffff_ffff;
    format!("{prefix}-{id:010x}").parse()
}

/// What a new key is made of.
struct Made {
    selector: Selector,
    life: Life,
    private_key: String,
}

fn secret(domain: &SendingDomain, new: &NewKey, made: Made) -> Secret {
    let key = DkimKey {
        secret: new.secret.clone(),
        sending_domain: domain.name_any(),
        selector: made.selector,
        algorithm: new.algorithm,
        life: made.life,
        private_key: made.private_key.into(),
    };
    let mut secret = key.to_secret();
    secret.metadata.namespace = domain.namespace();
    secret.metadata.owner_references = domain.controller_owner_ref(&()).map(|owner| vec![owner]);
    secret
}

fn reference(domain: &SendingDomain) -> ObjectReference {
    domain.object_ref(&())
}

#[cfg(test)]
mod tests {
    use postrider_crds::relay_config::KeyAlgorithm;

    use super::*;
    use crate::sending_domain::key;

    #[test]
    fn the_secret_is_a_generated_key_owned_by_the_domain() {
        let mut domain = SendingDomain::new(
            "example",
            serde_json::from_value(serde_json::json!({
                "domain": "example.com", "poolRef": {"name": "default"},
            }))
            .unwrap(),
        );
        domain.metadata.uid = Some("u".into());
        domain.metadata.namespace = Some("mail".into());
        let new = NewKey {
            secret: "example-1-ed25519".into(),
            algorithm: KeyAlgorithm::Ed25519,
        };
        let private = key::generate(new.algorithm).unwrap();
        let selector = selector(&domain.spec.dkim.selector_prefix, u64::MAX).unwrap();
        assert_eq!(selector.as_str(), "pr-ffffffffff");
        let life = Life::new(jiff::Timestamp::UNIX_EPOCH, None);
        let made = Made {
            selector,
            life,
            private_key: private,
        };
        let secret = secret(&domain, &new, made);
        assert_eq!(secret.metadata.namespace.as_deref(), Some("mail"));
        assert_eq!(secret.owner_references()[0].uid, "u");
        let key = DkimKey::try_from(&secret).unwrap();
        assert_eq!(
            (key.life.state, key.sending_domain.as_str()),
            (crate::keys::KeyState::Generated, "example")
        );
    }
}
