//! Accepted and refused manifests, as a real API server judges them; and what it makes of our
//! definitions.
//!
//! A refused manifest names, in its first line, a part of the message its author must see. All
//! documents of such a file but the last are accepted; the last replaces the one before.

use std::{fs, path::Path};

use kube::{
    Client,
    api::{GetParams, Patch, PatchParams},
};
use postrider_crds::{RelayPool, SendingDomain, SuppressionList};
use postrider_e2e::cluster::{ApiServer, wait_for};
use serde_json::{Value, json};

use crate::strict;

async fn with_definitions() -> (ApiServer, Client) {
    let server = ApiServer::start().await.expect("an API server");
    let client = server.client().await.expect("a client");
    define(&client).await;
    (server, client)
}

/// Installs our definitions and waits until they are served.
pub(crate) async fn define(client: &Client) {
    for crd in postrider_crds::custom_resource_definitions() {
        let object = serde_json::to_value(&crd).expect("plain data");
        strict::create(client, &object, "")
            .await
            .expect("a definition");
    }
    let bound = std::time::Duration::from_secs(30);
    wait_for("the kinds", bound, "-", async || {
        let mut answered = true;
        for plural in ["sendingdomains", "relaypools", "suppressionlists"] {
            answered &= get(client, plural).await.is_ok();
        }
        Ok(answered.then_some(()))
    })
    .await
    .expect("served");
}

async fn get(client: &Client, rest: &str) -> Result<Value, kube::Error> {
    let url = format!("/apis/postrider.dev/v1alpha1/namespaces/default/{rest}");
    let mut request = kube::core::Request::new("")
        .get("x", &GetParams::default())
        .expect("a request");
    *request.uri_mut() = url.parse().expect("a URI");
    client.request(request).await
}

fn cases(folder: &str) -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut cases: Vec<_> = fs::read_dir(directory)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(&path).expect("text"),
            )
        })
        .collect();
    cases.sort();
    cases
}

#[tokio::test]
async fn accepted_manifests_parse_into_their_types() {
    let (_server, client) = with_definitions().await;
    let mut all = cases("tests/data/manifests/accepted");
    all.extend(cases("../examples/quickstart"));
    let mut seen = 0;
    for (path, text) in all {
        for object in strict::documents(&text) {
            if object["apiVersion"] != "postrider.dev/v1alpha1" {
                continue;
            }
            let mut object = object;
            object["metadata"]["namespace"] = "default".into();
            let stored = strict::create(&client, &object, "&dryRun=All").await;
            let stored = stored.unwrap_or_else(|e| panic!("{path}: {e}"));
            let parsed = match object["kind"].as_str() {
                Some("SendingDomain") => serde_json::from_value::<SendingDomain>(stored).map(drop),
                Some("RelayPool") => serde_json::from_value::<RelayPool>(stored).map(drop),
                _ => serde_json::from_value::<SuppressionList>(stored).map(drop),
            };
            parsed.unwrap_or_else(|e| panic!("{path} is accepted and does not parse: {e}"));
            seen += 1;
        }
    }
    assert!(seen >= 14, "{seen}");
}

