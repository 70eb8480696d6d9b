//! A way into a pool's relays: mutual TLS by the pool's own CA, and one HTTP exchange over it.
//!
//! Promises: the server proves the pool's relay name, not its address, so a pod of another pool
//! cannot answer for this one. An answer is read up to a bound.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::certificates::ClientMaterial;

/// Largest answer: a report of some thousand documents of 100 octets each.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why a relay gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The handshake failed.
    #[error("connection: {0}")]
    Connect(#[from] std::io::Error),
    /// The exchange broke off.
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is too long or broke off.
    #[error("body: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The pool's certificates or names are unusable.
    #[error("the pool's certificates cannot be used: {0}")]
    Certificates(String),
}

/// TLS for the relays of the pool that `material` is of.
///
/// # Errors
///
/// Says which of the certificates cannot be used.
pub fn connector(material: &ClientMaterial) -> Result<TlsConnector, ClientError> {
    let config = client_config(material).map_err(ClientError::Certificates)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Sends `request` over `stream` to the relay that proves to be `server`: status and body of the
/// answer. The caller bounds the time.
///
/// # Errors
///
/// When the handshake fails or the answer does not come whole.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: &str,
    connector: &TlsConnector,
    mut request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), ClientError> {
    let unusable = |error: &dyn std::fmt::Display| ClientError::Certificates(error.to_string());
    let host = server
        .parse()
        .map_err(|error: header::InvalidHeaderValue| unusable(&error))?;
    request.headers_mut().insert(header::HOST, host);
    let name = ServerName::try_from(server.to_owned()).map_err(|error| unusable(&error))?;
    let stream = connector.connect(name, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER);
        let body = body.collect().await.map_err(ClientError::Body)?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection ending early is an error the exchange then reports.
        _ = &mut connection => exchange.await,
    }
}

fn client_config(material: &ClientMaterial) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(material.ca.as_bytes()).map_err(|e| e.to_string())?;
    roots.add(ca).map_err(|e| e.to_string())?;
    let certificate = material.client.certificate.as_bytes();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let key =
        PrivateKeyDer::from_pem_slice(material.client.key.as_bytes()).map_err(|e| e.to_string())?;
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| e.to_string())
}
