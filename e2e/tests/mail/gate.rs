//! The resolver that the product is given: it hands every question on to the cluster's name server,
//! except that it is silent, as a dead resolver is, about the zones it is told to be silent about.
//!
//! Promises: what it hands on, it does not change. It counts the questions about each name, so that
//! a test can wait for the product to have looked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use hickory_proto::op::Message;
use tokio::{net::UdpSocket, sync::mpsc};

/// How long the name server may take.
const ANSWER_BOUND: Duration = Duration::from_secs(5);
/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// A running resolver. It ends with the process.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    silent: BTreeSet<String>,
    asked: BTreeMap<String, usize>,
}

impl Gate {
    /// Starts one on `address` in a thread of its own, since each test has its own runtime, that
    /// hands questions on to `upstream`.
    pub(crate) async fn start(address: SocketAddr, upstream: SocketAddr) -> Self {
        let gate = Self {
            address,
            book: Arc::default(),
        };
        let (started, mut starts) = mpsc::channel(1);
        let serving = gate.clone();
        thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let socket = UdpSocket::bind(address).await.expect("a free port 53");
                started.send(()).await.expect("somebody waits");
                serving.serve(Arc::new(socket), upstream).await;
            });
        });
        starts.recv().await.expect("the resolver has started");
        gate
    }

    /// Where it answers, on UDP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers no question about `zone` and the names below it any more.
    pub(crate) fn silence(&self, zone: &str) {
        self.book().silent.insert(zone.to_owned());
    }

    /// Answers them again.
    pub(crate) fn speak(&self, zone: &str) {
        self.book().silent.remove(zone);
    }

    /// How often `name` has been asked about.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.book().asked.get(name).copied().unwrap_or(0)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, socket: Arc<UdpSocket>, upstream: SocketAddr) {
        let mut datagram = vec![0; DATAGRAM];
        loop {
            // An error is that of an earlier answer that nobody waited for.
            let Ok((length, client)) = socket.recv_from(&mut datagram).await else {
                continue;
            };
            let question = datagram[..length].to_vec();
            if !self.lets_pass(&question) {
                continue;
            }
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Some(answer) = ask(upstream, &question).await {
                    let _ = socket.send_to(&answer, client).await;
                }
            });
        }
    }

    /// Notes the question; whether it may be answered.
    fn lets_pass(&self, question: &[u8]) -> bool {
        let Ok(message) = Message::from_vec(question) else {
            return true;
        };
        let mut book = self.book();
        let mut passes = true;
        for query in &message.queries {
            let name = query.name().to_ascii().to_ascii_lowercase();
            let name = name.trim_end_matches('.');
            *book.asked.entry(name.to_owned()).or_default() += 1;
            let below = |zone: &String| name == zone || name.ends_with(&format!(".{zone}"));
            passes &= !book.silent.iter().any(below);
        }
        passes
    }
}

/// The name server's answer; `None`: there was none, so neither has the client one.
async fn ask(upstream: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    socket.connect(upstream).await.ok()?;
    socket.send(question).await.ok()?;
    let mut answer = vec![0; DATAGRAM];
    let received = tokio::time::timeout(ANSWER_BOUND, socket.recv(&mut answer)).await;
    answer.truncate(received.ok()?.ok()?);
    Some(answer)
}
