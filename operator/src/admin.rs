//! `/metrics`, `/healthz` and `/readyz` over plain HTTP.
//!
//! Promises: alive as long as the process serves; ready while it waits for the Lease or works with
//! filled caches. Failure modes: at most [`CONNECTIONS`] connections are served, others wait.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    metrics::{Metrics, Pages},
};

/// Connections served at a time: probes, a few scrapers, a person.
const CONNECTIONS: usize = 64;
/// A client has this long to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait after a connection could not be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How far the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the Lease.
    Standby,
    /// Filling its caches.
    Filling,
    /// Reconciling.
    Working,
}

/// Serves until `stop` is cancelled.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    phase: watch::Receiver<Phase>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(Ok(slot)) = stop
        .run_until_cancelled(slots.clone().acquire_owned())
        .await
    {
        let stream = match stop.run_until_cancelled(listener.accept()).await {
            None => return,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (metrics, phase, clock) = (metrics.clone(), phase.clone(), clock.clone());
        let service = service_fn(move |request| {
            let response = answer(&request, &metrics, *phase.borrow(), clock.now());
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(slot);
        });
    }
}

/// The answer to a request; its body is not read.
fn answer<B>(
    request: &Request<B>,
    metrics: &Arc<Metrics>,
    phase: Phase,
    now: Timestamp,
) -> Response<Body> {
    if request.method() != Method::GET {
        return respond(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is served\n".into(),
        );
    }
    match request.uri().path() {
        "/healthz" => respond(StatusCode::OK, "ok\n".into()),
        "/readyz" => match phase {
            Phase::Standby => respond(StatusCode::OK, "waiting for the lease\n".into()),
            Phase::Working => respond(StatusCode::OK, "working\n".into()),
            Phase::Filling => respond(
                StatusCode::SERVICE_UNAVAILABLE,
                "filling the caches\n".into(),
            ),
        },
        "/metrics" => {
            let pages = stream::iter(Pages::new(metrics.clone(), now));
            let pages = pages.map(|page| page.map(|text| Frame::data(Bytes::from(text))));
            let body = BoxBody::new(StreamBody::new(pages));
            typed(prometheus::TEXT_FORMAT, Response::new(body))
        }
        _ => respond(
            StatusCode::NOT_FOUND,
            "not found; /metrics, /healthz and /readyz are served\n".into(),
        ),
    }
}

/// A body. Metrics that cannot be written out break it off.
type Body = BoxBody<Bytes, prometheus::Error>;

fn respond(status: StatusCode, text: Bytes) -> Response<Body> {
    let body = Full::new(text).map_err(|never| match never {});
    let mut response = Response::new(BoxBody::new(body));
    *response.status_mut() = status;
    typed("text/plain; charset=utf-8", response)
}

/// Says what a body is. Prometheus, from version 3 on, takes no metrics that do not say so.
fn typed(kind: &'static str, mut response: Response<Body>) -> Response<Body> {
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_paths() {
        let metrics = Arc::new(Metrics::new().unwrap());
        for (method, path, phase, status) in [
            ("GET", "/healthz", Phase::Filling, 200),
            ("GET", "/readyz", Phase::Filling, 503),
            ("GET", "/readyz", Phase::Standby, 200),
            ("GET", "/readyz", Phase::Working, 200),
            ("GET", "/metrics", Phase::Working, 200),
            ("GET", "/", Phase::Working, 404),
            ("POST", "/metrics", Phase::Working, 405),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(())
                .unwrap();
            let response = answer(&request, &metrics, phase, Timestamp::UNIX_EPOCH);
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            let kind = &response.headers()[CONTENT_TYPE];
            let is_metrics = kind.to_str().unwrap().contains("version=0.0.4");
            assert_eq!(is_metrics, (method, path) == ("GET", "/metrics"));
        }
    }
}