#[tokio::test]
async fn refused_manifests_say_why() {
    let (_server, client) = with_definitions().await;
    let all = cases("tests/data/manifests/refused");
    assert!(all.len() > 100, "{}", all.len());
    for (index, (path, text)) in all.into_iter().enumerate() {
        let wanted = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# refused: "));
        let wanted = wanted.unwrap_or_else(|| panic!("{path} does not say what is refused"));
        let mut documents = strict::documents(&text);
        let last = documents.pop().expect("a document");
        let result = match documents.pop() {
            None => strict::create(&client, &last, "&dryRun=All").await,
            Some(mut first) => {
                let mut last = last;
                let name = format!(
                    "{}-{index}",
                    last["metadata"]["name"].as_str().expect("a name")
                );
                first["metadata"]["name"] = name.as_str().into();
                last["metadata"]["name"] = name.as_str().into();
                let before = strict::create(&client, &first, "").await.expect(&path);
                strict::replace(&client, &before, &last).await
            }
        };
        match result {
            Ok(_) => panic!("{path} was accepted"),
            Err(error) => assert!(error.to_string().contains(wanted), "{path}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_fresh_object_is_unobserved_and_scales() {
    let (_server, client) = with_definitions().await;
    let manifest = "{apiVersion: postrider.dev/v1alpha1, kind: RelayPool, metadata: {name: fresh}, spec: {hostname: mail.shop.example}}";
    let pool = serde_yaml::from_str(manifest).expect("YAML");
    strict::create(&client, &pool, "").await.expect("a pool");
    let read = get(&client, "relaypools/fresh").await.expect("the pool");
    assert_eq!(read["status"]["observedGeneration"], -1);
    let scale = get(&client, "relaypools/fresh/scale")
        .await
        .expect("its scale");
    assert_eq!(scale["spec"]["replicas"], 1);
    let pools: kube::Api<RelayPool> = kube::Api::namespaced(client.clone(), "default");
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let params = PatchParams::default();
    pools
        .patch_scale("fresh", &params, &patch)
        .await
        .expect("scaled");
    let read = get(&client, "relaypools/fresh").await.expect("the pool");
    assert_eq!(read["spec"]["replicas"], 5);
}

#[tokio::test]
async fn kinds_have_their_short_names_and_category() {
    let (_server, client) = with_definitions().await;
    // Discovery lags behind serving.
    let bound = std::time::Duration::from_secs(30);
    let found: Value = wait_for("discovery", bound, "-", async || {
        let request = kube::core::Request::new("/apis/postrider.dev")
            .get("v1alpha1", &GetParams::default())
            .expect("a request");
        let found: Value = client.request(request).await?;
        let names = found["resources"].as_array().into_iter().flatten();
        let kinds = names.filter(|r| r["shortNames"].is_array()).count();
        Ok((kinds == 3).then_some(found))
    })
    .await
    .expect("the kinds");
    for (plural, short) in [
        ("sendingdomains", "sd"),
        ("relaypools", "rp"),
        ("suppressionlists", "supp"),
    ] {
        let resources = found["resources"].as_array().expect("kinds");
        let kind = resources
            .iter()
            .find(|r| r["name"] == plural)
            .expect(plural);
        assert_eq!(kind["shortNames"][0], short);
        assert_eq!(kind["categories"][0], "mail");
    }
}

#[tokio::test]
async fn columns_show_what_their_names_say() {
    let (_server, client) = with_definitions().await;
    let ready = json!([{"type": "Ready", "status": "False", "reason": "R", "message": "why not",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let key = |selector: &str| {
        json!({"selector": selector, "algorithm": "Ed25519", "secret": "s", "state": "Active",
            "since": "2026-01-01T00:00:00Z"})
    };
    // No number twice, so that each shows where it comes from.
    for (kind, spec, status, columns) in [
        (
            "SendingDomain",
            json!({"domain": "shop.example", "poolRef": {"name": "default"}}),
            json!({"records": [], "dkim":
                {"active": [key("pr-1")], "pending": [key("pr-2")], "retiring": []}}),
            [
                ("Name", json!("x")),
                ("Ready", json!("False")),
                ("Domain", json!("shop.example")),
                ("Selectors", json!("pr-1")),
                ("Message", json!("why not")),
            ]
            .as_slice(),
        ),
        (
            "RelayPool",
            json!({"hostname": "mail.shop.example", "replicas": 5}),
            json!({"replicas": 4, "readyReplicas": 3, "members": [], "queue":
                {"queued": 9, "due": 2, "deferred": 6, "suspended": 0, "held": 1, "oldestDue": "7m"}}),
            [
                ("Name", json!("x")),
                ("Ready", json!("False")),
                ("Desired", json!(5)),
                ("Ready pods", json!(3)),
                ("Queued", json!(9)),
                ("Oldest", json!("7m")),
            ]
            .as_slice(),
        ),
        (
            "SuppressionList",
            json!({}),
            json!({"entries": 8, "pools": []}),
            [
                ("Name", json!("x")),
                ("Ready", json!("False")),
                ("Entries", json!(8)),
                ("Message", json!("why not")),
            ]
            .as_slice(),
        ),
    ] {
        let mut status = status;
        status["conditions"] = ready.clone();
        let mut found = shown(&client, kind, spec, status).await;
        let (age, _) = found.pop().expect("columns");
        assert_eq!(age, "Age");
        let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
        assert_eq!(found, columns, "{kind}");
    }
}

/// Columns and cells of the table that the API server makes of one object, as kubectl asks for it.
async fn shown(client: &Client, kind: &str, spec: Value, status: Value) -> Vec<(String, Value)> {
    let object = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "x"}, "spec": spec});
    strict::create(client, &object, "").await.expect(kind);
    let plural = format!("{}s", kind.to_lowercase());
    let all = format!("/apis/postrider.dev/v1alpha1/namespaces/default/{plural}");
    let patch = Patch::Merge(json!({"status": status}));
    let request = kube::core::Request::new(all.as_str());
    let request = request.patch_subresource("status", "x", &PatchParams::default(), &patch);
    let patched: Result<Value, _> = client.request(request.expect("a request")).await;
    patched.expect(kind);
    let request = kube::core::Request::new(all);
    let mut request = request.get("x", &GetParams::default()).expect("a request");
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io".parse();
    let headers = request.headers_mut();
    headers.insert("accept", accept.expect("a header"));
    let table: Value = client.request(request).await.expect("a table");
    let columns = table["columnDefinitions"].as_array().expect("columns");
    let cells = table["rows"][0]["cells"].as_array().expect("cells");
    assert_eq!(columns.len(), cells.len());
    let name = |column: &Value| column["name"].as_str().expect("a name").to_owned();
    columns
        .iter()
        .map(name)
        .zip(cells.iter().cloned())
        .collect()
}
