//! An object with a field that the operator does not know, as after a newer one was put back to
//! this, counts as there: what relays have of it stays, and the pool says what is the matter.

use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use postrider_e2e::cluster::wait_for;
use serde_json::{Value, json};

use crate::{
    refusal_world::{BOUND, World},
    strict,
};

/// Last octet of the operator's address.
const HOST: u8 = 99;
const DEFINITION: &str = "CustomResourceDefinition";
/// The field of the newer version.
const LATER: &str = "later";

#[tokio::test]
async fn of_lists_domains_and_logins() {
    let mut world = World::start(HOST).await;
    world.give_all_rights().await;
    let login = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"},
        "stringData": {"username": "app", "password": "long-enough"}});
    strict::create(&world.client, &login, "")
        .await
        .expect("a login");
    let entries = json!({"entries": [{"address": "never@shop.test"}]});
    world.create("SuppressionList", "global", entries).await;
    world
        .pool("mail", json!({"suppressionLists": [{"name": "global"}]}))
        .await;
    let domain = json!({"domain": "shop.test", "poolRef": {"name": "mail"},
        "senders": [{"secretRef": {"name": "app"}}]});
    world.create("SendingDomain", "shop", domain).await;
    let before = wait_for("all documents", BOUND, "-", async || {
        let documents = documents(&world).await;
        let has = |part: &str| documents.iter().any(|(name, _)| name.contains(part));
        let complete = has("mail-keyring-") && has("mail-suppression-");
        let login = documents.iter().any(|(name, text)| {
            name.starts_with("mail-credentials") && text.contains("username: app")
        });
        Ok((complete && login && keys(&world).await == 2).then_some(documents))
    });
    before.await.expect("written");

    // A watch goes on with the definition that it began with: only a new one shows the field.
    newer(&world, "SuppressionList", "global").await;
    newer(&world, "SendingDomain", "shop").await;
    world.stop_operator();
    let before = documents(&world).await;
    world.start_operator();
    // Seen to be at work by what it makes of a change.
    let changed = json!({"spec": {"hostname": "other.shop.test"}});
    let generation = patch(&world, "RelayPool", "mail", changed).await;
    wait_for("the changed pool", BOUND, "-", async || {
        let observed = world.told("RelayPool", "mail").await.observed;
        Ok((observed == generation).then_some(()))
    })
    .await
    .expect("observed");
    told_of(&world, "SuppressionList global (and 1 more) is of a form").await;
    assert_eq!(documents(&world).await, before);

    for (kind, name) in [("SuppressionList", "global"), ("SendingDomain", "shop")] {
        patch(&world, kind, name, json!({"spec": {LATER: null}})).await;
    }
    let cured = world
        .not_ready("RelayPool", "mail", "MembersStarting")
        .await;
    assert!(cured.of("Stalled").is_none());
    let after = documents(&world).await;
    let names = |documents: &[(String, String)]| -> Vec<String> {
        documents.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&after), names(&before));
    let keyring = after.iter().find(|(name, _)| name.contains("-keyring-"));
    assert!(keyring.is_some_and(|(_, text)| text.contains("shop.test")));
}

/// What relays mount, but for certificates: by name of the Secret and key, the text.
async fn documents(world: &World) -> Vec<(String, String)> {
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::default_namespaced(world.client.clone());
    let of_pool = ListParams::default().labels("postrider.dev/pool=mail");
    let secrets = secrets.list(&of_pool).await.expect("Secrets").items;
    let mut documents = Vec::new();
    for secret in secrets {
        let name = secret.metadata.name.unwrap_or_default();
        for (key, text) in secret.data.into_iter().flatten() {
            let text = String::from_utf8(text.0).expect("text");
            if !["-ca", "-admin", "-tls"]
                .iter()
                .any(|end| name.ends_with(end))
            {
                documents.push((format!("{name}/{key}"), text));
            }
        }
    }
    documents
}

/// How many keys there are.
async fn keys(world: &World) -> usize {
    let secrets = crate::pod::objects(&world.client, "", "Secret");
    let keys = ListParams::default().labels("postrider.dev/sending-domain=shop");
    secrets.list(&keys).await.expect("Secrets").items.len()
}

/// Waits until the pool says `what`.
async fn told_of(world: &World, what: &str) {
    wait_for(what, BOUND, "-", async || {
        let told = world
            .not_ready("RelayPool", "mail", "ObjectUnreadable")
            .await;
        let ready = told.of("Ready").expect("waited for");
        let error = ready.message.contains("unknown field `later`");
        Ok((ready.message.starts_with(what) && error).then_some(()))
    })
    .await
    .expect(what);
}

/// Has the API server know [`LATER`] of `kind`, and `name` have it.
async fn newer(world: &World, kind: &str, name: &str) {
    let definitions = kube::core::GroupVersionKind::gvk("apiextensions.k8s.io", "v1", DEFINITION);
    let definitions = kube::api::ApiResource::from_gvk(&definitions);
    let definitions: Api<DynamicObject> = Api::all_with(world.client.clone(), &definitions);
    let definition = format!("{}s.postrider.dev", kind.to_lowercase());
    let mut newer = definitions.get(&definition).await.expect("a definition");
    let schema = &mut newer.data["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"][LATER] = json!({"type": "boolean"});
    let parameters = PostParams::default();
    let replaced = definitions.replace(&definition, &parameters, &newer);
    replaced.await.expect("a newer definition");
    wait_for("the newer definition", BOUND, "-", async || {
        patch(world, kind, name, json!({"spec": {LATER: true}})).await;
        let object = objects(world, kind).get(name).await.expect(name);
        Ok((object.data["spec"][LATER] == true).then_some(()))
    })
    .await
    .expect("served");
}

/// Merges `change` into an object; the generation it has then.
async fn patch(world: &World, kind: &str, name: &str, change: Value) -> Option<i64> {
    let change = Patch::Merge(change);
    let patched = objects(world, kind)
        .patch(name, &PatchParams::default(), &change)
        .await;
    patched.expect(name).metadata.generation
}

fn objects(world: &World, kind: &str) -> Api<DynamicObject> {
    let kind = kube::core::GroupVersionKind::gvk("postrider.dev", "v1alpha1", kind);
    let kind = kube::api::ApiResource::from_gvk(&kind);
    Api::default_namespaced_with(world.client.clone(), &kind)
}
