//! The server's side of a submission session (RFC 5321, RFC 6409) as a state machine: octets and
//! the settings in force go in, [`Action`]s come out.
//!
//! Flow: feed what was read with [`Session::receive`], then carry out [`Session::next_action`]
//! until it is `None`. An action that asks for something (TLS, a verdict, custody) stops the
//! session until it is told the result; octets received meanwhile wait.
//!
//! Guarantees: any octets in any chunks give replies, never a panic. A message is handed over only
//! after authentication. Octets that came in the clear behind STARTTLS are thrown away
//! (RFC 3207 §6). Assumes that the caller reads nothing while an answer is owed, so that what waits
//! is bounded by one read and one line.

mod chunks;
mod commands;
mod lines;

use std::{collections::VecDeque, mem, net::IpAddr, time::Duration};

use bytes::{Buf as _, BytesMut};
use postrider_crds::Mailbox;

use self::{chunks::Incoming, lines::Line};
use super::{
    auth::{self, Attempt, Login, Proof, Verdict},
    command,
    data::DataReader,
    refusal::Refusal,
    sasl::{self, Exchange},
    stamp::Transmission,
    text::{Message, Text, TextFault, TextReader},
};
use crate::{
    config::Settings,
    mail::{BodyKind, EnhancedCode, Priority, Reply, ReturnPath},
    telemetry::RejectReason,
};

/// Logins refused until the session ends (RFC 4954 §4 asks for a limit).
const MAX_FAILED_LOGINS: u32 = 3;
/// The wait for a command or for more of a text (RFC 5321 §4.5.3.2.7: 5 minutes at least).
const IDLE: Duration = Duration::from_mins(5);
/// From the greeting to a login: a session that names nobody holds its slot no longer.
const UNAUTHENTICATED: Duration = Duration::from_mins(5);

/// Which door the client came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// In the clear, to be upgraded by STARTTLS (RFC 6409, usually 587).
    StartTls,
    /// TLS from the start (RFC 8314 §3.3, usually 465).
    ImplicitTls,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write these octets.
    Write(Vec<u8>),
    /// Count a refusal that has just been written.
    Refused(Refusal),
    /// Write what is owed, do the TLS handshake, then call [`Session::tls_started`].
    StartTls,
    /// Verify, then call [`Session::verified`].
    Verify(Attempt),
    /// Take it or not, then call [`Session::answered`].
    Accept(Box<Submission>),
    /// Write what is owed and close the connection.
    Close,
}

/// A whole message with its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Who sent it.
    pub login: Login,
    /// What the client calls itself.
    pub helo: String,
    /// How it came over.
    pub transmission: Transmission,
    /// The envelope sender.
    pub from: ReturnPath,
    /// The recipients, one at least.
    pub recipients: Vec<Mailbox>,
    /// What the text really is.
    pub body_kind: BodyKind,
    /// How urgent MAIL said it is.
    pub priority: Option<Priority>,
    /// The message as it came, unstuffed.
    pub message: Message,
    /// When MAIL came, on the caller's monotonic clock.
    pub began: Duration,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    /// What the client called itself, once it did.
    helo: Option<String>,
    encrypted: bool,
    client: IpAddr,
    /// By AUTH, or by the client's address as of the last MAIL.
    login: Option<Login>,
    input: BytesMut,
    actions: VecDeque<Action>,
    began: Duration,
    last_heard: Duration,
    failed_logins: u32,
    refused_commands: u32,
    draining: bool,
}

#[derive(Debug)]
enum Phase {
    /// Waits for the first TLS handshake; nothing was said yet.
    Silent,
    /// Between transactions.
    Ready,
    /// After MAIL.
    Transaction(Transaction),
    /// After DATA.
    Text(Transaction, DataReader),
    /// After BDAT.
    Chunk(Transaction, TextReader, Incoming),
    /// So many octets of a chunk that is refused are skipped; then it goes on.
    Skipping(u64, Refusal, Box<Self>),
    /// In an authentication exchange.
    Sasl(Exchange),
    /// The rest of a line that was too long is skipped.
    Overlong,
    /// A handshake is under way.
    Upgrading,
    /// A verdict on a login is awaited.
    Verifying,
    /// Custody's answer is awaited.
    Accepting,
    /// Nothing more is said.
    Closed,
}

#[derive(Debug)]
struct Transaction {
    login: Login,
    from: ReturnPath,
    body_kind: BodyKind,
    priority: Option<Priority>,
    recipients: Vec<Mailbox>,
    /// Octets announced.
    size: Option<u64>,
    /// What came in chunks so far (RFC 3030 §2).
    chunks: Option<TextReader>,
    began: Duration,
}

