//! An object that has the name of one that a pool needs, and is not the pool's, is not written to;
//! the pool says whose it is, and makes its own once that one is gone.

use kube::api::{DeleteParams, DynamicObject};
use postrider_crds::RelayPool;
use postrider_e2e::cluster::wait_for;
use serde_json::{Value, json};

use crate::{
    pod::objects,
    refusal_world::{BOUND, World},
    strict,
};

/// Last octet of the operator's address.
const HOST: u8 = 98;

#[tokio::test]
async fn and_told_until_they_are_gone() {
    let world = World::start(HOST).await;
    world.give_all_rights().await;
    let cases = [
        ("web", "Service", "web", "apply", "belongs to Gateway edge"),
        (
            "app",
            "ServiceAccount",
            "app-relay",
            "apply",
            "has no owner",
        ),
        (
            "shop",
            "Secret",
            "shop-tls",
            "write",
            "belongs to Gateway edge",
        ),
        (
            "news",
            "Secret",
            "news-credentials",
            "apply",
            "has no owner",
        ),
    ];
    let mut before = Vec::new();
    for (_, kind, name, _, whose) in cases {
        before.push(somebody_makes(&world, kind, name, whose).await);
    }
    for (pool, ..) in cases {
        world.pool(pool, json!({})).await;
    }
    for ((pool, kind, name, verb, whose), before) in cases.into_iter().zip(before) {
        let parts = [
            format!("cannot {verb} {kind} {name}: the one that is there {whose}"),
            format!("delete it, or give it or RelayPool {pool} another name"),
        ];
        let parts = parts.each_ref().map(String::as_str);
        let wanted = ("ObjectConflict", "Stalled");
        world.refused("RelayPool", pool, wanted, &parts).await;
        let api = objects(&world.client, "", kind);
        assert_eq!(
            version(&api.get(name).await.expect(name)),
            before,
            "{kind} {name}"
        );

        api.delete(name, &DeleteParams::default())
            .await
            .expect(name);
        let cured = world.not_ready("RelayPool", pool, "MembersStarting").await;
        assert!(cured.of("Stalled").is_none());
        let own = api.get(name).await.expect("the pool's own");
        assert_eq!(owner(&own), uid(&world, pool).await, "{kind} {name}");
    }
    the_account_of_the_namespace_is_nobody_elses(&world).await;
}

async fn the_account_of_the_namespace_is_nobody_elses(world: &World) {
    let before = somebody_makes(world, "ServiceAccount", "default", "").await;
    world.pool("default", json!({})).await;
    let pool = world
        .not_ready("RelayPool", "default", "MembersStarting")
        .await;
    assert!(pool.of("Stalled").is_none());
    let set = wait_for("the StatefulSet", BOUND, "-", async || {
        let sets = objects(&world.client, "apps", "StatefulSet");
        Ok(sets.get_opt("default").await?)
    });
    let set = set.await.expect("made");
    let named = &set.data["spec"]["template"]["spec"]["serviceAccountName"];
    assert_eq!(named, "default-relay");
    let accounts = objects(&world.client, "", "ServiceAccount");
    let own = accounts.get("default-relay").await.expect("the pool's own");
    assert_eq!(owner(&own), uid(world, "default").await);
    let after = accounts.get("default").await.expect("the namespace's");
    assert_eq!(version(&after), before);
}

/// Makes an object, with an owner if `whose` names one; its version.
async fn somebody_makes(world: &World, kind: &str, name: &str, whose: &str) -> Option<String> {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    match kind {
        "Service" => object["spec"] = json!({"ports": [{"port": 25}]}),
        "Secret" => object["stringData"] = json!({"tls.key": "dear"}),
        _ => {}
    }
    if let Some((kind, name)) = whose
        .strip_prefix("belongs to ")
        .and_then(|w| w.split_once(' '))
    {
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1",
            "kind": kind, "name": name, "uid": "2f1c0a3e-0000-4000-8000-000000000001"}]);
    }
    let made: Value = strict::create(&world.client, &object, "")
        .await
        .expect(name);
    made["metadata"]["resourceVersion"]
        .as_str()
        .map(str::to_owned)
}

fn version(object: &DynamicObject) -> Option<String> {
    object.metadata.resource_version.clone()
}

fn owner(object: &DynamicObject) -> Option<String> {
    let owners = object.metadata.owner_references.as_ref()?;
    owners.first().map(|owner| owner.uid.clone())
}

async fn uid(world: &World, pool: &str) -> Option<String> {
    let pools: kube::Api<RelayPool> = kube::Api::default_namespaced(world.client.clone());
    pools.get(pool).await.expect(pool).metadata.uid
}
