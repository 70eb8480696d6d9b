//! The server's side of SMTP (RFC 5321) without I/O: commands in, replies and next steps out.
//!
//! Guarantees: a transaction that had a MAIL is handed out once as [`Draft`], however it ended.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::{
    record::Answer,
    rules::{Decision, Memory, Script, StartTls, Triplet},
};

/// The largest message taken, octets; announced with SIZE (RFC 1870).
pub(super) const MAX_MESSAGE: usize = 50 * 1024 * 1024;
/// Recipients of one transaction; RFC 5321 section 4.5.3.1.8 asks for 100 at least.
const MAX_RECIPIENTS: usize = 1000;

/// One connection.
pub(super) struct Dialogue<'a> {
    memory: &'a Memory,
    hostname: &'a str,
    client: IpAddr,
    tls: Option<String>,
    helo: Option<String>,
    logged_in: bool,
    draft: Option<Draft>,
}

/// A transaction under way.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// Since when.
    pub(super) begun: Timestamp,
    /// The reverse-path, without brackets.
    pub(super) mail_from: String,
    /// The parameters of MAIL.
    pub(super) parameters: String,
    /// What was answered to each RCPT.
    pub(super) recipients: Vec<Answer>,
    scripts: Vec<Script>,
}

/// What the connection does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes this reply, CRLF included.
    Reply(String),
    /// Waits this many seconds, then writes the reply.
    ReplyAfter(u32, String),
    /// Writes the reply and reads the message.
    Data(String),
    /// Writes the reply and speaks TLS.
    StartTls(String),
    /// Writes the reply and fails the handshake.
    BreakTls(String),
    /// Closes without a word.
    Drop,
    /// Writes the reply and closes.
    Close(String),
}

impl<'a> Dialogue<'a> {
    /// A dialogue with `client` that has just connected, over TLS if `tls` names a version.
    pub(super) fn new(
        memory: &'a Memory,
        hostname: &'a str,
        client: IpAddr,
        tls: Option<String>,
    ) -> Self {
        Self {
            memory,
            hostname,
            client,
            tls,
            helo: None,
            logged_in: false,
            draft: None,
        }
    }

    /// The name the client gave, if it did.
    pub(super) fn helo(&self) -> &str {
        self.helo.as_deref().unwrap_or_default()
    }

    /// The TLS version in use.
    pub(super) fn tls(&self) -> Option<&str> {
        self.tls.as_deref()
    }

    /// Takes the transaction under way away.
    pub(super) fn take_draft(&mut self) -> Option<Draft> {
        self.draft.take()
    }

