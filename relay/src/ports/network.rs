//! Connections to other machines.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// A two-way stream of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// An open connection.
pub type Connection = Box<dyn Stream>;

/// The network as reached from here.
pub trait Network: Send + Sync + 'static {
    /// Connects. Errors with [`io::ErrorKind::TimedOut`] when `limit` has passed.
    fn connect(
        &self,
        address: SocketAddr,
        limit: Duration,
    ) -> BoxFuture<'_, io::Result<Connection>>;
}

/// Listens on `port` of `address`; without one on every address of the machine, by IPv6 where the
/// machine has it.
pub async fn listen(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind((address, port)).await;
    }
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// TCP of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNetwork;

impl Network for TcpNetwork {
    fn connect(
        &self,
        address: SocketAddr,
        limit: Duration,
    ) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let stream = timeout(limit, TcpStream::connect(address))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            // Commands are written whole; waiting for more to send only delays them.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Connection)
        })
    }
}
