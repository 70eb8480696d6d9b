//! Records get into a zone by signed updates, are replaced when they change and leave with the
//! SendingDomain; what others have there is neither changed nor removed, whatever goes wrong.

use std::{net::SocketAddr, path::Path, sync::Arc};

use kube::api::{DeleteParams, Patch, PatchParams};
use postrider_crds::{PublishedRecord, RecordPurpose, RecordState, RecordType};
use postrider_e2e::{
    cluster::{Cache, wait_for},
    peers::{
        StopOnDrop,
        bind::{Bind, BindPrograms, DynamicZone, TsigKey},
        dns::Zone,
        loopback,
    },
};
use postrider_operator::{
    dns::{Answer, HickoryResolver, Resolver as _},
    metrics::Metrics,
};
use serde_json::{Value, json};

use crate::world::{BOUND, World};

const SECRET: &str = "cG9zdHJpZGVyIHRlc3Qgc2VjcmV0IG9mIDMyIGJ5dGVz";
const WRONG: &str = "YW5vdGhlciBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcw==";

fn zone(origin: &str) -> Zone {
    Zone::new(origin)
        .txt("@", "v=spf1 -all")
        .txt("other._domainkey", "v=DKIM1; p=AAAA")
        .address("bounce", "192.0.2.99".parse().unwrap())
}

async fn serve(dir: &Path) -> Bind {
    let programs = BindPrograms::ready(&Cache::of_user().unwrap())
        .await
        .unwrap();
    let key = TsigKey {
        name: "update".into(),
        secret: SECRET.into(),
    };
    let dynamic = |zone: Zone, open: bool| DynamicZone {
        zone,
        updater: open.then(|| "update".to_owned()),
    };
    let foreign = zone("foreign.test").mx("bounce", 5, "mx.others.test");
    let zones = [
        dynamic(zone("shop.test"), true),
        dynamic(foreign, true),
        dynamic(zone("closed.test"), false),
        dynamic(zone("badkey.test"), true),
        dynamic(zone("down.test"), true),
        dynamic(Zone::new("keys.test"), true),
        // One delegates all its keys, the other has yet to.
        dynamic(
            Zone::new("customer.test").record(
                "_domainkey",
                "DNAME",
                "_domainkey.customer.test.keys.test.",
            ),
            false,
        ),
        dynamic(Zone::new("later.test"), false),
    ];
    Bind::start(dir, &programs, &[key], &zones).await.unwrap()
}

fn to(server: SocketAddr, zone: &str, secret: &str) -> Value {
    json!({"rfc2136": {"server": server.to_string(), "zone": zone, "tsigSecretRef": {"name": secret}}})
}

struct Dns(HickoryResolver);

impl Dns {
    /// The record set, sorted; empty when there is none.
    async fn has(&self, kind: RecordType, name: &str) -> Vec<String> {
        let mut found = match kind {
            RecordType::TXT => match self.0.txt(name).await {
                Answer::Found { records, .. } => records,
                _ => Vec::new(),
            },
            RecordType::MX => match self.0.mx(name).await {
                Answer::Found { records, .. } => records
                    .iter()
                    .map(|mx| format!("{} {}.", mx.preference, mx.host))
                    .collect(),
                _ => Vec::new(),
            },
            // Never published by these domains.
            RecordType::CNAME | RecordType::A | RecordType::AAAA | RecordType::PTR => Vec::new(),
        };
        found.sort();
        found
    }

    async fn registry(&self, record: &PublishedRecord) -> Vec<String> {
        let kind = format!("{:?}", record.r#type).to_lowercase();
        self.has(
            RecordType::TXT,
            &format!("_postrider-{kind}.{}", record.name),
        )
        .await
    }
}

#[tokio::test]
async fn updates_touch_only_what_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let _stop = StopOnDrop(dir.path().join("bind"));
    let bind = serve(&dir.path().join("bind")).await;
    let server = bind.address();
    let dns = Dns(HickoryResolver::new(&[server], Arc::new(Metrics::new().unwrap())).unwrap());
    let world = World::start(server, &format!("{}:9190", loopback(31))).await;
    for (name, secret) in [("dns", SECRET), ("wrong", WRONG)] {
        world
            .create(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "stringData": {"name": "update", "secret": secret},
            }))
            .await;
    }
    world.create_pool("192.0.2.10").await;
    let nobody = SocketAddr::from((loopback(32), 5301));
    for (name, server, secret) in [
        ("shop", server, "dns"),
        ("foreign", server, "dns"),
        ("closed", server, "dns"),
        ("badkey", server, "wrong"),
        ("down", nobody, "dns"),
        ("nosecret", server, "absent"),
    ] {
        let domain = format!("{name}.test");
        world
            .create_domain(name, &domain, to(server, &domain, secret))
            .await;
    }

    for name in ["customer", "later"] {
        let publish = to(server, "keys.test", "dns");
        world
            .create_delegated(name, &format!("{name}.test"), publish)
            .await;
    }

    good_records_are_published_and_replaced(&world, &dns).await;
    delegated_keys_are_where_the_aliases_lead(&world).await;
    what_is_in_the_way_is_told_and_left(&world, &dns).await;
    deletion_withdraws_exactly_ours(&world, &dns).await;
    deletion_does_not_hang(&world).await;
    bind.stop().await.unwrap();
}

