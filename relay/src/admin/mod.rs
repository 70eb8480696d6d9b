//! What others ask a relay: probes and metrics in the clear, the report to those with a client
//! certificate of the admin CA.
//!
//! Promises: read only; at most [`CONNECTIONS`] connections at a time for each listener; every
//! answer that is no success is JSON with an `error` that says why. The admin listener uses the
//! certificate that is mounted now.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider_crds::relay_config::Report;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{config::ConfigState, ports::Stream};

/// Connections at a time to one listener: probes, a scraper or two, the operator's replicas.
const CONNECTIONS: usize = 64;
/// The wait for a TLS handshake or a request's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What there is to tell.
pub trait Facts: Send + Sync + 'static {
    /// Metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Why no mail is accepted now; `None` when it is.
    fn not_ready(&self) -> Option<String>;
    /// The report for the operator.
    fn report(&self) -> Report;
}

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    /// `/metrics`, `/healthz`, `/readyz`.
    Probes,
    /// `/v1/report`.
    Admin,
}

/// Serves probes and metrics for ever.
pub async fn serve_probes(listener: TcpListener, facts: Arc<dyn Facts>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, slot) = next(&listener, &slots).await;
        let facts = Arc::clone(&facts);
        tokio::spawn(async move {
            answer_all(stream, Listener::Probes, facts).await;
            drop(slot);
        });
    }
}

/// Serves the admin API for ever, by the certificate in `config`; without one no connection gets
/// an answer.
pub async fn serve_admin(
    listener: TcpListener,
    facts: Arc<dyn Facts>,
    config: watch::Receiver<ConfigState>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, slot) = next(&listener, &slots).await;
        let Some(tls) = config.borrow().admin_tls.clone() else {
            continue;
        };
        let facts = Arc::clone(&facts);
        tokio::spawn(async move {
            match timeout(PATIENCE, TlsAcceptor::from(tls).accept(stream)).await {
                Ok(Ok(stream)) => answer_all(stream, Listener::Admin, facts).await,
                Ok(Err(error)) => tracing::debug!(%error, "admin handshake failed"),
                Err(_) => tracing::debug!("admin handshake timed out"),
            }
            drop(slot);
        });
    }
}

async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a slot.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                tracing::warn!(%error, "admin connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer_all(stream: impl Stream, listener: Listener, facts: Arc<dyn Facts>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(listener, request.method(), request.uri().path(), &*facts);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection broke off");
    }
}

fn answer(
    listener: Listener,
    method: &Method,
    path: &str,
    facts: &dyn Facts,
) -> Response<Full<Bytes>> {
    let known = matches!(
        (listener, path),
        (Listener::Probes, "/metrics" | "/healthz" | "/readyz") | (Listener::Admin, "/v1/report")
    );
    if known && *method != Method::GET && *method != Method::HEAD {
        let text = format!("{method} {path} is not offered; use GET");
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &text);
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match (listener, path) {
        (Listener::Probes, "/metrics") => text("text/plain; version=0.0.4", facts.metrics()),
        (Listener::Probes, "/healthz") => text("text/plain", "ok\n"),
        (Listener::Probes, "/readyz") => match facts.not_ready() {
            None => text("text/plain", "ok\n"),
            Some(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason),
        },
        (Listener::Admin, "/v1/report") => match serde_json::to_vec(&facts.report()) {
            Ok(json) => respond(StatusCode::OK, "application/json", json),
            Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, &problem),
        },
        (Listener::Probes, _) => {
            let text = format!("{path} is unknown; use /metrics, /healthz or /readyz");
            error(StatusCode::NOT_FOUND, &text)
        }
        (Listener::Admin, _) => {
            let text = format!("{path} is unknown; use /v1/report");
            error(StatusCode::NOT_FOUND, &text)
        }
    }
}

fn text(kind: &'static str, body: impl Into<String>) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, kind, body.into().into_bytes())
}

fn error(status: StatusCode, problem: &dyn fmt::Display) -> Response<Full<Bytes>> {
    let json = serde_json::json!({ "error": problem.to_string() });
    respond(status, "application/json", json.to_string().into_bytes())
}

fn respond(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http_body_util::BodyExt as _;
    use postrider_crds::relay_config::QueueReport;

    use super::*;

    struct Fixed(Option<&'static str>);

    impl Facts for Fixed {
        fn metrics(&self) -> String {
            "postrider_x 1\n".into()
        }
        fn not_ready(&self) -> Option<String> {
            self.0.map(Into::into)
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
    }

    async fn ask(listener: Listener, method: Method, path: &str, facts: Fixed) -> (u16, String) {
        let response = answer(listener, &method, path, &facts);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_listener_answers_its_own_paths() {
        for (listener, method, path, status, part) in [
            (Listener::Probes, Method::GET, "/healthz", 200, "ok"),
            (
                Listener::Probes,
                Method::GET,
                "/metrics",
                200,
                "postrider_x",
            ),
            (
                Listener::Probes,
                Method::GET,
                "/readyz",
                503,
                "spool is full",
            ),
            (
                Listener::Probes,
                Method::GET,
                "/v1/report",
                404,
                "/v1/report",
            ),
            (Listener::Probes, Method::POST, "/readyz", 405, "GET"),
            (Listener::Admin, Method::GET, "/v1/report", 200, "default-0"),
            (Listener::Admin, Method::GET, "/metrics", 404, "/metrics"),
        ] {
            let (found, body) = ask(listener, method, path, Fixed(Some("spool is full"))).await;
            assert_eq!(found, status, "{path}: {body}");
            assert!(body.contains(part), "{path}: {body}");
            assert!(status < 400 || body.starts_with("{\"error\":"), "{body}");
        }
        let (status, _) = ask(Listener::Probes, Method::GET, "/readyz", Fixed(None)).await;
        assert_eq!(status, 200);
    }
}
