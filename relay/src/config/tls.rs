//! Certificates and keys from PEM documents to TLS server configurations.
//!
//! Promises: TLS 1.2 and 1.3 only; a certificate that does not fit its key is refused. The admin
//! configuration asks every client for a certificate of the admin CA (RFC 8446 §4.3.2).

use std::{collections::BTreeMap, sync::Arc};

use postrider_crds::relay_config::layout;
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// A TLS document that cannot be used.
#[derive(Debug)]
pub(super) struct TlsProblem {
    /// Which document.
    pub(super) path: &'static str,
    /// Why.
    pub(super) error: String,
}

type Documents = BTreeMap<String, Vec<u8>>;

/// What the submission doors present: no client certificates.
pub(super) fn submission(documents: &Documents) -> Result<Arc<ServerConfig>, TlsProblem> {
    let identity = identity(documents, layout::TLS_CERTIFICATE, layout::TLS_KEY)?;
    let config = builder(layout::TLS_CERTIFICATE)?
        .with_no_client_auth()
        .with_cert_resolver(identity);
    Ok(Arc::new(config))
}

/// What the admin listener presents, and whom it lets in.
pub(super) fn admin(documents: &Documents) -> Result<Arc<ServerConfig>, TlsProblem> {
    let identity = identity(documents, layout::ADMIN_CERTIFICATE, layout::ADMIN_KEY)?;
    let problem = |error: String| TlsProblem {
        path: layout::ADMIN_CA,
        error,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(documents, layout::ADMIN_CA)? {
        roots
            .add(certificate)
            .map_err(|error| problem(format!("is no CA certificate: {error}")))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
            .build()
            .map_err(|error| problem(error.to_string()))?;
    let mut config = builder(layout::ADMIN_CERTIFICATE)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn builder(
    path: &'static str,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsProblem> {
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsProblem {
            path,
            error: error.to_string(),
        })
}

/// A certificate chain with the key that belongs to it.
fn identity(
    documents: &Documents,
    certificate: &'static str,
    key: &'static str,
) -> Result<Arc<rustls::sign::SingleCertAndKey>, TlsProblem> {
    let chain = certificates(documents, certificate)?;
    let problem = |error: String| TlsProblem { path: key, error };
    let pem = bytes(documents, key)?;
    let der = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| problem(format!("holds no PEM private key: {error}")))?;
    let signing_key = default_provider()
        .key_provider
        .load_private_key(der)
        .map_err(|error| problem(format!("holds a key that cannot be used: {error}")))?;
    let identity = CertifiedKey::new(chain, signing_key);
    match identity.keys_match() {
        Ok(()) => Ok(Arc::new(rustls::sign::SingleCertAndKey::from(identity))),
        Err(error) => Err(problem(format!(
            "does not belong to the certificate of {certificate}: {error}"
        ))),
    }
}

fn certificates(
    documents: &Documents,
    path: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let problem = |error: String| TlsProblem { path, error };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(bytes(documents, path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| problem(format!("holds no PEM certificate: {error}")))?;
    if chain.is_empty() {
        return Err(problem("holds no PEM certificate; add one".into()));
    }
    Ok(chain)
}

fn bytes<'a>(documents: &'a Documents, path: &'static str) -> Result<&'a [u8], TlsProblem> {
    let found = documents.get(path);
    found.map(Vec::as_slice).ok_or_else(|| TlsProblem {
        path,
        error: "is missing; mount the Secret that holds it".into(),
    })
}
