//! `postrider queue` is let through with the Role that docs/queue.md shows, and with no verb less.

use std::path::Path;

use kube::Client;
use postrider_e2e::{
    cluster::{ApiServer, acting_as, wait_for},
    product::queue_role,
};
use postrider_operator::names;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::{
    command_reads_a_real_cluster::run, crd_manifests::define, mail_world::BOUND, programs, strict,
};

/// Who has the Role.
const USER: &str = "ann";
const POOL: &str = "default";
/// All that the API server objects to in the end: nothing runs the pod.
const LET_THROUGH: &str = "does not have a host assigned";

#[tokio::test]
async fn and_of_nothing_more() {
    let program = programs::built("postrider");
    let server = ApiServer::start().await.expect("an API server");
    let client = server.client().await.expect("a client");
    define(&client).await;
    a_pool_that_nothing_runs(&client).await;
    let mut before = create_role(&client).await;
    let kubeconfig = server.dir().join("ann.kubeconfig");
    let kubeconfig = acting_as(server.kubeconfig(), USER, kubeconfig).expect("written");

    let order = ["hold", "--tenant", "shop/app", "--reason", "INC-7"];
    for args in [&[][..], &order] {
        let is = |said: &str| said.contains(LET_THROUGH);
        told(&program, &kubeconfig, args, LET_THROUGH, is).await;
    }
    let role = queue_role("default", POOL);
    for (less, verb, resource) in with_one_verb_less(&role) {
        before = strict::replace(&client, &before, &less)
            .await
            .expect("a Role with less");
        let what = format!("the refusal to {verb} {resource}");
        let is = |said: &str| is_refusal(said, &verb, &resource);
        told(&program, &kubeconfig, &[], &what, is).await;
    }
}

/// Whether the API server says that the user may not `verb` the resource.
fn is_refusal(said: &str, verb: &str, resource: &str) -> bool {
    let cannot = format!("User \"{USER}\" cannot ");
    if verb == "create" {
        // What a forwarding takes besides `get` is refused without a word about what it is.
        let hint = "it takes the verbs get and create on pods/portforward";
        let refused = said.contains("pods \"default-0\" is forbidden") && !said.contains(&cannot);
        return refused && said.contains(hint);
    }
    said.contains(&format!("{cannot}{verb} resource \"{resource}\""))
}

/// Waits until `postrider queue` says what is waited for: a Role counts some time after it is written.
async fn told(
    program: &Path,
    kubeconfig: &Path,
    args: &[&str],
    what: &str,
    is: impl Fn(&str) -> bool,
) {
    let args = [&["queue", POOL, "-n", "default"], args].concat();
    let mut last = String::new();
    let waited = wait_for(what, BOUND, "-", async || {
        let output = run(program, kubeconfig, &args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        last = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok(is(&last).then_some(()))
    });
    waited
        .await
        .unwrap_or_else(|error| panic!("{error}: {args:?}: {last}"));
}

/// `role` without each of its verbs in turn, and what that is a verb of.
fn with_one_verb_less(role: &Value) -> Vec<(Value, String, String)> {
    let rules = role["rules"].as_array().expect("rules");
    let mut all = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let verbs = rule["verbs"].as_array().expect("verbs");
        for verb in verbs {
            let rest: Vec<_> = verbs.iter().filter(|other| *other != verb).collect();
            let mut rules = rules.clone();
            if rest.is_empty() {
                rules.remove(index);
            } else {
                rules[index]["verbs"] = json!(rest);
            }
            let mut less = role.clone();
            less["rules"] = json!(rules);
            let word = |value: &Value| value.as_str().expect("a word").to_owned();
            all.push((less, word(verb), word(&rule["resources"][0])));
        }
    }
    assert_eq!(all.len(), 5, "{role:#}");
    all
}

/// Gives the user the documented Role; returns it as it is stored.
async fn create_role(client: &Client) -> Value {
    let role = queue_role("default", POOL);
    let name = &role["metadata"]["name"];
    let group = "rbac.authorization.k8s.io";
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": {"name": name}, "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}]});
    strict::create(client, &binding, "")
        .await
        .expect("a binding");
    strict::create(client, &role, "").await.expect("a Role")
}

/// A pool with one pod and the certificates of its clients; none of them more than an object.
async fn a_pool_that_nothing_runs(client: &Client) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::default().self_signed(&key);
    let certificate = certificate.expect("a certificate").pem();
    let pool = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
        "metadata": {"name": POOL}, "spec": {"hostname": "mail.relays.test"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": names::ca_secret(POOL)},
        "stringData": {"ca.crt": certificate, "tls.crt": certificate, "client.crt": certificate,
            "client.key": key.serialize_pem()}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{POOL}-0"), "labels": names::pool_selector(POOL)},
        "spec": {"containers": [{"name": "relay", "image": "relay:1"}]}});
    for object in [pool, secret, pod] {
        strict::create(client, &object, "")
            .await
            .unwrap_or_else(|error| panic!("{object}: {error}"));
    }
}
