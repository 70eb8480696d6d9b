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

use std::{collections::VecDeque, mem, time::Duration};

use postrider_crds::Mailbox;

use super::{
    auth::{Attempt, Login},
    command::{self, Command, MAX_LINE, MailCommand},
    data::{DataFault, DataReader, Text},
    policy,
    refusal::Refusal,
    sasl::{self, Exchange, Progress},
};
use crate::{
    config::Settings,
    mail::{BodyKind, EnhancedCode, Reply, ReturnPath},
    telemetry::RejectReason,
};

/// Wrong passwords until the session ends (RFC 4954 §4 asks for a limit).
const MAX_FAILED_LOGINS: u32 = 3;
/// Refused commands until the session ends: a client that is wrong so often will not get better.
const MAX_REFUSED_COMMANDS: u32 = 100;
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
    /// The envelope sender.
    pub from: ReturnPath,
    /// The recipients, one at least.
    pub recipients: Vec<Mailbox>,
    /// What the text really is.
    pub body_kind: BodyKind,
    /// The message as it came, unstuffed.
    pub message: Vec<u8>,
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
    login: Option<Login>,
    input: Vec<u8>,
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
    from: ReturnPath,
    body_kind: BodyKind,
    recipients: Vec<Mailbox>,
    began: Duration,
}

impl Session {
    /// A session that begins at `now` on the caller's monotonic clock. On a door with implicit TLS,
    /// do the handshake and call [`Session::tls_started`] first.
    #[must_use]
    pub fn new(door: Door, settings: &Settings, now: Duration) -> Self {
        let mut session = Self {
            phase: Phase::Silent,
            helo: None,
            encrypted: false,
            login: None,
            input: Vec::new(),
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
        if !matches!(self.phase, Phase::Closed) {
            self.input.extend_from_slice(octets);
        }
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
            _ => 0,
        };
        self.input.len() + text
    }

