//! A pod that joins a pool has the orders that the others have in force, with who gave them and why; one
//! that comes back has what was given while it was away; and what was ended stays so.

use std::{net::Ipv4Addr, process::Command, time::Duration};

use http_body_util::Full;
use hyper::{Request, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use postrider_crds::{
    RelayPool,
    queue::{Order, OrderAnswer, QueueOverview, paths},
    relay_config::ports,
};
use postrider_e2e::{
    cluster::{ApiServer, wait_for},
    peers::loopback,
};
use postrider_operator::relay_pool::{admin_client, certificates};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    crd_manifests::define,
    pod::{Pod, objects},
    programs::{self, Running},
    strict,
};

/// How long a step may take on a busy machine.
const BOUND: Duration = Duration::from_secs(180);
const POOL: &str = "default";
/// Last octets of addresses: the operator's, the members'.
const HOSTS: [u8; 5] = [81, 82, 83, 84, 85];

struct World {
    client: Client,
    server: ApiServer,
    _operator: Running,
}

impl World {
    async fn start() -> Self {
        let server = ApiServer::start().await.expect("an API server");
        let client = server.client().await.expect("a client");
        define(&client).await;
        let pool = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool",
            "metadata": {"name": POOL}, "spec": {"hostname": "mail.relays.test",
                "listeners": {"submission": {"port": 2587}, "submissions": null}}});
        strict::create(&client, &pool, "").await.expect("a pool");
        let log = std::fs::File::create(server.dir().join("operator.log")).expect("a log");
        let operator = Running::start(
            Command::new(programs::built("postrider-operator"))
                .args(["--relay-image=relay:1", "--watch-namespace=default"])
                .args(["--resolver", "127.0.0.1:9"])
                .arg(format!("--metrics-address={}:9090", loopback(HOSTS[0])))
                .env("KUBECONFIG", server.kubeconfig())
                .stderr(log),
        );
        Self {
            client,
            server,
            _operator: operator,
        }
    }

    /// Member `ordinal`, with its volume if it was here before.
    async fn member(&self, ordinal: usize) -> Pod {
        let dir = self.server.dir().join(format!("member-{ordinal}"));
        std::fs::create_dir_all(&dir).expect("a folder");
        Pod::member(&self.client, (POOL, ordinal), address(ordinal), &dir).await
    }

    async fn scale(&self, replicas: u32) {
        let pools: Api<RelayPool> = Api::default_namespaced(self.client.clone());
        let patch = json!({"spec": {"replicas": replicas}});
        let scaled = pools
            .patch(POOL, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        scaled.expect("scaled");
    }

    /// What member `ordinal` answers to `request`, once it does.
    async fn ask(
        &self,
        ordinal: usize,
        request: impl Fn() -> Request<Full<hyper::body::Bytes>>,
    ) -> Vec<u8> {
        let answer = wait_for("an answer", BOUND, "-", async || {
            let secrets: Api<Secret> = Api::default_namespaced(self.client.clone());
            let Some(secret) = secrets.get_opt("default-ca").await.expect("an answer") else {
                return Ok(None);
            };
            let material = certificates::client_material(&secret).expect("certificates");
            let connector = admin_client::connector(&material).expect("usable ones");
            let Ok(stream) = TcpStream::connect((address(ordinal), ports::ADMIN)).await else {
                return Ok(None);
            };
            let server = postrider_operator::names::admin_server_name("default", POOL);
            let answer = admin_client::exchange(stream, &server, &connector, request()).await;
            Ok(answer.ok().filter(|(status, _)| *status == StatusCode::OK))
        });
        answer.await.expect("answered").1.to_vec()
    }

    async fn order(&self, ordinal: usize, order: &Value) -> Order {
        let body = serde_json::to_vec(order).expect("plain data");
        let request = || {
            let post = Request::post(paths::ORDERS).body(Full::from(body.clone()));
            post.expect("a request")
        };
        let answer: OrderAnswer =
            serde_json::from_slice(&self.ask(ordinal, request).await).expect("an answer");
        answer
            .order
            .or_else(|| answer.ended.into_iter().next())
            .expect("an order")
    }

    async fn orders(&self, ordinal: usize) -> Vec<Order> {
        let request = || {
            Request::get(paths::QUEUE)
                .body(Full::default())
                .expect("a request")
        };
        let overview: QueueOverview =
            serde_json::from_slice(&self.ask(ordinal, request).await).expect("an overview");
        overview.orders
    }

    /// What the volume of member `ordinal` says, once it is `wanted`.
    async fn volume(&self, ordinal: usize, wanted: fn(&str) -> bool) {
        let claims = objects(&self.client, "", "PersistentVolumeClaim");
        let name = format!("spool-{POOL}-{ordinal}");
        let what = format!("the mark on {name}");
        let marked = wait_for(&what, BOUND, "-", async || {
            let claim: DynamicObject = claims.get(&name).await.expect("the volume");
            let marks = claim.metadata.annotations.unwrap_or_default();
            let mark = marks.get("postrider.dev/orders").map(String::as_str);
            Ok(mark.is_some_and(wanted).then_some(()))
        });
        let log = std::fs::read_to_string(self.server.dir().join("operator.log"));
        marked
            .await
            .unwrap_or_else(|error| panic!("{error}; {log:?}"));
    }
}

