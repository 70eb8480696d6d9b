//! The source: one thread that submits messages over many sessions as fast as they are taken, or
//! at a given rate.
//!
//! Promises: every message has a number of its own, which its recipient bears; what was answered
//! 250 to the end of its data is in the [`Account`], and nothing else; sessions wait for each
//! other's turn at nothing; no allocation per message.
//!
//! It never gives up a message half way: after the end of its time it waits for the replies still
//! due, until nothing was heard for [`GRACE`].

mod session;
mod stream;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use session::{Event, Session};
pub use stream::{Login, tls_trusting};

use super::{
    ledger::NumberSet,
    poll::{Interest, Poll},
    wire::Text,
};
use crate::clock;

/// How long nothing at all may be heard.
const GRACE: Duration = Duration::from_secs(60);
/// Longest wait for events: how soon the end of the time is noticed.
const TICK: Duration = Duration::from_millis(5);
/// Pause of a session whose connection was refused or broken.
const RETRY: Duration = Duration::from_millis(100);

/// What to send, and how.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to.
    pub target: SocketAddr,
    /// Sessions at a time.
    pub sessions: usize,
    /// Octets of a message.
    pub size: usize,
    /// The number of the first message.
    pub first: u64,
    /// Envelope sender and From address.
    pub sender: String,
    /// Domains of the recipients, taken in turn.
    pub domains: Vec<String>,
    /// When to stop.
    pub until: Until,
    /// Whether a session takes one message or many.
    pub connection: Connection,
    /// Messages a second, over all sessions; as fast as possible when absent.
    pub rate: Option<f64>,
    /// How to log in, where that is demanded; sessions are then made before the time begins.
    pub login: Option<Login>,
}

/// When a source stops.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After a time.
    Elapsed(Duration),
    /// After a number of messages.
    Messages(u64),
}

/// How long a connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// For all messages of a session.
    Reused,
    /// For one message.
    PerMessage,
}

/// What became of a load.
#[derive(Debug)]
pub struct Sent {
    /// When the first message began.
    pub began: Instant,
    /// When the last reply came.
    pub ended: Instant,
    /// Messages begun: numbers from [`Load::first`] on.
    pub begun: u64,
    /// Numbers of the messages answered 250.
    pub accepted: NumberSet,
    /// Messages refused.
    pub refused: u64,
    /// Connections refused or broken.
    pub broken: u64,
    /// The first refusal, as it was said.
    pub refusal: Option<String>,
    /// Microseconds from the end of the data to the 250, in the order of the replies.
    pub waits: Vec<u32>,
}

impl Sent {
    /// Messages taken a second.
    pub fn rate(&self) -> f64 {
        let seconds = self.ended.duration_since(self.began).as_secs_f64();
        self.accepted.len() as f64 / seconds.max(f64::MIN_POSITIVE)
    }
}

/// Sends a load and waits for the replies.
///
/// # Errors
/// When sockets cannot be had, or a login does not work.
pub fn send(load: &Load) -> io::Result<Sent> {
    let mut source = Source::new(load)?;
    source.run()?;
    Ok(source.sent)
}

struct Source<'a> {
    load: &'a Load,
    poll: Poll,
    sessions: Vec<Session>,
    text: Text,
    sent: Sent,
    /// No new message after that.
    stop: Instant,
    /// When something was last heard.
    heard: Instant,
}

