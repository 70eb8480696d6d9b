//! Runs a session over a connection.
//!
//! Promises: reads while it writes, so that an early answer is seen; never waits beyond the
//! session's deadline.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::{Action, Failure, Security, Session, TlsClient, TlsSession, Transaction, Verdict};
use crate::{
    ports::{Alarm, Clock, Connection, Network},
    routing::Destination,
};

/// Longest wait for a connection. Common among mail servers; RFC 5321 names no figure.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Octets read at a time.
const READ_SIZE: usize = 4096;
/// Pieces one write takes: commands, headers, body, end, and room to spare.
const PIECES: usize = 8;

/// What every link is opened with.
#[derive(Clone)]
pub struct LinkOptions {
    /// What this relay calls itself in EHLO.
    pub own_name: String,
    /// Port of receiving servers.
    pub port: u16,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The network.
    pub network: Arc<dyn Network>,
    /// TLS.
    pub tls: TlsClient,
}

/// An open session with one address.
pub struct Link {
    destination: Destination,
    security: Security,
    tls: Option<TlsSession>,
    client: TlsClient,
    clock: Arc<dyn Clock>,
    session: Session,
    alarm: Alarm,
    wire: Wire,
    failure: Option<Failure>,
    transactions: u32,
}

/// Where a session stands.
enum Step {
    Ready,
    Finished(Vec<Verdict>),
    Failed(Failure),
    Closed,
}

impl Link {
    /// Connects to `destination` and comes as far as a transaction may begin.
    pub async fn open(
        destination: &Destination,
        security: Security,
        options: &LinkOptions,
    ) -> Result<Self, Failure> {
        let address = SocketAddr::new(destination.address, options.port);
        let connection = options
            .network
            .connect(address, CONNECT_LIMIT)
            .await
            .map_err(|error| Failure::Connect(format!("{address}: {error}")))?;
        let now = options.clock.monotonic();
        let mut link = Self {
            destination: destination.clone(),
            security,
            tls: None,
            client: options.tls.clone(),
            clock: options.clock.clone(),
            session: Session::new(&options.own_name, security, now),
            alarm: Alarm::default(),
            wire: Wire::new(connection),
            failure: None,
            transactions: 0,
        };
        match link.step().await {
            Step::Ready => Ok(link),
            Step::Failed(failure) => Err(failure),
            Step::Finished(_) | Step::Closed => Err(Failure::Connect(format!("{address}: closed"))),
        }
    }

    /// Runs one transaction: one verdict per recipient, in their order.
    pub async fn deliver(&mut self, transaction: Transaction) -> Vec<Verdict> {
        let count = transaction.recipients.len();
        self.transactions += 1;
        if let Some(failure) = &self.failure {
            return vec![Verdict::Broken(failure.clone()); count];
        }
        self.session.begin(transaction, self.clock.monotonic());
        loop {
            match self.step().await {
                Step::Finished(verdicts) => {
                    self.note_failure();
                    return verdicts;
                }
                Step::Ready => {}
                Step::Failed(failure) => {
                    self.failure = Some(failure.clone());
                    return vec![Verdict::Broken(failure); count];
                }
                Step::Closed => {
                    let failure = Failure::Connect("closed".into());
                    self.failure = Some(failure.clone());
                    return vec![Verdict::Broken(failure); count];
                }
            }
        }
    }

    /// Says goodbye and closes.
    pub async fn quit(mut self) {
        if self.failure.is_none() {
            self.session.quit(self.clock.monotonic());
            while matches!(self.step().await, Step::Ready | Step::Finished(_)) {}
        }
    }

