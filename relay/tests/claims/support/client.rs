//! A submission client that says exactly what it is told.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{ClientConfig, RootCertStore};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{PASSWORD, World, within};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to the submission door.
pub(crate) struct Client {
    stream: BufStream<Box<dyn Stream>>,
    tls: Arc<ClientConfig>,
}

/// A message from `from` with the subject `subject`.
pub(crate) fn message(from: &str, subject: &str) -> String {
    format!(
        "From: <{from}>\r\nTo: <someone@receiver.example>\r\nSubject: {subject}\r\n\r\nhello\r\n"
    )
}

/// A TLS client that trusts the world's CA, with a client certificate where one is given.
pub(crate) fn tls(world: &World, identity: Option<(String, String)>) -> Arc<ClientConfig> {
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let mut roots = RootCertStore::empty();
    roots.add(world.ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

impl Client {
    /// A connection in the clear, greeted.
    pub(crate) async fn connect(world: &World) -> Self {
        let mut client = Self::open(world).await;
        let greeting = client.reply().await;
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// A connection in the clear from the loopback address `from`, greeted.
    pub(crate) async fn connect_from(world: &World, from: std::net::IpAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect((world.address, 2587).into()).await.unwrap();
        let mut client = Self::over(world, stream);
        let greeting = client.reply().await;
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// What a new connection is greeted with.
    pub(crate) async fn greeting(world: &World) -> String {
        Self::open(world).await.reply().await
    }

    async fn open(world: &World) -> Self {
        let stream = TcpStream::connect((world.address, 2587)).await.unwrap();
        Self::over(world, stream)
    }

    fn over(world: &World, stream: TcpStream) -> Self {
        Self {
            stream: BufStream::new(Box::new(stream)),
            tls: tls(world, None),
        }
    }

    /// A connection with TLS.
    pub(crate) async fn secured(world: &World) -> Self {
        Self::connect(world).await.starttls().await
    }

    /// The connection with TLS, from the greeting on.
    pub(crate) async fn starttls(mut self) -> Self {
        self.ask("EHLO client.example").await;
        assert!(self.ask("STARTTLS").await.starts_with("220 "));
        let mut client = self.upgraded().await;
        client.ask("EHLO client.example").await;
        client
    }

    /// A connection with TLS, logged in.
    pub(crate) async fn login(world: &World, user: &str) -> Self {
        let mut client = Self::secured(world).await;
        let reply = client.auth(user, PASSWORD).await;
        assert!(reply.starts_with("235 "), "{reply}");
        client
    }

    /// Does the handshake after STARTTLS.
    pub(crate) async fn upgraded(self) -> Self {
        let name = "mail.example.net".try_into().unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector
            .connect(name, self.stream.into_inner())
            .await
            .unwrap();
        Self {
            stream: BufStream::new(Box::new(stream)),
            tls: self.tls,
        }
    }

    pub(crate) async fn auth(&mut self, user: &str, password: &str) -> String {
        let response = STANDARD.encode(format!("\0{user}\0{password}"));
        self.ask(&format!("AUTH PLAIN {response}")).await
    }

    /// Sends a line and gives the whole reply, lines joined by newlines.
    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Sends octets. A relay that is gone shows in the reply.
    pub(crate) async fn send(&mut self, octets: &[u8]) {
        if self.stream.write_all(octets).await.is_ok() {
            self.stream.flush().await.ok();
        }
    }

    /// The next reply; empty when the connection is closed.
    pub(crate) async fn reply(&mut self) -> String {
        within("a reply", self.try_reply())
            .await
            .unwrap_or_default()
    }

    async fn try_reply(&mut self) -> std::io::Result<String> {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.stream.read_line(&mut reply).await? == 0 {
                return Ok(reply);
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return Ok(reply.trim_end().replace("\r\n", "\n"));
            }
        }
    }

    /// A whole transaction with the final reply; a refusal on the way ends it.
    pub(crate) async fn submit(&mut self, from: &str, to: &[&str], message: &str) -> String {
        let reply = self.ask(&format!("MAIL FROM:<{from}>")).await;
        if !reply.starts_with("250") {
            return reply;
        }
        for recipient in to {
            let reply = self.ask(&format!("RCPT TO:<{recipient}>")).await;
            if !reply.starts_with("250") {
                return reply;
            }
        }
        let reply = self.ask("DATA").await;
        if !reply.starts_with("354") {
            return reply;
        }
        self.send(format!("{message}.\r\n").as_bytes()).await;
        self.reply().await
    }

    /// A submission that must be accepted: gives the message id.
    pub(crate) async fn accepted(&mut self, from: &str, to: &[&str], message: &str) -> String {
        let reply = self.submit(from, to, message).await;
        let id = reply.strip_prefix("250 2.0.0 queued as ");
        id.unwrap_or_else(|| panic!("not accepted: {reply}"))
            .to_owned()
    }
}