impl Session {
    /// A session with `client` that begins at `now` on the caller's monotonic clock. On a door with
    /// implicit TLS, do the handshake and call [`Session::tls_started`] first.
    #[must_use]
    pub fn new(door: Door, client: IpAddr, settings: &Settings, now: Duration) -> Self {
        let mut session = Self {
            phase: Phase::Silent,
            helo: None,
            encrypted: false,
            client,
            login: auth::trusted(settings, client),
            input: BytesMut::new(),
            actions: VecDeque::new(),
            began: now,
            last_heard: now,
            failed_logins: 0,
            refused_commands: 0,
            draining: false,
        };
        if door == Door::StartTls {
            session.greet(settings);
        }
        session
    }

    /// Takes what was read from the client.
    pub fn receive(&mut self, octets: &[u8], now: Duration) {
        self.last_heard = now;
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        // A text needs no stop on the way.
        let used = match &mut self.phase {
            Phase::Text(_, reader) if self.input.is_empty() => reader.read(octets),
            Phase::Chunk(_, text, incoming) if self.input.is_empty() => incoming.read(octets, text),
            _ => 0,
        };
        self.input
            .extend_from_slice(octets.get(used..).unwrap_or_default());
    }

    /// What to do next; `None` when more must be read or an answer is owed to the session.
    pub fn next_action(&mut self, settings: &Settings) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if !self.step(settings) {
                return None;
            }
        }
    }

    /// When to call [`Session::timed_out`] unless something is received before.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        let idle = self.last_heard + IDLE;
        match self.login {
            Some(_) => idle,
            None => idle.min(self.began + UNAUTHENTICATED),
        }
    }

    /// Octets held in memory for the client.
    #[must_use]
    pub fn held(&self) -> usize {
        let text = match &self.phase {
            Phase::Text(_, reader) => reader.held(),
            Phase::Chunk(_, text, _) => text.held(),
            Phase::Transaction(transaction) => {
                transaction.chunks.as_ref().map_or(0, TextReader::held)
            }
            _ => 0,
        };
        self.input.len() + text
    }

    /// Throws a text under way away, since there is no room for it; it is refused with 452 at its
    /// end.
    pub fn shed(&mut self) {
        match &mut self.phase {
            Phase::Text(_, reader) => reader.shed(),
            Phase::Chunk(_, text, _) => text.shed(),
            Phase::Transaction(transaction) => {
                if let Some(text) = &mut transaction.chunks {
                    text.shed();
                }
            }
            _ => {}
        }
    }

    /// Whom the client has logged in as.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// The client was silent for too long (RFC 5321 §4.5.3.2.7).
    pub fn timed_out(&mut self) {
        self.end(
            421,
            (4, 4, 2),
            "timed out waiting for the client; connect again",
        );
    }

    /// The relay is shutting down: a text under way is read and answered, every other command gets
    /// 421 (RFC 5321 §3.8).
    pub fn drain(&mut self) {
        self.draining = true;
        let busy = matches!(
            self.phase,
            Phase::Silent
                | Phase::Text(..)
                | Phase::Chunk(..)
                | Phase::Skipping(..)
                | Phase::Accepting
                | Phase::Verifying
                | Phase::Upgrading
        );
        if !busy {
            self.end_for_shutdown();
        }
    }

    /// The handshake asked for is done.
    pub fn tls_started(&mut self, settings: &Settings) {
        let silent = matches!(self.phase, Phase::Silent);
        self.encrypted = true;
        // RFC 3207 §4.2: what was known before is forgotten.
        self.helo = None;
        self.input.clear();
        self.phase = Phase::Ready;
        if silent && !self.draining {
            self.greet(settings);
        }
        if self.draining {
            self.end_for_shutdown();
        }
    }

    /// The verdict on a login.
    pub fn verified(&mut self, verdict: Verdict) {
        self.phase = Phase::Ready;
        let reason = RejectReason::Authentication;
        match verdict {
            Verdict::Right(login) => {
                self.login = Some(login);
                self.say(235, (2, 7, 0), "authenticated");
            }
            Verdict::Wrong => {
                let text = "AUTH username or password is wrong; check the Secret the sender uses";
                self.refuse_login(Refusal::new(reason, 535, (5, 7, 8), text));
            }
            // RFC 4954 §6: a temporary failure.
            Verdict::Unseen => {
                let text = "AUTH: too many logins from your address failed; try again later";
                self.refuse_login(Refusal::new(reason, 454, (4, 7, 0), text));
            }
        }
        if self.draining {
            self.end_for_shutdown();
        }
    }

    fn refuse_login(&mut self, refusal: Refusal) {
        self.failed_logins += 1;
        self.refuse(refusal);
        if self.failed_logins >= MAX_FAILED_LOGINS {
            self.end(421, (4, 7, 0), "too many failed logins; connect again");
        }
    }

    /// What became of the message handed over: a positive reply, or a refusal.
    pub fn answered(&mut self, answer: Result<Reply, Refusal>) {
        self.phase = Phase::Ready;
        match answer {
            Ok(reply) => self.write(&reply.to_string()),
            Err(refusal) => self.refuse(refusal),
        }
        if self.draining {
            self.end_for_shutdown();
        }
    }

    /// Reads one line or part of a text; `false` when there is none.
    fn step(&mut self, settings: &Settings) -> bool {
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Text(transaction, reader) => self.read_text(transaction, reader, settings),
            Phase::Chunk(transaction, text, incoming) => {
                self.read_chunk((transaction, text), incoming, settings)
            }
            Phase::Skipping(octets, refusal, after) => self.skip_chunk(octets, refusal, after),
            Phase::Overlong => self.skip_line(),
            Phase::Sasl(exchange) => match self.take_line() {
                Line::Whole(line) => {
                    self.proceed(sasl::proceed(exchange, &line));
                    true
                }
                Line::Part => {
                    self.phase = Phase::Sasl(exchange);
                    false
                }
                Line::TooLong => true,
            },
            phase @ (Phase::Ready | Phase::Transaction(_)) => {
                self.phase = phase;
                match self.take_line() {
                    Line::Whole(line) => {
                        self.obey(&line, settings);
                        true
                    }
                    Line::Part => false,
                    Line::TooLong => {
                        if command::is_bdat(&self.input) {
                            self.bdat(None, settings);
                        }
                        true
                    }
                }
            }
            phase @ (Phase::Silent
            | Phase::Upgrading
            | Phase::Verifying
            | Phase::Accepting
            | Phase::Closed) => {
                self.phase = phase;
                false
            }
        }
    }

    fn read_text(
        &mut self,
        transaction: Transaction,
        mut reader: DataReader,
        settings: &Settings,
    ) -> bool {
        let used = reader.read(&self.input);
        self.input.advance(used);
        if !reader.has_ended() {
            self.phase = Phase::Text(transaction, reader);
            return false;
        }
        self.hand_over(transaction, reader.finish(), settings);
        true
    }

    /// Gives a whole message to custody, or refuses it.
    fn hand_over(
        &mut self,
        transaction: Transaction,
        text: Result<Text, TextFault>,
        settings: &Settings,
    ) {
        match text {
            Ok(text) => {
                let submission = self.submission(transaction, text);
                self.phase = Phase::Accepting;
                self.actions.push_back(Action::Accept(Box::new(submission)));
            }
            Err(fault) => {
                self.phase = Phase::Ready;
                self.refuse(fault.refusal(settings.relay.limits.message_bytes));
                if self.draining {
                    self.end_for_shutdown();
                }
            }
        }
    }

    fn submission(&self, transaction: Transaction, text: Text) -> Submission {
        // RFC 6152 §3 leaves a text that is not what was announced to the server; what it is
        // decides how it can be delivered.
        let body_kind = match (transaction.body_kind, text.eight_bit) {
            (BodyKind::SevenBit, false) => BodyKind::SevenBit,
            (BodyKind::SevenBit | BodyKind::EightBitMime, _) => BodyKind::EightBitMime,
        };
        let transmission = match (self.encrypted, transaction.login.proof) {
            (false, _) => Transmission::Esmtp,
            (true, Proof::Address) => Transmission::Esmtps,
            (true, Proof::Password(_)) => Transmission::Esmtpsa,
        };
        Submission {
            login: transaction.login,
            helo: self.helo.clone().unwrap_or_default(),
            transmission,
            from: transaction.from,
            recipients: transaction.recipients,
            body_kind,
            priority: transaction.priority,
            message: text.message,
            began: transaction.began,
        }
    }

    fn greet(&mut self, settings: &Settings) {
        self.phase = Phase::Ready;
        self.write(&format!("220 {} ESMTP Postrider", settings.relay.hostname));
    }

    fn say(&mut self, code: u16, enhanced: (u8, u16, u16), text: &str) {
        let (class, subject, detail) = enhanced;
        let reply = Reply::new(code, EnhancedCode(class, subject, detail), text);
        self.write(&reply.to_string());
    }

    /// Queues a reply line; lines that follow each other leave in one write.
    fn write(&mut self, line: &str) {
        if !matches!(self.actions.back(), Some(Action::Write(_))) {
            self.actions.push_back(Action::Write(Vec::new()));
        }
        if let Some(Action::Write(octets)) = self.actions.back_mut() {
            octets.extend_from_slice(line.as_bytes());
            octets.extend_from_slice(b"\r\n");
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.write(&refusal.reply.to_string());
        self.actions.push_back(Action::Refused(refusal));
    }

    fn end(&mut self, code: u16, enhanced: (u8, u16, u16), text: &str) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.say(code, enhanced, text);
        self.close();
    }

    fn close(&mut self) {
        self.actions.push_back(Action::Close);
        self.phase = Phase::Closed;
        self.input.clear();
    }

    fn end_for_shutdown(&mut self) {
        self.end(421, (4, 3, 2), "shutting down; connect again");
    }
}
