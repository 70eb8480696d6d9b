//! A real API server, a real operator, a real BIND that takes updates, a real relay, and an
//! application that sends: all but a cluster.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use postrider_crds::SendingDomain;
use postrider_e2e::{
    cluster::{ApiServer, Cache, wait_for},
    peers::{
        self, Reply, StopOnDrop, Submission, Tls,
        bind::{Bind, BindPrograms, DynamicZone, TsigKey},
        dns::Zone,
        loopback,
        sink::{Rules, Sink},
    },
};
use serde_json::{Value, json};

use crate::{
    crd_manifests::define,
    pod::{Pod, SMTP_PORT, objects},
    programs::{self, Running},
    strict,
};

/// How long a step may take on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(180);
/// The secret that DNS updates are signed with.
pub(crate) const TSIG: &str = "cG9zdHJpZGVyIHRlc3Qgc2VjcmV0IG9mIDMyIGJ5dGVz";
/// The password of the application.
pub(crate) const PASSWORD: &str = "a password of tests 7d1f";
const SUBMISSION: u16 = 2587;
/// The pool there is from the start.
pub(crate) const POOL: &str = "default";

/// Everything. Dropped, all of it ends.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) operator: Running,
    pub(crate) pod: Pod,
    pub(crate) bind: Bind,
    /// Last two octets of addresses of this world's own.
    hosts: [u8; 3],
    _stop: StopOnDrop,
    server: ApiServer,
}

impl World {
    /// Starts everything but a receiver. Domains `NAME.test` of `domains` can be published in;
    /// `hosts` tell addresses apart: the operator's, the relay's, a receiver's.
    pub(crate) async fn start(domains: &[&str], hosts: [u8; 3]) -> Self {
        let server = ApiServer::start().await.expect("an API server");
        let dir = server.dir().to_owned();
        let client = server.client().await.expect("a client");
        define(&client).await;
        let stop = StopOnDrop(dir.join("bind"));
        let bind = serve(&dir.join("bind"), domains, hosts).await;
        let operator = operate(&server, &bind, domains, hosts);
        for (name, data) in [
            ("dns", json!({"name": "update", "secret": TSIG})),
            ("app", json!({"username": "app", "password": PASSWORD})),
        ] {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "stringData": data});
            strict::create(&client, &secret, "").await.expect(name);
        }
        let address = loopback(hosts[1]);
        let pod = create_pool(&client, POOL, "192.0.2.10", address, &dir).await;
        Self {
            client,
            operator,
            pod,
            bind,
            hosts,
            _stop: stop,
            server,
        }
    }

    /// Where logs and data lie.
    pub(crate) fn dir(&self) -> &Path {
        self.server.dir()
    }

    /// SendingDomains.
    pub(crate) fn domains(&self) -> Api<SendingDomain> {
        Api::default_namespaced(self.client.clone())
    }

    /// Creates the SendingDomain of `NAME.test`, with `more` in its spec, published by updates.
    pub(crate) async fn create_domain(&self, name: &str, more: Value) {
        let domain = format!("{name}.test");
        let server = self.bind.address().to_string();
        let mut spec = json!({"domain": domain, "poolRef": {"name": POOL},
            "senders": [{"secretRef": {"name": "app"}}],
            "publish": {"rfc2136": {"server": server, "zone": domain,
                "tsigSecretRef": {"name": "dns"}}}});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let object = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name}, "spec": spec});
        strict::create(&self.client, &object, "").await.expect(name);
    }

    /// Merges `patch` into the SendingDomain `name`.
    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        let patch = Patch::Merge(&patch);
        let domains = self.domains();
        let patched = domains.patch(name, &PatchParams::default(), &patch).await;
        patched.expect("patched");
    }

    /// Waits until `Ready` of `name` has this status and reason, and gives its message.
    pub(crate) async fn ready(&self, name: &str, status: &str, reason: &str) -> String {
        let what = format!("{name}: Ready={status} {reason}");
        let mut last = String::new();
        let found = wait_for(&what, BOUND, "-", async || {
            let domain = self.domains().get(name).await.expect(name);
            let conditions = domain.status.unwrap_or_default().conditions;
            last = format!("{conditions:#?}");
            let mut ready = conditions.into_iter().filter(|c| c.type_ == "Ready");
            let ready = ready.find(|c| (c.status.as_str(), c.reason.as_str()) == (status, reason));
            Ok(ready.map(|condition| condition.message))
        })
        .await;
        found.unwrap_or_else(|error| panic!("{error}; last seen: {last}; {}", self.log()))
    }

    /// Waits until the SendingDomain `name` is gone.
    pub(crate) async fn gone(&self, name: &str) {
        let gone = wait_for(&format!("the end of {name}"), BOUND, "-", async || {
            let found = self.domains().get_opt(name).await.expect("an answer");
            Ok(found.is_none().then_some(()))
        })
        .await;
        gone.unwrap_or_else(|error| panic!("{error}; {}", self.log()));
    }

    /// Waits for an event with this reason about the SendingDomain `name`, and gives its note.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> String {
        let events = objects(&self.client, "events.k8s.io", "Event");
        let what = format!("{name}: event {reason}");
        wait_for(&what, BOUND, "-", async || {
            let all = events.list(&Default::default()).await.expect("events");
            let mut about = all.items.into_iter().filter(|event| {
                event.data["regarding"]["name"] == name && event.data["reason"] == reason
            });
            Ok(about.next().map(|event| event.data["note"].to_string()))
        })
        .await
        .expect("told")
    }

    /// Another pool, whose relay is at `address` and has its files in a folder of its own.
    pub(crate) async fn add_pool(&self, pool: &str, egress: &str, address: Ipv4Addr) -> Pod {
        let dir = self.dir().join(pool);
        std::fs::create_dir(&dir).expect("a folder");
        create_pool(&self.client, pool, egress, address, &dir).await
    }

    /// Sends a message from `NAME.test` as the application; what the relay says.
    pub(crate) async fn submit(&self, name: &str, subject: &str) -> Reply {
        let address = loopback(self.hosts[1]);
        self.submit_to((POOL, address), name, subject).await
    }

    /// The same by the relay of a pool at an address.
    pub(crate) async fn submit_to(
        &self,
        (pool, address): (&str, Ipv4Addr),
        name: &str,
        subject: &str,
    ) -> Reply {
        let secrets = objects(&self.client, "", "Secret");
        let tls = secrets.get(&format!("{pool}-tls")).await;
        let ca = &tls.expect("the pool's certificate").data["data"]["ca.crt"];
        let ca_file = self.dir().join(format!("{pool}-ca.crt"));
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let octets = STANDARD.decode(ca.as_str().expect("text")).expect("base64");
        std::fs::write(&ca_file, octets).expect("written");
        let client = peers::Client {
            host: format!("{pool}.default.svc"),
            address: Some(address.to_string()),
            port: SUBMISSION,
            tls: Tls::StartTls,
            ca_file: Some(ca_file),
            user: Some("app".into()),
            password: PASSWORD.into(),
        };
        let message = Submission {
            from: format!("app@{name}.test"),
            to: "someone@to.test".into(),
            subject: subject.into(),
            body: "Hello.".into(),
            headers: Default::default(),
        };
        let mut replies = client.send(&[message]).await.expect("a session");
        replies.remove(0)
    }

    /// A receiver of `to.test`.
    pub(crate) async fn receive(&self) -> Sink {
        let listen = SocketAddr::from((loopback(self.hosts[2]), SMTP_PORT));
        let dir = self.dir().join("sink");
        let sink = Sink::start(&dir, listen, "mx.to.test", Rules::default());
        sink.await.expect("a receiver")
    }

    /// What the operator says last.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir().join("operator.log")).unwrap_or_default();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("postrider"))
            .collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// The pool `pool` of one relay, at `address`, with what it has and writes in `dir`.
