//! What the API server refuses to take from the operator, or from the controller that makes a pool's pods,
//! stands in the status of the resource that needs it, with the server's words and what to do; is told as
//! an event once; is tried again at a pace that slows down; and goes when it is cured.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use postrider_e2e::cluster::wait_for;
use serde_json::{Value, json};

use crate::{
    pod::objects,
    refusal_world::{BOUND, World},
};

mod pods;

/// Last octet of the operator's address.
const HOST: u8 = 91;

#[tokio::test]
async fn with_words_and_cure_once_and_not_for_ever() {
    let world = World::start(HOST).await;
    a_right_that_the_operator_lacks(&world).await;
    a_template_that_is_invalid(&world).await;
    a_quota_without_room(&world).await;
    a_policy_that_says_no(&world).await;
    pods::without_room(&world).await;
}

async fn a_right_that_the_operator_lacks(world: &World) {
    world.pool("plain", json!({})).await;
    let parts = [
        "cannot apply PodDisruptionBudget plain",
        "User \"postrider-operator\" cannot patch resource \"poddisruptionbudgets\"",
        "give the operator's Role that right",
    ];
    let wanted = ("Forbidden", "Stalled");
    world.refused("RelayPool", "plain", wanted, &parts).await;
    // One object that is refused keeps no other from being written.
    let sets = objects(&world.client, "apps", "StatefulSet");
    sets.get("plain").await.expect("the StatefulSet is there");

    world.give_all_rights().await;
    let cured = world
        .not_ready("RelayPool", "plain", "MembersStarting")
        .await;
    assert!(cured.of("Stalled").is_none());
}

async fn a_template_that_is_invalid(world: &World) {
    let template = json!({"tolerations": [{"key": "mail", "operator": "Same"}]});
    world.pool("odd", json!({"template": template})).await;
    let parts = [
        "cannot apply StatefulSet odd: spec.template.spec.tolerations[0].operator: Unsupported value: \"Same\"",
        "correct spec.template.tolerations[0].operator of the RelayPool",
    ];
    let wanted = ("ObjectInvalid", "Stalled");
    world.refused("RelayPool", "odd", wanted, &parts).await;

    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "mail", "operator": "Near"}]}]}}});
    for (template, part) in [
        (
            json!({"tolerations": null, "affinity": affinity}),
            "correct spec.template.affinity.nodeAffinity.",
        ),
        (
            json!({"affinity": null, "metadata": {"labels": {"team": "a b"}}}),
            "correct spec.template.metadata.labels of the RelayPool",
        ),
    ] {
        let generation = world.template("odd", template).await;
        wait_for(part, BOUND, "-", async || {
            let told = world.not_ready("RelayPool", "odd", "ObjectInvalid").await;
            let says = told
                .of("Ready")
                .is_some_and(|ready| ready.message.contains(part));
            Ok((says && told.observed == generation).then_some(()))
        })
        .await
        .expect(part);
    }
    world.template("odd", Value::Null).await;
    let cured = world.not_ready("RelayPool", "odd", "MembersStarting").await;
    assert!(cured.of("Stalled").is_none());
}

async fn a_quota_without_room(world: &World) {
    let dry = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dry"}});
    world.allow_no("secrets", &dry).await;
    a_pool_without_room(world).await;
    a_domain_without_room(world).await;
    world.allow_all().await;
    world
        .not_ready("RelayPool", "full", "MembersStarting")
        .await;
    wait_for("the keys", BOUND, "-", async || {
        let domain = world.told("SendingDomain", "full").await;
        let keys = domain.of("KeysReady").filter(|keys| keys.status == "True");
        let told = domain.of("Ready").map(|ready| ready.reason.as_str()) == Some("QuotaExceeded");
        Ok(keys.filter(|_| !told).map(drop))
    })
    .await
    .expect("made");
}

async fn a_pool_without_room(world: &World) {
    world.pool("full", json!({})).await;
    let wanted = ("QuotaExceeded", "Reconciling");
    let parts = [
        "Secret full-ca",
        "exceeded quota: few",
        "raise the ResourceQuota",
    ];
    world.refused("RelayPool", "full", wanted, &parts).await;
    let pool = world.told("RelayPool", "full").await;
    for type_ in [
        "Available",
        "Progressing",
        "ConfigApplied",
        "SpoolsRetained",
        "PTRVerified",
    ] {
        assert_eq!(
            pool.of(type_).map(|c| c.status.as_str()),
            Some("Unknown"),
            "{type_}"
        );
    }
}

/// Which is told beside all else that is known of it.
async fn a_domain_without_room(world: &World) {
    let spec = json!({"domain": "shop.test", "poolRef": {"name": "plain"}});
    world.create("SendingDomain", "full", spec).await;
    let parts = ["cannot create Secret full-", "exceeded quota: few"];
    world
        .not_ready("SendingDomain", "full", "QuotaExceeded")
        .await;
    world.tried("SendingDomain", "full", 3).await;
    let domain = world
        .not_ready("SendingDomain", "full", "QuotaExceeded")
        .await;
    let ready = domain.of("Ready").expect("waited for");
    assert!(
        parts.iter().all(|part| ready.message.contains(part)),
        "{}",
        ready.message
    );
    assert_eq!(
        domain.of("Reconciling").map(|c| c.reason.as_str()),
        Some("QuotaExceeded")
    );
    assert_eq!(
        domain.of("KeysReady").map(|c| c.reason.as_str()),
        Some("Pending")
    );
    assert!(domain.of("DKIMVerified").is_some());
    assert_eq!(
        world.events("SendingDomain", "full", "QuotaExceeded").await,
        1
    );
    let made = world.events("SendingDomain", "full", "KeysGenerated");
    assert_eq!(made.await, 0, "none is made");
}

async fn a_policy_that_says_no(world: &World) {
    let policy = json!({"metadata": {"name": "guard"}, "spec": {"failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"], "resources": ["services"]}]},
        "validations": [{"expression": "object.metadata.name != 'guarded'",
            "message": "ask the network people first"}]}});
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    let policy = serde_json::from_value(policy).expect("a policy");
    policies
        .create(&PostParams::default(), &policy)
        .await
        .expect("a policy");
    let binding = json!({"metadata": {"name": "guard"},
        "spec": {"policyName": "guard", "validationActions": ["Deny"]}});
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let binding = serde_json::from_value(binding).expect("a binding");
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .expect("a binding");
    let dry = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "guarded"},
        "spec": {"ports": [{"port": 25}]}});
    world.in_force(&dry, "ask the network people first").await;

    world.pool("guarded", json!({})).await;
    let parts = [
        "cannot apply Service guarded: ValidatingAdmissionPolicy 'guard' with binding 'guard' denied request",
        "ask the network people first; change what it objects to, or have it make an exception",
    ];
    let wanted = ("AdmissionDenied", "Stalled");
    world.refused("RelayPool", "guarded", wanted, &parts).await;
    bindings
        .delete("guard", &DeleteParams::default())
        .await
        .expect("deleted");
    let cured = world
        .not_ready("RelayPool", "guarded", "MembersStarting")
        .await;
    assert!(cured.of("Stalled").is_none());
}
