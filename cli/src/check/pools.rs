//! RelayPools beside live DNS: SPF of the names given in EHLO, and the names of egress addresses, by
//! the operator's own look.
//!
//! Promises: what is found of the addresses weighs as much as the SendingDomains among the manifests
//! that use the pool say (`spec.verification.ptr`); SPF of the EHLO names decides nothing anywhere.

use postrider_crds::{RecordPurpose, RecordState, RecordStatus, RelayPool, Requirement};
use postrider_operator::{
    dns::Resolver,
    relay_pool::dns::{Inputs, look},
};

use super::{
    object::{Kind, Object},
    references,
    report::{Item, Outcome},
};

/// One item a record of `pool`.
pub(super) async fn verify(
    resolver: &dyn Resolver,
    objects: &[Object],
    object: &Object,
    pool: &RelayPool,
) -> Vec<Item> {
    let seen = look(resolver, &Inputs::of(pool)).await;
    let ptr = requirement(objects, pool);
    let records = seen.records(pool, &[]).into_iter();
    let items = records.filter_map(|record| match record.purpose {
        RecordPurpose::PTR if ptr == Requirement::Off => None,
        RecordPurpose::PTR => Some(of_record(object, "PTR", ptr, &record)),
        _ => Some(of_record(object, "EHLO", Requirement::Warn, &record)),
    });
    items.collect()
}

/// What the domains that `pool` serves ask of its addresses: the most that one of them does.
fn requirement(objects: &[Object], pool: &RelayPool) -> Requirement {
    let served = objects.iter().filter_map(|object| match &object.kind {
        Kind::Domain(domain) => {
            let named = references::pool(objects, object, &domain.spec.pool_ref.name)?;
            std::ptr::eq(named, pool).then_some(domain.spec.verification.ptr)
        }
        Kind::Pool(_) | Kind::List(_) => None,
    });
    let served: Vec<Requirement> = served.collect();
    if served.contains(&Requirement::Required) {
        Requirement::Required
    } else if served.is_empty() || served.contains(&Requirement::Warn) {
        Requirement::Warn
    } else {
        Requirement::Off
    }
}

/// What `record` comes to where it is worth `requirement`.
pub(super) fn of_record(
    object: &Object,
    check: &'static str,
    requirement: Requirement,
    record: &RecordStatus,
) -> Item {
    let outcome = match (record.state, requirement) {
        // A remark on a record that does its duty.
        (RecordState::Verified, _) if !record.message.is_empty() => Outcome::Warning,
        (RecordState::Verified, _) => Outcome::Passed,
        (_, Requirement::Warn | Requirement::Off) => Outcome::Warning,
        (_, Requirement::Required) => Outcome::Failed,
    };
    Item {
        subject: format!("{:?} {}", record.r#type, record.name),
        wanted: Some(record.wanted.clone()),
        seen: record.seen.clone(),
        message: record.message.clone(),
        ..object.item(check, outcome)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn domain(name: &str, pool: &str, ptr: &str) -> Object {
        let object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name, "namespace": "mail"},
            "spec": {"domain": format!("{name}.example"), "poolRef": {"name": pool},
                     "verification": {"ptr": ptr}},
        });
        Object {
            file: "x.yaml".into(),
            kind: Kind::Domain(Box::new(serde_json::from_value(object).unwrap())),
        }
    }

    fn pool(name: &str) -> Object {
        let object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
            "metadata": {"name": name, "namespace": "mail"},
            "spec": {"hostname": "mail.example.net"},
        });
        Object {
            file: "x.yaml".into(),
            kind: Kind::Pool(Box::new(serde_json::from_value(object).unwrap())),
        }
    }

    #[test]
    fn the_domain_that_asks_most_decides() {
        use Requirement::{Off, Required, Warn};
        for (of_one, expected) in [
            (&[][..], Warn),
            (&["Skip"][..], Off),
            (&["Skip", "Warn"][..], Warn),
            (&["Warn", "Required", "Skip"][..], Required),
        ] {
            // What is asked of another pool is no matter.
            let mut objects = vec![pool("one"), pool("two"), domain("z", "two", "Required")];
            for (index, ptr) in of_one.iter().enumerate() {
                objects.push(domain(&format!("d{index}"), "one", ptr));
            }
            let Kind::Pool(one) = &objects[0].kind else {
                unreachable!("the first is a pool");
            };
            assert_eq!(requirement(&objects, one), expected, "{of_one:?}");
        }
    }
}