async fn create_pool(
    client: &Client,
    pool: &str,
    egress: &str,
    address: Ipv4Addr,
    dir: &Path,
) -> Pod {
    let listeners = json!({"submission": {"port": SUBMISSION}, "submissions": {"port": 2465}});
    let object = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
        "metadata": {"name": pool},
        "spec": {"replicas": 1, "hostname": "mail.relays.test", "listeners": listeners,
            "egress": {"addresses": [egress]},
            "delivery": {"retry": {"initial": "1s", "maximum": "2s"}}}});
    strict::create(client, &object, "").await.expect("a pool");
    Pod::start(client, pool, address, dir).await
}

async fn serve(dir: &Path, domains: &[&str], hosts: [u8; 3]) -> Bind {
    let cache = Cache::of_user().expect("a cache");
    let programs = BindPrograms::ready(&cache).await.expect("BIND");
    let key = TsigKey {
        name: "update".into(),
        secret: TSIG.into(),
    };
    let own = domains.iter().map(|name| DynamicZone {
        zone: Zone::new(&format!("{name}.test")).txt("_dmarc", "v=DMARC1; p=none"),
        updater: Some("update".into()),
    });
    let receiver = Zone::new("to.test")
        .mx("@", 10, "mx.to.test")
        .address("mx", loopback(hosts[2]).into());
    let zones: Vec<DynamicZone> = own
        .chain([DynamicZone {
            zone: receiver,
            updater: None,
        }])
        .collect();
    let bind = Bind::start(dir, &programs, &[key], &zones).await;
    bind.expect("a name server")
}

fn operate(server: &ApiServer, bind: &Bind, domains: &[&str], hosts: [u8; 3]) -> Running {
    let log = File::create(server.dir().join("operator.log")).expect("a log");
    let authorities = domains
        .iter()
        .map(|name| format!("--authority={name}.test={}", bind.address()));
    Running::start(
        Command::new(programs::built("postrider-operator"))
            .args(["--relay-image=relay:1", "--watch-namespace=default"])
            .arg(format!("--resolver={}", bind.address()))
            .args(authorities)
            .arg("--propagation-minimum=1s")
            .arg(format!("--metrics-address={}:9090", loopback(hosts[0])))
            .env("KUBECONFIG", server.kubeconfig())
            .env("RUST_LOG", "trace")
            .stderr(log),
    )
}
