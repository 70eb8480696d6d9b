//! What reaches the API: nothing while all is as wanted, one apply for a drift or a change. The API
//! is a fake: a TCP server that keeps one object, gives it to who reads, and answers every patch by
//! merging it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, Config};
use postrider_operator::apply::{Outcome, Writer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The one object, and how often it was patched.
#[derive(Default)]
struct Fake {
    object: Value,
    patches: Vec<String>,
    /// What the patches said.
    bodies: Vec<Value>,
    /// What the server makes of a value on storing it.
    respell: Option<(&'static str, &'static str)>,
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

async fn answer(
    request: Request<Incoming>,
    fake: Arc<Mutex<Fake>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.method().to_string();
    let manager = request.uri().query().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if method == "GET" {
        return Ok(read(&fake));
    }
    let patch: Value = serde_json::from_slice(&body).unwrap();
    let mut fake = fake.lock().unwrap();
    let before = fake.object.clone();
    merge(&mut fake.object, &patch);
    if let Some((path, value)) = fake.respell {
        *fake.object.pointer_mut(path).unwrap() = json!(value);
    }
    // Like the real one, the version moves only when something changed.
    if fake.object != before {
        let version = fake.patches.len() + 1;
        fake.object["metadata"]["resourceVersion"] = json!(version.to_string());
    }
    fake.patches.push(format!("{method} {manager}"));
    fake.bodies.push(patch);
    let text = fake.object.to_string();
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::new(Bytes::from(text))).unwrap())
}

fn read(fake: &Mutex<Fake>) -> Response<Full<Bytes>> {
    let object = fake.lock().unwrap().object.clone();
    let (code, body) = match object {
        Value::Null => (
            404,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                "reason": "NotFound", "message": "not found"}),
        ),
        object => (200, object),
    };
    let response = Response::builder().header("content-type", "application/json");
    let body = Full::new(Bytes::from(body.to_string()));
    response.status(code).body(body).unwrap()
}

