//! One manifest judged as an API server judges it: kind and version, name, the schema of the
//! definition, its CEL rules.
//!
//! Promises: schema and rules are those of [`postrider_crds::custom_resource_definitions`], the
//! ones that are installed. What is accepted here parses into its type. Rules about a change
//! (`oldSelf`) need the object of the cluster and are left to the API server.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube_cel::{CompiledSchema, ErrorKind, RootContext, Validator, compile_schema};
use postrider_crds::{GROUP, VERSION};
use serde_json::Value;

use super::{
    manifest::Document,
    object::{Kind, Object, title},
    report::{Item, Outcome},
    schema::{self, Flaw},
};

/// Longest name of an object (RFC 1123 subdomain, as Kubernetes uses it).
const MAX_NAME: usize = 253;
/// Longest name of a namespace (RFC 1123 label).
const MAX_NAMESPACE: usize = 63;

/// The definitions of our kinds, ready to judge by.
pub(crate) struct Definitions {
    kinds: Vec<Definition>,
    validator: Validator,
}

struct Definition {
    kind: String,
    schema: JSONSchemaProps,
    /// The same as JSON, for defaults.
    json: Value,
    rules: CompiledSchema,
}

impl Definitions {
    /// The definitions of this version.
    pub(crate) fn new() -> Self {
        let kinds = postrider_crds::custom_resource_definitions();
        let kinds = kinds.into_iter().filter_map(|crd| {
            let version = crd.spec.versions.into_iter().next()?;
            let schema = version.schema?.open_api_v3_schema?;
            let json = serde_json::to_value(&schema).ok()?;
            Some(Definition {
                kind: crd.spec.names.kind,
                rules: compile_schema(&json),
                schema,
                json,
            })
        });
        Self {
            kinds: kinds.collect(),
            validator: Validator::new(),
        }
    }

    /// Judges `document`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it; for an object of somebody else's, that it is not checked.
    pub(crate) fn judge(&self, document: Document) -> Result<Object, Vec<Item>> {
        let text = |pointer: &str| document.value.pointer(pointer).and_then(Value::as_str);
        let version = text("/apiVersion").unwrap_or_default();
        let kind = text("/kind").unwrap_or_default();
        let name = text("/metadata/name").unwrap_or_default();
        let namespace = text("/metadata/namespace");
        let named = match name {
            "" => format!("{kind} (document {})", document.number),
            name => title(kind, namespace, name),
        };
        let item = |outcome, flaw: Flaw| Item {
            file: document.file.clone(),
            object: named.clone(),
            check: "Manifest",
            outcome,
            subject: flaw.field,
            wanted: flaw.wanted,
            seen: flaw.seen,
            message: flaw.message,
        };
        let definition = match self.definition(version, kind) {
            Ok(definition) => definition,
            Err(Foreign::Known(flaw)) => return Err(vec![item(Outcome::Failed, *flaw)]),
            Err(Foreign::Other) => {
                let flaw = Flaw::new("kind", "no kind of Postrider's".to_owned());
                return Err(vec![item(Outcome::NotChecked, flaw)]);
            }
        };
        let value = definition.completed(&document.value);
        let mut flaws = metadata(&document.value);
        flaws.extend(self.flaws(definition, &value));
        if flaws.is_empty() {
            match parse(&definition.kind, value) {
                Ok(kind) => {
                    return Ok(Object {
                        file: document.file,
                        kind,
                    });
                }
                Err(error) => flaws.push(Flaw::new("", error.to_string())),
            }
        }
        Err(flaws
            .into_iter()
            .map(|flaw| item(Outcome::Failed, flaw))
            .collect())
    }

