//! One transaction: MAIL, RCPT, then DATA or BDAT, and what each was answered (RFC 5321 §3.3,
//! RFC 3030).
//!
//! Promises: one verdict per recipient, the first final answer about it. Commands go out together
//! where the server pipelines (RFC 2920), one by one where not. Where it also takes chunks, a
//! message that is not large goes out with its commands, in one write.

use std::collections::VecDeque;

use bytes::Bytes;
use postrider_crds::Mailbox;

use super::{Failure, Payload, Stage, Verdict, capabilities::Capabilities};
use crate::mail::{EnhancedCode, Priority, Reply};

/// Most recipients of one transaction; servers have to take 100 (RFC 5321 §4.5.3.1.8).
pub const MAX_RECIPIENTS: usize = 100;
/// Largest message in octets that leaves before its recipients are known to be taken: less than a
/// round trip is worth on most paths, and than the windows of most hosts hold.
const MAX_EAGER: u64 = 128 << 10;

/// A message for some recipients.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The envelope sender; `None` is `<>`.
    pub sender: Option<Mailbox>,
    /// At most [`MAX_RECIPIENTS`].
    pub recipients: Vec<Mailbox>,
    /// The message.
    pub payload: Payload,
    /// How urgent it is, where something was said of it.
    pub priority: Option<Priority>,
}

/// A command whose answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Reset,
    Mail,
    Recipient(usize),
    Data,
    /// The message as one chunk, after which [`Command::End`] is awaited.
    Chunk,
    End,
}

#[derive(Clone, Debug)]
enum Standing {
    Open,
    Accepted,
    Done(Verdict),
}

/// What an answer leads to.
#[derive(Debug)]
pub(super) enum Next {
    /// Send these bytes, possibly none, and wait on.
    Continue(Vec<Bytes>),
    /// Every answer is there.
    Finished,
    /// The server broke the protocol.
    Broken(String),
}

/// A transaction in progress.
#[derive(Debug)]
pub(super) struct Exchange {
    transaction: Transaction,
    pipelining: bool,
    chunking: bool,
    mail_parameters: String,
    utf8: bool,
    standings: Vec<Standing>,
    plan: VecDeque<Command>,
    waiting: VecDeque<Command>,
    body_sent: bool,
    /// MAIL was accepted and the transaction did not end by its data (RFC 5321 §4.1.4).
    pub(super) open_at_server: bool,
}

impl Exchange {
    /// A transaction with a server that offers `offered`; RSET goes first when `reset`.
    pub(super) fn new(transaction: Transaction, offered: Capabilities, reset: Reset) -> Self {
        debug_assert!(transaction.recipients.len() <= MAX_RECIPIENTS);
        let transaction = transaction.labelled(offered);
        let count = transaction.recipients.len();
        let mut exchange = Self {
            pipelining: offered.pipelining,
            chunking: offered.chunking,
            mail_parameters: parameters(&transaction, offered),
            utf8: false,
            standings: vec![Standing::Open; count],
            plan: VecDeque::new(),
            waiting: VecDeque::new(),
            body_sent: false,
            open_at_server: false,
            transaction,
        };
        exchange.refuse_what_cannot_be_sent(offered);
        let open = exchange.indexes(|s| matches!(s, Standing::Open));
        if !open.is_empty() {
            if reset == Reset::First {
                exchange.plan.push_back(Command::Reset);
            }
            exchange.plan.push_back(Command::Mail);
            exchange
                .plan
                .extend(open.into_iter().map(Command::Recipient));
            exchange.plan.push_back(match offered.chunking {
                true => Command::Chunk,
                false => Command::Data,
            });
        }
        exchange
    }

    /// The first commands; `None` when there is nothing to send.
    pub(super) fn start(&mut self) -> Option<Vec<Bytes>> {
        let commands = self.commands();
        (!commands.is_empty()).then_some(commands)
    }

    /// What is waited for.
    pub(super) fn stage(&self) -> Stage {
        match self.waiting.front() {
            Some(Command::Reset) => Stage::Reset,
            Some(Command::Mail) => Stage::Mail,
            Some(Command::Recipient(_)) => Stage::Recipient,
            Some(Command::Data) => Stage::Data,
            Some(Command::Chunk) => Stage::Body,
            Some(Command::End) if !self.body_sent => Stage::Body,
            Some(Command::End) | None => Stage::End,
        }
    }

