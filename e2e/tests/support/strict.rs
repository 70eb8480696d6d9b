//! Creates and replaces objects of any kind with strict field validation, as kubectl does.

use kube::{
    Client,
    api::{PatchParams, PostParams},
    core::Request,
};
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
pub(crate) async fn create(client: &Client, object: &Value, more: &str) -> Result<Value, kube::Error> {
    let request = Request::new(collection(object));
    let body = serde_json::to_vec(object).expect("plain data");
    let created = request.create(&PostParams::default(), body).expect("a request");
    send(client, created, more).await
}

/// Replaces the object of the same name by a merge of `object` into it, nulls included.
#[expect(dead_code, reason = "only one of the tests that share this file changes objects")]
pub(crate) async fn change(client: &Client, object: &Value, more: &str) -> Result<Value, kube::Error> {
    let request = Request::new(collection(object));
    let name = object["metadata"]["name"].as_str().expect("a name");
    let patch = kube::api::Patch::Merge(object);
    let changed = request.patch(name, &PatchParams::default(), &patch).expect("a request");
    send(client, changed, more).await
}

async fn send(client: &Client, mut request: http::Request<Vec<u8>>, more: &str) -> Result<Value, kube::Error> {
    let uri = request.uri().to_string();
    let joint = if uri.contains('?') { "" } else { "?" };
    *request.uri_mut() = format!("{uri}{joint}&fieldValidation=Strict{more}").parse().expect("a URI");
    client.request(request).await
}

fn collection(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("a version");
    let kind = object["kind"].as_str().expect("a kind").to_ascii_lowercase();
    let root = if version.contains('/') { "apis" } else { "api" };
    let namespace = match kind.as_str() {
        "namespace" | "clusterrole" | "clusterrolebinding" | "customresourcedefinition" => String::new(),
        _ => format!("/namespaces/{}", object["metadata"]["namespace"].as_str().unwrap_or("default")),
    };
    format!("/{root}/{version}{namespace}/{kind}s")
}
