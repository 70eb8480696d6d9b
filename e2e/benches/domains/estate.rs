//! What is declared: a pool, a sender, domains, their zone, and, for an estate, keys that sign.

use futures::future;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use postrider_crds::{SendingDomain, relay_config::KeyAlgorithm};
use postrider_e2e::peers::{dns::Zone, loopback};
use postrider_operator::{
    dns::dkim::PublicKey,
    keys::{DkimKey, KeyState, Life, algorithm_name},
    sending_domain::key,
};
use serde_json::{Value, json};

use crate::ground::{Ground, NAMESPACE, collection};

/// The zone that holds every domain.
pub(crate) const PARENT: &str = "many.test";
/// The pool's name.
pub(crate) const POOL: &str = "pool";
/// The Secret of the one who may send as every domain.
const SENDER: &str = "app";
/// The pool's address as the world sees it.
const EGRESS: &str = "203.0.113.10";
/// Different key pairs of an algorithm.
const PAIRS: usize = 16;

/// Domains, numbered from 0.
pub(crate) struct Estate {
    count: usize,
    keys: Vec<Vec<Pair>>,
}

/// A key pair made beforehand.
struct Pair {
    algorithm: KeyAlgorithm,
    private: String,
    public: PublicKey,
}

impl Estate {
    /// `count` domains without keys.
    pub(crate) fn without_keys(count: usize) -> Self {
        Self {
            count,
            keys: Vec::new(),
        }
    }

    /// `count` domains with a key of each of `algorithms`.
    pub(crate) async fn with_keys(count: usize, algorithms: &[KeyAlgorithm]) -> Self {
        let pairs = algorithms.iter().map(|algorithm| {
            let algorithm = *algorithm;
            tokio::task::spawn_blocking(move || (0..PAIRS).map(|_| Pair::make(algorithm)).collect())
        });
        let keys = future::try_join_all(pairs).await.expect("keys are made");
        Self { count, keys }
    }

    /// The zone with what every domain needs of DNS: mail exchange, SPF, DMARC, and the records
    /// of the keys made beforehand and of `more`, by owner name.
    pub(crate) fn zone(&self, serial: u32, more: &[(String, String)]) -> Zone {
        let host = format!("mail.{PARENT}");
        let spf = format!("v=spf1 ip4:{EGRESS} -all");
        let mut zone = Zone::new(PARENT)
            .serial(serial)
            .name_server("ns", loopback(53).into())
            .address("mail", EGRESS.parse().expect("an address"))
            .txt("mail", &spf);
        for number in 0..self.count {
            let name = name(number);
            zone = zone
                .mx(&format!("bounce.{name}"), 10, &host)
                .txt(&format!("bounce.{name}"), &spf)
                .txt(&format!("_dmarc.{name}"), "v=DMARC1; p=none");
            for pair in self.pairs(number) {
                let owner = format!("{}._domainkey.{name}", selector(pair.algorithm));
                zone = zone.txt(&owner, &pair.public.record());
            }
        }
        let tail = format!(".{PARENT}");
        for (owner, text) in more {
            let owner = owner.strip_suffix(&tail).expect("a name of the zone");
            zone = zone.txt(owner, text);
        }
        zone
    }

    /// Creates pool, sender, domains and keys.
    pub(crate) async fn declare(&self, ground: &Ground, algorithms: &[KeyAlgorithm]) {
        ground.create_one(&collection("relaypools"), pool()).await;
        ground.create_one(&secrets(), sender()).await;
        let domains = (0..self.count).map(|number| domain(number, algorithms));
        let created = ground
            .create(&collection("sendingdomains"), domains.collect())
            .await;
        let keys = created
            .into_iter()
            .enumerate()
            .flat_map(|(number, object)| {
                let domain: SendingDomain = serde_json::from_value(object).expect("a domain");
                let pairs = self.pairs(number);
                let secrets = pairs.map(|pair| pair.secret(&domain)).collect::<Vec<_>>();
                secrets.into_iter()
            });
        ground.create(&secrets(), keys.collect()).await;
    }

    /// Creates `more` domains without keys, of which DNS knows nothing.
    pub(crate) async fn add(&self, more: usize, ground: &Ground, algorithms: &[KeyAlgorithm]) {
        let numbers = self.count..self.count + more;
        let domains = numbers.map(|number| domain(number, algorithms));
        let path = collection("sendingdomains");
        ground.create(&path, domains.collect()).await;
    }

    fn pairs(&self, number: usize) -> impl Iterator<Item = &Pair> {
        let pairs = self.keys.iter();
        pairs.filter_map(move |pairs| pairs.get(number % pairs.len()))
    }
}

impl Pair {
    fn make(algorithm: KeyAlgorithm) -> Self {
        let private = key::generate(algorithm).expect("a key");
        let public = key::public_key(algorithm, &private).expect("its public half");
        Self {
            algorithm,
            private,
            public,
        }
    }

    /// The Secret of a key of `domain` that signs already, as the operator keeps it.
    fn secret(&self, domain: &SendingDomain) -> Value {
        let now = Timestamp::UNIX_EPOCH;
        let name = domain.name_any();
        let key = DkimKey {
            secret: format!("{name}-{}-1", algorithm_name(self.algorithm).to_lowercase()),
            sending_domain: name.clone(),
            selector: selector(self.algorithm).parse().expect("a selector"),
            algorithm: self.algorithm,
            life: Life {
                seen: Some(now),
                activated: Some(now),
                ..Life::new(now, None).at(KeyState::Active, now)
            },
            private_key: self.private.clone().into(),
        };
        let mut secret = key.to_secret();
        secret.metadata.namespace = Some(NAMESPACE.to_owned());
        secret.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "postrider.dev/v1alpha1".to_owned(),
            kind: "SendingDomain".to_owned(),
            name,
            uid: domain.uid().expect("a stored object"),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        serde_json::to_value(secret).expect("plain data")
    }
}

/// The name of the domain `number`, and its first label.
pub(crate) fn name(number: usize) -> String {
    format!("d{number:05}")
}

/// The path of Secrets.
pub(crate) fn secrets() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets")
}

fn selector(algorithm: KeyAlgorithm) -> String {
    format!("pr-{}", algorithm_name(algorithm).to_lowercase())
}

/// The senders of a domain that may send from these addresses only; from any if there are none.
pub(crate) fn senders(addresses: &[String]) -> Value {
    json!([{"secretRef": {"name": SENDER}, "addresses": addresses}])
}

fn domain(number: usize, algorithms: &[KeyAlgorithm]) -> Value {
    let name = name(number);
    let keys: Vec<Value> = algorithms
        .iter()
        .map(|algorithm| json!({"algorithm": algorithm_name(*algorithm)}))
        .collect();
    json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "domain": format!("{name}.{PARENT}"), "poolRef": {"name": POOL},
            "dkim": {"keys": keys}, "senders": senders(&[]),
        },
    })
}

fn pool() -> Value {
    json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {"replicas": 1, "hostname": format!("mail.{PARENT}"),
                 "egress": {"addresses": [EGRESS]}},
    })
}

fn sender() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": SENDER, "namespace": NAMESPACE},
        "stringData": {"username": "app", "password": "a password of benchmarks"},
    })
}
