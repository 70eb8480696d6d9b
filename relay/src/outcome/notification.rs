//! What the sender is told: a delivery status notification (RFC 3464) in a multipart/report
//! (RFC 6522).
//!
//! Promises: plain 7-bit text whatever the remote said and whatever the message held, so that it
//! can be delivered everywhere; the message's headers go back, its body does not.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};
use mail_builder::encoders::quoted_printable::QuotedPrintableEncoder;
use postrider_crds::{DomainName, Mailbox};

use crate::mail::{MessageId, Reply};

/// Octets of the message's headers that go back; more than that is no use to a person.
const MAX_HEADERS: usize = 32 * 1024;
/// Characters of a reply that are quoted.
const MAX_REPLY: usize = 600;
/// Where lines are folded (RFC 5322 §2.1.1).
const LINE: usize = 76;

/// A notification to be written.
#[derive(Clone, Debug)]
pub struct Notification<'a> {
    /// Its own name.
    pub id: MessageId,
    /// When it is written.
    pub now: Timestamp,
    /// This relay's host name.
    pub reporter: &'a str,
    /// The domain it is sent from, as `mailer-daemon`.
    pub from: &'a DomainName,
    /// The sender that is told.
    pub to: &'a Mailbox,
    /// The message it is about.
    pub about: MessageId,
    /// When that was accepted.
    pub accepted: Timestamp,
    /// That message, of which the headers go back.
    pub message: &'a [u8],
    /// One per recipient it tells of, at least one.
    pub reports: Vec<Report>,
}

/// What is told of one recipient.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whom it was for.
    pub recipient: Mailbox,
    /// What happened.
    pub action: Action,
    /// The remote's last words, or ours.
    pub reply: Reply,
    /// The host that said it; `None` when it was us.
    pub remote: Option<String>,
    /// When it was attempted, if an attempt led to this.
    pub attempted: Option<Timestamp>,
}

/// What happened to a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Delivery is given up.
    Failed,
    /// Delivery is given up for age.
    Expired,
    /// It is late, and is tried until the given time.
    Delayed {
        /// When it will be given up.
        until: Timestamp,
    },
}

impl Notification<'_> {
    /// The message, CRLF line ends.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let boundary = format!("report-{}", self.id);
        let mut out = self.header(&boundary);
        let part = |out: &mut String, headers: &str| {
            // Writing to a String cannot fail.
            let _ = write!(out, "--{boundary}\r\n{headers}\r\n\r\n");
        };
        part(&mut out, "Content-Type: text/plain; charset=us-ascii");
        self.text(&mut out);
        part(&mut out, "Content-Type: message/delivery-status");
        self.status(&mut out);
        let headers = headers_of(self.message);
        if headers.is_ascii() {
            part(&mut out, "Content-Type: text/rfc822-headers");
            out.push_str(&String::from_utf8_lossy(headers));
        } else {
            part(
                &mut out,
                "Content-Type: text/rfc822-headers; charset=utf-8\r\n\
                 Content-Transfer-Encoding: quoted-printable",
            );
            let mut encoded = Vec::new();
            QuotedPrintableEncoder::new()
                .preserve_line_breaks()
                .encode_into(headers, &mut encoded);
            out.push_str(&String::from_utf8_lossy(&encoded));
        }
        let _ = write!(out, "\r\n--{boundary}--\r\n");
        out.into_bytes()
    }

    /// Whether any recipient is given up.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let is_final = |report: &Report| !matches!(report.action, Action::Delayed { .. });
        self.reports.iter().any(is_final)
    }

    fn header(&self, boundary: &str) -> String {
        let subject = if self.is_final() {
            "Undeliverable: your message was not delivered"
        } else {
            "Delayed: your message is not delivered yet"
        };
        format!(
            "Date: {date}\r\n\
             From: Mail Delivery System <mailer-daemon@{from}>\r\n\
             To: <{to}>\r\n\
             Subject: {subject}\r\n\
             Message-ID: <{id}@{from}>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n \
             boundary=\"{boundary}\"\r\n\r\n",
            date = date(self.now),
            from = self.from,
            to = ascii(&self.to.to_string()),
            id = self.id,
        )
    }

    fn text(&self, out: &mut String) {
        let _ = write!(out, "This is the mail system at {}.\r\n", self.reporter);
        for report in &self.reports {
            let recipient = ascii(&report.recipient.to_string());
            let what = match report.action {
                Action::Failed => "could not be delivered to".to_owned(),
                Action::Expired => "was tried long enough and is given up for".to_owned(),
                Action::Delayed { until } => {
                    format!("is late and will be tried until {} for", date(until))
                }
            };
            let _ = write!(
                out,
                "\r\nYour message {what}\r\n\r\n  <{recipient}>\r\n\r\n"
            );
            let who = report.remote.as_ref().map_or_else(
                || "This system says:".to_owned(),
                |host| format!("The receiving server {} says:", ascii(host)),
            );
            let _ = write!(out, "{who}\r\n\r\n");
            fold(out, "  ", &quoted(&report.reply), "  ");
        }
        let _ = write!(
            out,
            "\r\nThe queue id of your message was {}.\r\n\r\n",
            self.about
        );
    }

    fn status(&self, out: &mut String) {
        let _ = write!(
            out,
            "Reporting-MTA: dns; {}\r\nX-Postrider-Message-Id: {}\r\nArrival-Date: {}\r\n",
            self.reporter,
            self.about,
            date(self.accepted),
        );
        for report in &self.reports {
            report.write(out);
        }
        out.push_str("\r\n");
    }
}

