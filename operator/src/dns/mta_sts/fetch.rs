//! Gets policies over HTTPS as senders do (RFC 8461 §3.3): by a certificate that a public authority
//! has issued for the host, from its well-known place, without following redirects.
//!
//! Guarantees: a fetch ends within [`FETCH_TIMEOUT`] and reads at most [`MAX_POLICY`] octets. Whoever
//! publishes a record decides where the operator connects to: addresses that the public network has
//! no use for are not connected to ([`Reach::World`]), and nothing but the kind of trouble is told.
//! Caveats: senders are advised to wait for a minute; here a reconciliation waits, so it is less,
//! and a host that needs longer is told of as unknown.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use super::{PolicyHosts, Trouble};

/// Where a policy is (RFC 8461 §3.2).
const PATH: &str = "/.well-known/mta-sts.txt";
/// Longest fetch, over all addresses.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest policy: what RFC 8461 §3.3 suggests as a limit.
const MAX_POLICY: usize = 64 * 1024;
/// Port of HTTPS.
const HTTPS_PORT: u16 = 443;
/// Addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;

/// Where the policy of `host` is.
pub(super) fn url(host: &str) -> String {
    format!("https://{host}{PATH}")
}

/// Which addresses are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the public network.
    World,
    /// All: for hosts that are known to be harmless.
    Anywhere,
}

/// [`PolicyHosts`] over HTTP/1.1 and TLS.
#[derive(Clone)]
pub struct HttpsPolicyHosts {
    tls: TlsConnector,
    port: u16,
    reach: Reach,
}

impl HttpsPolicyHosts {
    /// Trusts the authorities that browsers trust, and connects to the public network.
    #[must_use]
    pub fn public() -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Self::new(roots, HTTPS_PORT, Reach::World)
    }

    /// Trusts `roots` and connects to `port` at addresses within `reach`.
    #[must_use]
    pub fn new(roots: RootCertStore, port: u16, reach: Reach) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc speaks the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: Arc::new(config).into(),
            port,
            reach,
        }
    }

    async fn fetch(&self, host: &str, addresses: &[IpAddr]) -> Result<String, Trouble> {
        let stream = self.connect(addresses).await?;
        let stream = self.secure(host, stream).await?;
        let (response, _connection) = exchange(host, stream).await?;
        read(response).await
    }

    /// A connection to the first address that takes one.
    async fn connect(&self, addresses: &[IpAddr]) -> Result<TcpStream, Trouble> {
        let reached = |address: &&IpAddr| self.reach == Reach::Anywhere || is_public(**address);
        let within: Vec<&IpAddr> = addresses
            .iter()
            .filter(reached)
            .take(MAX_ADDRESSES)
            .collect();
        if within.is_empty() {
            return Err(Trouble::Unavailable(format!(
                "leads to {}, where nobody outside can be; name resolvers that see what the world sees",
                listed(addresses.iter())
            )));
        }
        for address in &within {
            let target = SocketAddr::new(**address, self.port);
            if let Ok(stream) = TcpStream::connect(target).await {
                return Ok(stream);
            }
        }
        Err(Trouble::Unavailable(format!(
            "cannot be reached at {} port {}; see to the server, or to the way from here to there",
            listed(within.into_iter()),
            self.port
        )))
    }

    async fn secure(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Trouble> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Trouble::Unusable("is no name that a certificate could have".into()))?;
        let secured = self.tls.connect(name, stream).await;
        secured.map_err(|error| {
            let inner = error
                .get_ref()
                .and_then(|e| e.downcast_ref::<rustls::Error>());
            match inner {
                Some(rustls::Error::InvalidCertificate(problem)) => Trouble::Unusable(format!(
                    "has a certificate that {}",
                    certificate_problem(problem)
                )),
                Some(_) => Trouble::Unusable("speaks no TLS 1.2 or 1.3 that fits".into()),
                None => cut_off(),
            }
        })
    }
}

impl PolicyHosts for HttpsPolicyHosts {
    fn policy<'a>(
        &'a self,
        host: &'a str,
        addresses: &'a [IpAddr],
    ) -> BoxFuture<'a, Result<String, Trouble>> {
        async move {
            let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.fetch(host, addresses)).await;
            fetched.unwrap_or_else(|_| {
                Err(Trouble::Unavailable(format!(
                    "gives no answer within {} s",
                    FETCH_TIMEOUT.as_secs()
                )))
            })
        }
        .boxed()
    }
}

/// The head of the answer, and the connection that its body comes through.
async fn exchange(
    host: &str,
    stream: TlsStream<TcpStream>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), Trouble> {
    let request = Request::get(PATH)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Trouble::Unusable("is no name that a request could have".into()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| cut_off())?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its errors are those of the exchange.
        let _ = connection.await;
    }));
    match sender.send_request(request).await {
        Ok(response) => Ok((response, connection)),
        Err(error) if error.is_parse() => {
            Err(Trouble::Unusable("does not answer in HTTP/1.1".into()))
        }
        Err(_) => Err(cut_off()),
    }
}

async fn read(response: Response<Incoming>) -> Result<String, Trouble> {
    let status = response.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Trouble::Unavailable(format!("answers {}", status.as_u16())));
    }
    if status.is_redirection() {
        let number = status.as_u16();
        let what = format!("answers with a redirect ({number}), which senders do not follow");
        return Err(Trouble::Unusable(what));
    }
    if status != StatusCode::OK {
        return Err(Trouble::Unusable(format!("answers {}", status.as_u16())));
    }
    if !is_plain_text(response.headers()) {
        let what = "answers with another Content-Type than text/plain";
        return Err(Trouble::Unusable(what.into()));
    }
    let body = Limited::new(response.into_body(), MAX_POLICY)
        .collect()
        .await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => Trouble::Unusable("answers with more than 64 KiB".into()),
        false => cut_off(),
    })?;
    String::from_utf8(body.to_bytes().into())
        .map_err(|_| Trouble::Unusable("answers with what is no UTF-8".into()))
}

/// Whether the media type, whatever its parameters, is the one of a policy (RFC 8461 §3.2).
fn is_plain_text(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/plain"))
}

fn cut_off() -> Trouble {
    Trouble::Unavailable("ends the connection before it has answered".into())
}

/// What is wrong with a certificate, without the times that the library tells.
fn certificate_problem(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "does not name it"
        }
        CertificateError::UnknownIssuer => "no public authority has issued",
        _ => "cannot be verified",
    }
}

fn listed<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> String {
    let texts: Vec<String> = addresses.map(IpAddr::to_string).collect();
    texts.join(", ")
}

/// Whether an address may be a host of the public network (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            // 100.64.0.0/10 stands between carriers and their customers (RFC 6598).
            let shared = u32::from(v4) & 0xffc0_0000 == 0x6440_0000;
            let this_network = u32::from(v4) >> 24 == 0;
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || shared
                || this_network)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests;
