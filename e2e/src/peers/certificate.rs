//! The certificate of a receiver: self-signed, as most of the world's mail servers have it or
//! might as well.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::error::Error;
use crate::cluster::{self, StateDir};

/// A self-signed certificate and its key.
#[derive(Debug)]
pub struct Certificate {
    pem: String,
    key_pem: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Certificate {
    /// Makes one that serves under `names`, host names or IP addresses.
    ///
    /// # Errors
    /// When one of them cannot stand in a certificate.
    pub fn self_signed(names: &[String]) -> Result<Self, Error> {
        let made = rcgen::generate_simple_self_signed(names).map_err(|source| {
            cluster::Error::Certificate {
                name: names.join(" "),
                source,
            }
        })?;
        Ok(Self {
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            der: made.cert.der().clone(),
            key_der: made.signing_key.serialize_der(),
        })
    }

    /// Writes `tls.crt` and `tls.key`, PEM, into `state`; returns their paths.
    pub(crate) fn write(&self, state: &StateDir) -> Result<(PathBuf, PathBuf), Error> {
        let cert = state.write("tls.crt", &self.pem)?;
        let key = state.write("tls.key", &self.key_pem)?;
        Ok((cert, key))
    }

    /// The configuration of a TLS server that presents it to clients without certificates.
    ///
    /// # Errors
    /// When the key does not serve for TLS.
    pub fn server(&self) -> Result<ServerConfig, Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key)?;
        Ok(config)
    }

    /// The certificate in PEM, for a client that trusts just this one.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}
