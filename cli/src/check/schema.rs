//! A value beside the structural schema of its definition, as an API server compares them with
//! strict field validation.
//!
//! Promises: every flaw is named with its field, and a field the schema does not know is one.
//! Knows the keywords our definitions use; a test fails when they come to use another.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use k8s_openapi::jiff::fmt::temporal::Pieces;
use serde_json::{Map, Value};

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flaw {
    /// Its path, such as `spec.dkim.keys[0].algorithm`.
    pub(crate) field: String,
    /// What should be there, when that is a list.
    pub(crate) wanted: Option<String>,
    /// What is there.
    pub(crate) seen: Option<String>,
    /// What to do about it.
    pub(crate) message: String,
}

impl Flaw {
    /// A flaw of `field`.
    pub(crate) fn new(field: &str, message: String) -> Self {
        Self {
            field: field.to_owned(),
            wanted: None,
            seen: None,
            message,
        }
    }
}

/// `value` without the nulls that mean nothing to an API server: it drops those of fields that may
/// not be null, and its rules take a null of a field that may be null for an absent one. Only where
/// there is a default they differ: null is then kept from becoming it.
pub(crate) fn pruned(schema: &JSONSchemaProps, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter_map(|(name, value)| {
                let Some(schema) = child(schema, name) else {
                    return Some((name.clone(), value.clone()));
                };
                let keeps_from_default = schema.nullable == Some(true) && schema.default.is_some();
                let drop = value.is_null() && !keeps_from_default;
                (!drop).then(|| (name.clone(), pruned(schema, value)))
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => {
                Value::Array(items.iter().map(|value| pruned(item, value)).collect())
            }
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// Everything about `value`, a whole object, that does not fit `schema`.
pub(crate) fn flaws(schema: &JSONSchemaProps, value: &Value) -> Vec<Flaw> {
    let mut found = Vec::new();
    walk(schema, value, "", &mut found);
    found
}

/// The value at `path`, written as in [`Flaw::field`].
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let pointer: String = path
        .split(['.', '['])
        .filter(|part| !part.is_empty())
        .map(|part| format!("/{}", part.trim_end_matches(']')))
        .collect();
    value.pointer(&pointer)
}

fn walk(schema: &JSONSchemaProps, value: &Value, path: &str, found: &mut Vec<Flaw>) {
    let either = schema.x_kubernetes_int_or_string == Some(true);
    if value.is_null() && schema.nullable == Some(true) {
        return;
    }
    if let Some(problem) = wrong_type(schema.type_.as_deref(), either, value) {
        found.push(flaw(path, value, problem));
        return;
    }
    if let Some(allowed) = schema
        .enum_
        .as_ref()
        .filter(|allowed| !allowed.iter().any(|JSON(one)| one == value))
    {
        let names: Vec<String> = allowed.iter().map(|JSON(one)| one.to_string()).collect();
        found.push(Flaw {
            wanted: Some(names.join(", ")),
            ..flaw(path, value, "use one of the supported values".to_owned())
        });
    }
    match value {
        Value::Object(fields) => object(schema, fields, path, found),
        Value::Array(items) => array(schema, items, path, found),
        Value::String(text) => string(schema, text, path, found),
        Value::Number(_) => number(schema, value, path, found),
        Value::Null | Value::Bool(_) => {}
    }
}

fn flaw(path: &str, value: &Value, message: String) -> Flaw {
    let seen = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Flaw {
        seen: Some(seen),
        ..Flaw::new(path, message)
    }
}

fn wrong_type(wanted: Option<&str>, either: bool, value: &Value) -> Option<String> {
    if either {
        let good = value.is_string() || value.is_i64() || value.is_u64();
        return (!good).then(|| "must be an integer or a string".to_owned());
    }
    let good = match wanted? {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    let wanted = wanted.unwrap_or_default();
    let hint = match (wanted, value) {
        ("string", Value::Bool(_) | Value::Number(_)) => "; put it in quotes",
        _ => "",
    };
    (!good).then(|| format!("must be of type {wanted}{hint}"))
}

fn child<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    let own = schema.properties.as_ref().and_then(|p| p.get(name));
    own.or(match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(any)) => Some(any),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => None,
    })
}

