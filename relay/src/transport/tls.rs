//! TLS towards receivers.
//!
//! Promises: TLS 1.2 and 1.3 only. Opportunistic TLS takes any certificate (RFC 7435 §3), yet the
//! handshake itself is verified against it; required TLS takes one that names the host and leads
//! to a known root (RFC 8461 §4.1 has the same rule).

use std::{net::IpAddr, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::Security;
use crate::ports::Connection;

/// What a handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// Protocol version, such as `TLSv1.3`.
    pub version: String,
    /// Whether the certificate was checked.
    pub certificate: Certificate,
}

/// Whether the remote's certificate was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// It names the host and leads to a known root.
    Verified,
    /// Anybody may have made it.
    Unchecked,
}

/// TLS for every connection. Cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    unchecked: TlsConnector,
    verified: TlsConnector,
}

impl TlsClient {
    /// Required TLS trusts `roots`.
    pub fn new(roots: RootCertStore) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
        };
        let any = Arc::new(AnyCertificate(provider.clone()));
        let unchecked = builder()?
            .dangerous()
            .with_custom_certificate_verifier(any)
            .with_no_client_auth();
        let verified = builder()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            unchecked: Arc::new(unchecked).into(),
            verified: Arc::new(verified).into(),
        })
    }

    /// Required TLS trusts Mozilla's roots.
    pub fn with_public_roots() -> Result<Self, Error> {
        Self::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
    }

    /// Does the handshake with the server named `host`. Errors say why there is no TLS.
    pub(super) async fn secure(
        &self,
        connection: Connection,
        security: Security,
        host: &str,
        address: IpAddr,
    ) -> Result<(Connection, TlsSession), String> {
        let (connector, certificate) = match security {
            Security::Required => (&self.verified, Certificate::Verified),
            Security::Opportunistic | Security::Plain => (&self.unchecked, Certificate::Unchecked),
        };
        let name = match (ServerName::try_from(host.to_owned()), security) {
            (Ok(name), _) => name,
            (Err(error), Security::Required) => return Err(format!("host {host:?}: {error}")),
            // Nobody checks it; the name only goes into SNI, where an address is left out.
            (Err(_), _) => ServerName::from(address),
        };
        let stream = connector
            .connect(name, connection)
            .await
            .map_err(|error| error.to_string())?;
        let version = stream.get_ref().1.protocol_version();
        let version = version.and_then(|v| v.as_str()).unwrap_or("TLS");
        let session = TlsSession {
            version: version.replace('_', "."),
            certificate,
        };
        Ok((Box::new(stream), session))
    }
}

/// Takes every certificate, but not every handshake: the peer has to hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
