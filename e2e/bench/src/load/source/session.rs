//! One session of the source: what it has said, what it waits for.
//!
//! MAIL, RCPT and DATA go out together where PIPELINING is offered (RFC 2920), one by one where it
//! is not.

use std::{io, time::Instant};

use super::{
    Load,
    stream::{Flow, Stream},
};
use crate::{
    clock,
    load::{
        poll::Interest,
        wire::{self, Text, reply_line},
    },
};

/// Room for replies: the longest EHLO reply fits.
const INPUT: usize = 4096;
/// MAIL, RCPT, DATA.
const COMMANDS: u8 = 3;

/// What a look at a session's socket gave.
#[derive(Debug)]
pub(super) enum Event {
    /// Nothing to tell.
    Nothing,
    /// Greeted: a message may begin.
    Ready,
    /// The message was answered 250.
    Accepted {
        /// Its number.
        number: u64,
        /// Microseconds from the end of the data.
        wait: u32,
    },
    /// The message was refused.
    Refused {
        /// What was said.
        reply: String,
    },
    /// The connection failed, or what it says is no SMTP.
    Broken {
        /// How.
        error: String,
    },
    /// QUIT was answered.
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Ehlo,
    /// Replies that came to MAIL, RCPT and DATA, and whether one was a refusal.
    Envelope {
        replies: u8,
        refused: bool,
    },
    Text,
    Resetting,
    Idle,
    Quitting,
    Closed {
        retry: Instant,
    },
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    stream: Option<Stream>,
    state: State,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    pipelining: bool,
    number: u64,
    sent_at: Instant,
    refusal: String,
    watched: Interest,
}

impl Session {
    /// A session whose connection is under way, or logged in where a login is asked for.
    pub(super) fn open(load: &Load) -> io::Result<Self> {
        let stream = match &load.login {
            None => Stream::connect(load.target)?,
            Some(login) => login.connect(load.target)?,
        };
        Ok(Self {
            stream: Some(stream),
            state: if load.login.is_some() {
                State::Idle
            } else {
                State::Greeting
            },
            input: Vec::with_capacity(INPUT),
            output: Vec::with_capacity(load.size + INPUT),
            written: 0,
            pipelining: load.login.is_some(),
            number: 0,
            sent_at: clock::now(),
            refusal: String::new(),
            watched: Interest::Read,
        })
    }

