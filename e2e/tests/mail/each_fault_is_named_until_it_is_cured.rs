//! An unknown pool, a missing Secret and wrong records are each named in the domain's conditions,
//! with what to do, and it becomes Ready once all are cured.

use postrider_e2e::peers::{SigningKey, dns::Zone, sink::Rules};
use serde_json::{Value, json};

use crate::{
    kstatus::{Health, health},
    support::{DOMAIN, POOL, Stage},
};

const OBJECT: (&str, &str) = ("SendingDomain", DOMAIN);

#[tokio::test]
async fn each_fault_is_named_until_it_is_cured() {
    let stage = Stage::start("faults", 15, Rules::default()).await;
    stage.apply(stage.pool(json!({}))).await;

    let elsewhere = json!({"poolRef": {"name": "elsewhere"}});
    stage.apply(stage.sending_domain(elsewhere)).await;
    let said = stage.condition(OBJECT, "Ready", "False", "PoolNotFound");
    names(&said.await, &["RelayPool elsewhere", "spec.poolRef.name"]);

    let absent = json!({"senders": [{"secretRef": {"name": "absent"}}]});
    stage.apply(stage.sending_domain(absent)).await;
    let said = stage.condition(OBJECT, "Ready", "False", "ReferenceNotFound");
    names(
        &said.await,
        &["\"absent\"", "create it", "username", "password"],
    );

    let mut secret = stage.credential();
    secret["metadata"]["name"] = json!("absent");
    stage.apply(secret).await;
    let said = stage.condition(OBJECT, "Ready", "False", "RecordsMissing");
    names(&said.await, &["publish ", ".faults.example"]);

    let domain = stage.get("SendingDomain", DOMAIN).await;
    let wrong = Wrong::records(&domain);
    stage.publish(wrong.zone.records()).await;
    let said = stage.condition(OBJECT, "DKIMVerified", "False", "RecordMismatch");
    names(&said.await, &[&wrong.key_name]);
    let said = stage.condition(OBJECT, "SPFVerified", "False", "SPFNotPassing");
    names(&said.await, &["10.201.128."]);
    stage
        .condition(OBJECT, "DMARCVerified", "True", "Verified")
        .await;
    stage
        .condition(OBJECT, "ReturnPathVerified", "True", "Verified")
        .await;
    let domain = stage.get("SendingDomain", DOMAIN).await;
    assert_eq!(health(&domain), Health::InProgress, "{domain:#}");
    let ready = stage
        .condition(OBJECT, "Ready", "False", "RecordsMissing")
        .await;
    names(&ready, &["publish "]);
    names_the_record(&domain, &ready);

    stage.publish(&stage.records().await).await;
    stage.current("SendingDomain", DOMAIN).await;
    stage.current("RelayPool", POOL).await;
    let sent = stage.send("ada", "All is well").await;
    stage.delivered(&sent).await;
    stage.finish().await;
}

fn names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

/// The message holds the whole of one record that has to be published.
fn names_the_record(domain: &Value, message: &str) {
    let records = domain["status"]["records"].as_array().expect("records");
    let named = records.iter().any(|record| {
        let text = |field: &str| record[field].as_str().expect("text");
        // The text of a key is cut into strings, and its end proves the whole.
        let wanted = text("wanted");
        let end = &wanted[wanted.len().saturating_sub(20)..];
        message.contains(text("name")) && message.contains(end)
    });
    assert!(named, "{message:?} holds none of {records:#?}");
}

/// Wanted records, but with another key in place of the RSA one and an SPF that lets nobody send.
struct Wrong {
    zone: Zone,
    key_name: String,
}

impl Wrong {
    fn records(domain: &Value) -> Self {
        let records = domain["status"]["records"].as_array().expect("records");
        let other = SigningKey::rsa().expect("a key");
        let mut zone = Zone::new("faults.example");
        let mut key_name = String::new();
        for record in records {
            let text = |field: &str| record[field].as_str().expect("text");
            let (name, wanted) = (format!("{}.", text("name")), text("wanted"));
            zone = if text("type") == "MX" {
                zone.record(&name, "MX", &wanted_exchange(wanted))
            } else if wanted.contains("k=rsa") {
                text("name").clone_into(&mut key_name);
                zone.txt(&name, other.record())
            } else if text("purpose") == "SPF" {
                zone.txt(&name, "v=spf1 ip4:192.0.2.1 -all")
            } else {
                zone.txt(&name, wanted)
            };
        }
        Self { zone, key_name }
    }
}

/// "10 host" with the last dot that a zone file wants.
fn wanted_exchange(wanted: &str) -> String {
    format!("{}.", wanted.trim_end_matches('.'))
}