    /// Takes one command line, without its CRLF. A transaction the command ends early comes back
    /// beside the step.
    pub(super) fn command(&mut self, line: &str, now: Timestamp) -> (Step, Option<Draft>) {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let argument = argument.trim();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if !argument.is_empty() => {
                self.helo = Some(argument.to_owned());
                (self.extensions(), self.draft.take())
            }
            "HELO" if !argument.is_empty() => {
                self.helo = Some(argument.to_owned());
                (reply(250, self.hostname), self.draft.take())
            }
            "EHLO" | "HELO" => (reply(501, "5.5.4 give your name"), None),
            "STARTTLS" => (self.starttls(), None),
            "AUTH" => (self.auth(argument), None),
            "MAIL" => (self.mail(argument, now), None),
            "RCPT" => (self.rcpt(argument, now), None),
            "DATA" => (self.data(), None),
            "RSET" => (reply(250, "2.0.0 ok"), self.draft.take()),
            "NOOP" => (reply(250, "2.0.0 ok"), None),
            "QUIT" => (Step::Close(line_of(221, "2.0.0 bye")), self.draft.take()),
            _ => (reply(500, "5.5.1 command not known"), None),
        }
    }

    /// The reply to the message just read in whole, `None` to hang up instead, and the
    /// transaction that ends with it. `id` is what the message is kept under.
    pub(super) fn message(&mut self, id: &str, size: usize) -> (Option<String>, Option<Draft>) {
        let draft = self.draft.take();
        let script = draft.as_ref().and_then(|draft| {
            let unusual =
                |script: &&Script| !matches!(script, Script::Accept | Script::Slow { .. });
            draft.scripts.iter().find(unusual).copied()
        });
        let answer = match script {
            Some(Script::DropAfterMessage) => None,
            Some(Script::DeferMessage) => Some(line_of(452, "4.2.2 mailbox full")),
            Some(Script::RejectMessage) => Some(line_of(554, "5.6.0 content not wanted")),
            _ if size > MAX_MESSAGE => Some(line_of(552, "5.3.4 message too big")),
            _ => Some(line_of(250, &format!("2.0.0 ok: queued as {id}"))),
        };
        (answer, draft)
    }

    fn extensions(&self) -> Step {
        let mut lines = vec![
            self.hostname.to_owned(),
            "PIPELINING".to_owned(),
            "8BITMIME".to_owned(),
            "ENHANCEDSTATUSCODES".to_owned(),
            format!("SIZE {MAX_MESSAGE}"),
        ];
        if self.tls.is_none() && self.memory.starttls() != StartTls::Absent {
            lines.push("STARTTLS".to_owned());
        }
        if self.tls.is_some() && self.memory.login().is_some() {
            lines.push("AUTH PLAIN".to_owned());
        }
        let last = lines.len() - 1;
        let text = lines
            .iter()
            .enumerate()
            .map(|(at, line)| format!("250{}{line}\r\n", if at == last { ' ' } else { '-' }))
            .collect();
        Step::Reply(text)
    }

    fn starttls(&self) -> Step {
        if self.tls.is_some() {
            return reply(503, "5.5.1 TLS is on already");
        }
        match self.memory.starttls() {
            StartTls::Offered => Step::StartTls(line_of(220, "2.0.0 go ahead")),
            StartTls::Broken => Step::BreakTls(line_of(220, "2.0.0 go ahead")),
            StartTls::Refused => reply(454, "4.7.0 TLS not available now"),
            StartTls::Absent => reply(500, "5.5.1 command not known"),
        }
    }

    /// AUTH PLAIN with its initial response on the same line (RFC 4954 section 4).
    fn auth(&mut self, argument: &str) -> Step {
        let Some(login) = self.memory.login().filter(|_| self.tls.is_some()) else {
            return reply(502, "5.5.1 AUTH not available");
        };
        let Some(("PLAIN", response)) = argument.split_once(' ') else {
            return reply(504, "5.5.4 wanted AUTH PLAIN with its response");
        };
        let wanted = STANDARD.encode(format!("\0{}\0{}", login.user, login.password));
        if response != wanted {
            return reply(535, "5.7.8 wrong user or password");
        }
        self.logged_in = true;
        reply(235, "2.7.0 welcome")
    }

    fn mail(&mut self, argument: &str, now: Timestamp) -> Step {
        if self.helo.is_none() {
            return reply(503, "5.5.1 say EHLO first");
        }
        if self.memory.login().is_some() && !self.logged_in {
            return reply(530, "5.7.0 log in first");
        }
        if self.draft.is_some() {
            return reply(503, "5.5.1 one MAIL at a time");
        }
        let Some((mail_from, parameters)) = path(argument, "FROM:") else {
            return reply(501, "5.5.4 wanted MAIL FROM:<address>");
        };
        self.draft = Some(Draft {
            begun: now,
            mail_from: mail_from.to_owned(),
            parameters: parameters.to_owned(),
            recipients: Vec::new(),
            scripts: Vec::new(),
        });
        reply(250, "2.1.0 ok")
    }

    fn rcpt(&mut self, argument: &str, now: Timestamp) -> Step {
        let Some(draft) = &mut self.draft else {
            return reply(503, "5.5.1 say MAIL first");
        };
        let Some((recipient, _)) = path(argument, "TO:").filter(|(path, _)| !path.is_empty())
        else {
            return reply(501, "5.5.4 wanted RCPT TO:<address>");
        };
        if draft.recipients.len() >= MAX_RECIPIENTS {
            return reply(452, "4.5.3 too many recipients");
        }
        let decision = self.memory.decide(
            Triplet {
                client: self.client,
                mail_from: draft.mail_from.clone(),
                recipient: recipient.to_owned(),
            },
            now,
        );
        let (code, text) = match decision {
            Decision::Take(script) => {
                draft.scripts.push(script);
                (250, "2.1.5 ok")
            }
            Decision::Refuse(code, text) => (code, text),
        };
        draft.recipients.push(Answer {
            recipient: recipient.to_owned(),
            code,
            text: text.to_owned(),
        });
        match decision {
            Decision::Take(Script::Slow { seconds }) => {
                Step::ReplyAfter(seconds, line_of(code, text))
            }
            Decision::Take(_) | Decision::Refuse(..) => reply(code, text),
        }
    }

    fn data(&self) -> Step {
        let Some(draft) = &self.draft else {
            return reply(503, "5.5.1 say MAIL first");
        };
        if draft.scripts.is_empty() {
            return reply(554, "5.5.1 no valid recipients");
        }
        if draft.scripts.contains(&Script::DropAtData) {
            return Step::Drop;
        }
        Step::Data(line_of(354, "end with a dot on a line by itself"))
    }
}

