//! What the operator makes of a pool's names and addresses and of MTA-STS and TLSRPT, asked of a real
//! name server and a real web server: from nothing to all verified, and what is said when one of it
//! goes wrong.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::Timestamp;
use postrider_crds::{RecordPurpose, RecordState, RelayPool, SendingDomain};
use postrider_e2e::{
    cluster::Cache,
    peers::{HttpsServer, Nsd, Response, StopOnDrop, dns::Zone, loopback},
};
use postrider_operator::{
    dns::{HickoryResolver, HttpsPolicyHosts, mta_sts::Reach},
    metrics::Metrics,
    relay_pool::dns::{Inputs, look},
    sending_domain::{
        observe::{self, Observation},
        plan::{Plan, plan},
    },
};
use rustls::RootCertStore;
use serde_json::json;

/// Host octet of the web server's address; each test has a name server at another.
const WEB_SERVER: u8 = 72;
const DNS_PORT: u16 = 5300;
const HTTPS_PORT: u16 = 8443;
const PATH: &str = "/.well-known/mta-sts.txt";

fn pool() -> RelayPool {
    serde_json::from_value(json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
        "metadata": {"name": "default", "namespace": "mail"},
        "spec": {"hostname": "mail-{ordinal}.relays.test", "replicas": 2,
                 "egress": {"addresses": ["192.0.2.10", "2001:db8::10"]}},
    }))
    .unwrap()
}

fn domain() -> SendingDomain {
    serde_json::from_value(json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
        "metadata": {"name": "shop", "namespace": "mail"},
        "spec": {"domain": "shop.test", "poolRef": {"name": "default"},
                 "verification": {"mtaSts": "Required", "tlsRpt": "Required"}},
    }))
    .unwrap()
}

/// Where everything runs.
struct World {
    name_server: SocketAddr,
    dir: tempfile::TempDir,
    cache: Cache,
    _stop: Vec<StopOnDrop>,
}

impl World {
    /// A name server for `zones` from now on; the one before has been stopped.
    async fn serve(&mut self, zones: &[Zone]) -> Nsd {
        let dir = self.dir.path().join("nsd");
        self._stop.push(StopOnDrop(dir.clone()));
        Nsd::start(&dir, &self.cache, self.name_server, zones)
            .await
            .unwrap()
    }

    fn resolver(&self) -> HickoryResolver {
        HickoryResolver::new(&[self.name_server], Arc::new(Metrics::new().unwrap())).unwrap()
    }

    async fn planned(&self, policies: &HttpsPolicyHosts) -> Plan {
        let observation = Observation::of_manifest(&domain(), Some(&pool()));
        let look = observe::look(&self.resolver(), policies, &observation).await;
        plan(&observation.with_look(&look), Timestamp::UNIX_EPOCH)
    }
}

fn world(host: u8) -> World {
    World {
        name_server: SocketAddr::from((loopback(host), DNS_PORT)),
        dir: tempfile::tempdir().unwrap(),
        cache: Cache::of_user().unwrap(),
        _stop: Vec::new(),
    }
}