fn address(ordinal: usize) -> Ipv4Addr {
    loopback(HOSTS[ordinal + 1])
}

fn told(orders: &[Order]) -> Vec<String> {
    let told = orders
        .iter()
        .map(|o| format!("{} {} by {}: {}", o.verb, o.scope, o.by, o.reason));
    let mut told: Vec<String> = told.collect();
    told.sort();
    told
}

const HELD: &str = "hold tenant shop/app by ann: INC-7: compromised account";
const SLOW: &str = "suspend site mx.slow.test by bob: INC-8: they asked us to";
const LATE: &str = "hold domain late.test by ann: INC-9";

#[tokio::test]
async fn once_and_with_who_and_why() {
    let world = World::start().await;
    let _first = world.member(0).await;
    world.volume(0, |mark| mark == "known").await;
    for order in [
        json!({"verb": "hold", "tenant": "shop/app", "by": "ann", "reason": "INC-7: compromised account"}),
        json!({"verb": "suspend", "site": "mx.slow.test", "by": "bob", "reason": "INC-8: they asked us to"}),
        json!({"verb": "hold", "domain": "over.test", "by": "ann", "reason": "INC-6"}),
        json!({"verb": "release", "domain": "over.test", "by": "ann", "reason": "INC-6: over"}),
    ] {
        world.order(0, &order).await;
    }
    assert_eq!(told(&world.orders(0).await), [HELD, SLOW]);

    world.scale(2).await;
    let second = world.member(1).await;
    world.volume(1, |mark| mark == "known").await;
    assert_eq!(told(&world.orders(1).await), [HELD, SLOW]);
    let events = objects(&world.client, "events.k8s.io", "Event");
    let all = events
        .list(&Default::default())
        .await
        .expect("events")
        .items;
    let note = all
        .iter()
        .find(|event| event.data["reason"] == "OrdersHandedOn");
    let note = note.expect("an event").data["note"].to_string();
    assert!(
        note.contains("default-1") && note.contains("hold tenant shop/app (ann: INC-7"),
        "{note}"
    );

    world.scale(1).await;
    second.remove(&world.client).await;
    world
        .volume(1, |mark| mark.parse::<jiff::Timestamp>().is_ok())
        .await;
    let late = json!({"verb": "hold", "domain": "late.test", "by": "ann", "reason": "INC-9"});
    world.order(0, &late).await;
    world.scale(2).await;
    let _second = world.member(1).await;
    world.volume(1, |mark| mark == "known").await;
    let mut wanted = [HELD, SLOW, LATE];
    wanted.sort_unstable();
    assert_eq!(told(&world.orders(1).await), wanted);

    // Ended at one of them, it is not brought back by the other.
    let over = json!({"verb": "release", "domain": "late.test", "by": "ann", "reason": "over"});
    world.order(1, &over).await;
    world.scale(3).await;
    let mut third = world.member(2).await;
    world.volume(2, |mark| mark == "known").await;
    assert_eq!(told(&world.orders(2).await), wanted);
    assert_eq!(told(&world.orders(1).await), [HELD, SLOW]);

    third.kill();
    ended_while_one_is_silent(&world).await;
}

/// An order that is ended at a pod that has just come stays so, though it is in force at the others and
/// one of them does not answer, so that they are compared again and again.
async fn ended_while_one_is_silent(world: &World) {
    world.scale(4).await;
    let _fourth = world.member(3).await;
    // The volume says what it has been given, by a digest each.
    world
        .volume(3, |mark| mark.starts_with("new ") && mark.contains('@'))
        .await;
    let mut all = [HELD, SLOW, LATE];
    all.sort_unstable();
    assert_eq!(told(&world.orders(3).await), all);
    let over = json!({"verb": "release", "tenant": "shop/app", "by": "ann", "reason": "over"});
    world.order(3, &over).await;
    // Once this has come they have been compared again.
    let next = json!({"verb": "hold", "domain": "next.test", "by": "ann", "reason": "INC-10"});
    world.order(0, &next).await;
    let mut wanted = [SLOW, LATE, "hold domain next.test by ann: INC-10"];
    wanted.sort_unstable();
    let came = wait_for("the next order", BOUND, "-", async || {
        let orders = told(&world.orders(3).await);
        let next = orders.iter().any(|order| order.contains("next.test"));
        Ok(next.then_some(orders))
    });
    assert_eq!(came.await.expect("handed on"), wanted);
}
