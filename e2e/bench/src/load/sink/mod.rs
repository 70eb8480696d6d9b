//! The sink: one thread that takes mail on an address and writes down which numbers came.
//!
//! Promises: PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES and SIZE offered, CHUNKING where asked for; a
//! message counts when its final dot came; no allocation per message.

mod conversation;

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use conversation::{Conversation, Step, World};

use super::{
    ledger::Ledger,
    poll::{Interest, Poll},
};
use crate::clock;

/// Longest wait for events: how soon a stop is noticed.
const TICK: Duration = Duration::from_millis(20);
/// What the listener is known by to [`Poll`].
const LISTENER: usize = usize::MAX;
/// Room for what is read at once, all connections sharing it.
const SCRATCH: usize = 256 * 1024;

/// How a receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behaviour {
    /// Time between the end of the data and the reply.
    pub delay: Duration,
    /// Share of messages whose first attempt is answered 451, of 1.
    pub greylisted: f64,
    /// Every recipient is answered 451, always.
    pub refusing: bool,
    /// Connections at a time; the next is greeted with 421.
    pub connections: usize,
    /// Whether CHUNKING is offered (RFC 3030).
    pub chunking: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            greylisted: 0.0,
            refusing: false,
            connections: usize::MAX,
            chunking: false,
        }
    }
}

/// A running sink; stops when dropped.
#[derive(Debug)]
pub struct Sink {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Starts one that listens on `door`.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub fn start(door: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        let ledger = Arc::new(Mutex::new(Ledger::new(0, clock::now())));
        let stop = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind(door)?;
        let mut server = Server::new(listener, behaviour, Arc::clone(&ledger))?;
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || server.run(&stopped))?;
        Ok(Self {
            ledger,
            stop,
            thread: Some(thread),
        })
    }

    /// Forgets what came; messages with numbers from `first` on are counted from now on.
    pub fn clear(&self, first: u64) {
        *self.lock() = Ledger::new(first, clock::now());
    }

    /// Messages that came since it was cleared.
    pub fn delivered(&self) -> u64 {
        self.lock().delivered.len()
    }

    /// What has come.
    pub fn ledger(&self) -> Ledger {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

struct Peer {
    stream: TcpStream,
    conversation: Conversation,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    watched: Interest,
    generation: u64,
}

/// The thread's own.
struct Server {
    poll: Poll,
    listener: TcpListener,
    behaviour: Behaviour,
    open: usize,
    /// Known to [`Poll`] by their place here.
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    delayed: VecDeque<(Instant, usize, u64)>,
    generation: u64,
    scratch: Vec<u8>,
    replies: Vec<u8>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Server {
    fn new(
        listener: TcpListener,
        behaviour: Behaviour,
        ledger: Arc<Mutex<Ledger>>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, Interest::Read)?;
        Ok(Self {
            poll,
            listener,
            behaviour,
            open: 0,
            peers: Vec::new(),
            free: Vec::new(),
            delayed: VecDeque::new(),
            generation: 0,
            scratch: vec![0; SCRATCH],
            replies: Vec::with_capacity(4096),
            ledger,
        })
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut ready = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let bound = self.delayed.front().map_or(TICK, |(due, ..)| {
                due.saturating_duration_since(clock::now()).min(TICK)
            });
            if self.poll.wait(bound, &mut ready).is_err() {
                return;
            }
            let now = clock::now();
            for &number in &ready {
                match number {
                    LISTENER => self.accept(),
                    peer => self.serve(peer, now, Cause::Socket),
                }
            }
            self.wake(now);
        }
    }

    /// Lets the conversations go on whose delay is over.
    fn wake(&mut self, now: Instant) {
        while let Some(&(due, number, generation)) = self.delayed.front() {
            if due > now {
                return;
            }
            self.delayed.pop_front();
            let peer = self.peers.get(number).and_then(Option::as_ref);
            if peer.is_some_and(|peer| peer.generation == generation) {
                self.serve(number, now, Cause::Delay);
            }
        }
    }

    /// Takes the connections that wait.
    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let set_up = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true));
            if set_up.is_err() {
                continue;
            }
            if self.open >= self.behaviour.connections {
                // Whether the client hears it is its affair.
                let _ = stream.write(b"421 4.7.0 too many connections\r\n");
                continue;
            }
            let place = self.free.pop().unwrap_or(self.peers.len());
            let greeted = stream.write(b"220 sink.bench.example ESMTP\r\n");
            let watched = self.poll.add(&stream, place, Interest::Read);
            if greeted.is_err() || watched.is_err() {
                self.free
                    .extend((place < self.peers.len()).then_some(place));
                continue;
            }
            self.open += 1;
            self.generation += 1;
            let peer = Some(Peer {
                stream,
                conversation: Conversation::new(self.behaviour),
                unsent: Vec::new(),
                watched: Interest::Read,
                generation: self.generation,
            });
            match self.peers.get_mut(place) {
                Some(free) => *free = peer,
                None => self.peers.push(peer),
            }
        }
    }

    /// Lets one conversation go on.
    fn serve(&mut self, number: usize, now: Instant, cause: Cause) {
        let Some(Some(peer)) = self.peers.get_mut(number) else {
            return;
        };
        self.replies.clear();
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = World {
            ledger: &mut ledger,
            replies: &mut self.replies,
            now,
        };
        let step = match cause {
            Cause::Delay => peer.conversation.resume(&mut world),
            Cause::Socket => peer.read(&mut self.scratch, &mut world),
        };
        drop(ledger);
        if peer.write(&self.replies).is_err() || step == Step::End {
            self.close(number);
            return;
        }
        let wanted = match step {
            Step::Delay => Interest::Nothing,
            _ if !peer.unsent.is_empty() => Interest::Write,
            _ => Interest::Read,
        };
        if wanted != peer.watched {
            peer.watched = wanted;
            // A socket that cannot be watched is one that is gone.
            let _ = self.poll.change(&peer.stream, number, wanted);
        }
        if step == Step::Delay {
            let due = now + self.behaviour.delay;
            self.delayed.push_back((due, number, peer.generation));
        }
    }

    fn close(&mut self, number: usize) {
        if self.peers.get_mut(number).and_then(Option::take).is_some() {
            self.open -= 1;
            self.free.push(number);
        }
    }
}

impl Peer {
    /// Reads once; what stood over from before comes first.
    fn read(&mut self, scratch: &mut [u8], world: &mut World<'_>) -> Step {
        let carried = self.conversation.carried(scratch);
        let Some(room) = scratch.get_mut(carried..) else {
            return Step::End;
        };
        match self.stream.read(room) {
            Ok(0) => Step::End,
            Ok(count) => {
                let octets = scratch.get(..carried + count).unwrap_or_default();
                self.conversation.advance(octets, world)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let octets = scratch.get(..carried).unwrap_or_default();
                self.conversation.advance(octets, world)
            }
            Err(_) => Step::End,
        }
    }

    fn write(&mut self, replies: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() && replies.is_empty() {
            return Ok(());
        }
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(replies);
            let count = written(self.stream.write(&self.unsent))?;
            self.unsent.drain(..count);
            return Ok(());
        }
        let count = written(self.stream.write(replies))?;
        self.unsent
            .extend_from_slice(replies.get(count..).unwrap_or_default());
        Ok(())
    }
}

/// Octets a socket took; none when it has no room.
fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// Why a conversation goes on.
#[derive(Clone, Copy)]
enum Cause {
    Socket,
    Delay,
}