fn object(
    schema: &JSONSchemaProps,
    fields: &Map<String, Value>,
    path: &str,
    found: &mut Vec<Flaw>,
) {
    for name in schema.required.iter().flatten() {
        if !fields.contains_key(name) {
            found.push(Flaw::new(
                &join(path, name),
                "required; write it".to_owned(),
            ));
        }
    }
    let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
    if let Some(most) = schema.max_properties.filter(|most| count > *most) {
        found.push(Flaw::new(
            path,
            format!("must have at most {most} entries, has {count}"),
        ));
    }
    let open = schema.x_kubernetes_preserve_unknown_fields == Some(true)
        || matches!(
            schema.additional_properties,
            Some(JSONSchemaPropsOrBool::Schema(_) | JSONSchemaPropsOrBool::Bool(true))
        )
        // The schema of `metadata` is the API server's own.
        || path == "metadata";
    for (name, value) in fields {
        let place = join(path, name);
        match child(schema, name) {
            Some(schema) => walk(schema, value, &place, found),
            None if open || (path.is_empty() && ROOT.contains(&name.as_str())) => {}
            None => found.push(Flaw {
                wanted: schema.properties.as_ref().map(|known| {
                    let known: Vec<_> = known.keys().map(String::as_str).collect();
                    known.join(", ")
                }),
                ..Flaw::new(&place, "unknown field; remove or correct it".to_owned())
            }),
        }
    }
}

fn array(schema: &JSONSchemaProps, items: &[Value], path: &str, found: &mut Vec<Flaw>) {
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(most) = schema.max_items.filter(|most| count > *most) {
        found.push(Flaw::new(
            path,
            format!("must have at most {most} items, has {count}"),
        ));
    }
    if let Some(least) = schema.min_items.filter(|least| count < *least) {
        found.push(Flaw::new(
            path,
            format!("must have at least {least} items, has {count}"),
        ));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        for (index, value) in items.iter().enumerate() {
            walk(item, value, &format!("{path}[{index}]"), found);
        }
    }
}

fn string(schema: &JSONSchemaProps, text: &str, path: &str, found: &mut Vec<Flaw>) {
    let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let value = Value::String(text.to_owned());
    if let Some(most) = schema.max_length.filter(|most| count > *most) {
        let message = format!("must have at most {most} characters, has {count}");
        found.push(flaw(path, &value, message));
    }
    if let Some(least) = schema.min_length.filter(|least| count < *least) {
        let message = format!("must have at least {least} characters, has {count}");
        found.push(flaw(path, &value, message));
    }
    if schema.format.as_deref() == Some("date-time") && !is_time(text) {
        let message = "must be a time such as 2027-01-31T00:00:00Z".to_owned();
        found.push(flaw(path, &value, message));
    }
}

/// A date, a time and an offset (RFC 3339). Whether such a moment can be is left to the rules.
fn is_time(text: &str) -> bool {
    let pieces = Pieces::parse(text);
    pieces.is_ok_and(|pieces| pieces.time().is_some() && pieces.offset().is_some())
}

fn number(schema: &JSONSchemaProps, value: &Value, path: &str, found: &mut Vec<Flaw>) {
    let Some(number) = value.as_f64() else { return };
    let narrow = schema.format.as_deref() == Some("int32");
    if narrow && value.as_i64().is_none_or(|n| i32::try_from(n).is_err()) {
        let message = format!("must be between {} and {}", i32::MIN, i32::MAX);
        found.push(flaw(path, value, message));
    }
    if let Some(most) = schema.maximum.filter(|most| number > *most) {
        found.push(flaw(path, value, format!("must be at most {most}")));
    }
    if let Some(least) = schema.minimum.filter(|least| number < *least) {
        found.push(flaw(path, value, format!("must be at least {least}")));
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// Fields of every object, which a definition need not list.
const ROOT: [&str; 3] = ["apiVersion", "kind", "metadata"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What [`walk`], CEL and the defaults know of, and what says nothing about validity.
    const KNOWN: [&str; 20] = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "nullable",
        "properties",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];

    fn keywords(schema: &Value, found: &mut BTreeSet<String>) {
        let Value::Object(map) = schema else { return };
        for (name, value) in map {
            found.insert(name.clone());
            match (name.as_str(), value) {
                ("properties", Value::Object(children)) => {
                    children.values().for_each(|c| keywords(c, found))
                }
                ("items" | "additionalProperties", value) => keywords(value, found),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_the_specs_is_known() {
        let mut found = BTreeSet::new();
        for crd in postrider_crds::custom_resource_definitions() {
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            keywords(&schema["openAPIV3Schema"]["properties"]["spec"], &mut found);
        }
        let unknown: Vec<_> = found
            .iter()
            .filter(|k| !KNOWN.contains(&k.as_str()))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(found.len() > 15, "{found:?}");
    }

    #[test]
    fn paths_lead_to_values() {
        let value = serde_json::json!({"spec": {"keys": [{"a": 1}, {"a": 2}]}});
        assert_eq!(at(&value, "spec.keys[1].a"), Some(&Value::from(2)));
        assert_eq!(at(&value, "spec.none"), None);
    }
}
