//! The event log: one JSON object a line. The field names are those of `docs/events.md` and stay.

use std::{
    fmt::{self, Display},
    io::Write as _,
    net::IpAddr,
    time::Duration,
};

use postrider_crds::{
    DomainName, Mailbox,
    queue::{Order, Scope},
};
use serde::Serialize;

use super::{Event, NotificationKind, OrderChange, Quarantine, Remote, Stage};
use crate::mail::{Class, Priority, Reply};

/// Writes the event's line behind `out`, its line end included.
pub(super) fn line(event: &Event, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut line = Line(out);
    line.plain("time", event.time);
    line.plain("stage", event.stage.as_str());
    if let Some(id) = event.message {
        line.plain("id", id);
    }
    line.some_text("tenant", event.tenant.as_deref());
    line.some_text("domain", event.domain.as_ref().map(DomainName::as_str));
    stage(&mut line, &event.stage);
    out.extend_from_slice(b"}\n");
}

/// The line being written. Each field is set once.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn name(&mut self, name: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A value of characters that need no escape.
    fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        write_to(self.0, format_args!("\"{value}\""));
    }

    fn number(&mut self, name: &str, value: impl Display) {
        self.name(name);
        write_to(self.0, format_args!("{value}"));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        json(self.0, &value);
    }

    fn some_text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn address(&mut self, name: &str, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.plain(name, address);
        }
    }

    fn seconds(&mut self, name: &str, duration: Duration) {
        self.name(name);
        json(self.0, &duration.as_secs_f64());
    }

    fn priority(&mut self, priority: Option<Priority>) {
        if let Some(priority) = priority {
            self.number("priority", priority);
        }
    }

    fn quarantine(&mut self, quarantine: &Quarantine) {
        self.number("files", quarantine.files);
        self.number("bytes", quarantine.bytes);
        self.text("named", &quarantine.named.join(", "));
        self.text("remedy", QUARANTINE_REMEDY);
    }

    fn expired(&mut self, recipient: &Mailbox, remote: &Remote, attempts: u32, reply: &Reply) {
        self.recipient(recipient, remote);
        self.number("attempts", attempts);
        self.reply(reply);
    }

    fn recipient(&mut self, recipient: &Mailbox, remote: &Remote) {
        self.text("recipient", &recipient.to_string());
        self.text("site", remote.site.as_str());
        self.some_text("host", remote.host.as_deref());
        self.address("address", remote.address);
    }

    fn attempt(&mut self, recipient: &Mailbox, remote: &Remote, attempt: u32, reply: &Reply) {
        self.recipient(recipient, remote);
        self.number("attempt", attempt);
        self.reply(reply);
    }

    fn failure(&mut self, class: Class, took: Duration) {
        self.plain("class", class.as_str());
        self.seconds("took", took);
    }

    /// An order, but for who gave it and why. A message or tenant is named by the event.
    fn order(&mut self, order: &Order) {
        self.number("order", order.number);
        self.plain("verb", order.verb);
        match &order.scope {
            Scope::Message(_) | Scope::Tenant(_) => {}
            Scope::Domain(domain) => self.text("recipient_domain", domain.as_str()),
            Scope::Site(site) => self.text("site", site.as_str()),
        }
    }

    fn author(&mut self, by: &str, client: &str, reason: &str) {
        self.text("by", by);
        self.text("client", client);
        self.text("reason", reason);
    }

    fn reply(&mut self, reply: &Reply) {
        self.number("code", reply.code);
        if let Some(enhanced) = reply.enhanced {
            self.plain("enhanced", enhanced);
        }
        self.text("reply", &reply.text);
    }
}

fn json(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("a string or number has a form in JSON");
}

fn write_to(out: &mut Vec<u8>, value: fmt::Arguments<'_>) {
    out.write_fmt(value)
        .expect("writing to memory does not fail");
}

fn stage(line: &mut Line<'_>, stage: &Stage) {
    match stage {
        Stage::Accepted {
            recipients,
            bytes,
            took,
            client,
            priority,
        } => {
            line.number("recipients", recipients);
            line.number("bytes", bytes);
            line.seconds("took", *took);
            line.address("client", *client);
            line.priority(*priority);
        }
        Stage::Rejected {
            reason,
            reply,
            client,
        } => {
            line.plain("reason", reason.as_str());
            line.reply(reply);
            line.address("client", *client);
        }
        Stage::Held | Stage::Released => {}
        Stage::AttemptStarted {
            recipient_domain,
            attempt,
            site,
            age,
        } => {
            line.text("recipient_domain", recipient_domain.as_str());
            line.number("attempt", attempt);
            line.text("site", site.as_str());
            line.seconds("age", *age);
        }
        Stage::Suppressed { recipient, reason } => {
            line.text("recipient", &recipient.to_string());
            line.text("reason", reason);
        }
        Stage::Notified {
            notification,
            sender,
            kind,
        } => {
            line.plain("notification", notification);
            line.text("sender", &sender.to_string());
            line.plain("kind", kind.as_str());
        }
        Stage::Quarantined { file } => line.text("file", file),
        Stage::QuarantineHolds(quarantine) => line.quarantine(quarantine),
        Stage::Order(change) => ordered(line, change),
        Stage::ConfigRefused { path, error } => {
            line.text("path", path);
            line.text("error", error);
        }
        Stage::Delivered { .. }
        | Stage::Deferred { .. }
        | Stage::Bounced { .. }
        | Stage::Expired { .. } => outcome(line, stage),
    }
}

/// What is to be done about damage that was put aside.
const QUARANTINE_REMEDY: &str = "damaged records, perhaps of mail that was not delivered: check the volume, copy the files elsewhere if you want to look at them, then remove them";

fn ordered(line: &mut Line<'_>, change: &OrderChange) {
    match change {
        OrderChange::Given(order) => {
            line.order(order);
            line.author(&order.by, &order.client, &order.reason);
            if let Some(until) = order.until {
                line.plain("until", until);
            }
        }
        OrderChange::Ended { order, by } => {
            line.order(order);
            line.author(&by.by, &by.client, &by.reason);
        }
        OrderChange::CarriedOut(order) => line.order(order),
    }
}

fn outcome(line: &mut Line<'_>, stage: &Stage) {
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
            line.some_text("tls", tls.as_deref());
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
            line.plain("until", until);
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
        } => line.expired(recipient, remote, *attempts, reply),
        Stage::Accepted { .. }
        | Stage::Rejected { .. }
        | Stage::Held
        | Stage::Released
        | Stage::AttemptStarted { .. }
        | Stage::Suppressed { .. }
        | Stage::Notified { .. }
        | Stage::Quarantined { .. }
        | Stage::QuarantineHolds(_)
        | Stage::Order(_)
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
            Self::QuarantineHolds(_) => "quarantine-holds",
            Self::Order(OrderChange::Given(_)) => "ordered",
            Self::Order(OrderChange::Ended { .. }) => "order-ended",
            Self::Order(OrderChange::CarriedOut(_)) => "order-carried-out",
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
