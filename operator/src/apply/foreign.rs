//! Objects that are in the place of one that is wanted and have not its owner.
//!
//! Promises: they are told of, by kind, name and owner, and never written to. The same object gives the
//! same words.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use postrider_crds::condition::reasons;

use super::{Kind, describe};
use crate::{conditions::Progress, error::Asked, refusal::Refusal};

/// An object that somebody else has under a name that is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.refusal().message)]
pub struct Foreign {
    asked: Asked,
    /// Kind and name of the one who needs it.
    needed_by: (String, String),
    /// Kind and name of the one it belongs to.
    owner: Option<(String, String)>,
}

impl Foreign {
    /// What `live` is, when it has none of `owners`; `verb` is what is not done to it. Where nobody
    /// is to own it, it is nobody else's either.
    #[must_use]
    pub fn of<K: Kind>(verb: &'static str, live: &K, owners: &[OwnerReference]) -> Option<Self> {
        let named = |owner: &OwnerReference| (owner.kind.clone(), owner.name.clone());
        let live_owners = live.owner_references();
        let wanted = owners.first()?;
        if live_owners.iter().any(|owner| owner.uid == wanted.uid) {
            return None;
        }
        let controller = live_owners.iter().find(|o| o.controller == Some(true));
        Some(Self {
            asked: describe::<K>(verb, Some(&live.name_any())),
            needed_by: named(wanted),
            owner: controller.or_else(|| live_owners.first()).map(named),
        })
    }

    /// What the one who needs it says of it.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let Self {
            asked,
            needed_by,
            owner,
        } = self;
        let (kind, name) = needed_by;
        // Of one that was deleted and made anew: what it owned is on its way out.
        let former = owner.as_ref() == Some(needed_by);
        let whose = match owner {
            Some(_) if former => format!("belongs to a former {kind} {name} and goes with it"),
            Some((owner, of)) => format!("belongs to {owner} {of} and is left as it is"),
            None => "has no owner and is left as it is".to_owned(),
        };
        let remedy = match former {
            true => "if it stays, delete it".to_owned(),
            false => format!("delete it, or give it or {kind} {name} another name"),
        };
        Refusal {
            reason: reasons::OBJECT_CONFLICT,
            message: format!("cannot {asked}: the one that is there {whose}; {remedy}"),
            progress: match former {
                true => Progress::Reconciling,
                false => Progress::Stalled,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::*;
    use crate::Error;

    fn owner(kind: &str, name: &str, uid: &str, controller: bool) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": controller})
    }

    fn of(live: &[Value]) -> Option<Refusal> {
        let service = json!({"metadata": {"name": "shop", "ownerReferences": live}});
        let service: Service = serde_json::from_value(service).unwrap();
        let pool = serde_json::from_value(owner("RelayPool", "shop", "u", true)).unwrap();
        Foreign::of("apply", &service, &[pool]).map(|foreign| {
            let refusal = foreign.refusal();
            let error = Error::from(foreign);
            assert_eq!(error.to_string(), refusal.message);
            assert_eq!(error.refusal().as_ref(), Some(&refusal));
            refusal
        })
    }

    #[test]
    fn what_has_the_owner_is_its_own_whoever_else_has_it() {
        assert_eq!(of(&[owner("RelayPool", "shop", "u", true)]), None);
        let others = [
            owner("A", "a", "x", false),
            owner("RelayPool", "shop", "u", true),
        ];
        assert_eq!(of(&others), None);
    }

    #[test]
    fn table_of_owners_and_words() {
        for (live, whose, progress) in [
            (
                vec![],
                "has no owner and is left as it is",
                Progress::Stalled,
            ),
            (
                vec![
                    owner("A", "a", "x", false),
                    owner("Gateway", "edge", "y", true),
                ],
                "belongs to Gateway edge and is left as it is",
                Progress::Stalled,
            ),
            (
                vec![owner("A", "a", "x", false)],
                "belongs to A a and is left as it is",
                Progress::Stalled,
            ),
            (
                vec![owner("RelayPool", "shop", "before", true)],
                "belongs to a former RelayPool shop and goes with it",
                Progress::Reconciling,
            ),
        ] {
            let refusal = of(&live).expect(whose);
            let message = &refusal.message;
            let head = "cannot apply Service shop: the one that is there ";
            assert!(
                message.starts_with(&format!("{head}{whose}; ")),
                "{message}"
            );
            assert!(message.contains("delete it"), "{message}");
            assert_eq!(
                (refusal.reason, refusal.progress),
                ("ObjectConflict", progress)
            );
        }
    }

    #[test]
    fn where_nobody_is_to_own_it_nobody_asks() {
        assert_eq!(Foreign::of("apply", &Service::default(), &[]), None);
    }
}
