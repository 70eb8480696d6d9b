//! A connection of the source, in the clear or in TLS, that never blocks once it is made.

use std::{
    io::{self, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

/// How long a login may take.
const LOGIN_BOUND: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Whether more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Yes.
    Open,
    /// The other side has closed.
    Closed,
}

impl Stream {
    /// A connection under way; that it failed shows when it is read.
    pub(super) fn connect(target: SocketAddr) -> io::Result<Self> {
        let family = match target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        match connect(&socket, &target) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(Self::Plain(stream))
    }

    /// The socket below.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Whether TLS has octets for the socket that it did not take yet.
    pub(super) fn wants_write(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.conn.wants_write(),
        }
    }

    /// Writes what can be written now.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(octets),
            Self::Tls(stream) => stream.write(octets),
        }
    }

    /// Hands the socket what TLS holds. An error shows when the stream is read.
    pub(super) fn push(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = stream.flush();
        }
    }

    /// Appends what there is to `input`, up to `limit` octets in all.
    pub(super) fn fill(&mut self, input: &mut Vec<u8>, limit: usize) -> io::Result<Flow> {
        loop {
            let length = input.len();
            input.resize(limit, 0);
            let room = input.get_mut(length..).unwrap_or_default();
            if room.is_empty() {
                return Err(io::Error::other("a reply line without an end"));
            }
            let read = match self {
                Self::Plain(stream) => stream.read(room),
                Self::Tls(stream) => stream.read(room),
            };
            input.truncate(length + read.as_ref().map_or(0, |count| *count));
            match read {
                Ok(0) => return Ok(Flow::Closed),
                // Level-triggered: what is left in a socket comes with the next event. What is left
                // in TLS would not.
                Ok(_) if matches!(self, Self::Plain(_)) => return Ok(Flow::Open),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flow::Open),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A user who logs in after STARTTLS.
#[derive(Debug, Clone)]
pub struct Login {
    /// Name in the server's certificate.
    pub server: String,
    /// Whom to trust.
    pub tls: Arc<ClientConfig>,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A TLS client that trusts the authority in `pem` and no other.
///
/// # Errors
/// When it holds no certificate.
pub fn tls_trusting(pem: &str) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

impl Login {
    /// Connects, secures the connection and logs in; blocks meanwhile.
    pub(super) fn connect(&self, target: SocketAddr) -> io::Result<Stream> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOGIN_BOUND))?;
        let mut plain = BufReader::new(stream);
        expect(&mut plain, 220)?;
        plain.get_mut().write_all(EHLO)?;
        expect(&mut plain, 250)?;
        plain.get_mut().write_all(b"STARTTLS\r\n")?;
        expect(&mut plain, 220)?;
        let name = ServerName::try_from(self.server.clone()).map_err(io::Error::other)?;
        let client =
            ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        let mut secure = BufReader::new(StreamOwned::new(client, plain.into_inner()));
        secure.get_mut().write_all(EHLO)?;
        expect(&mut secure, 250)?;
        let response = STANDARD.encode(format!("\0{}\0{}", self.user, self.password));
        let auth = format!("AUTH PLAIN {response}\r\n");
        secure.get_mut().write_all(auth.as_bytes())?;
        expect(&mut secure, 235)?;
        let stream = secure.into_inner();
        stream.sock.set_read_timeout(None)?;
        stream.sock.set_nonblocking(true)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

const EHLO: &[u8] = b"EHLO source.bench.example\r\n";

/// Reads a reply that must have the code `code`.
fn expect(stream: &mut impl io::BufRead, code: u16) -> io::Result<()> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.get(..3) != Some(code.to_string().as_str()) {
            return Err(io::Error::other(line.trim_end().to_owned()));
        }
        if line.get(3..4) != Some("-") {
            return Ok(());
        }
    }
}
