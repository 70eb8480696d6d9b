//! Paths, methods and refusals of the endpoints, without a socket.

use std::{collections::BTreeMap, sync::Mutex};

use http_body_util::BodyExt as _;
use postrider_crds::{
    queue::{Order, Scope, Verb},
    relay_config::QueueReport,
};

use super::*;

/// Says what it is told to, and remembers commands.
#[derive(Default)]
struct Fixed {
    problem: Option<&'static str>,
    refuses: Option<OrderError>,
    commands: Mutex<Vec<Command>>,
}

impl Facts for Fixed {
    fn metrics(&self) -> String {
        "postrider_x 1\n".into()
    }
    fn not_ready(&self) -> Option<String> {
        self.problem.map(Into::into)
    }
    fn report(&self) -> Report {
        Report {
            pod: "default-0".into(),
            documents: BTreeMap::new(),
            refused: Vec::new(),
            queue: QueueReport::default(),
            remaining: BTreeMap::new(),
            not_ready: self.not_ready(),
        }
    }
    fn queue(&self) -> BoxFuture<'_, QueueOverview> {
        let pod = "default-0".into();
        Box::pin(async move {
            QueueOverview {
                pod,
                ..QueueOverview::default()
            }
        })
    }
    fn order(&self, command: Command) -> BoxFuture<'_, Result<OrderAnswer, OrderError>> {
        self.commands.lock().unwrap().push(command.clone());
        let order = Order {
            number: 1,
            verb: command.verb,
            scope: command.scope,
            by: command.by,
            client: command.client,
            reason: command.reason,
            given: "2026-01-01T00:00:00Z".parse().unwrap(),
            until: None,
        };
        let refused = self.refuses.clone();
        Box::pin(async move {
            refused.map_or_else(
                || {
                    Ok(OrderAnswer {
                        pod: "default-0".into(),
                        order: Some(order),
                        messages: 7,
                        ended: Vec::new(),
                    })
                },
                Err,
            )
        })
    }
}

fn admin() -> Listener {
    Listener::Admin {
        client: "postrider-operator".into(),
    }
}

async fn ask(
    listener: &Listener,
    method: Method,
    path: &str,
    (body, facts): (&str, &Fixed),
) -> (u16, String) {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let request = Request::builder().method(method).uri(path);
    let response = answer(listener, request.body(body).unwrap(), facts).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn each_listener_answers_its_own_paths() {
    let facts = Fixed {
        problem: Some("spool is full"),
        ..Fixed::default()
    };
    let probes = Listener::Probes;
    for (listener, method, path, status, part) in [
        (&probes, Method::GET, "/healthz", 200, "ok"),
        (&probes, Method::GET, "/metrics", 200, "postrider_x"),
        (&probes, Method::GET, "/readyz", 503, "spool is full"),
        (&probes, Method::GET, "/v1/report", 404, "/v1/report"),
        (
            &probes,
            Method::POST,
            "/v1/queue/orders",
            404,
            "/v1/queue/orders",
        ),
        (&probes, Method::POST, "/readyz", 405, "use GET"),
        (&admin(), Method::GET, "/v1/report", 200, "default-0"),
        (&admin(), Method::GET, "/v1/queue", 200, "default-0"),
        (&admin(), Method::GET, "/v1/queue/orders", 405, "use POST"),
        (&admin(), Method::POST, "/v1/queue", 405, "use GET"),
        (&admin(), Method::GET, "/metrics", 404, "/v1/queue/orders"),
    ] {
        let (found, body) = ask(listener, method, path, ("", &facts)).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body.contains(part), "{path}: {body}");
        assert!(status < 400 || body.starts_with("{\"error\":"), "{body}");
    }
    let ready = Fixed::default();
    let (status, _) = ask(&probes, Method::GET, "/readyz", ("", &ready)).await;
    assert_eq!(status, 200);
}

async fn post(body: &str, facts: &Fixed) -> (u16, String) {
    ask(&admin(), Method::POST, paths::ORDERS, (body, facts)).await
}

#[tokio::test]
async fn an_order_is_obeyed_for_who_gave_it() {
    let facts = Fixed::default();
    let body = r#"{"verb":"hold","domain":"one.test","reason":"INC-7","by":"ann"}"#;
    let (status, body) = post(body, &facts).await;
    assert_eq!(status, 200, "{body}");
    let answer: OrderAnswer = serde_json::from_str(&body).unwrap();
    assert_eq!((answer.pod.as_str(), answer.messages), ("default-0", 7));
    let commands = facts.commands.lock().unwrap().clone();
    let wanted = Command {
        verb: Verb::Hold,
        scope: Scope::Domain("one.test".parse().unwrap()),
        by: "ann".into(),
        client: "postrider-operator".into(),
        reason: "INC-7".into(),
        until: None,
    };
    assert_eq!(commands, [wanted]);
}

#[tokio::test]
async fn what_is_no_order_is_refused_by_name() {
    let facts = Fixed::default();
    let long = format!("{{\"reason\":\"{}\"}}", "x".repeat(20_000));
    for (body, status, parts) in [
        ("", 400, ["body is no order", "send a JSON object"]),
        ("[]x", 400, ["body is no order", "send a JSON object"]),
        (
            r#"{"verb":"hold","resaon":"x"}"#,
            400,
            ["`resaon`", "`reason`"],
        ),
        (
            r#"{"verb":"hold","reason":5}"#,
            400,
            ["`5`", "expected a string"],
        ),
        (
            r#"{"verb":"hold","domain":"one.test"}"#,
            400,
            ["reason: \\\"\\\"", "write why"],
        ),
        (
            r#"{"verb":"hold","domain":"one.test","tenant":"t","reason":"x"}"#,
            400,
            ["both domain", "give exactly one"],
        ),
        (&long, 413, ["16384", "one order"]),
    ] {
        let (found, answer) = post(body, &facts).await;
        assert_eq!(found, status, "{answer}");
        for part in parts {
            assert!(answer.contains(part), "{part} in {answer}");
        }
    }
    assert!(facts.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_custody_refuses_has_a_status_of_its_own() {
    let id = "00000000000000000000000007";
    let body = format!(r#"{{"verb":"hold","message":"{id}","reason":"x"}}"#);
    for (refuses, status) in [
        (OrderError::UnknownMessage(id.parse().unwrap()), 404),
        (OrderError::TooMany, 409),
        (OrderError::Restoring, 503),
    ] {
        let told = refuses.to_string();
        let facts = Fixed {
            refuses: Some(refuses),
            ..Fixed::default()
        };
        let (found, answer) = post(&body, &facts).await;
        assert_eq!(found, status);
        assert!(answer.contains(&told), "{answer}");
    }
}

#[test]
fn a_certificate_without_names_has_one_all_the_same() {
    assert_eq!(queue::name_of(None), "a certificate without a name");
    let made = rcgen::generate_simple_self_signed(["operator.example".to_owned()]).unwrap();
    let der = made.cert.der().clone();
    assert_eq!(queue::name_of(Some(&[der])), "operator.example");
}