    /// Whether the message is leaving.
    pub(super) fn is_sending(&self) -> bool {
        !self.body_sent && self.waiting.back() == Some(&Command::End)
    }

    /// All that was given to send has left.
    pub(super) fn flushed(&mut self) {
        if self.is_sending() {
            self.body_sent = true;
        }
    }

    /// Takes the answer to the oldest command.
    pub(super) fn answer(&mut self, reply: Reply) -> Next {
        let Some(command) = self.waiting.pop_front() else {
            return Next::Broken(format!("unasked reply {reply}"));
        };
        let refuses = reply.is_transient() || reply.is_permanent();
        let fits = match command {
            Command::Data => refuses || reply.code == 354,
            Command::Reset
            | Command::Mail
            | Command::Recipient(_)
            | Command::Chunk
            | Command::End => refuses || reply.is_positive(),
        };
        if !fits {
            return Next::Broken(format!("reply out of place: {reply}"));
        }
        match command {
            Command::Reset if !reply.is_positive() => {
                return Next::Broken(format!("RSET refused: {reply}"));
            }
            Command::Reset => {}
            Command::Mail if reply.is_positive() => self.open_at_server = true,
            Command::Mail => {
                self.plan.clear();
                self.close(&Verdict::Refused(reply));
            }
            Command::Recipient(index) => self.recipient(index, reply),
            Command::Data if reply.code == 354 => return self.body(),
            Command::Data => self.close(&Verdict::Refused(reply)),
            Command::Chunk | Command::End => return self.end(reply),
        }
        let more = self.commands();
        if more.is_empty() && self.waiting.is_empty() {
            return Next::Finished;
        }
        Next::Continue(more)
    }

    /// The verdicts; what has none yet is broken by `failure`.
    pub(super) fn finish(self, failure: &Failure) -> Vec<Verdict> {
        let verdict = |standing| match standing {
            Standing::Done(verdict) => verdict,
            Standing::Open | Standing::Accepted => Verdict::Broken(failure.clone()),
        };
        self.standings.into_iter().map(verdict).collect()
    }

    fn recipient(&mut self, index: usize, reply: Reply) {
        if let Some(standing @ Standing::Open) = self.standings.get_mut(index) {
            *standing = if reply.is_positive() {
                Standing::Accepted
            } else {
                Standing::Done(Verdict::Refused(reply))
            };
        }
    }

    fn body(&mut self) -> Next {
        self.waiting.push_back(Command::End);
        if self.indexes(|s| matches!(s, Standing::Accepted)).is_empty() {
            // DATA was pipelined and taken without a recipient: end it at once (RFC 2920 §3.1).
            return Next::Continue(vec![Bytes::from_static(b".\r\n")]);
        }
        Next::Continue(self.transaction.payload.text().into())
    }

    fn end(&mut self, reply: Reply) -> Next {
        if reply.is_positive() && !self.body_sent {
            return Next::Broken(format!("accepted before the message was sent: {reply}"));
        }
        // A chunk that is refused leaves the server in the middle (RFC 3030 §2).
        self.open_at_server = self.chunking && !reply.is_positive();
        let early = !self.body_sent;
        let text = format!("answered in the middle of the message: {reply}");
        self.close(&if reply.is_positive() {
            Verdict::Accepted(reply)
        } else {
            Verdict::Refused(reply)
        });
        if early {
            Next::Broken(text)
        } else {
            Next::Finished
        }
    }

    fn close(&mut self, verdict: &Verdict) {
        for standing in &mut self.standings {
            match standing {
                Standing::Open | Standing::Accepted => *standing = Standing::Done(verdict.clone()),
                Standing::Done(_) => {}
            }
        }
    }

    fn indexes(&self, which: impl Fn(&Standing) -> bool) -> Vec<usize> {
        let standings = self.standings.iter().enumerate();
        standings
            .filter(|(_, s)| which(s))
            .map(|(index, _)| index)
            .collect()
    }

