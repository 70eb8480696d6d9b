//! The reference of all fields, made from the schemas: what they say is what the API server holds
//! users to.
//!
//! Promises: every field of every kind has a row, but for those within types of Kubernetes, which have
//! a reference of their own.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps as Schema, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use serde_json::Value;

const HEAD: &str = "# API reference

<!-- Made by make crds from the definitions; edit the doc comments in crds/src. -->

Every field of the custom resources, group `postrider.dev`, version `v1alpha1`. All kinds are namespaced.
An unknown field is refused by servers that validate strictly. `[]` stands for each of a list. Durations
are whole numbers of `d`, `h`, `m`, `s`, largest first, such as `90d` or `1h30m`.
";

const TABLE: &str = "
| field | type | default | meaning |
|---|---|---|---|
";

/// Fields whose types are those of Kubernetes, and what these are called there.
const KUBERNETES: [(&str, &str); 5] = [
    ("conditions", "list of Condition"),
    ("template.affinity", "Affinity"),
    ("template.resources", "ResourceRequirements"),
    ("template.tolerations", "list of Toleration"),
    (
        "template.topologySpreadConstraints",
        "list of TopologySpreadConstraint",
    ),
];

/// The reference of `definitions`.
pub(crate) fn markdown(definitions: &[CustomResourceDefinition]) -> String {
    let mut text = HEAD.to_owned();
    for crd in definitions {
        let names = &crd.spec.names;
        let short = names.short_names.iter().flatten();
        let short: Vec<String> = short.map(|name| format!("`{name}`")).collect();
        let version = crd.spec.versions.first();
        let schema = version.and_then(|version| version.schema.as_ref());
        let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_ref()) else {
            continue;
        };
        let about = schema.description.as_deref().unwrap_or_default();
        let (kind, short) = (&names.kind, short.join(", "));
        let _ = writeln!(text, "\n## {kind}\n\n{} Short name: {short}.", line(about));
        for part in ["spec", "status"] {
            if let Some((_, part_schema)) = properties(schema).find(|(name, _)| *name == part) {
                let _ = writeln!(text, "\n### {kind} {part}\n");
                let whole = (part == "spec").then_some(schema);
                for rule in whole.into_iter().chain([part_schema]).flat_map(rules) {
                    let _ = writeln!(text, "* {}", sentence(rule));
                }
                text.push_str(TABLE);
                fields(&mut text, "", part_schema);
            }
        }
    }
    text
}

fn properties(schema: &Schema) -> impl Iterator<Item = (&str, &Schema)> {
    let all = schema.properties.iter().flatten();
    all.map(|(name, schema)| (name.as_str(), schema))
}

/// A row for each field of `parent`, whose own path is `path`, and for all that is in it.
fn fields(text: &mut String, path: &str, parent: &Schema) {
    for (name, schema) in properties(parent) {
        let path = match path {
            "" => name.to_owned(),
            _ => format!("{path}.{name}"),
        };
        let required = parent.required.iter().flatten().any(|one| one == name);
        let foreign = KUBERNETES.iter().find(|(field, _)| *field == path);
        let mut type_ = foreign.map_or_else(|| type_of(schema), |(_, of)| (*of).to_owned());
        if required {
            type_.push_str(", required");
        }
        let (default, meaning) = (default_of(schema), meaning_of(schema));
        let _ = writeln!(text, "| `{path}` | {type_} | {default} | {meaning} |");
        if foreign.is_some() {
            continue;
        }
        fields(text, &path, schema);
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
            fields(text, &format!("{path}[]"), item);
        }
    }
}

fn type_of(schema: &Schema) -> String {
    if let Some(values) = &schema.enum_ {
        let values = values.iter().filter(|value| !value.0.is_null());
        let values: Vec<String> = values.map(|value| code(&value.0)).collect();
        return values.join(", ");
    }
    let type_ = match schema.type_.as_deref() {
        Some("array") => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => format!("list of {}", type_of(item)),
            _ => "list".to_owned(),
        },
        Some("object") => match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(value)) => format!("map to {}", type_of(value)),
            _ => "object".to_owned(),
        },
        Some("string") if rules(schema).any(is_duration) => return "duration".to_owned(),
        Some(type_) => type_.to_owned(),
        None => "integer or string".to_owned(),
    };
    let bounds = bounds_of(schema);
    match bounds.is_empty() {
        true => type_,
        false => format!("{type_}, {bounds}"),
    }
}

/// How long or large it may be.
fn bounds_of(schema: &Schema) -> String {
    let span = |least: Option<String>, most: Option<String>, unit: &str| match (least, most) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("{least}{unit} at least")),
        (None, Some(most)) => Some(format!("{most}{unit} at most")),
        (None, None) => None,
    };
    let count = |bound: Option<i64>| bound.map(|bound| bound.to_string());
    let number = |bound: Option<f64>| bound.map(|bound| bound.to_string());
    let bounds = [
        span(number(schema.minimum), number(schema.maximum), ""),
        span(
            count(schema.min_length),
            count(schema.max_length),
            " characters",
        ),
        span(count(schema.min_items), count(schema.max_items), " of them"),
    ];
    bounds.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The default of a field that is a single value; those of others are told in words, or are the
/// defaults of their fields.
fn default_of(schema: &Schema) -> String {
    let default = schema.default.as_ref().map(|default| &default.0);
    match default {
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => code(value),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => String::new(),
    }
}

/// The description, without the default that has a column, and what else the server asks for.
fn meaning_of(schema: &Schema) -> String {
    let about = line(schema.description.as_deref().unwrap_or_default());
    let default = default_of(schema).replace('`', "");
    let about = about.replace(&format!(" Default: {default}."), "");
    let mut sentences = vec![about];
    let asked = rules(schema).filter(|rule| !is_duration(rule));
    sentences.extend(asked.map(sentence));
    sentences.dedup();
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.join(" ")
}

/// What the server says of values it refuses.
fn rules(schema: &Schema) -> impl Iterator<Item = &str> {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    rules.filter_map(|rule| rule.message.as_deref())
}

/// What a rule says, as a sentence. Names of fields stay as they are.
fn sentence(rule: &str) -> String {
    let (first, rest) = rule.split_at(rule.chars().next().map_or(0, char::len_utf8));
    let is_name = rule
        .split(' ')
        .next()
        .is_some_and(|word| word.contains('.'));
    match is_name {
        true => line(&format!("{rule}.")),
        false => line(&format!("{}{rest}.", first.to_uppercase())),
    }
}

fn is_duration(rule: &str) -> bool {
    rule.starts_with("must be a duration ")
}

/// A value as it is written in a manifest.
fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// Text in one line that does not end a cell, nor, outside of code, is taken for HTML.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ").replace('|', "\\|");
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(number, part)| match number % 2 {
        0 => part.replace('<', "&lt;"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}