async fn good_records_are_published_and_replaced(world: &World, dns: &Dns) {
    let message = world.published("shop", "True", "Published").await;
    assert!(
        message.contains("3 records") && message.contains("zone shop.test"),
        "{message}"
    );
    let domain = world.domains().get("shop").await.unwrap();
    assert!(
        domain
            .metadata
            .finalizers
            .unwrap()
            .contains(&"postrider.dev/withdraw-records".to_owned())
    );
    let published = domain.status.unwrap().published.unwrap().records;
    assert_eq!(published.len(), 3);
    for record in &published {
        assert_eq!(
            dns.has(record.r#type, &record.name).await,
            [record.value.as_str()],
            "{record:?}"
        );
        assert_eq!(dns.registry(record).await.len(), 1);
    }
    assert!(
        dns.has(RecordType::TXT, "_dmarc.shop.test")
            .await
            .is_empty(),
        "DMARC is not ours to publish"
    );

    // Another egress address: the record is replaced, not added to.
    let patch = json!({"spec": {"egress": {"addresses": ["192.0.2.11"]}}});
    let pools = world.objects("postrider.dev/v1alpha1", "RelayPool");
    pools
        .patch("default", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    wait_for("the new SPF record", BOUND, "-", async || {
        let found = dns.has(RecordType::TXT, "bounce.shop.test").await;
        Ok((found == ["v=spf1 ip4:192.0.2.11 -all"]).then_some(()))
    })
    .await
    .unwrap();
    world.published("shop", "True", "Published").await;
}

async fn delegated_keys_are_where_the_aliases_lead(world: &World) {
    for (name, alias) in [
        ("customer", RecordState::Verified),
        ("later", RecordState::Missing),
    ] {
        let message = world.published(name, "False", "OutsideZone").await;
        assert!(
            message.contains(&format!("bounce.{name}.test")),
            "{message}"
        );
        wait_for(&format!("the alias of {name}"), BOUND, "-", async || {
            let status = world.domains().get(name).await.unwrap().status.unwrap();
            let of = |kind| {
                status
                    .records
                    .iter()
                    .find(|r| r.r#type == kind && r.purpose == RecordPurpose::DKIM)
            };
            let (Some(name), Some(text)) = (of(RecordType::CNAME), of(RecordType::TXT)) else {
                return Ok(None);
            };
            assert_eq!(text.name, format!("{}.keys.test", name.name));
            assert_eq!(name.wanted, format!("{}.", text.name));
            Ok((name.state == alias && text.state == RecordState::Verified).then_some(()))
        })
        .await
        .unwrap();
    }
}

async fn what_is_in_the_way_is_told_and_left(world: &World, dns: &Dns) {
    let message = world.published("foreign", "False", "RecordConflict").await;
    assert!(
        message.contains("MX bounce.foreign.test") && message.contains("5 mx.others.test."),
        "{message}"
    );
    assert_eq!(
        dns.has(RecordType::MX, "bounce.foreign.test").await,
        ["5 mx.others.test."]
    );
    // The rest of it is published all the same.
    assert_eq!(
        dns.has(RecordType::TXT, "bounce.foreign.test").await.len(),
        1
    );

    let message = world.published("closed", "False", "PublisherRefused").await;
    assert!(
        message.contains("REFUSED") || message.contains("Refused"),
        "{message}"
    );
    assert!(message.contains("allow the key"), "{message}");
    let message = world.published("badkey", "False", "PublisherRefused").await;
    assert!(
        message.contains("TSIG key update") && message.contains("BADSIG"),
        "{message}"
    );
    let message = world
        .published("down", "False", "PublisherUnreachable")
        .await;
    assert!(message.contains("cannot be reached"), "{message}");
    let message = world
        .published("nosecret", "False", "ReferenceNotFound")
        .await;
    assert!(message.contains("Secret absent"), "{message}");
    for zone in ["closed.test", "badkey.test"] {
        assert!(
            dns.has(RecordType::TXT, &format!("bounce.{zone}"))
                .await
                .is_empty()
        );
    }
}

async fn deletion_withdraws_exactly_ours(world: &World, dns: &Dns) {
    let domain = world.domains().get("shop").await.unwrap();
    let published = domain.status.unwrap().published.unwrap().records;
    for name in ["shop", "foreign"] {
        world
            .domains()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        world.gone(name).await;
    }
    for record in &published {
        assert!(
            dns.has(record.r#type, &record.name).await.is_empty(),
            "{record:?}"
        );
        assert!(dns.registry(record).await.is_empty(), "{record:?}");
    }
    assert_eq!(
        dns.has(RecordType::MX, "bounce.foreign.test").await,
        ["5 mx.others.test."]
    );
    assert!(
        dns.has(RecordType::TXT, "bounce.foreign.test")
            .await
            .is_empty()
    );
    for zone in ["shop.test", "foreign.test"] {
        assert_eq!(dns.has(RecordType::TXT, zone).await, ["v=spf1 -all"]);
        let other = format!("other._domainkey.{zone}");
        assert_eq!(dns.has(RecordType::TXT, &other).await, ["v=DKIM1; p=AAAA"]);
    }
}

async fn deletion_does_not_hang(world: &World) {
    // Nothing was ever handed over there: nothing to wait for.
    world
        .domains()
        .delete("nosecret", &DeleteParams::default())
        .await
        .unwrap();
    world.gone("nosecret").await;
    // The server is gone: the deletion waits, says so, and goes when it is told to.
    world
        .domains()
        .delete("down", &DeleteParams::default())
        .await
        .unwrap();
    wait_for("a deletion that waits", BOUND, "-", async || {
        let domain = world.domains().get("down").await.unwrap();
        let mut conditions = domain.status.unwrap().conditions.into_iter();
        let waits =
            conditions.any(|c| c.type_ == "Published" && c.message.contains("the deletion waits"));
        Ok(waits.then_some(()))
    })
    .await
    .unwrap();
    let annotation =
        json!({"metadata": {"annotations": {"postrider.dev/abandon-records": "true"}}});
    world.patch("down", annotation).await;
    world.gone("down").await;
}
