//! Whether an object is as wanted: what of it is compared, and the annotation that tells what was applied.

use serde_json::{Value, json};

use crate::names::APPLIED_ANNOTATION;

/// True when every field of `wanted` is in `live` with the same value. Lists compare element by
/// element, so a live list may say more about an element but not have other elements; owner
/// references are a set, since others may add theirs.
#[must_use]
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(field, wanted)| match live.get(field) {
                Some(Value::Array(live)) if field == "ownerReferences" => {
                    let wanted = wanted.as_array().map_or(&[][..], Vec::as_slice);
                    wanted.iter().all(|w| live.iter().any(|l| covers(l, w)))
                }
                Some(live) => covers(live, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| covers(l, w))
        }
        _ => live == wanted,
    }
}

/// True for what an API server drops on storing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// `wanted` with the annotation that holds its own digest.
pub(super) fn with_digest(wanted: Value) -> Value {
    let digest = digest(&wanted);
    with_applied(wanted, &digest)
}

/// `wanted` with `digest` in the annotation of what was applied.
pub(super) fn with_applied(mut wanted: Value, digest: &str) -> Value {
    if let Some(Value::Object(metadata)) = wanted.get_mut("metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Value::Object(annotations) = annotations {
            annotations.insert(APPLIED_ANNOTATION.into(), digest.into());
        }
    }
    wanted
}

/// The annotation that [`with_digest`] has added.
pub(super) fn applied(wanted: &Value) -> &str {
    let annotations = wanted.pointer("/metadata/annotations");
    let digest = annotations.and_then(|annotations| annotations.get(APPLIED_ANNOTATION));
    digest.and_then(Value::as_str).unwrap_or_default()
}

/// Maps of `serde_json` are sorted, so equal objects give equal digests.
pub(super) fn digest(value: &Value) -> String {
    postrider_crds::digest::of(value.to_string().as_bytes())
}

#[cfg(test)]
mod tests;
