//! What each command does to a session (RFC 5321 §4.1.1), in the order of a usual dialogue.

use std::mem;

use postrider_crds::Mailbox;

use super::{Action, Phase, Session, Transaction};
use crate::{
    config::Settings,
    submission::{
        auth::{self, Login},
        command::{self, Command, MailCommand},
        data::DataReader,
        policy,
        refusal::Refusal,
        sasl::{self, Progress},
        text::TextReader,
    },
    telemetry::RejectReason,
};

/// Refused commands until the session ends: a client that is wrong so often will not get better.
const MAX_REFUSED_COMMANDS: u32 = 100;

impl Session {
    pub(super) fn obey(&mut self, line: &[u8], settings: &Settings) {
        let result = match command::parse(line) {
            Ok(command) => self.carry_out(command, settings),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = result {
            self.refuse_command(refusal);
        }
    }

    /// Refuses a command, and the client that has too many refused.
    pub(super) fn refuse_command(&mut self, refusal: Refusal) {
        self.refused_commands += 1;
        // RFC 5321 §4.2.2: 421 closes the channel.
        let closing = refusal.reply.code == 421;
        self.refuse(refusal);
        if closing {
            self.close();
        } else if self.refused_commands >= MAX_REFUSED_COMMANDS {
            self.end(
                421,
                (4, 7, 0),
                "too many refused commands; correct the client",
            );
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
            Command::Bdat(chunk) => self.bdat(chunk, settings),
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
                "EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT",
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
            "CHUNKING",
            "ENHANCEDSTATUSCODES",
            "MT-PRIORITY",
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
        if self.login.as_ref().is_some_and(Login::has_password) {
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

    pub(super) fn proceed(&mut self, progress: Result<Progress, Refusal>) {
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
        let login = self.standing_login(settings)?;
        let limit = settings.relay.limits.message_bytes;
        if let Some(size) = mail.size.filter(|size| *size > limit) {
            return Err(Refusal::too_big(&format!("MAIL FROM SIZE={size}"), limit));
        }
        policy::envelope_sender(settings, &login.username, &mail.from)?;
        self.phase = Phase::Transaction(Transaction {
            login,
            from: mail.from,
            body_kind: mail.body,
            priority: mail.priority,
            recipients: Vec::new(),
            size: mail.size,
            chunks: None,
            began: self.last_heard,
        });
        self.say(250, (2, 1, 0), "sender ok");
        Ok(())
    }

    /// Who the client is as of `settings` (RFC 4954 §6: nobody without a login passes).
    fn standing_login(&mut self, settings: &Settings) -> Result<Login, Refusal> {
        if !self.login.as_ref().is_some_and(Login::has_password) {
            self.login = auth::trusted(settings, self.client);
        }
        let reason = RejectReason::Authentication;
        match &self.login {
            None => {
                let text = "MAIL needs a login; give AUTH first";
                Err(Refusal::new(reason, 530, (5, 7, 0), text))
            }
            Some(login) if login.stands(settings) => Ok(login.clone()),
            // 421 and not 530: a second AUTH is forbidden (RFC 4954 §4), so the client can log in
            // on another connection only, and what it has to send is none the worse.
            Some(login) => {
                let username = &login.username;
                let text = format!(
                    "MAIL: the credential of {username:?} has changed since AUTH; connect again and log in"
                );
                Err(Refusal::new(reason, 421, (4, 7, 0), text))
            }
        }
    }

    fn rcpt(&mut self, mailbox: Mailbox, settings: &Settings) -> Result<(), Refusal> {
        let Phase::Transaction(transaction) = &mut self.phase else {
            return Err(Refusal::sequence("RCPT before MAIL; give MAIL first"));
        };
        if transaction.chunks.is_some() {
            return Err(Refusal::sequence("RCPT after BDAT; give RSET first"));
        }
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
            Phase::Transaction(transaction) if transaction.chunks.is_some() => {
                self.phase = Phase::Transaction(transaction);
                Err(Refusal::sequence("DATA after BDAT; end with BDAT 0 LAST"))
            }
            Phase::Transaction(transaction) if !transaction.recipients.is_empty() => {
                let limit = settings.relay.limits.message_bytes;
                let reader = DataReader::new(TextReader::new(limit, transaction.size));
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
}
