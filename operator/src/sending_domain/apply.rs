//! Writes what a plan asks for: key Secrets, key states, the status, events. In that order, so that
//! a status never tells of what was not written.
//!
//! Guarantees: a crash between any two writes is made good by the next plan. A key's Secret has a
//! name that depends on the object and the algorithm alone, and is created, never applied: a second
//! attempt collides and changes nothing.

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Resource as _, ResourceExt as _};
use postrider_crds::{Selector, SendingDomain};

use super::{
    key,
    plan::{NewKey, Plan},
};
use crate::{
    Context, Error,
    error::Retry,
    keys::{DkimKey, KeyState, STATE_ANNOTATION},
    names::DOMAIN_MANAGER,
    stores,
};

/// Writes `plan` for `domain`.
///
/// # Errors
///
/// When the API server refuses or does not answer, or a key cannot be made.
pub async fn apply(domain: &SendingDomain, plan: &Plan, ctx: &Context) -> Result<(), Error> {
    for new in &plan.generate {
        generate(domain, new, ctx).await?;
    }
    let namespace = domain.namespace().unwrap_or_default();
    for transition in &plan.transitions {
        // Deleted in between: its watch event brings us back.
        if let Some(secret) = stores::get(&ctx.stores.secrets, &namespace, &transition.secret) {
            let state = transition.to.to_string();
            ctx.writer
                .annotate(secret.as_ref(), STATE_ANNOTATION, &state)
                .await?;
        }
    }
    let current = domain.status.as_ref();
    ctx.writer
        .status(DOMAIN_MANAGER, domain, current, &plan.status)
        .await?;
    let reference = reference(domain);
    for notice in &plan.notices {
        ctx.events.publish(notice, &reference).await;
    }
    Ok(())
}

/// Makes a key and creates its Secret, owned by `domain`. Another attempt came first: fine.
async fn generate(domain: &SendingDomain, new: &NewKey, ctx: &Context) -> Result<(), Error> {
    let failed = |problem: String| Error::Key {
        name: new.secret.clone(),
        problem,
    };
    let algorithm = new.algorithm;
    let private_key = tokio::task::spawn_blocking(move || key::generate(algorithm))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    let selector = selector(&domain.spec.dkim.selector_prefix, fastrand::u32(..))
        .map_err(|error| failed(error.to_string()))?;
    let secret = secret(domain, new, selector, private_key);
    match ctx.writer.create(&secret).await {
        Err(error) if error.retry() == Retry::Soon => {
            tracing::info!(secret = new.secret, "the key's Secret exists already");
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

/// `<prefix>-<short id>`. 32 random bits: a selector is not met twice in the life of a domain.
fn selector(
    prefix: &Selector,
    random: u32,
) -> Result<Selector, postrider_crds::domain::SelectorError> {
    format!("{prefix}-{random:08x}").parse()
}

fn secret(domain: &SendingDomain, new: &NewKey, selector: Selector, private_key: String) -> Secret {
    let key = DkimKey {
        secret: new.secret.clone(),
        sending_domain: domain.name_any(),
        selector,
        algorithm: new.algorithm,
        state: KeyState::Pending,
        private_key,
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

    #[test]
    fn the_secret_is_a_pending_key_owned_by_the_domain() {
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
        let selector = selector(&domain.spec.dkim.selector_prefix, 0xab).unwrap();
        assert_eq!(selector.as_str(), "pr-000000ab");
        let secret = secret(&domain, &new, selector, private);
        assert_eq!(secret.metadata.namespace.as_deref(), Some("mail"));
        assert_eq!(secret.owner_references()[0].uid, "u");
        let key = DkimKey::try_from(&secret).unwrap();
        assert_eq!(
            (key.state, key.sending_domain.as_str()),
            (KeyState::Pending, "example")
        );
    }
}