impl Report {
    /// One group of per-recipient fields (RFC 3464 §2.3).
    fn write(&self, out: &mut String) {
        let (action, class) = match self.action {
            Action::Failed | Action::Expired => ("failed", 5),
            Action::Delayed { .. } => ("delayed", 4),
        };
        let address = self.recipient.to_string();
        // RFC 6533 §3 for addresses beyond ASCII.
        let kind = if address.is_ascii() {
            "rfc822"
        } else {
            "utf-8"
        };
        let _ = write!(
            out,
            "\r\nFinal-Recipient: {kind}; {}\r\nAction: {action}\r\n",
            ascii(&address)
        );
        let (subject, detail) = match (self.action, self.reply.enhanced) {
            (Action::Expired, _) => (4, 7),
            (_, Some(code)) => (code.1, code.2),
            (_, None) => (0, 0),
        };
        let _ = write!(out, "Status: {class}.{subject}.{detail}\r\n");
        if let Some(host) = &self.remote {
            let _ = write!(out, "Remote-MTA: dns; {}\r\n", ascii(host));
        }
        fold(out, "Diagnostic-Code: smtp; ", &quoted(&self.reply), " ");
        if let Some(time) = self.attempted {
            let _ = write!(out, "Last-Attempt-Date: {}\r\n", date(time));
        }
        if let Action::Delayed { until } = self.action {
            let _ = write!(out, "Will-Retry-Until: {}\r\n", date(until));
        }
    }
}

/// The header section of a message, at most [`MAX_HEADERS`] octets in whole lines.
fn headers_of(message: &[u8]) -> &[u8] {
    let end = message
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map_or(message.len(), |at| at + 2);
    let headers = message.get(..end.min(MAX_HEADERS)).unwrap_or_default();
    let whole = headers
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    headers.get(..whole).unwrap_or_default()
}

fn quoted(reply: &Reply) -> String {
    ascii(&reply.to_string()).chars().take(MAX_REPLY).collect()
}

/// Printable ASCII; anything else as RFC 6533 §3 writes it.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == ' ' || c.is_ascii_graphic() {
            out.push(c);
        } else {
            let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
        }
    }
    out
}