/// A reply of one line.
pub(super) fn line_of(code: u16, text: &str) -> String {
    format!("{code} {text}\r\n")
}

fn reply(code: u16, text: &str) -> Step {
    Step::Reply(line_of(code, text))
}

/// The path of `FROM:<path> parameters` and the parameters (RFC 5321 section 4.1.2).
fn path<'l>(argument: &'l str, keyword: &str) -> Option<(&'l str, &'l str)> {
    let head = argument.get(..keyword.len())?;
    let rest = argument.get(keyword.len()..)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (path, parameters) = rest.strip_prefix('<')?.split_once('>')?;
    Some((path, parameters.trim()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::peers::sink::Rules;

    fn memory(script: Script, starttls: StartTls) -> Memory {
        Memory::new(Rules {
            otherwise: script,
            starttls,
            ..Rules::default()
        })
    }

    fn run(memory: &Memory, commands: &[&str]) -> Vec<Step> {
        let client = Ipv4Addr::LOCALHOST.into();
        let mut dialogue = Dialogue::new(memory, "sink.test", client, None);
        commands
            .iter()
            .map(|line| dialogue.command(line, Timestamp::UNIX_EPOCH).0)
            .collect()
    }

    #[test]
    fn commands_out_of_order_are_refused() {
        let memory = memory(Script::Accept, StartTls::Offered);
        let table = [
            ("MAIL FROM:<a@b>", "503 5.5.1 say EHLO first\r\n"),
            ("RCPT TO:<a@b>", "503 5.5.1 say MAIL first\r\n"),
            ("DATA", "503 5.5.1 say MAIL first\r\n"),
            ("EHLO", "501 5.5.4 give your name\r\n"),
            ("VRFY a", "500 5.5.1 command not known\r\n"),
        ];
        for (line, wanted) in table {
            assert_eq!(run(&memory, &[line]), [Step::Reply(wanted.to_owned())]);
        }
    }

    #[test]
    fn data_needs_a_taken_recipient() {
        let memory = memory(Script::UnknownUser, StartTls::Offered);
        let dialogue = ["EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b.test>", "DATA"];
        let steps = run(&memory, &dialogue);
        assert_eq!(steps[2], reply(550, "5.1.1 no such user here"));
        assert_eq!(steps[3], reply(554, "5.5.1 no valid recipients"));
    }

    #[test]
    fn starttls_is_as_the_rules_say() {
        let table = [
            (
                StartTls::Offered,
                true,
                Step::StartTls(line_of(220, "2.0.0 go ahead")),
            ),
            (
                StartTls::Refused,
                true,
                reply(454, "4.7.0 TLS not available now"),
            ),
            (
                StartTls::Absent,
                false,
                reply(500, "5.5.1 command not known"),
            ),
            (
                StartTls::Broken,
                true,
                Step::BreakTls(line_of(220, "2.0.0 go ahead")),
            ),
        ];
        for (rule, offered, wanted) in table {
            let steps = run(&memory(Script::Accept, rule), &["EHLO x", "STARTTLS"]);
            let Step::Reply(extensions) = &steps[0] else {
                panic!("{steps:?}");
            };
            assert_eq!(extensions.contains("STARTTLS"), offered, "{rule:?}");
            assert_eq!(steps[1], wanted, "{rule:?}");
        }
    }

    #[test]
    fn the_script_decides_what_follows_the_message() {
        let table = [
            (Script::Accept, Some("250 2.0.0 ok: queued as 7\r\n")),
            (Script::DeferMessage, Some("452 4.2.2 mailbox full\r\n")),
            (
                Script::RejectMessage,
                Some("554 5.6.0 content not wanted\r\n"),
            ),
            (Script::DropAfterMessage, None),
        ];
        for (script, wanted) in table {
            let memory = memory(script, StartTls::Offered);
            let client = Ipv4Addr::LOCALHOST.into();
            let mut dialogue = Dialogue::new(&memory, "sink.test", client, None);
            for line in [
                "EHLO x",
                "MAIL FROM:<a@b.test> SIZE=3",
                "RCPT TO:<c@d.test>",
            ] {
                dialogue.command(line, Timestamp::UNIX_EPOCH);
            }
            let (answer, draft) = dialogue.message("7", 3);
            assert_eq!(answer.as_deref(), wanted, "{script:?}");
            assert_eq!(draft.unwrap().parameters, "SIZE=3");
            assert!(dialogue.take_draft().is_none());
        }
    }
}
