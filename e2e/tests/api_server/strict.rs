//! Creates and replaces objects of any kind with strict field validation, as kubectl does.

use kube::{Client, api::PostParams, core::Request};
use serde::Deserialize as _;
use serde_json::Value;

/// The documents of a YAML file, empty ones left out.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|value| !value.is_null())
        .collect()
}

/// Creates `object`; `more` is added to the query.
pub(crate) async fn create(
    client: &Client,
    object: &Value,
    more: &str,
) -> Result<Value, kube::Error> {
    let body = serde_json::to_vec(object).expect("plain data");
    let request = Request::new(collection(object)).create(&PostParams::default(), body);
    let mut request = request.expect("a request");
    let uri = format!("{}&fieldValidation=Strict{more}", request.uri());
    *request.uri_mut() = uri.parse().expect("a URI");
    client.request(request).await
}

/// Replaces the object `before` by `object`.
pub(crate) async fn replace(
    client: &Client,
    before: &Value,
    object: &Value,
) -> Result<Value, kube::Error> {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    let name = object["metadata"]["name"].as_str().expect("a name");
    let body = serde_json::to_vec(&object).expect("plain data");
    let request = Request::new(collection(&object)).replace(name, &PostParams::default(), body);
    let mut request = request.expect("a request");
    let uri = format!("{}&fieldValidation=Strict", request.uri());
    *request.uri_mut() = uri.parse().expect("a URI");
    client.request(request).await
}

fn collection(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("a version");
    let kind = object["kind"]
        .as_str()
        .expect("a kind")
        .to_ascii_lowercase();
    let root = if version.contains('/') { "apis" } else { "api" };
    let namespace = match kind.as_str() {
        "namespace" | "clusterrole" | "clusterrolebinding" | "customresourcedefinition" => {
            String::new()
        }
        _ => format!(
            "/namespaces/{}",
            object["metadata"]["namespace"]
                .as_str()
                .unwrap_or("default")
        ),
    };
    format!("/{root}/{version}{namespace}/{kind}s")
}