    fn definition(&self, version: &str, kind: &str) -> Result<&Definition, Foreign> {
        let Some((group, number)) = version.split_once('/') else {
            return Err(Foreign::Other);
        };
        if group != GROUP {
            return Err(Foreign::Other);
        }
        let known = |field, seen: &str, wanted: String, message: &str| {
            Foreign::Known(Box::new(Flaw {
                field,
                wanted: Some(wanted),
                seen: Some(seen.to_owned()),
                message: message.to_owned(),
            }))
        };
        if number != VERSION {
            let wanted = format!("{GROUP}/{VERSION}");
            return Err(known(
                "apiVersion".into(),
                version,
                wanted,
                "use the version that is served",
            ));
        }
        let found = self.kinds.iter().find(|definition| definition.kind == kind);
        found.ok_or_else(|| {
            let kinds: Vec<_> = self.kinds.iter().map(|d| d.kind.as_str()).collect();
            known("kind".into(), kind, kinds.join(", "), "correct the kind")
        })
    }

    /// What schema and rules say. The rules are asked only when the schema is content, as an API
    /// server does it: before, they would trip over what is already told.
    fn flaws(&self, definition: &Definition, value: &Value) -> Vec<Flaw> {
        let flaws = schema::flaws(&definition.schema, value);
        if !flaws.is_empty() {
            return flaws;
        }
        let root = RootContext {
            api_version: format!("{GROUP}/{VERSION}"),
            api_group: GROUP.to_owned(),
            kind: definition.kind.clone(),
        };
        let judged = self.validator.validate_compiled_with_context(
            &definition.rules,
            value,
            None,
            Some(&root),
        );
        let broken = judged.err().map(kube_cel::ValidationErrors::into_vec);
        let broken = broken.unwrap_or_default().into_iter();
        broken
            .map(|error| {
                let seen = schema::at(value, &error.field_path).map(short);
                let message = match error.kind {
                    ErrorKind::ValidationFailure => error.message,
                    _ => format!(
                        "the rule {:?} cannot be evaluated: {}",
                        error.rule, error.message
                    ),
                };
                Flaw {
                    field: error.field_path,
                    wanted: None,
                    seen,
                    message,
                }
            })
            .collect()
    }
}

impl Definition {
    /// `value` as an API server stores it: without nulls that mean nothing, with all defaults.
    fn completed(&self, value: &Value) -> Value {
        kube_cel::apply_defaults(&self.json, &schema::pruned(&self.schema, value))
    }
}

/// Why a document is none of our kinds.
enum Foreign {
    /// It is meant to be: something is wrong with it.
    Known(Box<Flaw>),
    /// It is somebody else's.
    Other,
}

fn parse(kind: &str, value: Value) -> Result<Kind, serde_json::Error> {
    Ok(match kind {
        "SendingDomain" => Kind::Domain(Box::new(serde_json::from_value(value)?)),
        "RelayPool" => Kind::Pool(Box::new(serde_json::from_value(value)?)),
        _ => Kind::List(Box::new(serde_json::from_value(value)?)),
    })
}

/// What is wrong with name and namespace.
fn metadata(value: &Value) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let generated = text("/metadata/generateName").is_some();
    match text("/metadata/name") {
        None if generated => {}
        None => flaws.push(Flaw::new(
            "metadata.name",
            "give the object a name".to_owned(),
        )),
        Some(name) if !is_name(name, MAX_NAME, true) => flaws.push(Flaw {
            seen: Some(name.to_owned()),
            ..Flaw::new(
                "metadata.name",
                "use lower-case letters, digits, inner hyphens and dots, at most 253".to_owned(),
            )
        }),
        Some(_) => {}
    }
    let namespace = text("/metadata/namespace");
    if let Some(namespace) = namespace.filter(|n| !is_name(n, MAX_NAMESPACE, false)) {
        flaws.push(Flaw {
            seen: Some(namespace.to_owned()),
            ..Flaw::new(
                "metadata.namespace",
                "use lower-case letters, digits and inner hyphens, at most 63".to_owned(),
            )
        });
    }
    flaws
}

/// An RFC 1123 label, or several joined by dots.
fn is_name(text: &str, longest: usize, dots: bool) -> bool {
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && label.chars().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= longest
        && match dots {
            true => text.split('.').all(label),
            false => label(text),
        }
}

/// A value in one line.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