impl<'a> Source<'a> {
    fn new(load: &'a Load) -> io::Result<Self> {
        let sessions = (0..load.sessions).map(|_| Session::open(load));
        let sessions = sessions.collect::<io::Result<Vec<_>>>()?;
        let poll = Poll::new()?;
        for (number, session) in sessions.iter().enumerate() {
            poll.add(session.socket()?, number, Interest::Read)?;
        }
        let began = clock::now();
        let sent = Sent {
            began,
            ended: began,
            begun: 0,
            accepted: NumberSet::from(load.first),
            refused: 0,
            broken: 0,
            refusal: None,
            waits: Vec::with_capacity(WAITS),
        };
        let stop = match load.until {
            Until::Elapsed(time) => began + time,
            Until::Messages(_) => began + FOREVER,
        };
        let text = Text::new(load.size, &load.sender, clock::wall());
        Ok(Self {
            load,
            poll,
            sessions,
            text,
            sent,
            stop,
            heard: began,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        for number in 0..self.sessions.len() {
            self.turn(number, clock::now())?;
        }
        loop {
            let now = clock::now();
            let over = self.over(now);
            let silent = now > self.heard + GRACE;
            if silent || over && self.sessions.iter().all(Session::is_done) {
                return Ok(());
            }
            self.poll.wait(self.patience(now, over), &mut ready)?;
            let now = clock::now();
            if !ready.is_empty() {
                self.heard = now;
            }
            for &number in &ready {
                self.turn(number, now)?;
            }
            if self.load.rate.is_some() || ready.is_empty() {
                self.wake(now)?;
            }
        }
    }

    /// Whether no further message is to be begun.
    fn over(&self, now: Instant) -> bool {
        now >= self.stop
            || matches!(self.load.until, Until::Messages(count) if self.sent.begun >= count)
    }

    /// How long to wait for events: where a rate is given, until the next message is due, so that
    /// messages that were due while nothing was heard do not come all at once.
    fn patience(&self, now: Instant, over: bool) -> Duration {
        let Some(rate) = self.load.rate.filter(|_| !over) else {
            return TICK;
        };
        if !self.sessions.iter().any(Session::is_idle) {
            return TICK;
        }
        let due = Duration::from_secs_f64(self.sent.begun as f64 / rate);
        due.saturating_sub(now.duration_since(self.sent.began))
            .min(TICK)
    }

    /// Lets the sessions that wait for something else than their socket go on.
    fn wake(&mut self, now: Instant) -> io::Result<()> {
        let over = self.over(now);
        for number in 0..self.sessions.len() {
            let Some(session) = self.sessions.get(number) else {
                break;
            };
            if session.is_closed() && session.retry_at() <= now && !over {
                self.reopen(number)?;
            } else if session.is_idle() {
                self.next(number, now)?;
            }
        }
        Ok(())
    }

    /// Takes what a session's socket has to give.
    fn turn(&mut self, number: usize, now: Instant) -> io::Result<()> {
        let Some(session) = self.sessions.get_mut(number) else {
            return Ok(());
        };
        let event = session.advance(&mut self.text, self.load);
        match event {
            Event::Nothing => {}
            Event::Ready => self.next(number, now)?,
            Event::Accepted { number: id, wait } => {
                self.sent.accepted.insert(id);
                self.sent.waits.push(wait);
                self.sent.ended = now;
                self.after(number, now)?;
            }
            Event::Refused { reply } => {
                self.sent.refused += 1;
                self.sent.refusal.get_or_insert(reply);
                self.sent.ended = now;
                self.after(number, now)?;
            }
            Event::Broken { error } => {
                self.sent.broken += 1;
                self.sent.refusal.get_or_insert(error);
                self.close(number, now + RETRY);
            }
            Event::Left => {
                self.close(number, now);
                if !self.over(now) {
                    self.reopen(number)?;
                }
            }
        }
        self.watch(number)
    }

    /// After the end of a message.
    fn after(&mut self, number: usize, now: Instant) -> io::Result<()> {
        match self.load.connection {
            Connection::Reused => self.next(number, now),
            Connection::PerMessage => {
                if let Some(session) = self.sessions.get_mut(number) {
                    session.quit();
                }
                Ok(())
            }
        }
    }

    /// Begins the next message in a session that is free, if one is due.
    fn next(&mut self, number: usize, now: Instant) -> io::Result<()> {
        let over = self.over(now);
        let due = self.load.rate.is_none_or(|rate| {
            let elapsed = now.duration_since(self.sent.began).as_secs_f64();
            (self.sent.begun as f64) < elapsed * rate
        });
        let Some(session) = self.sessions.get_mut(number) else {
            return Ok(());
        };
        if over {
            session.quit();
        } else if due {
            session.begin(self.load.first + self.sent.begun, self.load);
            self.sent.begun += 1;
        } else {
            session.idle();
        }
        self.watch(number)
    }

    fn close(&mut self, number: usize, retry: Instant) {
        if let Some(session) = self.sessions.get_mut(number) {
            session.close(retry);
        }
    }

    fn reopen(&mut self, number: usize) -> io::Result<()> {
        let session = Session::open(self.load)?;
        self.poll.add(session.socket()?, number, Interest::Read)?;
        if let Some(place) = self.sessions.get_mut(number) {
            *place = session;
        }
        Ok(())
    }

    fn watch(&mut self, number: usize) -> io::Result<()> {
        let Some(session) = self.sessions.get_mut(number) else {
            return Ok(());
        };
        if let Some(interest) = session.changed_interest() {
            self.poll.change(session.socket()?, number, interest)?;
        }
        Ok(())
    }
}

/// Room for waits at the start: some minutes at full rate.
const WAITS: usize = 1 << 20;
/// Longer than any load.
const FOREVER: Duration = Duration::from_secs(86_400);
