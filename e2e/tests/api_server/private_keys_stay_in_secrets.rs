//! Private keys appear nowhere but in Secrets: not in logs at their most talkative, events, status,
//! objects, metrics, probes, reports and errors, whatever goes wrong; and no core of a process that has
//! them is ever written.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{Discovery, verbs},
};
use postrider_crds::relay_config::{KeyAlgorithm, ports};
use postrider_e2e::{cluster::wait_for, peers::loopback};
use postrider_operator::sending_domain::key;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};

use crate::{
    leaks::Leaks,
    mail_world::{BOUND, PASSWORD, TSIG, World},
    pod::{METRICS_PORT, objects},
    strict,
};

const HOSTS: [u8; 3] = [71, 72, 73];
const PEM: &str = "private-key.pem";

/// A world and the secrets it has had.
struct Search {
    world: World,
    leaks: Leaks,
    keys: usize,
}

#[tokio::test]
async fn whatever_happens() {
    let world = World::start(&["shop"], HOSTS).await;
    let mut search = Search {
        world,
        leaks: Leaks::default(),
        keys: 0,
    };
    search
        .leaks
        .look_for("the TSIG secret", &STANDARD.decode(TSIG).expect("base64"));
    search.leaks.look_for("the password", PASSWORD.as_bytes());
    no_core_is_written(&search.world).await;
    keys_are_made_used_and_replaced(&mut search).await;
    keys_are_damaged(&mut search).await;
    updates_are_signed_wrongly(&search).await;
    a_certificate_does_not_fit(&mut search).await;
    a_relay_refuses_its_keyring(&mut search).await;
    search.learn().await;
    assert!(search.keys >= 8, "{} keys", search.keys);
    search.nothing_is_found().await;
    what_is_planted_is_found(&search).await;
}

impl Search {
    /// Takes note of every private key that the Secrets have now.
    async fn learn(&mut self) {
        let secrets = objects(&self.world.client, "", "Secret");
        for secret in secrets.list(&Default::default()).await.expect("Secrets") {
            let name = secret.metadata.name.unwrap_or_default();
            let data = secret.data["data"].as_object().into_iter().flatten();
            for (field, value) in data {
                let octets = STANDARD
                    .decode(value.as_str().expect("text"))
                    .expect("base64");
                let name = format!("{name} {field}");
                self.keys += self.leaks.look_for_keys(&name, &octets);
            }
        }
    }

    /// Everything that anybody can read who may not read Secrets, by where it is.
    async fn readable(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        for file in ["operator.log", "relay.log", "relay.events"] {
            let path = self.world.dir().join(file);
            all.insert(file.to_owned(), std::fs::read(path).expect(file));
        }
        for path in ["/metrics", "/healthz", "/readyz", "/nowhere"] {
            let operator = get((loopback(HOSTS[0]), METRICS_PORT).into(), path);
            all.insert(format!("operator {path}"), operator);
            let relay = get((loopback(HOSTS[1]), METRICS_PORT).into(), path);
            all.insert(format!("relay {path}"), relay);
        }
        for path in ["/v1/report", "/nowhere"] {
            all.insert(format!("admin {path}"), self.admin(path).await);
        }
        all.extend(self.all_objects().await);
        all
    }

    /// Objects of every kind that can be listed, but Secrets.
    async fn all_objects(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        let discovery = Discovery::new(self.world.client.clone()).run().await;
        for group in discovery.expect("kinds").groups() {
            for (resource, capabilities) in group.resources_by_stability() {
                let core = resource.group.is_empty();
                if core && resource.kind == "Secret"
                    || !capabilities.supports_operation(verbs::LIST)
                {
                    continue;
                }
                let api: Api<DynamicObject> = Api::all_with(self.world.client.clone(), &resource);
                let Ok(list) = api.list(&Default::default()).await else {
                    continue;
                };
                let text = serde_json::to_vec(&list.items).expect("plain data");
                all.insert(format!("{} {}", resource.api_version, resource.kind), text);
            }
        }
        for kind in [
            "v1 ConfigMap",
            "postrider.dev/v1alpha1 SendingDomain",
            "v1 Pod",
        ] {
            assert!(all[kind].len() > 10, "{kind} was looked at");
        }
        all
    }