    /// Its socket.
    pub(super) fn socket(&self) -> io::Result<&std::net::TcpStream> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok(stream.socket())
    }

    /// Whether it will say nothing more.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Whether it has no connection.
    pub(super) fn is_closed(&self) -> bool {
        self.stream.is_none()
    }

    /// When to connect again.
    pub(super) fn retry_at(&self) -> Instant {
        match self.state {
            State::Closed { retry } => retry,
            _ => self.sent_at,
        }
    }

    /// Whether it waits for its turn.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Lets it wait for its turn.
    pub(super) fn idle(&mut self) {
        self.state = State::Idle;
    }

    /// Ends it politely.
    pub(super) fn quit(&mut self) {
        if matches!(self.state, State::Closed { .. } | State::Quitting) {
            return;
        }
        self.state = State::Quitting;
        self.say(b"QUIT\r\n");
    }

    /// Drops the connection.
    pub(super) fn close(&mut self, retry: Instant) {
        self.stream = None;
        self.state = State::Closed { retry };
    }

    /// Begins message `number`.
    pub(super) fn begin(&mut self, number: u64, load: &Load) {
        self.number = number;
        self.state = State::Envelope {
            replies: 0,
            refused: false,
        };
        self.command(0, load);
        if self.pipelining {
            self.command(1, load);
            self.command(2, load);
        }
        self.flush();
    }

    fn command(&mut self, which: u8, load: &Load) {
        match which {
            0 => {
                self.output.extend_from_slice(b"MAIL FROM:<");
                self.output.extend_from_slice(load.sender.as_bytes());
                self.output.extend_from_slice(b">\r\n");
            }
            1 => {
                let count = load.domains.len().max(1);
                let turn = usize::try_from(self.number).unwrap_or_default() % count;
                let domain = load.domains.get(turn).map_or("", String::as_str);
                wire::rcpt(&mut self.output, self.number, domain);
            }
            _ => self.output.extend_from_slice(b"DATA\r\n"),
        }
    }

    /// What it is to be watched for, if that has changed.
    pub(super) fn changed_interest(&mut self) -> Option<Interest> {
        let stream = self.stream.as_ref()?;
        let pending = self.written < self.output.len() || stream.wants_write();
        let wanted = if pending {
            Interest::Write
        } else {
            Interest::Read
        };
        (wanted != self.watched).then(|| {
            self.watched = wanted;
            wanted
        })
    }

    /// Takes what its socket has, and says what follows from it.
    pub(super) fn advance(&mut self, text: &mut Text, load: &Load) -> Event {
        if self.watched == Interest::Write {
            self.flush();
        }
        let Some(stream) = &mut self.stream else {
            return Event::Nothing;
        };
        let length = self.input.len();
        match stream.fill(&mut self.input, INPUT) {
            Ok(Flow::Open) => {}
            Ok(Flow::Closed) if self.state == State::Quitting => return Event::Left,
            Ok(Flow::Closed) => {
                return Event::Broken {
                    error: format!("closed in {:?}", self.state),
                };
            }
            Err(error) => {
                return Event::Broken {
                    error: error.to_string(),
                };
            }
        }
        if self.input.len() == length {
            return Event::Nothing;
        }
        self.replies(text, load)
    }

    /// Goes through the reply lines that came whole. At most one of them ends a message.
    fn replies(&mut self, text: &mut Text, load: &Load) -> Event {
        let mut event = Event::Nothing;
        let mut start = 0;
        let input = std::mem::take(&mut self.input);
        while let Some(end) = memchr::memchr(b'\n', input.get(start..).unwrap_or_default()) {
            let line = input.get(start..start + end).unwrap_or_default();
            start += end + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match reply_line(line) {
                Some(reply) if reply.more => {
                    self.pipelining |= self.state == State::Ehlo && reply.text == PIPELINING;
                }
                Some(reply) => {
                    self.pipelining |= self.state == State::Ehlo && reply.text == PIPELINING;
                    event = self.reply(reply.code, line, text, load);
                }
                None => {
                    event = Event::Broken {
                        error: format!("no reply: {}", String::from_utf8_lossy(line)),
                    };
                }
            }
        }
        self.input = input;
        self.input.drain(..start);
        event
    }

    /// One whole reply.
    fn reply(&mut self, code: u16, line: &[u8], text: &mut Text, load: &Load) -> Event {
        let good = (200..400).contains(&code);
        match self.state {
            State::Greeting if good => {
                self.state = State::Ehlo;
                self.say(b"EHLO source.bench.example\r\n");
            }
            State::Ehlo if good => return Event::Ready,
            State::Greeting | State::Ehlo => {
                return Event::Broken {
                    error: String::from_utf8_lossy(line).into_owned(),
                };
            }
            State::Envelope { replies, refused } => {
                self.envelope(replies, refused, (code, line));
                return self.after_envelope(text, load);
            }
            State::Text => {
                self.state = State::Idle;
                if code == 250 {
                    let wait = self.sent_at.elapsed().as_micros();
                    return Event::Accepted {
                        number: self.number,
                        wait: u32::try_from(wait).unwrap_or(u32::MAX),
                    };
                }
                return Event::Refused {
                    reply: String::from_utf8_lossy(line).into_owned(),
                };
            }
            State::Resetting => {
                self.state = State::Idle;
                return Event::Refused {
                    reply: std::mem::take(&mut self.refusal),
                };
            }
            State::Quitting => return Event::Left,
            State::Idle | State::Closed { .. } => {
                return Event::Broken {
                    error: format!("unasked: {}", String::from_utf8_lossy(line)),
                };
            }
        }
        Event::Nothing
    }

    /// Notes a reply to MAIL, RCPT or DATA.
    fn envelope(&mut self, replies: u8, refused: bool, (code, line): (u16, &[u8])) {
        let wanted = if replies + 1 == COMMANDS { 354 } else { 250 };
        if code != wanted && !refused {
            self.refusal = String::from_utf8_lossy(line).into_owned();
        }
        self.state = State::Envelope {
            replies: replies + 1,
            refused: refused || code != wanted,
        };
    }

    /// Goes on after a reply to MAIL, RCPT or DATA.
    fn after_envelope(&mut self, text: &mut Text, load: &Load) -> Event {
        let State::Envelope { replies, refused } = self.state else {
            return Event::Nothing;
        };
        let all = replies == COMMANDS;
        if refused && (all || !self.pipelining) {
            self.state = State::Resetting;
            self.say(b"RSET\r\n");
        } else if all {
            self.state = State::Text;
            self.output.extend_from_slice(text.numbered(self.number));
            self.flush();
        } else if !self.pipelining {
            self.command(replies, load);
            self.flush();
        }
        Event::Nothing
    }

    fn say(&mut self, words: &[u8]) {
        self.output.extend_from_slice(words);
        self.flush();
    }

    /// Writes what can be written now. A broken connection shows when it is read.
    fn flush(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        while let Some(rest) = self.output.get(self.written..).filter(|r| !r.is_empty()) {
            match stream.write(rest) {
                Ok(count) => self.written += count,
                Err(_) => break,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        stream.push();
        if self.state == State::Text && self.output.is_empty() {
            self.sent_at = clock::now();
        }
    }
}

const PIPELINING: &[u8] = b"PIPELINING";
