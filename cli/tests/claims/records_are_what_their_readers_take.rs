//! What `records` prints for others to read is taken by those others: a zone by named-checkzone, a
//! DNSEndpoint by an API server that has external-dns's definition, Terraform by an HCL parser.

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use postrider_crds::SendingDomain;
use postrider_e2e::{
    cluster::{ApiServer, Cache, wait_for},
    peers::ZoneChecker,
};

use crate::support::{BOUND, define, postrider, text};

const ENDPOINTS: &str =
    include_str!("../../../e2e/tests/data/dnsendpoints.externaldns.k8s.io.yaml");
/// A SendingDomain with the status of the golden files.
async fn shop(client: &Client) -> SendingDomain {
    let domains: Vec<serde_json::Value> =
        serde_yaml::from_str(include_str!("../golden/domains.yaml")).unwrap();
    let mut object = domains[0].clone();
    object["metadata"]["namespace"] = "default".into();
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("generation");
    object["status"]["observedGeneration"] = 1.into();
    let domain: SendingDomain = serde_json::from_value(object.clone()).unwrap();
    let api: Api<SendingDomain> = Api::default_namespaced(client.clone());
    wait_for("the kind", BOUND, "-", async || {
        Ok(api.create(&PostParams::default(), &domain).await.ok())
    })
    .await
    .unwrap();
    let status = serde_json::json!({"status": object["status"]});
    api.patch_status("shop", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap()
}

async fn print(kubeconfig: &str, format: &str) -> String {
    let output = postrider(&[
        "records",
        "shop",
        "--kubeconfig",
        kubeconfig,
        "--format",
        format,
    ])
    .await;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text(&output)
}

#[tokio::test]
async fn every_format_is_taken_by_its_readers() {
    let server = ApiServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    for crd in postrider_crds::custom_resource_definitions() {
        define(&client, serde_json::to_value(&crd).unwrap()).await;
    }
    define(&client, serde_yaml::from_str(ENDPOINTS).unwrap()).await;
    let stored = shop(&client).await;
    let wanted = stored.status.unwrap().records.len();
    let kubeconfig = server.kubeconfig().display().to_string();

    zone_is_taken_by_bind(&print(&kubeconfig, "zone").await, wanted).await;
    let manifest = print(&kubeconfig, "external-dns").await;
    endpoint_is_taken_by_the_api_server(&client, &manifest, wanted).await;
    let body: hcl::Body = hcl::parse(&print(&kubeconfig, "terraform").await).unwrap();
    let resources = body
        .blocks()
        .filter(|block| block.identifier() == "resource");
    assert_eq!(resources.count(), wanted);
}

/// `records` stand in a zone, with what every zone has besides.
async fn zone_is_taken_by_bind(records: &str, wanted: usize) {
    let head = "$TTL 60\n@ IN SOA ns. host. 1 60 60 3600 60\n@ IN NS ns.\n";
    let checker = ZoneChecker::ready(&Cache::of_user().unwrap())
        .await
        .unwrap();
    let zone = [head, records].concat();
    let understood = checker.load("shop.example", &zone).await.unwrap();
    let lines = understood
        .lines()
        .filter(|line| line.contains("\tTXT\t") || line.contains(" TXT") || line.contains("MX"));
    assert_eq!(lines.count(), wanted, "{understood}");
}

async fn endpoint_is_taken_by_the_api_server(client: &Client, manifest: &str, wanted: usize) {
    let manifest: DynamicObject = serde_yaml::from_str(manifest).unwrap();
    let kind = GroupVersionKind::gvk("externaldns.k8s.io", "v1alpha1", "DNSEndpoint");
    let api: Api<DynamicObject> =
        Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind));
    let created = wait_for("DNSEndpoint", BOUND, "-", async || {
        Ok(api.create(&PostParams::default(), &manifest).await.ok())
    })
    .await
    .unwrap();
    assert_eq!(
        created.data["spec"], manifest.data["spec"],
        "nothing was dropped"
    );
    let endpoints = created.data["spec"]["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), wanted - 1, "DMARC is left to its owner");
}
