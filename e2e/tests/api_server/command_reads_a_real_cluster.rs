//! The `postrider` command against a real API server: its errors, and a zone that a real name
//! server loads.

use std::{
    path::Path,
    process::{Command, Output},
};

use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use postrider_crds::{RelayPool, SendingDomain};
use postrider_e2e::{
    cluster::{ApiServer, Cache, acting_as},
    peers::ZoneChecker,
};
use serde_json::{Value, json};

use crate::{crd_manifests::define, programs, strict};

/// What the command comes to.
pub(crate) fn run(program: &Path, kubeconfig: &Path, args: &[&str]) -> Output {
    Command::new(program)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args)
        .output()
        .expect("the command runs")
}

/// What it says when it cannot do what it is asked.
fn refusal(program: &Path, kubeconfig: &Path, args: &[&str]) -> String {
    let output = run(program, kubeconfig, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[tokio::test]
async fn errors_name_what_is_missing_and_the_remedy() {
    let program = programs::built("postrider");
    let server = ApiServer::start().await.expect("an API server");
    let admin = server.kubeconfig();
    let records = ["records", "shop", "-n", "default"];
    for args in [&records[..], &["status", "-A"]] {
        let told = refusal(&program, admin, args);
        assert!(told.contains("has no kind "), "{told}");
        assert!(told.contains("install the Postrider chart"), "{told}");
    }
    let client = server.client().await.expect("a client");
    define(&client).await;
    let told = refusal(&program, admin, &records);
    let wanted = "SendingDomain default/shop does not exist; list them with: kubectl get \
                  sendingdomains --all-namespaces";
    assert!(told.contains(wanted), "{told}");

    let nobody = server.dir().join("nobody.kubeconfig");
    let nobody = acting_as(admin, "nobody", nobody).expect("written");
    for (args, wanted) in [
        (&records[..], "read sendingdomains in namespace default: "),
        (&["status", "-A"], "read relaypools in all namespaces: "),
    ] {
        let told = refusal(&program, &nobody, args);
        assert!(told.contains(&format!("not allowed to {wanted}")), "{told}");
        assert!(told.contains("\"nobody\""), "{told}");
        assert!(told.contains("ask for the verbs get and list"), "{told}");
    }
}

/// Texts that are hard on a zone file: long, quoted, escaped, and what looks like a comment.
fn texts() -> [String; 3] {
    [
        format!("v=DKIM1; k=rsa; p={}", "M".repeat(711)),
        "v=spf1 \"quoted\" back\\slash (parens) \u{e9} ip4:203.0.113.10 -all".into(),
        "v=DMARC1; p=none; rua=mailto:d@shop.example".into(),
    ]
}

async fn create<K>(client: &Client, manifest: Value, status: Value)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let name = manifest["metadata"]["name"].as_str().expect("a name");
    strict::create(client, &manifest, "")
        .await
        .expect("an object");
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .expect("a status");
}

fn record(kind: &str, name: &str, wanted: &str, purpose: &str) -> Value {
    json!({"type": kind, "name": name, "wanted": wanted, "state": "Missing", "purpose": purpose,
           "message": "publish this record"})
}

#[tokio::test]
async fn printed_records_load_in_a_name_server() {
    let program = programs::built("postrider");
    let server = ApiServer::start().await.expect("an API server");
    let client = server.client().await.expect("a client");
    define(&client).await;
    let [dkim, spf, dmarc] = texts();
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "postrider.dev/v1alpha1", "kind": kind,
               "metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    let pool = object(
        "RelayPool",
        "default",
        json!({"hostname": "mail.shop.example"}),
    );
    let records = json!([
        record("TXT", "mail.shop.example", &spf, "EHLO"),
        record("TXT", "mail.example.net", "v=spf1 -all", "EHLO"),
    ]);
    create::<RelayPool>(&client, pool, json!({"records": records})).await;
    let spec = json!({"domain": "shop.example", "poolRef": {"name": "default"}});
    let records = json!([
        record("TXT", "pr-1._domainkey.shop.example", &dkim, "DKIM"),
        record("TXT", "_dmarc.shop.example", &dmarc, "DMARC"),
        record(
            "MX",
            "bounce.shop.example",
            "10 mail.shop.example.",
            "ReturnPath"
        ),
    ]);
    let domain = object("SendingDomain", "shop", spec);
    create::<SendingDomain>(&client, domain, json!({"records": records})).await;

    let args = ["records", "shop", "-n", "default", "--format", "zone"];
    let printed = run(&program, server.kubeconfig(), &args);
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("text");
    let zone = format!(
        "$ORIGIN shop.example.\n$TTL 60\n@ IN SOA ns hostmaster 1 60 60 60 60\n@ IN NS ns.net.\n{printed}"
    );
    let cache = Cache::of_user().expect("a cache");
    let checker = ZoneChecker::ready(&cache).await.expect("named-checkzone");
    let loaded = checker.load("shop.example", &zone).await;
    let loaded = loaded.unwrap_or_else(|e| panic!("{e}\n{zone}"));
    for (name, text) in [
        ("pr-1._domainkey.shop.example.", &dkim),
        ("mail.shop.example.", &spf),
        ("_dmarc.shop.example.", &dmarc),
    ] {
        let line = loaded.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{loaded}"));
        let (_, data) = line.split_once("TXT").expect("a TXT record");
        assert_eq!(octets(data), text.as_bytes(), "{line}");
    }
    assert!(loaded.contains("10 mail.shop.example."), "{loaded}");
    assert!(!loaded.contains("example.net"), "{loaded}");
    assert!(printed.contains("; in the zone of that name: mail.example.net."));
    let broken = format!("{zone}_dmarc IN CNAME elsewhere\n");
    let refused = checker.load("shop.example", &broken).await;
    refused.expect_err("a name with an alias and other data");
}

/// The octets of quoted strings, joined (RFC 1035 section 5.1).
fn octets(data: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = data.bytes();
    let mut inside = false;
    while let Some(octet) = rest.next() {
        match octet {
            b'"' => inside = !inside,
            b'\\' => match rest.next().expect("an escaped octet") {
                first @ b'0'..=b'9' => {
                    let digits = [
                        first,
                        rest.next().expect("two"),
                        rest.next().expect("three"),
                    ];
                    let text = std::str::from_utf8(&digits).expect("digits");
                    octets.push(text.parse().expect("an octet"));
                }
                other => octets.push(other),
            },
            other if inside => octets.push(other),
            _ => {}
        }
    }
    octets
}