/// The zones of the domain and its pool with `records` of the one that each name lies in put in.
fn zones(records: &[(String, &'static str, String)]) -> Vec<Zone> {
    let zones = [
        "shop.test",
        "relays.test",
        "2.0.192.in-addr.arpa",
        "8.b.d.0.1.0.0.2.ip6.arpa",
    ];
    let web = IpAddr::from(loopback(WEB_SERVER));
    zones
        .into_iter()
        .map(|origin| {
            let mut zone = Zone::new(origin);
            if origin == "shop.test" {
                zone = zone.mx("@", 10, "mx.shop.test").address("mta-sts", web);
                zone = zone.address("mta-sts.bounce", web);
            }
            let suffix = format!(".{origin}");
            let inside = records.iter().filter(|(name, ..)| name.ends_with(&suffix));
            inside.fold(zone, |zone, (name, kind, data)| match *kind {
                "TXT" => zone.txt(&format!("{name}."), data),
                kind => zone.record(&format!("{name}."), kind, data),
            })
        })
        .collect()
}

fn condition(plan: &Plan, type_: &str) -> (String, String, String) {
    let mut conditions = plan.status.conditions.iter();
    let found = conditions.find(|c| c.type_ == type_).unwrap();
    (
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    )
}

fn policy(mx: &str) -> Response {
    Response {
        path: PATH,
        status: "200 OK",
        content_type: "text/plain",
        body: format!("version: STSv1\r\nmode: enforce\r\nmx: {mx}\r\nmax_age: 604800\r\n"),
    }
}

/// What is listed, published as it is listed, is what verifies the pool.
#[tokio::test]
async fn what_a_pool_lists_is_what_its_addresses_need() {
    let mut world = world(71);
    let nsd = world.serve(&zones(&[])).await;
    let (resolver, pool) = (world.resolver(), pool());
    let inputs = Inputs::of(&pool);
    let listed = look(&resolver, &inputs).await.records(&pool, &[]);
    assert!(
        listed
            .iter()
            .all(|record| record.state == RecordState::Missing),
        "{listed:#?}"
    );
    let kinds = ["TXT", "TXT", "A", "AAAA", "PTR", "PTR"];
    let found: Vec<String> = listed.iter().map(|r| format!("{:?}", r.r#type)).collect();
    assert_eq!(found, kinds);
    nsd.stop().await.unwrap();

    let records: Vec<_> = listed
        .iter()
        .zip(kinds)
        .map(|(record, kind)| (record.name.clone(), kind, record.wanted.clone()))
        .collect();
    let nsd = world.serve(&zones(&records)).await;
    let seen = look(&resolver, &inputs).await.records(&pool, &[]);
    assert!(
        seen.iter()
            .all(|record| record.state == RecordState::Verified),
        "{seen:#?}"
    );
    nsd.stop().await.unwrap();

    // A name that leads elsewhere since.
    let moved = |(name, kind, data): &(String, &'static str, String)| match *kind {
        "A" => (name.clone(), "A", "192.0.2.99".to_owned()),
        kind => (name.clone(), kind, data.clone()),
    };
    let records: Vec<_> = records.iter().map(moved).collect();
    let nsd = world.serve(&zones(&records)).await;
    let seen = look(&resolver, &inputs).await.records(&pool, &listed);
    let wrong: Vec<_> = seen
        .iter()
        .filter(|record| record.state == RecordState::Mismatch)
        .map(|record| format!("{:?} {}", record.r#type, record.name))
        .collect();
    assert_eq!(
        wrong,
        ["A mail-0.relays.test", "PTR 10.2.0.192.in-addr.arpa"]
    );
    nsd.stop().await.unwrap();
    let seen = look(&resolver, &inputs).await.records(&pool, &listed);
    assert!(
        seen.iter()
            .all(|record| record.state == RecordState::Unknown),
        "{seen:#?}"
    );
    let wanted = |records: &[postrider_crds::RecordStatus]| -> Vec<String> {
        records.iter().map(|record| record.wanted.clone()).collect()
    };
    assert_eq!(
        wanted(&seen),
        wanted(&listed),
        "trouble changes nothing that is wanted"
    );
}

#[tokio::test]
async fn answers_are_protected_once_records_and_policies_are_there() {
    let mut world = world(73);
    let listen = SocketAddr::from((loopback(WEB_SERVER), HTTPS_PORT));
    let web = HttpsServer::start(listen, "mta-sts.shop.test", policy("mx.shop.test")).await;
    let web = web.unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(web.authority().clone()).unwrap();
    let policies = HttpsPolicyHosts::new(roots, HTTPS_PORT, Reach::Anywhere);

    let nsd = world.serve(&zones(&[])).await;
    let records = listed_where_nothing_is(&world, &policies).await;
    nsd.stop().await.unwrap();
    let nsd = world.serve(&zones(&records)).await;
    the_certificate_is_that_of_one_domain(&world, &policies).await;
    each_answer_is_judged(&world, &policies, &web).await;
    web.stop().await;
    let (status, reason, message) = mta_sts(&world, &policies).await;
    assert_eq!((&status[..], &reason[..]), ("Unknown", "PolicyUnavailable"));
    assert!(message.contains("cannot be reached"), "{message}");
    nsd.stop().await.unwrap();
    let (status, reason, _) = mta_sts(&world, &policies).await;
    assert_eq!((&status[..], &reason[..]), ("Unknown", "DNSUnavailable"));
}

async fn mta_sts(world: &World, policies: &HttpsPolicyHosts) -> (String, String, String) {
    condition(&world.planned(policies).await, "MTASTSVerified")
}

/// The records that are asked for: two of each kind.
async fn listed_where_nothing_is(
    world: &World,
    policies: &HttpsPolicyHosts,
) -> Vec<(String, &'static str, String)> {
    let nothing = world.planned(policies).await;
    let (status, reason, message) = condition(&nothing, "MTASTSVerified");
    assert_eq!((&status[..], &reason[..]), ("False", "RecordMissing"));
    assert!(message.contains("mx: mx.shop.test"), "{message}");
    assert_eq!(condition(&nothing, "TLSRPTVerified").1, "RecordMissing");
    let ours = [RecordPurpose::MTASTS, RecordPurpose::TLSRPT];
    let records = nothing.status.records.iter();
    let records: Vec<_> = records
        .filter(|record| ours.contains(&record.purpose))
        .map(|record| (record.name.clone(), "TXT", record.wanted.clone()))
        .collect();
    assert_eq!(records.len(), 4, "{records:?}");
    records
}

/// It is the domain's and not that of its return path.
async fn the_certificate_is_that_of_one_domain(world: &World, policies: &HttpsPolicyHosts) {
    let published = world.planned(policies).await;
    assert_eq!(condition(&published, "TLSRPTVerified").0, "True");
    let (status, reason, message) = condition(&published, "MTASTSVerified");
    assert_eq!((&status[..], &reason[..]), ("False", "PolicyInvalid"));
    assert!(
        message.starts_with("_mta-sts.bounce.shop.test: "),
        "{message}"
    );
    assert!(
        message.contains("certificate that does not name it"),
        "{message}"
    );
}

async fn each_answer_is_judged(world: &World, policies: &HttpsPolicyHosts, web: &HttpsServer) {
    let good = || policy("mx.shop.test");
    let moved = Response {
        status: "301 Moved Permanently",
        ..good()
    };
    let page = Response {
        content_type: "text/html",
        ..good()
    };
    let elsewhere = Response {
        path: "/elsewhere.txt",
        ..good()
    };
    for (answer, state, part) in [
        (good(), RecordState::Verified, ""),
        (policy("*.shop.test"), RecordState::Verified, ""),
        (
            policy("mx.other.test"),
            RecordState::Mismatch,
            "keep mail from mx.shop.test",
        ),
        (moved, RecordState::Mismatch, "redirect"),
        (page, RecordState::Mismatch, "Content-Type"),
        (elsewhere, RecordState::Mismatch, "answers 404"),
    ] {
        web.set(answer);
        let seen = world.planned(policies).await;
        let mut records = seen.status.records.iter();
        let own = records.find(|r| r.name == "_mta-sts.shop.test").unwrap();
        assert_eq!(own.state, state, "{}", own.message);
        assert!(own.message.contains(part), "{}", own.message);
    }
}
