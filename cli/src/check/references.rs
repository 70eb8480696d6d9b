//! Manifests judged together: what one says of another, and what only one may say.
//!
//! Promises: names are looked for in the same namespace, as the operator does. Secrets, ConfigMaps
//! and StorageClasses are not looked for: they are rarely kept beside the manifests.

use std::collections::BTreeMap;

use super::{
    object::{Kind, Object},
    report::{Item, Outcome},
};

/// Everything that is wrong between `objects`.
pub(crate) fn judge(objects: &[Object]) -> Vec<Item> {
    let mut items = twice(objects);
    for object in objects {
        match &object.kind {
            Kind::Domain(domain) => {
                let name = &domain.spec.pool_ref.name;
                if pool(objects, object, name).is_none() {
                    let message = "add the RelayPool to the manifests, in the namespace of the SendingDomain, or correct the name".to_owned();
                    items.push(about(
                        object,
                        Outcome::Failed,
                        "spec.poolRef.name",
                        name,
                        message,
                    ));
                }
                items.extend(same_domain(objects, object));
            }
            Kind::Pool(pool) => {
                for (index, list) in pool.spec.suppression_lists.iter().enumerate() {
                    let found = objects
                        .iter()
                        .any(|other| is_list(other, object, &list.name));
                    if !found {
                        let field = format!("spec.suppressionLists[{index}].name");
                        let message = "add the SuppressionList to the manifests, or correct the name: a pool without it mails everybody".to_owned();
                        items.push(about(object, Outcome::Failed, &field, &list.name, message));
                    }
                }
            }
            Kind::List(_) => {}
        }
    }
    items
}

/// The RelayPool `name` in the namespace of `object`.
pub(crate) fn pool<'a>(
    objects: &'a [Object],
    object: &Object,
    name: &str,
) -> Option<&'a postrider_crds::RelayPool> {
    objects.iter().find_map(|other| match &other.kind {
        Kind::Pool(pool)
            if other.namespace() == object.namespace()
                && pool.metadata.name.as_deref() == Some(name) =>
        {
            Some(pool.as_ref())
        }
        _ => None,
    })
}

fn is_list(other: &Object, object: &Object, name: &str) -> bool {
    let Kind::List(list) = &other.kind else {
        return false;
    };
    other.namespace() == object.namespace() && list.metadata.name.as_deref() == Some(name)
}

fn about(object: &Object, outcome: Outcome, field: &str, seen: &str, message: String) -> Item {
    Item {
        subject: field.to_owned(),
        seen: Some(seen.to_owned()),
        message,
        ..object.item("Reference", outcome)
    }
}

/// Objects that stand in the manifests more than once: the last applied would win.
fn twice(objects: &[Object]) -> Vec<Item> {
    let mut places: BTreeMap<String, Vec<&Object>> = BTreeMap::new();
    for object in objects {
        places.entry(object.title()).or_default().push(object);
    }
    let doubled = places.into_values().filter(|places| places.len() > 1);
    doubled
        .filter_map(|places| {
            let (last, before) = places.split_last()?;
            let first = before.first()?;
            let message = "leave only one manifest of the object: the one applied last would win";
            Some(about(
                last,
                Outcome::Failed,
                "metadata.name",
                &format!("also in {}", first.file),
                message.to_owned(),
            ))
        })
        .collect()
}

/// Another SendingDomain of the same domain and pool: only the older one would be served.
fn same_domain(objects: &[Object], object: &Object) -> Option<Item> {
    let Kind::Domain(domain) = &object.kind else {
        return None;
    };
    let rival = objects
        .iter()
        .take_while(|other| !std::ptr::eq(*other, object))
        .find(|other| {
            matches!(&other.kind, Kind::Domain(theirs)
            if other.namespace() == object.namespace()
                && other.title() != object.title()
                && theirs.spec.domain == domain.spec.domain
                && theirs.spec.pool_ref == domain.spec.pool_ref)
        })?;
    let message = format!(
        "remove one: {} has the same domain and pool, and one pool serves a domain once",
        rival.title()
    );
    Some(about(
        object,
        Outcome::Failed,
        "spec.domain",
        domain.spec.domain.as_str(),
        message,
    ))
}