async fn serve() -> (Writer, Arc<Mutex<Fake>>) {
    let fake = Arc::new(Mutex::new(Fake::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = fake.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let fake = served.clone();
            let service = service_fn(move |request| answer(request, fake.clone()));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let config = Config::new(format!("http://{address}").parse().unwrap());
    (Writer::new(Client::try_from(config).unwrap()), fake)
}

fn wanted(value: &str) -> ConfigMap {
    let object = json!({"metadata": {"name": "m", "namespace": "mail"}, "data": {"key": value}});
    serde_json::from_value(object).unwrap()
}

fn live(fake: &Mutex<Fake>) -> ConfigMap {
    serde_json::from_value(fake.lock().unwrap().object.clone()).unwrap()
}

/// A change by somebody else.
fn edit(fake: &Mutex<Fake>, change: &Value) {
    let mut fake = fake.lock().unwrap();
    merge(&mut fake.object, change);
    let version = fake.patches.len() + 100;
    merge(
        &mut fake.object,
        &json!({"metadata": {"resourceVersion": version.to_string()}}),
    );
}

fn count(fake: &Mutex<Fake>) -> usize {
    fake.lock().unwrap().patches.len()
}

#[tokio::test]
async fn only_what_differs_is_written() {
    let (writer, fake) = serve().await;
    let apply = async |map: ConfigMap, live: Option<ConfigMap>| {
        writer
            .apply("postrider/test", &map, live.as_ref())
            .await
            .unwrap()
    };
    assert_eq!(apply(wanted("a"), None).await, Outcome::Written);
    let patch = fake.lock().unwrap().patches[0].clone();
    assert!(
        patch.starts_with("PATCH ") && patch.contains("postrider%2Ftest"),
        "{patch}"
    );
    assert_eq!(
        apply(wanted("a"), Some(live(&fake))).await,
        Outcome::Unchanged
    );
    assert_eq!(count(&fake), 1, "nothing differs, nothing is written");

    edit(&fake, &json!({"data": {"key": "drifted"}}));
    assert_eq!(
        apply(wanted("a"), Some(live(&fake))).await,
        Outcome::Written
    );
    assert_eq!(live(&fake).data.unwrap()["key"], "a");

    edit(&fake, &json!({"data": {"foreign": "x"}}));
    assert_eq!(
        apply(wanted("a"), Some(live(&fake))).await,
        Outcome::Unchanged
    );

    let mut fewer = wanted("a");
    fewer.data = None;
    let before = count(&fake);
    assert_eq!(apply(fewer, Some(live(&fake))).await, Outcome::Written);
    assert!(
        count(&fake) > before,
        "a field no longer wanted is a difference"
    );
}

#[tokio::test]
async fn of_what_is_cached_as_a_digest_the_whole_is_written() {
    let (writer, fake) = serve().await;
    let kept = |mut map: ConfigMap| {
        for text in map.data.iter_mut().flat_map(|data| data.values_mut()) {
            *text = format!("digest of {text}");
        }
        map
    };
    let apply = async |map: ConfigMap, live: Option<ConfigMap>| {
        writer
            .apply_kept("postrider/test", &map, live.as_ref(), kept)
            .await
            .unwrap()
    };
    assert_eq!(apply(wanted("a"), None).await, Outcome::Written);
    assert_eq!(live(&fake).data.unwrap()["key"], "a");
    let cached = || Some(kept(live(&fake)));
    assert_eq!(apply(wanted("a"), cached()).await, Outcome::Unchanged);
    assert_eq!(count(&fake), 1);
    edit(&fake, &json!({"data": {"key": "drifted"}}));
    assert_eq!(apply(wanted("a"), cached()).await, Outcome::Written);
    edit(
        &fake,
        &json!({"metadata": {"annotations": {"postrider.dev/applied-digest": "x"}}}),
    );
    assert_eq!(apply(wanted("a"), cached()).await, Outcome::Written);
    assert_eq!(apply(wanted("b"), cached()).await, Outcome::Written);
    assert_eq!(live(&fake).data.unwrap()["key"], "b");
}

#[tokio::test]
async fn a_value_the_server_spells_otherwise_is_not_written_for_ever() {
    let (writer, fake) = serve().await;
    fake.lock().unwrap().respell = Some(("/data/key", "1"));
    let map = wanted("1000m");
    let first = writer.apply("postrider/test", &map, None).await.unwrap();
    assert_eq!(first, Outcome::Written);
    let after = count(&fake);
    for _ in 0..3 {
        let again = writer
            .apply("postrider/test", &map, Some(&live(&fake)))
            .await
            .unwrap();
        assert_eq!(again, Outcome::Unchanged);
    }
    assert_eq!(count(&fake), after);
}

/// What `pool` with the UID `uid` wants, or has.
fn owned(uid: &str, value: &str) -> ConfigMap {
    let owner = json!({"apiVersion": "postrider.dev/v1alpha1", "kind": "RelayPool", "name": "pool",
        "uid": uid, "controller": true});
    let mut map = wanted(value);
    map.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
    map
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone_whether_it_is_cached_or_not() {
    let (writer, fake) = serve().await;
    let apply = async |live: Option<ConfigMap>| {
        let map = owned("ours", "a");
        writer.apply("postrider/test", &map, live.as_ref()).await
    };
    for theirs in [wanted("b"), owned("theirs", "b")] {
        let mut object = serde_json::to_value(theirs).unwrap();
        object["metadata"]["uid"] = json!("x");
        fake.lock().unwrap().object = object.clone();
        for cached in [None, Some(live(&fake))] {
            let error = apply(cached).await.unwrap_err();
            assert_eq!(error.reason(), "ObjectConflict", "{error}");
        }
        assert_eq!((count(&fake), &fake.lock().unwrap().object), (0, &object));
    }
    fake.lock().unwrap().object = Value::Null;
    assert_eq!(apply(None).await.unwrap(), Outcome::Written);
    // Its own, which no cache shows yet, is written as the very one that was read.
    edit(
        &fake,
        &json!({"metadata": {"uid": "y"}, "data": {"key": "drifted"}}),
    );
    assert_eq!(apply(None).await.unwrap(), Outcome::Written);
    assert_eq!(live(&fake).data.unwrap()["key"], "a");
    let last = fake.lock().unwrap().bodies.last().cloned().unwrap();
    assert_eq!(last["metadata"]["uid"], "y");
    assert_eq!(apply(Some(live(&fake))).await.unwrap(), Outcome::Unchanged);
}
