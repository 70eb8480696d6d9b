//! Connections to other machines.

use std::{io, net::SocketAddr, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
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