    async fn nothing_is_found(&self) {
        let readable = self.readable().await;
        for (place, octets) in &readable {
            let found = self.leaks.find(octets);
            assert!(found.is_empty(), "{place} tells {found:?}");
        }
        let log = String::from_utf8_lossy(&readable["operator.log"]);
        assert!(log.contains("TRACE"), "the log was talkative");
        let log = String::from_utf8_lossy(&readable["relay.log"]);
        assert!(log.contains("configuration refused"), "it was refused");
        let report = String::from_utf8_lossy(&readable["admin /v1/report"]);
        assert!(report.contains("\"refused\":[{"), "{report}");
    }

    /// What the relay's admin API says to the operator, with the operator's own certificate.
    async fn admin(&self, path: &str) -> Vec<u8> {
        let secret = objects(&self.world.client, "", "Secret")
            .get("default-ca")
            .await;
        let secret = secret.expect("the pool's CA");
        let data = |field: &str| {
            let value = secret.data["data"][field].as_str().expect(field);
            STANDARD.decode(value).expect("base64")
        };
        let mut roots = RootCertStore::empty();
        let certificate = |pem: &[u8]| CertificateDer::from_pem_slice(pem).expect("a certificate");
        roots.add(certificate(&data("tls.crt"))).expect("a CA");
        let client = certificate(&data("client.crt"));
        let key = PrivateKeyDer::from_pem_slice(&data("client.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![client], key)
            .expect("a client");
        let name = postrider_operator::names::admin_server_name("default", "default");
        let name = ServerName::try_from(name).expect("a name");
        let address = SocketAddr::from((loopback(HOSTS[1]), ports::ADMIN));
        let mut stream = TcpStream::connect(address).expect("the admin port");
        let connection = rustls::ClientConnection::new(Arc::new(config), name);
        let mut connection = connection.expect("a session");
        ask(&mut rustls::Stream::new(&mut connection, &mut stream), path)
    }

    /// Merges `patch` into the Secret `name`.
    async fn patch_secret(&self, name: &str, patch: Value) {
        let secrets = objects(&self.world.client, "", "Secret");
        let patch = Patch::Merge(&patch);
        let patched = secrets.patch(name, &PatchParams::default(), &patch).await;
        patched.expect(name);
    }

    /// Waits until a condition of `shop` has this status and reason.
    async fn condition(&self, type_: &str, status: &str, reason: &str) {
        let what = format!("{type_}={status} {reason}");
        let mut last = String::new();
        let found = wait_for(&what, BOUND, "-", async || {
            let domain = self.world.domains().get("shop").await.expect("shop");
            let conditions = domain.status.unwrap_or_default().conditions;
            last = format!("{conditions:#?}");
            let mut all = conditions.iter();
            let found = all.any(|c| c.type_ == type_ && c.status == status && c.reason == reason);
            Ok(found.then_some(()))
        })
        .await;
        found.unwrap_or_else(|error| panic!("{error}; last seen: {last}"));
    }
}

/// The answer to a GET.
fn ask(stream: &mut (impl std::io::Read + std::io::Write), path: &str) -> Vec<u8> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .expect("asked");
    let mut answer = Vec::new();
    // Over TLS the end may come without a farewell.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 "), "{path}");
    answer
}

fn get(address: SocketAddr, path: &str) -> Vec<u8> {
    ask(&mut TcpStream::connect(address).expect("it listens"), path)
}

async fn no_core_is_written(world: &World) {
    for process in [world.operator.id(), world.pod.id()] {
        // A process that has just been started has yet to say so.
        wait_for("no core files", BOUND, "-", async || {
            let limits = std::fs::read_to_string(format!("/proc/{process}/limits"));
            let limits = limits.expect("limits");
            let mut lines = limits.lines();
            let core = lines.find(|line| line.starts_with("Max core file size"));
            let words: Vec<&str> = core.expect("a limit").split_whitespace().collect();
            Ok((words[4..6] == ["0", "0"]).then_some(()))
        })
        .await
        .expect("soft and hard limit are 0");
    }
}

async fn keys_are_made_used_and_replaced(search: &mut Search) {
    let world = &search.world;
    world.create_domain("shop", json!({})).await;
    world.ready("shop", "True", "Ready").await;
    let sink = world.receive().await;
    let reply = world.submit("shop", "signed").await;
    assert!(reply.accepted, "{reply:?}");
    let delivered = sink.wait_for(BOUND, |all| !all.is_empty()).await;
    delivered.expect("delivered");
    search.learn().await;
    let trigger = json!({"spec": {"dkim": {"rotation": {"trigger": "now"}}}});
    search.world.patch("shop", trigger).await;
    wait_for("new keys", BOUND, "-", async || {
        let domain = search.world.domains().get("shop").await.expect("shop");
        let dkim = domain.status.unwrap_or_default().dkim;
        Ok((dkim.trigger.as_deref() == Some("now")).then_some(()))
    })
    .await
    .expect("rotated");
    search.learn().await;
}

async fn keys_are_damaged(search: &mut Search) {
    let domain = search.world.domains().get("shop").await.expect("shop");
    let active = domain.status.expect("a status").dkim.active;
    let [one, two] = [&active[0].secret, &active[1].secret];
    // Another key in its place, then no whole key.
    let other = key::generate(KeyAlgorithm::Ed25519).expect("a key");
    let half = &other[..other.len() - 40];
    for text in [other.as_str(), half] {
        let data = json!({"data": {PEM: STANDARD.encode(text)}});
        search.patch_secret(one, data).await;
        search.condition("KeysReady", "False", "KeyInvalid").await;
        search
            .leaks
            .look_for_keys("the other key", other.as_bytes());
    }
    // What it says of itself is a key too.
    let annotation = json!({"metadata": {"annotations": {"postrider.dev/selector": other}}});
    search.patch_secret(two, annotation).await;
    search.condition("KeysReady", "False", "KeyInvalid").await;
    let secrets = objects(&search.world.client, "", "Secret");
    for name in [one, two] {
        secrets
            .delete(name, &DeleteParams::default())
            .await
            .expect(name);
    }
    search.world.ready("shop", "True", "Ready").await;
    search.learn().await;
}

async fn updates_are_signed_wrongly(search: &Search) {
    for (data, reason) in [
        (json!({"algorithm": TSIG}), "ReferenceInvalid"),
        (
            json!({"algorithm": null, "secret": "not base64"}),
            "ReferenceInvalid",
        ),
        (
            json!({"secret": STANDARD.encode([7; 32])}),
            "PublisherRefused",
        ),
        (json!({"secret": TSIG}), "Published"),
    ] {
        search
            .patch_secret("dns", json!({"stringData": data}))
            .await;
        if data["algorithm"].is_null() {
            search
                .patch_secret("dns", json!({"data": {"algorithm": null}}))
                .await;
        }
        // Something to publish anew, so that the server is asked.
        let domain = format!("{}.shop.test", reason.to_lowercase());
        let patch = json!({"spec": {"returnPath": {"domain": domain}}});
        search.world.patch("shop", patch).await;
        let status = if reason == "Published" {
            "True"
        } else {
            "False"
        };
        search.condition("Published", status, reason).await;
    }
}

async fn a_certificate_does_not_fit(search: &mut Search) {
    let names = || rcgen::generate_simple_self_signed(["mail.relays.test".to_owned()]);
    let (one, two) = (names().expect("one"), names().expect("another"));
    let pair = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "misfit"},
        "stringData": {"tls.crt": one.cert.pem(), "tls.key": two.signing_key.serialize_pem()}});
    strict::create(&search.world.client, &pair, "")
        .await
        .expect("a Secret");
    search.learn().await;
    let kind = GroupVersionKind::gvk("postrider.dev", "v1alpha1", "RelayPool");
    let pools: Api<DynamicObject> =
        Api::default_namespaced_with(search.world.client.clone(), &ApiResource::from_gvk(&kind));
    for (secret, reason) in [
        (json!({"secretRef": {"name": "misfit"}}), "ReferenceInvalid"),
        (Value::Null, ""),
    ] {
        let patch = json!({"spec": {"tls": secret}});
        let patch = Patch::Merge(&patch);
        let patched = pools
            .patch("default", &PatchParams::default(), &patch)
            .await;
        patched.expect("patched");
        wait_for("the pool's word", BOUND, "-", async || {
            let pool = pools.get("default").await.expect("the pool");
            let conditions = pool.data["status"]["conditions"].as_array().cloned();
            let mut ready = conditions
                .into_iter()
                .flatten()
                .filter(|c| c["type"] == "Ready");
            let told = ready.any(|c| (c["reason"] == "ReferenceInvalid") != reason.is_empty());
            Ok(told.then_some(()))
        })
        .await
        .expect("told");
    }
}

