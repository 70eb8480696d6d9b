//! The queue over the admin API: how much waits for what, and orders about it.
//!
//! Promises: an order is answered 200 once it is on stable storage and in force; every refusal is
//! JSON with an `error` that names the field, its value and the remedy. Who gave an order is who the
//! client certificate names, and whom that client says it speaks for.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{Response, StatusCode, body::Body};
use postrider_crds::queue::{OrderAnswer, OrderRequest};
use rustls_pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use super::{Facts, error, json};
use crate::custody::OrderError;

/// Largest body of a request: an order is below two kilobytes.
const MAX_BODY: usize = 16 * 1024;
/// What a client certificate without a name is called.
const NAMELESS: &str = "a certificate without a name";

/// Answers a GET.
pub(super) async fn overview(facts: &dyn Facts) -> Response<Full<Bytes>> {
    json(&facts.queue().await)
}

/// Answers a POST by the holder of a certificate of the name `client`.
pub(super) async fn order<B>(body: B, client: &str, facts: &dyn Facts) -> Response<Full<Bytes>>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(problem) if problem.is::<LengthLimitError>() => {
            let text = format!("body exceeds {MAX_BODY} bytes; send one order");
            return error(StatusCode::PAYLOAD_TOO_LARGE, &text);
        }
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    let request: OrderRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(problem) => {
            let text = format!(
                "body is no order: {problem}; send a JSON object with verb, reason and one of message, domain, site, tenant"
            );
            return error(StatusCode::BAD_REQUEST, &text);
        }
    };
    let command = match request.check(client) {
        Ok(command) => command,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    match facts.order(command).await {
        Ok(answer) => json::<OrderAnswer>(&answer),
        Err(problem) => error(status_of(&problem), &problem),
    }
}

const fn status_of(problem: &OrderError) -> StatusCode {
    match problem {
        OrderError::UnknownMessage(_) | OrderError::NothingToEnd { .. } => StatusCode::NOT_FOUND,
        OrderError::Past { .. } => StatusCode::BAD_REQUEST,
        OrderError::TooMany => StatusCode::CONFLICT,
        OrderError::Restoring | OrderError::LeftOut | OrderError::Disk(_) | OrderError::Closed => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// What a client certificate calls its holder: its first DNS name, else its common name.
pub(super) fn name_of(chain: Option<&[CertificateDer<'_>]>) -> String {
    let name = chain.and_then(<[_]>::first).and_then(|leaf| {
        let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(leaf).ok()?;
        let alternatives = leaf.subject_alternative_name().ok().flatten();
        let names = alternatives.map(|found| found.value.general_names.as_slice());
        let dns = names
            .unwrap_or_default()
            .iter()
            .find_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            });
        let common = || {
            let mut names = leaf.subject().iter_common_name();
            names.next()?.as_str().ok().map(str::to_owned)
        };
        dns.or_else(common)
    });
    let name = name.unwrap_or_else(|| NAMELESS.to_owned());
    // A name is foreign text: it goes into the log and the spool.
    let printable = name.chars().filter(|c| !c.is_control());
    printable.take(postrider_crds::queue::MAX_TEXT).collect()
}
