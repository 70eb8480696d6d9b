//! How the vocabulary looks in an OpenAPI schema, and what the derive cannot express.
//!
//! Promises: a value that an API server accepts for one of these types parses into it, and the
//! refusal of any other says what to write instead. Every string and list is bounded, which keeps
//! the estimated cost of CEL rules within the API server's budget.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt as _;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{
    DomainName, Duration, EgressRange, Mailbox, RelayPool, Selector, SendingDomain, SuppressionList,
};

/// The definitions of all kinds, as installed into a cluster.
#[must_use]
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    [
        SendingDomain::crd(),
        RelayPool::crd(),
        SuppressionList::crd(),
    ]
    .into_iter()
    .map(with_unobserved_default)
    .map(without_unknown_formats)
    .map(with_bounded_resources)
    .collect()
}

/// Drops the number formats that OpenAPI does not know and an API server warns about at each
/// installation (`uint16`, `uint64`); the bounds beside them stay.
fn without_unknown_formats(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(root) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        {
            drop_unsigned_formats(root);
        }
    }
    crd
}

fn drop_unsigned_formats(schema: &mut JSONSchemaProps) {
    if schema
        .format
        .as_deref()
        .is_some_and(|f| f.starts_with("uint"))
    {
        schema.format = None;
    }
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        drop_unsigned_formats(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => drop_unsigned_formats(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            items.iter_mut().for_each(drop_unsigned_formats);
        }
        None => {}
    }
}

/// Bounds the kinds of resource a pod may ask for: CEL rules over them cost by their number.
fn with_bounded_resources(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = crd.spec.versions.iter_mut().filter_map(|v| {
        let root = v.schema.as_mut()?.open_api_v3_schema.as_mut()?;
        ["spec", "template", "resources"]
            .iter()
            .try_fold(root, |schema, name| {
                schema.properties.as_mut()?.get_mut(*name)
            })
    });
    for resources in schemas {
        for name in ["limits", "requests"] {
            let quantities = resources.properties.as_mut().and_then(|p| p.get_mut(name));
            if let Some(quantities) = quantities {
                quantities.max_properties = Some(MAX_RESOURCES);
            }
        }
    }
    crd
}

/// Sets `status` to default to `{observedGeneration: -1}`, so that an object no controller has
/// seen is never taken for done (kstatus compares it with `metadata.generation`).
fn with_unobserved_default(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let root = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut());
        let status = root
            .and_then(|r| r.properties.as_mut())
            .and_then(|p| p.get_mut("status"));
        if let Some(status) = status {
            default_observed_generation(status);
        }
    }
    crd
}

fn default_observed_generation(status: &mut JSONSchemaProps) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON;
    // Null would otherwise stay null instead of becoming the default.
    status.nullable = None;
    status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
    if let Some(field) = status
        .properties
        .as_mut()
        .and_then(|p| p.get_mut("observedGeneration"))
    {
        field.default = Some(JSON(serde_json::json!(-1)));
    }
}

/// Kinds of resource a pod may ask for: CPU, memory, ephemeral storage, and some to spare.
const MAX_RESOURCES: i64 = 8;
const DOMAIN_RULE: &str =
    "self.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$')";
const SELECTOR_RULE: &str =
    "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$')";
const DURATION_RULE: &str =
    "self.matches('^([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$') && size(self) > 0";
/// A Dot-string in ASCII at a domain. Narrower than [`Mailbox`]: CEL cannot bound the octets of other
/// text cheaply, and a SuppressionList takes such addresses through its sources.
const ADDRESS_RULE: &str = "self.indexOf('@') <= 64 && self.matches('^[A-Za-z0-9!#$%&*+/=?^_`{|}~\\'-]+([.][A-Za-z0-9!#$%&*+/=?^_`{|}~\\'-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.])+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$')";
const EGRESS_RULE: &str = "isIP(self) || (isCIDR(self) && cidr(self) == cidr(self).masked() && (cidr(self).ip().family() == 4 ? cidr(self).prefixLength() >= 24 : cidr(self).prefixLength() >= 120))";

impl JsonSchema for DomainName {
    fn schema_name() -> Cow<'static, str> {
        "DomainName".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 3, "maxLength": 253,
            "x-kubernetes-validations": [{
                "rule": DOMAIN_RULE,
                "message": "must be a fully qualified, lower-case domain name in A-label form, such as example.com"
            }],
        })
    }
}

impl JsonSchema for Selector {
    fn schema_name() -> Cow<'static, str> {
        "Selector".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 1, "maxLength": 63,
            "x-kubernetes-validations": [{
                "rule": SELECTOR_RULE,
                "message": "must be lower-case letters, digits and inner hyphens, such as pr-7f3a"
            }],
        })
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 2, "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": DURATION_RULE,
                "message": "must be a duration of whole d, h, m, s, largest first, such as 90d or 1h30m"
            }],
        })
    }
}

impl JsonSchema for Mailbox {
    fn schema_name() -> Cow<'static, str> {
        "Mailbox".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 3, "maxLength": 254,
            "x-kubernetes-validations": [{
                "rule": ADDRESS_RULE,
                "message": "must be an address such as user@example.com: at most 64 characters before the @, no quotes, ASCII only"
            }],
        })
    }
}

impl JsonSchema for EgressRange {
    fn schema_name() -> Cow<'static, str> {
        "EgressRange".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 2, "maxLength": 43,
            "x-kubernetes-validations": [{
                "rule": EGRESS_RULE,
                "message": "must be an IP address or a CIDR of at most 256 addresses, such as 203.0.113.10 or 203.0.113.0/28"
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words that YAML 1.1, which Kubernetes reads, takes for booleans when they are not quoted.
    const BOOLEANS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];

    #[test]
    fn no_value_that_users_write_is_a_boolean_in_yaml() {
        let mut seen = 0;
        for crd in custom_resource_definitions() {
            let text = serde_json::to_value(&crd).unwrap();
            for word in enum_values(&text) {
                seen += 1;
                let folded = word.to_ascii_lowercase();
                assert!(!BOOLEANS.contains(&folded.as_str()), "{word}");
            }
        }
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn every_status_starts_unobserved() {
        for crd in custom_resource_definitions() {
            let value = serde_json::to_value(&crd).unwrap();
            let status =
                &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
            assert_eq!(status["default"]["observedGeneration"], -1);
            assert_eq!(status["nullable"], serde_json::Value::Null);
            assert!(!value.to_string().contains("\"uint"));
        }
    }

    fn enum_values(value: &serde_json::Value) -> Vec<String> {
        match value {
            serde_json::Value::Object(map) => {
                let own = map.get("enum").and_then(|e| e.as_array());
                let own = own.into_iter().flatten().filter_map(|v| v.as_str());
                let mut all: Vec<String> = own.map(str::to_owned).collect();
                all.extend(map.values().flat_map(enum_values));
                all
            }
            serde_json::Value::Array(items) => items.iter().flat_map(enum_values).collect(),
            _ => Vec::new(),
        }
    }
}
