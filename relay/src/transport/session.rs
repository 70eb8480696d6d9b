//! The protocol of one connection, without I/O (RFC 5321 §3).
//!
//! Flow: greeting, EHLO (or HELO), STARTTLS where asked, EHLO again, then transactions, then QUIT.
//! Whoever runs it writes what [`Action::Write`] says, reports what arrives, and does not wait
//! beyond [`Session::deadline`].
//!
//! Guarantees: one [`Action::Finished`] for each [`Session::begin`], with one verdict per
//! recipient; at most one [`Action::Failed`], after which nothing more is written.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    Failure, Verdict,
    capabilities::Capabilities,
    exchange::{Exchange, Next, Reset},
    lines::{ReplyLines, ReplyReader},
};
pub use super::{
    exchange::{MAX_RECIPIENTS, Transaction},
    stage::Stage,
};

/// What a connection has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// In clear, even where TLS is offered: the second try after a failed handshake.
    Plain,
    /// TLS where it is offered.
    Opportunistic,
    /// TLS or nothing.
    Required,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes after those before.
    Write(Bytes),
    /// Do the TLS handshake, then call [`Session::secured`].
    StartTls,
    /// [`Session::begin`] may be called.
    Ready,
    /// The transaction is over: one verdict per recipient, in their order.
    Finished(Vec<Verdict>),
    /// The connection is of no more use; close it.
    Failed(Failure),
    /// QUIT was answered; close the connection.
    Closed,
}

#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Handshake,
    Ready,
    Busy(Box<Exchange>),
    Quitting,
    Closed,
}

/// One connection's protocol state.
#[derive(Debug)]
pub struct Session {
    own_name: String,
    security: Security,
    state: State,
    reader: ReplyReader,
    offered: Capabilities,
    encrypted: bool,
    reset: Reset,
    actions: VecDeque<Action>,
    deadline: Duration,
}

impl Session {
    /// A session that waits for the greeting since `now`, and will call itself `own_name`.
    #[must_use]
    pub fn new(own_name: &str, security: Security, now: Duration) -> Self {
        Self {
            own_name: own_name.to_owned(),
            security,
            state: State::Greeting,
            reader: ReplyReader::default(),
            offered: Capabilities::default(),
            encrypted: false,
            reset: Reset::NotNeeded,
            actions: VecDeque::new(),
            deadline: now + Stage::Greeting.limit(),
        }
    }

    /// The next thing to do, if any.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Session::timed_out`], in monotonic time.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Bytes have arrived.
    pub fn received(&mut self, mut bytes: &[u8], now: Duration) {
        while !bytes.is_empty() && !matches!(self.state, State::Closed) {
            match self.reader.next(&mut bytes) {
                Ok(Some(reply)) => {
                    self.reply(&reply);
                    if matches!(self.state, State::Handshake) {
                        // What was sent in clear must not be taken as sent under TLS
                        // (RFC 3207 §6).
                        if !bytes.is_empty() {
                            return self.broken("data after the answer to STARTTLS".into());
                        }
                        self.actions.push_back(Action::StartTls);
                    }
                    self.arm(now);
                }
                Ok(None) => {}
                Err(cause) => return self.broken(cause),
            }
        }
    }

    /// The network took some of what was to be written.
    pub fn progressed(&mut self, now: Duration) {
        if matches!(&self.state, State::Busy(exchange) if exchange.is_sending()) {
            self.arm(now);
        }
    }

    /// The network took all that was to be written.
    pub fn flushed(&mut self, now: Duration) {
        if let State::Busy(exchange) = &mut self.state {
            exchange.flushed();
            self.arm(now);
        }
    }

    /// The TLS handshake is done.
    pub fn secured(&mut self, now: Duration) {
        if matches!(self.state, State::Handshake) {
            self.encrypted = true;
            // Nothing learnt in clear counts any more (RFC 3207 §4.2).
            self.offered = Capabilities::default();
            self.hello();
            self.arm(now);
        }
    }

    /// Starts a transaction. Call it after [`Action::Ready`] or [`Action::Finished`].
    pub fn begin(&mut self, transaction: Transaction, now: Duration) {
        let reset = std::mem::replace(&mut self.reset, Reset::NotNeeded);
        let mut exchange = Exchange::new(transaction, self.offered, reset);
        if !matches!(self.state, State::Ready) {
            let failure = Failure::Lost {
                stage: self.stage(),
                cause: "the session takes no transaction".into(),
            };
            self.actions
                .push_back(Action::Finished(exchange.finish(&failure)));
            return;
        }
        match exchange.start() {
            Some(commands) => {
                self.write_all(commands);
                self.state = State::Busy(Box::new(exchange));
            }
            None => {
                self.reset = reset;
                self.finish(exchange);
            }
        }
        self.arm(now);
    }

    /// Says goodbye, where there is somebody to say it to.
    pub fn quit(&mut self, now: Duration) {
        if matches!(self.state, State::Ready) {
            self.write(b"QUIT\r\n".to_vec());
            self.state = State::Quitting;
            self.arm(now);
        } else {
            self.state = State::Closed;
            self.actions.push_back(Action::Closed);
        }
    }