/// Writes `first` and `text`, at spaces broken into lines; further ones begin with `further`.
fn fold(out: &mut String, first: &str, text: &str, further: &str) {
    out.push_str(first);
    let mut column = first.len();
    for (index, word) in text.split_ascii_whitespace().enumerate() {
        if index > 0 && column + 1 + word.len() > LINE {
            out.push_str("\r\n");
            out.push_str(further);
            column = further.len();
        } else if index > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push_str("\r\n");
}

/// RFC 5322 §3.3, in UTC.
fn date(time: Timestamp) -> String {
    let zoned = time.to_zoned(TimeZone::UTC);
    // Only years outside of 0 to 9999 cannot be written.
    jiff::fmt::rfc2822::to_string(&zoned).unwrap_or_else(|_| time.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: &str = "Received: from app.example.com by mail.example.net\r\n\
        From: Shop <shop@example.com>\r\nTo: gone@example.org\r\nSubject: Your order\r\n\r\n\
        The body stays here.\r\n";

    fn notification<'a>(
        from: &'a DomainName,
        to: &'a Mailbox,
        message: &'a [u8],
        reports: Vec<Report>,
    ) -> Notification<'a> {
        Notification {
            id: MessageId::from_u128(2),
            now: "2026-03-02T10:00:00Z".parse().unwrap(),
            reporter: "mail-0.example.net",
            from,
            to,
            about: MessageId::from_u128(1),
            accepted: "2026-03-01T09:30:00Z".parse().unwrap(),
            message,
            reports,
        }
    }

    fn report(recipient: &str, action: Action, reply: &str, remote: Option<&str>) -> Report {
        Report {
            recipient: recipient.parse().unwrap(),
            action,
            reply: Reply::parse([reply]).unwrap(),
            remote: remote.map(str::to_owned),
            attempted: Some("2026-03-02T10:00:00Z".parse().unwrap()),
        }
    }

    fn write(message: &[u8], reports: Vec<Report>) -> String {
        let from = "bounce.example.com".parse().unwrap();
        let to = "shop@example.com".parse().unwrap();
        let bytes = notification(&from, &to, message, reports).write();
        String::from_utf8(bytes).unwrap()
    }

    /// Compares with a file; `UPDATE_GOLDEN=1` writes it.
    fn golden(name: &str, text: &str) {
        let path = format!("{}/src/outcome/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, expected, "{name}");
    }

    #[test]
    fn a_failure() {
        let reports = vec![
            report(
                "gone@example.org",
                Action::Failed,
                "550 5.1.1 <gone@example.org>: Recipient address rejected: User unknown in virtual mailbox table",
                Some("mx1.example.org"),
            ),
            report(
                "late@example.org",
                Action::Expired,
                "451 4.4.1 cannot connect: 192.0.2.1:25: timed out",
                None,
            ),
        ];
        golden("failed.eml", &write(MESSAGE.as_bytes(), reports));
    }

    #[test]
    fn a_delay() {
        let until = "2026-03-06T09:30:00Z".parse().unwrap();
        let reports = vec![report(
            "busy@example.org",
            Action::Delayed { until },
            "554 go away",
            Some("mx1.example.org"),
        )];
        golden("delayed.eml", &write(MESSAGE.as_bytes(), reports));
    }

    #[test]
    fn a_delay_without_an_attempt() {
        let until = "2026-03-06T09:30:00Z".parse().unwrap();
        let kept = report(
            "kept@example.org",
            Action::Delayed { until },
            "451 4.7.0 example.com may not send: its DKIM record is missing",
            None,
        );
        let attempted = None;
        let reports = vec![Report { attempted, ..kept }];
        golden("kept.eml", &write(MESSAGE.as_bytes(), reports));
    }

    #[test]
    fn what_is_not_ascii_is_encoded() {
        let message = MESSAGE.replace("order", "\u{e9}tude");
        let reports = vec![report(
            "\u{e9}@example.org",
            Action::Failed,
            "550 5.1.1 n\u{f3}n",
            Some("mx"),
        )];
        golden("encoded.eml", &write(message.as_bytes(), reports));
    }

    #[test]
    fn a_parser_finds_the_three_parts() {
        let reports = vec![report("a@example.org", Action::Failed, "550 no", None)];
        let text = write(MESSAGE.as_bytes(), reports);
        let message = mail_parser::MessageParser::default().parse(&text).unwrap();
        let types: Vec<String> = message
            .parts
            .iter()
            .filter_map(|part| {
                let kind = mail_parser::MimeHeaders::content_type(part)?;
                Some(format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("")))
            })
            .collect();
        assert_eq!(
            types,
            [
                "multipart/report",
                "text/plain",
                "message/delivery-status",
                "text/rfc822-headers"
            ]
        );
        assert!(!text.contains("The body stays here"));
    }

    proptest! {
        #[test]
        fn always_seven_bit_lines_of_bounded_length(
            reply in "[2-5][0-9]{2} \\PC{0,300}",
            subject in "\\PC{0,200}",
        ) {
            prop_assume!(Reply::parse([reply.as_str()]).is_ok());
            let message = format!("Subject: {subject}\r\n\r\nx\r\n");
            let reports = vec![report("a@example.org", Action::Failed, &reply, Some("mx"))];
            let text = write(message.as_bytes(), reports);
            prop_assert!(text.is_ascii());
            for line in text.split("\r\n") {
                prop_assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{line:?}");
            }
        }
    }
}