    /// Throws a text under way away, since there is no room for it; it is refused with 452 at its
    /// end.
    pub fn shed(&mut self) {
        if let Phase::Text(_, reader) = &mut self.phase {
            reader.shed();
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

    /// The verdict on a login: `None` refuses it.
    pub fn verified(&mut self, login: Option<Login>) {
        self.phase = Phase::Ready;
        match login {
            Some(login) => {
                self.login = Some(login);
                self.say(235, (2, 7, 0), "authenticated");
            }
            None => {
                self.failed_logins += 1;
                let refusal = Refusal::new(
                    RejectReason::Authentication,
                    535,
                    (5, 7, 8),
                    "AUTH username or password is wrong; check the Secret the sender uses",
                );
                self.refuse(refusal);
                if self.failed_logins >= MAX_FAILED_LOGINS {
                    self.end(421, (4, 7, 0), "too many failed logins; connect again");
                }
            }
        }
        if self.draining {
            self.end_for_shutdown();
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
                    Line::TooLong => true,
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
        let (used, ended) = reader.read(&self.input);
        self.input.drain(..used);
        if !ended {
            self.phase = Phase::Text(transaction, reader);
            return false;
        }
        self.phase = Phase::Ready;
        match (reader.finish(), self.login.clone()) {
            (Ok(text), Some(login)) => {
                let submission = self.submission(transaction, text, login);
                self.phase = Phase::Accepting;
                self.actions.push_back(Action::Accept(Box::new(submission)));
            }
            (Ok(_), None) => self.refuse(unauthenticated("DATA")),
            (Err(fault), _) => {
                self.refuse(fault.refusal(settings.relay.limits.message_bytes));
                if self.draining {
                    self.end_for_shutdown();
                }
            }
        }
        true
    }

    fn submission(&self, transaction: Transaction, text: Text, login: Login) -> Submission {
        // RFC 6152 §3 leaves a text that is not what was announced to the server; what it is
        // decides how it can be delivered.
        let body_kind = match (transaction.body_kind, text.eight_bit) {
            (BodyKind::SevenBit, false) => BodyKind::SevenBit,
            (BodyKind::SevenBit | BodyKind::EightBitMime, _) => BodyKind::EightBitMime,
        };
        Submission {
            login,
            helo: self.helo.clone().unwrap_or_default(),
            from: transaction.from,
            recipients: transaction.recipients,
            body_kind,
            message: text.bytes,
            began: transaction.began,
        }
    }

    fn obey(&mut self, line: &[u8], settings: &Settings) {
        let result = match command::parse(line) {
            Ok(command) => self.carry_out(command, settings),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = result {
            self.refused_commands += 1;
            self.refuse(refusal);
            if self.refused_commands >= MAX_REFUSED_COMMANDS {
                self.end(
                    421,
                    (4, 7, 0),
                    "too many refused commands; correct the client",
                );
            }
        }
    }

    fn carry_out(&mut self, command: Command, settings: &Settings) -> Result<(), Refusal> {
        match command {
            Command::Ehlo(name) => self.ehlo(name, settings),
            Command::Helo(name) => {
                self.hello(name);
                self.write(&format!("250 {}", settings.relay.hostname));
            }
            Command::StartTls => self.start_tls()?,
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_deref())?,
            Command::Mail(mail) => self.mail(mail, settings)?,
            Command::Rcpt(mailbox) => self.rcpt(mailbox, settings)?,
            Command::Data => self.data(settings)?,
            Command::Rset => {
                self.phase = Phase::Ready;
                self.say(250, (2, 0, 0), "ok");
            }
            Command::Noop => self.say(250, (2, 0, 0), "ok"),
            // RFC 5321 §3.5.3: whether an address exists is not told.
            Command::Vrfy => self.say(252, (2, 5, 0), "not verified; send and see"),
            Command::Help => self.say(
                214,
                (2, 0, 0),
                "EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT",
            ),
            Command::Quit => self.end(221, (2, 0, 0), "bye"),
        }
        Ok(())
    }

    /// EHLO or HELO ends a transaction (RFC 5321 §4.1.4).
    fn hello(&mut self, name: String) {
        self.helo = Some(name);
        self.phase = Phase::Ready;
    }

    fn ehlo(&mut self, name: String, settings: &Settings) {
        self.hello(name);
        let size = format!("SIZE {}", settings.relay.limits.message_bytes);
        let mut lines = vec![
            settings.relay.hostname.as_str(),
            "PIPELINING",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            &size,
        ];
        // RFC 4954 §4: not before the password is safe.
        lines.push(match self.encrypted {
            true => "AUTH PLAIN LOGIN",
            false => "STARTTLS",
        });
        let last = lines.len() - 1;
        for (number, line) in lines.into_iter().enumerate() {
            let separator = if number == last { ' ' } else { '-' };
            self.write(&format!("250{separator}{line}"));
        }
    }

    fn start_tls(&mut self) -> Result<(), Refusal> {
        if self.encrypted {
            return Err(Refusal::sequence("STARTTLS: TLS is active already"));
        }
        self.say(220, (2, 0, 0), "ready to start TLS");
        self.actions.push_back(Action::StartTls);
        // RFC 3207 §6: what was slipped in behind the command is never obeyed.
        self.input.clear();
        self.phase = Phase::Upgrading;
        Ok(())
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Result<(), Refusal> {
        if !self.encrypted {
            let text = "AUTH needs encryption; give STARTTLS first";
            let reason = RejectReason::Authentication;
            return Err(Refusal::new(reason, 538, (5, 7, 11), text));
        }
        if self.helo.is_none() {
            return Err(Refusal::sequence("AUTH before EHLO; give EHLO first"));
        }
        if self.login.is_some() {
            return Err(Refusal::sequence("AUTH was given already"));
        }
        if matches!(self.phase, Phase::Transaction(_)) {
            return Err(Refusal::sequence(
                "AUTH inside a transaction; give RSET first",
            ));
        }
        let progress = sasl::begin(mechanism, initial)?;
        self.proceed(Ok(progress));
        Ok(())
    }

    fn proceed(&mut self, progress: Result<Progress, Refusal>) {
        match progress {
            Ok(Progress::Ask(exchange, challenge)) => {
                self.write(&format!("334 {challenge}"));
                self.phase = Phase::Sasl(exchange);
            }
            Ok(Progress::Done(attempt)) => {
                self.actions.push_back(Action::Verify(attempt));
                self.phase = Phase::Verifying;
            }
            Err(refusal) => {
                self.phase = Phase::Ready;
                self.refuse(refusal);
            }
        }
    }

    fn mail(&mut self, mail: MailCommand, settings: &Settings) -> Result<(), Refusal> {
        if self.helo.is_none() {
            return Err(Refusal::sequence("MAIL before EHLO; give EHLO first"));
        }
        if matches!(self.phase, Phase::Transaction(_)) {
            return Err(Refusal::sequence(
                "MAIL inside a transaction; give RSET first",
            ));
        }
        let Some(login) = &self.login else {
            return Err(unauthenticated("MAIL"));
        };
        if !settings.credentials.contains_key(&login.username) {
            let text = format!("MAIL: the login of {:?} was withdrawn", login.username);
            let reason = RejectReason::Authentication;
            return Err(Refusal::new(reason, 530, (5, 7, 0), text));
        }
        let limit = settings.relay.limits.message_bytes;
        if let Some(size) = mail.size.filter(|size| *size > limit) {
            return Err(too_big(&format!("MAIL FROM SIZE={size}"), limit));
        }
        policy::envelope_sender(settings, &login.username, &mail.from)?;
        self.phase = Phase::Transaction(Transaction {
            from: mail.from,
            body_kind: mail.body,
            recipients: Vec::new(),
            began: self.last_heard,
        });
        self.say(250, (2, 1, 0), "sender ok");
        Ok(())
    }

    fn rcpt(&mut self, mailbox: Mailbox, settings: &Settings) -> Result<(), Refusal> {
        let Phase::Transaction(transaction) = &mut self.phase else {
            return Err(Refusal::sequence("RCPT before MAIL; give MAIL first"));
        };
        if !transaction.recipients.contains(&mailbox) {
            let limit = settings.relay.limits.recipients;
            if transaction.recipients.len() >= limit as usize {
                let text = format!(
                    "RCPT TO <{mailbox}>: a message has {limit} recipients at most; send another for the rest"
                );
                return Err(Refusal::new(RejectReason::Limit, 452, (4, 5, 3), text));
            }
            transaction.recipients.push(mailbox);
        }
        self.say(250, (2, 1, 5), "recipient ok");
        Ok(())
    }

    fn data(&mut self, settings: &Settings) -> Result<(), Refusal> {
        match mem::replace(&mut self.phase, Phase::Ready) {
            Phase::Transaction(transaction) if !transaction.recipients.is_empty() => {
                let reader = DataReader::new(settings.relay.limits.message_bytes);
                self.phase = Phase::Text(transaction, reader);
                self.write("354 go ahead; end with <CRLF>.<CRLF>");
                Ok(())
            }
            phase => {
                self.phase = phase;
                Err(Refusal::sequence(
                    "DATA without a recipient; give MAIL and RCPT first",
                ))
            }
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
        self.actions.push_back(Action::Close);
        self.phase = Phase::Closed;
        self.input.clear();
    }

    fn end_for_shutdown(&mut self) {
        self.end(421, (4, 3, 2), "shutting down; connect again");
    }

    fn take_line(&mut self) -> Line {
        // Only CRLF ends a line (RFC 5321 §2.3.8).
        let end = self.input.windows(2).position(|pair| pair == b"\r\n");
        match end {
            Some(end) if end + 2 <= MAX_LINE => {
                let line: Vec<u8> = self.input.drain(..end + 2).take(end).collect();
                Line::Whole(line)
            }
            None if self.input.len() < MAX_LINE => Line::Part,
            _ => {
                self.phase = Phase::Overlong;
                Line::TooLong
            }
        }
    }

    fn skip_line(&mut self) -> bool {
        let end = self.input.windows(2).position(|pair| pair == b"\r\n");
        if let Some(end) = end {
            self.input.drain(..end + 2);
            self.phase = Phase::Ready;
            self.refuse(command::too_long(MAX_LINE));
            return true;
        }
        // A CR at the end may be half of the CRLF.
        let keep = usize::from(self.input.last() == Some(&b'\r'));
        self.input.drain(..self.input.len() - keep);
        self.phase = Phase::Overlong;
        false
    }
}

enum Line {
    /// Without its CRLF.
    Whole(Vec<u8>),
    /// Not all there yet.
    Part,
    /// Beyond [`MAX_LINE`]; the session skips it.
    TooLong,
}

impl DataFault {
    fn refusal(self, limit: u64) -> Refusal {
        let syntax = |enhanced, text: String| Refusal::syntax(550, enhanced, text);
        match self {
            Self::BareLf { line } => syntax(
                (5, 6, 11),
                format!(
                    "message line {line} holds a bare LF; end every line in CRLF (RFC 5321 2.3.8)"
                ),
            ),
            Self::BareCr { line } => syntax(
                (5, 6, 11),
                format!(
                    "message line {line} holds a bare CR; end every line in CRLF (RFC 5321 2.3.8)"
                ),
            ),
            Self::LongLine { line } => syntax(
                (5, 6, 0),
                format!(
                    "message line {line} is longer than 998 octets; fold or encode it (RFC 5322 2.1.1)"
                ),
            ),
            Self::TooBig => too_big("message", limit),
            Self::NoRoom => Refusal::new(
                RejectReason::Storage,
                452,
                (4, 3, 1),
                "message: no memory for more texts at a time; try again",
            ),
        }
    }
}

/// RFC 1870 §6.1, §6.3.
fn too_big(what: &str, limit: u64) -> Refusal {
    let text =
        format!("{what} is more than {limit} octets; send a smaller one or raise the pool's limit");
    Refusal::new(RejectReason::Limit, 552, (5, 3, 4), text)
}

/// RFC 4954 §6.
fn unauthenticated(command: &str) -> Refusal {
    let text = format!("{command} needs a login; give AUTH first");
    Refusal::new(RejectReason::Authentication, 530, (5, 7, 0), text)
}
