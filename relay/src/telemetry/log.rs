//! The event log: one JSON object a line. The field names are those of `docs/events.md` and stay.

use std::time::Duration;

use postrider_crds::Mailbox;
use serde_json::{Map, Value};

use super::{Event, NotificationKind, Remote, Stage};
use crate::mail::{Class, Reply};

/// The event's line, its line end included.
pub(super) fn line(event: &Event) -> Vec<u8> {
    let mut line = Line(Map::new());
    line.set("time", event.time.to_string());
    line.set("stage", event.stage.as_str());
    line.set_some("id", event.message.map(|id| id.to_string()));
    line.set_some("tenant", event.tenant.clone());
    line.set_some("domain", event.domain.as_ref().map(ToString::to_string));
    stage(&mut line, &event.stage);
    let mut bytes = Value::Object(line.0).to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

struct Line(Map<String, Value>);

impl Line {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn seconds(&mut self, name: &str, duration: Duration) {
        self.set(name, duration.as_secs_f64());
    }

    fn recipient(&mut self, recipient: &Mailbox, remote: &Remote) {
        self.set("recipient", recipient.to_string());
        self.set("site", remote.site.as_str());
        self.set_some("host", remote.host.clone());
        self.set_some("address", remote.address.map(|address| address.to_string()));
    }

    fn attempt(&mut self, recipient: &Mailbox, remote: &Remote, attempt: u32, reply: &Reply) {
        self.recipient(recipient, remote);
        self.set("attempt", attempt);
        self.reply(reply);
    }

    fn failure(&mut self, class: Class, took: Duration) {
        self.set("class", class.as_str());
        self.seconds("took", took);
    }

    fn reply(&mut self, reply: &Reply) {
        self.set("code", reply.code);
        self.set_some("enhanced", reply.enhanced.map(|code| code.to_string()));
        self.set("reply", reply.text.as_str());
    }
}

fn stage(line: &mut Line, stage: &Stage) {
    match stage {
        Stage::Accepted {
            recipients,
            bytes,
            took,
            client,
        } => {
            line.set("recipients", *recipients);
            line.set("bytes", *bytes);
            line.seconds("took", *took);
            line.set_some("client", client.map(|client| client.to_string()));
        }
        Stage::Rejected {
            reason,
            reply,
            client,
        } => {
            line.set("reason", reason.as_str());
            line.reply(reply);
            line.set_some("client", client.map(|client| client.to_string()));
        }
        Stage::Held | Stage::Released => {}
        Stage::AttemptStarted {
            recipient_domain,
            attempt,
            site,
            age,
        } => {
            line.set("recipient_domain", recipient_domain.as_str());
            line.set("attempt", *attempt);
            line.set("site", site.as_str());
            line.seconds("age", *age);
        }
        Stage::Suppressed { recipient, reason } => {
            line.set("recipient", recipient.to_string());
            line.set("reason", reason.as_str());
        }
        Stage::Notified {
            notification,
            sender,
            kind,
        } => {
            line.set("notification", notification.to_string());
            line.set("sender", sender.to_string());
            line.set("kind", kind.as_str());
        }
        Stage::Quarantined { file } => line.set("file", file.as_str()),
        Stage::ConfigRefused { path, error } => {
            line.set("path", path.as_str());
            line.set("error", error.as_str());
        }
        Stage::Delivered { .. }
        | Stage::Deferred { .. }
        | Stage::Bounced { .. }
        | Stage::Expired { .. } => outcome(line, stage),
    }
}

fn outcome(line: &mut Line, stage: &Stage) {
    match stage {
        Stage::Delivered {
            recipient,
            remote,
            attempt,
            reply,
            tls,
            age,
            took,
        } => {
            line.attempt(recipient, remote, *attempt, reply);
            line.set_some("tls", tls.clone());
            line.seconds("age", *age);
            line.seconds("took", *took);
        }
        Stage::Deferred {
            recipient,
            remote,
            attempt,
            class,
            reply,
            until,
            took,
        } => {
            line.attempt(recipient, remote, *attempt, reply);
            line.set("until", until.to_string());
            line.failure(*class, *took);
        }
        Stage::Bounced {
            recipient,
            remote,
            attempt,
            class,
            reply,
            took,
        } => {
            line.attempt(recipient, remote, *attempt, reply);
            line.failure(*class, *took);
        }
        Stage::Expired {
            recipient,
            remote,
            attempts,
            reply,
        } => {
            line.recipient(recipient, remote);
            line.set("attempts", *attempts);
            line.reply(reply);
        }
        Stage::Accepted { .. }
        | Stage::Rejected { .. }
        | Stage::Held
        | Stage::Released
        | Stage::AttemptStarted { .. }
        | Stage::Suppressed { .. }
        | Stage::Notified { .. }
        | Stage::Quarantined { .. }
        | Stage::ConfigRefused { .. } => {}
    }
}

impl Stage {
    /// The name in the log.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
            Self::Held => "held",
            Self::Released => "released",
            Self::AttemptStarted { .. } => "attempt-started",
            Self::Delivered { .. } => "delivered",
            Self::Deferred { .. } => "deferred",
            Self::Bounced { .. } => "bounced",
            Self::Expired { .. } => "expired",
            Self::Suppressed { .. } => "suppressed",
            Self::Notified { .. } => "notified",
            Self::Quarantined { .. } => "quarantined",
            Self::ConfigRefused { .. } => "config-refused",
        }
    }
}

impl NotificationKind {
    /// The name in the log, an action of RFC 3464 §2.3.3.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
        }
    }
}
