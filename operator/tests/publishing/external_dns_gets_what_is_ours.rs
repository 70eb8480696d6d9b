//! Records are handed to external-dns by a DNSEndpoint that goes with its SendingDomain; where the
//! kind is not installed, that is what is told.

use std::{net::SocketAddr, path::Path};

use kube::{
    Api,
    api::{DeleteParams, DynamicObject},
};
use postrider_e2e::{
    cluster::{Cache, wait_for},
    peers::{
        StopOnDrop,
        dns::{Nameserver, Zone},
        loopback,
    },
};
use serde_json::json;

use crate::world::{BOUND, World, define};

const ENDPOINTS: &str =
    include_str!("../../../e2e/tests/data/dnsendpoints.externaldns.k8s.io.yaml");
const VERSION: &str = "externaldns.k8s.io/v1alpha1";

async fn serve(dir: &Path) -> Nameserver {
    let listen = SocketAddr::from((loopback(41), 5300));
    let cache = Cache::of_user().unwrap();
    Nameserver::start(dir, &cache, listen, &[Zone::new("shop.test")])
        .await
        .unwrap()
}

#[tokio::test]
async fn external_dns_gets_what_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let _stop = StopOnDrop(dir.path().join("dns"));
    let nameserver = serve(&dir.path().join("dns")).await;
    let world = World::start(nameserver.address(), &format!("{}:9190", loopback(41))).await;
    world.create_pool("192.0.2.10").await;
    world
        .create_domain("shop", "shop.test", json!({"dnsEndpoint": {}}))
        .await;
    let message = world
        .published("shop", "False", "PublisherNotInstalled")
        .await;
    assert!(message.contains("no kind DNSEndpoint"), "{message}");

    define(&world.client, serde_yaml::from_str(ENDPOINTS).unwrap()).await;
    // Handed over, and not believed: no external-dns is at work here.
    let message = world.published("shop", "Unknown", "WaitingForDNS").await;
    assert!(message.contains("DNSEndpoint postrider-shop"), "{message}");
    let endpoints = world.objects(VERSION, "DNSEndpoint");
    object_is_of_the_domain(&world, &endpoints.get("postrider-shop").await.unwrap()).await;

    world
        .patch("shop", json!({"spec": {"publish": null}}))
        .await;
    wait_for("the end of the DNSEndpoint", BOUND, "-", async || {
        Ok(endpoints
            .get_opt("postrider-shop")
            .await
            .unwrap()
            .is_none()
            .then_some(()))
    })
    .await
    .unwrap();
    // One that is not ours is left alone.
    world
        .create(json!({
            "apiVersion": VERSION, "kind": "DNSEndpoint", "metadata": {"name": "postrider-shop"},
            "spec": {"endpoints": [{"dnsName": "a.test", "recordType": "A", "targets": ["192.0.2.1"]}]},
        }))
        .await;
    world
        .patch("shop", json!({"spec": {"publish": {"dnsEndpoint": {}}}}))
        .await;
    world.published("shop", "False", "RecordConflict").await;
    let object = endpoints.get("postrider-shop").await.unwrap();
    assert_eq!(object.data["spec"]["endpoints"][0]["dnsName"], "a.test");
    a_domain_that_leaves_keeps_its_records(&world, &endpoints).await;
    nameserver.stop().await.unwrap();
}

/// As long as a pod may have mail of it: one whose volume is there and who does not answer.
async fn a_domain_that_leaves_keeps_its_records(world: &World, endpoints: &Api<DynamicObject>) {
    const NAME: &str = "postrider-later";
    world
        .create(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "spool-default-0", "labels": {"postrider.dev/pool": "default"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }))
        .await;
    world
        .create_domain("later", "later.test", json!({"dnsEndpoint": {}}))
        .await;
    world.published("later", "Unknown", "WaitingForDNS").await;
    let before = endpoints.get(NAME).await.unwrap();
    let none = DeleteParams::default();
    world.domains().delete("later", &none).await.unwrap();
    // What a deletion in the foreground does before anything else.
    endpoints.delete(NAME, &none).await.unwrap();
    let again = wait_for("the DNSEndpoint again", BOUND, "-", async || {
        let live = endpoints.get_opt(NAME).await.unwrap();
        Ok(live.filter(|live| live.metadata.uid != before.metadata.uid))
    })
    .await
    .unwrap();
    assert_eq!(again.data["spec"], before.data["spec"]);
    assert_eq!(
        again.metadata.owner_references,
        before.metadata.owner_references
    );
    world.published("later", "Unknown", "WaitingForDNS").await;
    let abandon = json!({"metadata": {"annotations": {"postrider.dev/abandon-queue": "true"}}});
    world.patch("later", abandon).await;
    world.gone("later").await;
}

/// The domain `shop` owns `object`, which has its records but DMARC.
async fn object_is_of_the_domain(world: &World, object: &DynamicObject) {
    let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
    let domain = world.domains().get("shop").await.unwrap();
    assert_eq!(
        (owner.kind.as_str(), Some(&owner.uid)),
        ("SendingDomain", domain.metadata.uid.as_ref())
    );
    let records = object.data["spec"]["endpoints"].as_array().unwrap();
    let named: Vec<_> = records
        .iter()
        .map(|record| {
            format!(
                "{} {}",
                record["recordType"].as_str().unwrap(),
                record["dnsName"].as_str().unwrap()
            )
        })
        .collect();
    assert!(
        named[0].starts_with("TXT pr-") && named[0].ends_with("._domainkey.shop.test"),
        "{named:?}"
    );
    assert_eq!(named[1..], ["TXT bounce.shop.test", "MX bounce.shop.test"]);
    assert_eq!(records[2]["targets"], json!(["10 mail.relays.test"]));
}