    /// Whether another transaction may be tried.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.failure.is_none()
    }

    /// Transactions begun.
    #[must_use]
    pub fn transactions(&self) -> u32 {
        self.transactions
    }

    /// Whom it is connected to.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// What was asked of it.
    #[must_use]
    pub fn security(&self) -> Security {
        self.security
    }

    /// What TLS there is.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_ref()
    }

    /// A transaction may end together with its connection.
    fn note_failure(&mut self) {
        while let Some(action) = self.session.poll() {
            match action {
                Action::Failed(failure) => self.failure = Some(failure),
                Action::Write(bytes) => self.wire.write(bytes),
                Action::StartTls | Action::Ready | Action::Finished(_) | Action::Closed => {}
            }
        }
    }

    async fn step(&mut self) -> Step {
        loop {
            match self.session.poll() {
                Some(Action::Write(bytes)) => self.wire.write(bytes),
                Some(Action::StartTls) => self.secure().await,
                Some(Action::Ready) => return Step::Ready,
                Some(Action::Finished(verdicts)) => return Step::Finished(verdicts),
                Some(Action::Failed(failure)) => return Step::Failed(failure),
                Some(Action::Closed) => return Step::Closed,
                None => self.exchange().await,
            }
        }
    }

    fn left(&self) -> Duration {
        self.session
            .deadline()
            .saturating_sub(self.clock.monotonic())
    }

    async fn exchange(&mut self) {
        let deadline = self.session.deadline();
        let Self {
            wire, alarm, clock, ..
        } = self;
        let moved = poll_fn(|context| match wire.poll(context) {
            Poll::Ready(moved) => Poll::Ready(Some(moved)),
            Poll::Pending => alarm.poll(context, &**clock, deadline).map(|()| None),
        })
        .await;
        let now = self.clock.monotonic();
        match moved {
            None => self.session.timed_out(),
            Some(Ok(Moved::Written)) => self.session.progressed(now),
            Some(Ok(Moved::Flushed)) => self.session.flushed(now),
            Some(Ok(Moved::Read(count))) => self.session.received(self.wire.heard(count), now),
            Some(Ok(Moved::Closed)) => self.session.lost("closed by the remote"),
            Some(Err(error)) => self.session.lost(&error.to_string()),
        }
    }

    async fn secure(&mut self) {
        let limit = self.left();
        let Some(connection) = self.wire.connection.take() else {
            return self.session.not_secured("the connection is gone");
        };
        let host = &self.destination.host;
        let address = self.destination.address;
        let handshake = self.client.secure(connection, self.security, host, address);
        match timeout(limit, handshake).await {
            Ok(Ok((connection, tls))) => {
                self.wire.connection = Some(connection);
                self.tls = Some(tls);
                self.session.secured(self.clock.monotonic());
            }
            Ok(Err(cause)) => self.session.not_secured(&cause),
            Err(_) => self.session.not_secured("handshake not finished in time"),
        }
    }
}

/// A connection and what is to be written to it.
struct Wire {
    connection: Option<Connection>,
    out: VecDeque<Bytes>,
    flushed: bool,
    input: Box<[u8]>,
    /// Why nothing can be written any more. What the remote said before is still read.
    write_error: Option<io::Error>,
}

/// What has happened on the wire.
enum Moved {
    Written,
    Flushed,
    Read(usize),
    Closed,
}

impl Wire {
    fn new(connection: Connection) -> Self {
        Self {
            connection: Some(connection),
            out: VecDeque::new(),
            flushed: true,
            input: vec![0; READ_SIZE].into(),
            write_error: None,
        }
    }

    fn write(&mut self, bytes: Bytes) {
        self.out.push_back(bytes);
        self.flushed = false;
    }

    /// The octets of [`Moved::Read`].
    fn heard(&self, count: usize) -> &[u8] {
        self.input.get(..count).unwrap_or_default()
    }

    /// Writing goes first: an answer is only looked at when what it answers has left.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Moved>> {
        if !self.flushed && self.write_error.is_none() {
            match self.poll_write(context) {
                Poll::Ready(Ok(moved)) => return Poll::Ready(Ok(moved)),
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => {}
            }
        }
        let mut read = ReadBuf::new(&mut self.input);
        ready!(Pin::new(open(&mut self.connection)?).poll_read(context, &mut read))?;
        match (read.filled().len(), self.write_error.take()) {
            (0, Some(error)) => Poll::Ready(Err(error)),
            (0, None) => Poll::Ready(Ok(Moved::Closed)),
            (count, error) => {
                self.write_error = error;
                Poll::Ready(Ok(Moved::Read(count)))
            }
        }
    }

    /// As many pieces as there are in one write.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Moved>> {
        let connection = open(&mut self.connection)?;
        if !self.out.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let filled = pieces.iter_mut().zip(&self.out);
            let count = filled
                .map(|(piece, out)| *piece = IoSlice::new(out))
                .count();
            let pieces = pieces.get(..count).unwrap_or_default();
            let written = Pin::new(&mut *connection).poll_write_vectored(context, pieces);
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            take(&mut self.out, written);
            if !self.out.is_empty() {
                return Poll::Ready(Ok(Moved::Written));
            }
        }
        ready!(Pin::new(connection).poll_flush(context))?;
        self.flushed = true;
        Poll::Ready(Ok(Moved::Flushed))
    }
}

/// Takes `octets` from the front.
fn take(pieces: &mut VecDeque<Bytes>, mut octets: usize) {
    while let Some(front) = pieces.front_mut() {
        if octets < front.len() {
            return front.advance(octets);
        }
        octets -= front.len();
        pieces.pop_front();
    }
}

fn open(connection: &mut Option<Connection>) -> io::Result<&mut Connection> {
    connection
        .as_mut()
        .ok_or_else(|| io::ErrorKind::NotConnected.into())
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