    /// What may go out now.
    fn commands(&mut self) -> Vec<Bytes> {
        let mut lines = Vec::new();
        let mut chunk = None;
        while let Some(command) = self.plan.front().copied() {
            if !self.waiting.is_empty() && !self.may_follow(command) {
                break;
            }
            self.plan.pop_front();
            let is_message = matches!(command, Command::Data | Command::Chunk);
            if is_message && self.is_pointless() {
                continue;
            }
            self.write(command, &mut lines);
            if command == Command::Chunk {
                chunk = Some(self.transaction.payload.chunk());
                self.waiting.push_back(Command::End);
            } else {
                self.waiting.push_back(command);
            }
        }
        let lines = (!lines.is_empty()).then(|| Bytes::from(lines));
        lines
            .into_iter()
            .chain(chunk.into_iter().flatten())
            .collect()
    }

    /// Whether `command` may go out before those that wait are answered.
    fn may_follow(&self, command: Command) -> bool {
        let is_large = self.transaction.payload.octets() > MAX_EAGER;
        self.pipelining && !(command == Command::Chunk && is_large)
    }

    /// Every recipient was refused before DATA went out.
    fn is_pointless(&self) -> bool {
        self.standings
            .iter()
            .all(|s| matches!(s, Standing::Done(_)))
    }

    fn write(&self, command: Command, out: &mut Vec<u8>) {
        let line = match command {
            Command::Reset => "RSET".to_owned(),
            Command::Mail => {
                let sender = self.transaction.sender.as_ref();
                let sender = sender.map_or_else(String::new, Mailbox::to_string);
                let utf8 = if self.utf8 { " SMTPUTF8" } else { "" };
                format!("MAIL FROM:<{sender}>{}{utf8}", self.mail_parameters)
            }
            Command::Recipient(index) => match self.transaction.recipients.get(index) {
                Some(recipient) => format!("RCPT TO:<{recipient}>"),
                None => return,
            },
            Command::Data => "DATA".to_owned(),
            Command::Chunk => format!("BDAT {} LAST", self.transaction.payload.octets()),
            Command::End => return,
        };
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    fn refuse_what_cannot_be_sent(&mut self, offered: Capabilities) {
        let payload = &self.transaction.payload;
        if payload.is_eight_bit() && !offered.eight_bit {
            let text = "the receiving server takes no 8-bit content";
            let reply = Reply::new(554, EnhancedCode(5, 6, 3), text);
            return self.close(&Verdict::Refused(reply));
        }
        if !offered.admits(payload.octets()) {
            let text = format!(
                "message of {} octets is larger than the receiving server takes",
                payload.octets()
            );
            let reply = Reply::new(552, EnhancedCode(5, 3, 4), text);
            return self.close(&Verdict::Refused(reply));
        }
        let recipients = self.transaction.recipients.iter();
        for (standing, recipient) in self.standings.iter_mut().zip(recipients) {
            if recipient.local().is_ascii() {
                continue;
            }
            if offered.utf8 {
                self.utf8 = true;
                continue;
            }
            // RFC 6531 §3.5.
            let text = "the receiving server takes no internationalized addresses";
            let reply = Reply::new(553, EnhancedCode(5, 6, 7), text);
            *standing = Standing::Done(Verdict::Refused(reply));
        }
    }
}

/// Whether the server still holds an earlier transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    /// RSET first.
    First,
    /// There is nothing to reset.
    NotNeeded,
}

impl Transaction {
    /// With its priority in the text, where the server takes none with MAIL and something was said
    /// of it (RFC 6758 §3.3). Other such fields were taken out when it was submitted. It is not
    /// signed, since what is signed is the same for all servers.
    fn labelled(self, offered: Capabilities) -> Self {
        match self.priority.filter(|_| !offered.priority) {
            None => self,
            Some(priority) => Self {
                payload: self
                    .payload
                    .with_header(&format!("MT-Priority: {priority}")),
                ..self
            },
        }
    }
}

/// Parameters of MAIL (RFC 1870 §6, RFC 6152 §2).
fn parameters(transaction: &Transaction, offered: Capabilities) -> String {
    let payload = &transaction.payload;
    let mut text = String::new();
    if offered.size.is_some() {
        text.push_str(&format!(" SIZE={}", payload.octets()));
    }
    if payload.is_eight_bit() {
        text.push_str(" BODY=8BITMIME");
    }
    if offered.priority {
        // Of each message, also where nothing was said (RFC 6710 §4.2, RFC 6758 §3.2).
        let priority = transaction.priority.unwrap_or_default();
        text.push_str(&format!(" MT-PRIORITY={priority}"));
    }
    text
}
