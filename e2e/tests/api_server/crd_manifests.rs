//! Accepted and refused manifests, as a real API server judges them; and what it makes of our
//! definitions.
//!
//! A refused manifest names, in its first line, a part of the message its author must see. All
//! documents of such a file but the last are accepted; the last replaces the one before.

use std::{fs, path::Path};

use kube::Client;
use postrider_crds::{RelayPool, SendingDomain, SuppressionList};
use postrider_e2e::cluster::{ApiServer, wait_for};
use serde_json::Value;

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
        .get("x", &kube::api::GetParams::default())
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
    let patch = kube::api::Patch::Merge(serde_json::json!({"spec": {"replicas": 5}}));
    let params = kube::api::PatchParams::default();
    pools
        .patch_scale("fresh", &params, &patch)
        .await
        .expect("scaled");
    let read = get(&client, "relaypools/fresh").await.expect("the pool");
    assert_eq!(read["spec"]["replicas"], 5);
}

#[tokio::test]
async fn kinds_have_their_short_names_category_and_columns() {
    let (_server, client) = with_definitions().await;
    // Discovery lags behind serving.
    let bound = std::time::Duration::from_secs(30);
    let found: Value = wait_for("discovery", bound, "-", async || {
        let request = kube::core::Request::new("/apis/postrider.dev")
            .get("v1alpha1", &kube::api::GetParams::default())
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
    for crd in postrider_crds::custom_resource_definitions() {
        let columns = crd.spec.versions[0].additional_printer_columns.clone();
        assert_eq!(columns.expect("columns")[0].name, "Ready");
    }
}
