//! A web server that gives one answer to everybody, with a certificate of an authority of its own.
//!
//! Guarantees: it listens where it is told and ends when it is dropped. It reads one request a
//! connection and knows no other method than GET.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::error::Error;
use crate::cluster::{self, error::OnPath as _};

/// A running server.
#[derive(Debug)]
pub struct HttpsServer {
    authority: CertificateDer<'static>,
    answer: Arc<Mutex<Response>>,
    task: JoinHandle<()>,
}

/// What it answers a request for [`Response::path`]; all else does not exist.
#[derive(Debug, Clone)]
pub struct Response {
    /// The path that is asked for.
    pub path: &'static str,
    /// The status line behind the version, such as `200 OK`.
    pub status: &'static str,
    /// The Content-Type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl HttpsServer {
    /// Serves `answer` as `name` on `listen`.
    ///
    /// # Errors
    /// When no certificate can be made or the address is taken.
    pub async fn start(listen: SocketAddr, name: &str, answer: Response) -> Result<Self, Error> {
        let (acceptor, authority) = acceptor(name)?;
        let place = || std::path::Path::new(&listen.to_string()).to_owned();
        let listener = TcpListener::bind(listen).await.on("listen on", place())?;
        let answer = Arc::new(Mutex::new(answer));
        let shared = answer.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    // Who breaks off gets no answer.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = serve(stream, &answer).await;
                    }
                });
            }
        });
        Ok(Self {
            authority,
            answer,
            task,
        })
    }

    /// The certificate that its own one leads to.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// Answers so from now on.
    pub fn set(&self, answer: Response) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Stops it, and waits until its port is free.
    pub async fn stop(mut self) {
        self.task.abort();
        // It has been told to.
        let _ = (&mut self.task).await;
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &Mutex<Response>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let mut line = String::new();
    // A head ends with an empty line (RFC 9112 section 2.1).
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let mut answer = answer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if request.split(' ').nth(1) != Some(answer.path) {
        answer.status = "404 Not Found";
    }
    let Response {
        status,
        content_type,
        body,
        ..
    } = answer;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn acceptor(name: &str) -> Result<(TlsAcceptor, CertificateDer<'static>), Error> {
    let made = |source| cluster::Error::Certificate {
        name: name.to_owned(),
        source,
    };
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "Authority of the tests");
    let authority = params.self_signed(&key).map_err(made)?.der().clone();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().map_err(made)?;
    let params = CertificateParams::new([name.to_owned()]).map_err(made)?;
    let leaf = params.signed_by(&key, &issuer).map_err(made)?.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)?;
    Ok((Arc::new(config).into(), authority))
}