    /// The deadline has passed.
    pub fn timed_out(&mut self) {
        self.fail(Failure::TimedOut(self.stage()));
    }

    /// The connection broke or was closed by the remote.
    pub fn lost(&mut self, cause: &str) {
        self.fail(Failure::Lost {
            stage: self.stage(),
            cause: cause.to_owned(),
        });
    }

    /// The TLS handshake failed.
    pub fn not_secured(&mut self, cause: &str) {
        self.fail(Failure::Tls(cause.to_owned()));
    }

    fn reply(&mut self, lines: &ReplyLines) {
        let reply = &lines.reply;
        if matches!(self.state, State::Quitting) {
            self.state = State::Closed;
            return self.actions.push_back(Action::Closed);
        }
        // The server is about to close, whatever it was asked (RFC 5321 §3.8).
        if reply.code == 421 {
            return self.refused(lines);
        }
        // Every arm says what comes next.
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Greeting if reply.is_positive() => self.hello(),
            State::Ehlo if reply.is_positive() => {
                let keywords = lines.lines.iter().skip(1).map(String::as_str);
                self.offered = Capabilities::read(keywords);
                self.secure_or_ready();
            }
            // It does not know EHLO (RFC 5321 §3.2).
            State::Ehlo if reply.is_permanent() && !self.encrypted => {
                self.write(format!("HELO {}\r\n", self.own_name).into_bytes());
                self.state = State::Helo;
            }
            State::Helo if reply.is_positive() => self.secure_or_ready(),
            State::StartTls if reply.is_positive() => {
                self.state = State::Handshake;
            }
            State::StartTls => self.no_tls(&format!("STARTTLS was refused: {reply}")),
            State::Busy(exchange) => self.answered(exchange, lines),
            before @ (State::Greeting | State::Ehlo | State::Helo) => {
                self.state = before;
                self.refused(lines);
            }
            before @ (State::Handshake | State::Ready | State::Quitting | State::Closed) => {
                self.state = before;
                self.broken(format!("unasked reply {reply}"));
            }
        }
    }

    fn answered(&mut self, mut exchange: Box<Exchange>, lines: &ReplyLines) {
        match exchange.answer(lines.reply.clone()) {
            Next::Continue(commands) => {
                self.write_all(commands);
                self.state = State::Busy(exchange);
            }
            Next::Finished => self.finish(*exchange),
            Next::Broken(cause) => {
                self.state = State::Busy(exchange);
                self.broken(cause);
            }
        }
    }

    fn finish(&mut self, exchange: Exchange) {
        if exchange.open_at_server {
            self.reset = Reset::First;
        }
        let failure = Failure::Protocol {
            stage: exchange.stage(),
            cause: "no answer was given".into(),
        };
        self.state = State::Ready;
        self.actions
            .push_back(Action::Finished(exchange.finish(&failure)));
    }

    fn hello(&mut self) {
        self.write(format!("EHLO {}\r\n", self.own_name).into_bytes());
        self.state = State::Ehlo;
    }

    fn secure_or_ready(&mut self) {
        if self.encrypted || self.security == Security::Plain {
            self.ready();
        } else if self.offered.starttls {
            self.write(b"STARTTLS\r\n".to_vec());
            self.state = State::StartTls;
        } else {
            self.no_tls("the server does not offer STARTTLS");
        }
    }

    fn no_tls(&mut self, cause: &str) {
        match self.security {
            Security::Required => self.not_secured(cause),
            Security::Opportunistic | Security::Plain => self.ready(),
        }
    }

    fn ready(&mut self) {
        self.state = State::Ready;
        self.actions.push_back(Action::Ready);
    }

    fn write(&mut self, bytes: Vec<u8>) {
        self.write_all([Bytes::from(bytes)]);
    }

    fn write_all(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        self.actions.extend(pieces.map(Action::Write));
    }

    fn refused(&mut self, lines: &ReplyLines) {
        self.fail(Failure::Refused {
            stage: self.stage(),
            reply: lines.reply.clone(),
        });
    }

    fn broken(&mut self, cause: String) {
        self.fail(Failure::Protocol {
            stage: self.stage(),
            cause,
        });
    }

    fn fail(&mut self, failure: Failure) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return,
            State::Busy(exchange) => {
                let verdicts = exchange.finish(&failure);
                self.actions.push_back(Action::Finished(verdicts));
            }
            _ => {}
        }
        self.actions.push_back(Action::Failed(failure));
    }

    fn stage(&self) -> Stage {
        match &self.state {
            State::Greeting => Stage::Greeting,
            State::Ehlo | State::Helo => Stage::Hello,
            State::StartTls | State::Handshake => Stage::StartTls,
            State::Ready | State::Closed => Stage::Idle,
            State::Busy(exchange) => exchange.stage(),
            State::Quitting => Stage::Quit,
        }
    }

    fn arm(&mut self, now: Duration) {
        self.deadline = now + self.stage().limit();
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