/// Keys in the place of something else, and half a key: the relay says why it refuses them.
async fn a_relay_refuses_its_keyring(search: &mut Search) {
    search.learn().await;
    let dir = search.world.dir().join("config/keyring");
    search.world.pod.stop_mounting();
    let entries = std::fs::read_dir(&dir).expect("a keyring");
    let paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let keyring = paths.iter().find(|path| {
        let text = std::fs::read_to_string(path).expect("text");
        text.contains("PRIVATE KEY")
    });
    let path = keyring.expect("a keyring with keys");
    let text = std::fs::read_to_string(path).expect("text");
    let pem = key::generate(KeyAlgorithm::RSA2048).expect("a key");
    search.leaks.look_for_keys("a refused key", pem.as_bytes());
    let quoted = serde_json::to_string(&pem).expect("text");
    let damaged = [
        text.replacen("state: Active", &format!("state: {quoted}"), 1),
        text.replacen("algorithm: ", &format!("algorithm: {quoted} # "), 1),
        text.replacen("- selector: ", &format!("- selector: {quoted} # "), 1),
        text.replacen("senders:", &format!("senders: {quoted} # "), 1),
        text.replacen("privateKey:", &format!("{quoted}: x\n    privateKey:"), 1),
        // No base64, and no DER. More bytes behind a key would be let pass by the parser.
        text.replacen("-----END", "*AAA\n      -----END", 1),
        text.replacen("KEY-----\n", "KEY-----\n      AAAA\n", 1),
        text.replacen("-----BEGIN PRIVATE", "-----BEGIN RSA PRIVATE", 1),
    ];
    for (number, damaged) in damaged.iter().enumerate() {
        assert_ne!(*damaged, text, "damage {number}");
        std::fs::write(path, damaged).expect("written");
        let digest = postrider_crds::digest::of(damaged.as_bytes());
        wait_for(&format!("refusal {number}"), BOUND, "-", async || {
            let report = search.admin("/v1/report").await;
            let report = String::from_utf8_lossy(&report).into_owned();
            Ok(report
                .contains(&format!("\"digest\":\"{digest}\""))
                .then_some(()))
        })
        .await
        .expect("refused");
    }
}

async fn what_is_planted_is_found(search: &Search) {
    let secrets = objects(&search.world.client, "", "Secret");
    let keys = kube::api::ListParams::default().labels("postrider.dev/sending-domain=shop");
    let keys = secrets.list(&keys).await.expect("keys");
    let key = keys.items.first().expect("a key");
    let pem = STANDARD
        .decode(key.data["data"][PEM].as_str().expect("text"))
        .expect("base64");
    let pem = String::from_utf8(pem).expect("text");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "planted"},
        "data": {"note": pem}});
    strict::create(&search.world.client, &map, "")
        .await
        .expect("planted");
    let all = search.all_objects().await;
    assert!(!search.leaks.find(&all["v1 ConfigMap"]).is_empty());
}
