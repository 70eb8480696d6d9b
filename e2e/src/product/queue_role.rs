//! The Role that `postrider queue` takes, as docs/queue.md shows it.

use serde_json::Value;

/// Where it is shown.
const DOCUMENT: &str = include_str!("../../../docs/queue.md");

/// The Role of the document, for the pool `pool` of `namespace` in place of its own.
#[must_use]
pub fn queue_role(namespace: &str, pool: &str) -> Value {
    let shown = DOCUMENT.split("```yaml\n").nth(1);
    let shown = shown.and_then(|rest| rest.split("```").next());
    let role = shown.unwrap_or_default();
    let role = role.replace("namespace: mail", &format!("namespace: {namespace}"));
    let role = role.replace("[default-ca]", &format!("[{pool}-ca]"));
    serde_yaml::from_str(&role).expect("the document's first YAML is the Role")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_that_of_the_document_for_another_pool() {
        let role = queue_role("orders", "pool");
        assert_eq!(role["kind"], "Role");
        assert_eq!(role["metadata"]["namespace"], "orders");
        let rules = role["rules"].as_array().expect("rules");
        let named = rules.iter().filter(|rule| !rule["resourceNames"].is_null());
        let named: Vec<_> = named.map(|rule| &rule["resourceNames"][0]).collect();
        assert_eq!(named, ["pool-ca"]);
        let verbs = |resource: &str| {
            let rule = rules.iter().find(|rule| rule["resources"][0] == resource);
            rule.expect(resource)["verbs"].to_string()
        };
        assert_eq!(verbs("pods/portforward"), r#"["get","create"]"#);
    }
}
