//! A receiver that does what it is told: greylists, refuses, is slow, hangs up; and writes down
//! all that happened.
//!
//! [`Rules`] say what becomes of each recipient, [`dialogue`] is the SMTP server without I/O,
//! [`session`] its connection, [`record`] what is kept. Within a process it is a [`Sink`]; as a
//! process of its own, the program `e2e-sink`, a [`SinkProcess`].
//!
//! Strict where receivers of the world are: a CR or LF that is not part of CRLF (RFC 5321
//! section 2.3.8) ends the session with 521, an overlong line too. It asks no name server and
//! sends nothing.

mod dialogue;
mod process;
mod record;
mod rules;
mod session;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

pub use process::SinkProcess;
pub use record::{Answer, Transaction, read as read_transactions};
pub use rules::{Login, Rules, Script, StartTls};

use super::{certificate::Certificate, error::Error};
use crate::cluster::{self, error::OnPath as _};
use record::Recorder;
use rules::Memory;
use session::Receiver;

/// A scripted receiver in this process; it ends when this is dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    certificate: Certificate,
    seen: watch::Receiver<Vec<Transaction>>,
    accepting: JoinHandle<()>,
}

impl Sink {
    /// Starts one on `listen` (port 0 for any) that greets as `hostname`, does what `rules` say
    /// and writes into `dir`: `transactions.jsonl`, and `messages/N.eml` for what it accepted.
    ///
    /// # Errors
    /// When the address cannot be had or the directory not be written.
    pub async fn start(
        dir: &Path,
        listen: SocketAddr,
        hostname: &str,
        rules: Rules,
    ) -> Result<Self, Error> {
        let names = [hostname.to_owned(), listen.ip().to_string()];
        let certificate = Certificate::self_signed(&names)?;
        let listener = TcpListener::bind(listen)
            .await
            .on("listen on", listen.to_string())?;
        let address = listener.local_addr().on("read", listen.to_string())?;
        let (recorder, seen) = Recorder::open(dir)?;
        let receiver = Receiver {
            hostname: hostname.to_owned(),
            tls: Arc::new(certificate.server()?),
            memory: Memory::new(rules),
            recorder,
        };
        let accepting = tokio::spawn(accept(listener, Arc::new(receiver)));
        Ok(Self {
            address,
            certificate,
            seen,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its self-signed certificate, for its host name and its address.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// All transactions that have ended, in the order of their ends.
    pub fn transactions(&self) -> Vec<Transaction> {
        self.seen.borrow().clone()
    }

    /// Waits until `enough` says so of all transactions that have ended, for `bound` at most;
    /// returns them.
    ///
    /// # Errors
    /// When it does not come about in time.
    pub async fn wait_for(
        &self,
        bound: Duration,
        mut enough: impl FnMut(&[Transaction]) -> bool,
    ) -> Result<Vec<Transaction>, Error> {
        let mut seen = self.seen.clone();
        let waited = tokio::time::timeout(bound, seen.wait_for(|all| enough(all))).await;
        match waited {
            Ok(Ok(all)) => Ok(all.clone()),
            Ok(Err(_)) | Err(_) => Err(cluster::Error::Timeout {
                what: format!("the awaited mail at the sink {}", self.address),
                seconds: bound.as_secs(),
                log: format!("{:#?}", self.transactions()),
            }
            .into()),
        }
    }

    /// Runs until it breaks, which it does not by itself.
    pub async fn run(mut self) {
        // It ends only when aborted, and only this struct can abort it.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Sessions at a time; more wait in the kernel's queue. Above what one relay pool opens to a
/// site by default, below the usual limit of 1,024 file descriptors.
const MAX_SESSIONS: usize = 256;

async fn accept(listener: TcpListener, receiver: Arc<Receiver>) {
    let places = Arc::new(Semaphore::new(MAX_SESSIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        // Failures of accept are those of one connection, gone before it was taken.
        let Ok((stream, client)) = listener.accept().await else {
            continue;
        };
        let receiver = receiver.clone();
        tokio::spawn(async move {
            // A client that goes away in the middle has its transaction recorded all the same.
            let _ = session::serve(&receiver, stream, client.ip()).await;
            drop(place);
        });
    }
}
