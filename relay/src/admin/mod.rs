//! What others ask a relay: probes and metrics in the clear; the report, the queue and orders about
//! it for those with a client certificate of the admin CA.
//!
//! Promises: at most [`CONNECTIONS`] connections at a time for each listener; every
//! answer that is no success is JSON with an `error` that says why. The admin listener uses the
//! certificate that is mounted now.

mod queue;

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Body,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider_crds::{
    queue::{Command, OrderAnswer, QueueOverview, paths},
    relay_config::Report,
};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{config::ConfigState, custody::OrderError, ports::Stream};

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
    /// How much waits for what.
    fn queue(&self) -> BoxFuture<'_, QueueOverview>;
    /// Obeys a command.
    fn order(&self, command: Command) -> BoxFuture<'_, Result<OrderAnswer, OrderError>>;
}

/// Which listener a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listener {
    /// `/metrics`, `/healthz`, `/readyz`.
    Probes,
    /// `/v1/...`.
    Admin {
        /// The name in the client's certificate.
        client: String,
    },
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
                Ok(Ok(stream)) => {
                    let client = queue::name_of(stream.get_ref().1.peer_certificates());
                    answer_all(stream, Listener::Admin { client }, facts).await;
                }
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
    let listener = Arc::new(listener);
    let service = service_fn(move |request| {
        let (listener, facts) = (Arc::clone(&listener), Arc::clone(&facts));
        async move { Ok::<_, Infallible>(answer(&listener, request, &*facts).await) }
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

async fn answer<B>(
    listener: &Listener,
    request: Request<B>,
    facts: &dyn Facts,
) -> Response<Full<Bytes>>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let (known, offered): (_, &[Method]) = match listener {
        Listener::Probes => (
            "/metrics, /healthz or /readyz",
            &[Method::GET, Method::HEAD],
        ),
        Listener::Admin { .. } if path == paths::ORDERS => ("", &[Method::POST]),
        Listener::Admin { .. } => (
            "/v1/report, /v1/queue or /v1/queue/orders",
            &[Method::GET, Method::HEAD],
        ),
    };
    let is_offered = offered.contains(&head.method);
    match (listener, path) {
        (Listener::Probes, "/metrics" | "/healthz" | "/readyz")
        | (Listener::Admin { .. }, "/v1/report" | paths::QUEUE | paths::ORDERS)
            if !is_offered =>
        {
            not_offered(&head.method, path, offered)
        }
        (Listener::Probes, "/metrics") => text("text/plain; version=0.0.4", facts.metrics()),
        (Listener::Probes, "/healthz") => text("text/plain", "ok\n"),
        (Listener::Probes, "/readyz") => match facts.not_ready() {
            None => text("text/plain", "ok\n"),
            Some(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason),
        },
        (Listener::Admin { .. }, "/v1/report") => json(&facts.report()),
        (Listener::Admin { .. }, paths::QUEUE) => queue::overview(facts).await,
        (Listener::Admin { client }, paths::ORDERS) => {
            match timeout(PATIENCE, queue::order(body, client, facts)).await {
                Ok(answered) => answered,
                Err(_) => error(
                    StatusCode::GATEWAY_TIMEOUT,
                    &"no whole order, or none recorded, within 10 s; look at /v1/queue before trying again",
                ),
            }
        }
        (Listener::Probes | Listener::Admin { .. }, _) => {
            let text = format!("{path} is unknown; use {known}");
            error(StatusCode::NOT_FOUND, &text)
        }
    }
}

fn not_offered(method: &Method, path: &str, offered: &[Method]) -> Response<Full<Bytes>> {
    let offered: Vec<&str> = offered.iter().map(Method::as_str).collect();
    let first = offered.first().copied().unwrap_or_default();
    let text = format!("{method} {path} is not offered; use {first}");
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &text);
    if let Ok(allowed) = HeaderValue::from_str(&offered.join(", ")) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

fn json<T: Serialize>(value: &T) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(json) => respond(StatusCode::OK, "application/json", json),
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, &problem),
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
mod tests;
