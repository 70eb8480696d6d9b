//! The header section of a submitted message (RFC 5322 §2.2), as far as the door needs it.
//!
//! Promises: strict where two readers could disagree: a line that is no header field refuses the
//! message, and fields are counted by their exact name, so a second From cannot hide.

use std::ops::Range;

use mail_parser::{Address, HeaderName, MessageParser};
use memchr::memchr;
use postrider_crds::Mailbox;

use super::refusal::Refusal;
use crate::{mail::Priority, telemetry::RejectReason};

/// What the door needs to know of a message's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Addresses of the one From field, one at least.
    pub from: Vec<Mailbox>,
    /// Whether there is a Date.
    pub has_date: bool,
    /// Whether there is a Message-ID.
    pub has_message_id: bool,
    /// What the one MT-Priority field says (RFC 6758 §3); `None` where there is none, where there are
    /// several, and where it says nothing that is a priority.
    pub priority: Option<Priority>,
    /// Where MT-Priority fields lie in the message, in their order.
    pub priority_fields: Vec<Range<usize>>,
}

/// Received fields from which on a message runs in circles (RFC 5321 §6.3 asks for 100 at least).
const MAX_RECEIVED: usize = 100;
/// Fields that may stand once (RFC 5322 §3.6).
const ONCE: [&str; 4] = ["from", "date", "message-id", "sender"];

#[derive(Default)]
struct Count {
    once: [usize; ONCE.len()],
    received: usize,
}

impl Headers {
    /// Reads the header section of `message`, or says what is wrong with it.
    pub fn read(message: &[u8]) -> Result<Self, Refusal> {
        let mut count = Count::default();
        let mut from: &[u8] = &[];
        let (mut priority, mut priority_fields) = (None, Vec::new());
        let mut fields = Fields {
            rest: message,
            line: 0,
        };
        while let Some(field) = fields.next_field()? {
            let is = |known: &str| field.name.eq_ignore_ascii_case(known);
            count.received += usize::from(is("received"));
            for (seen, known) in count.once.iter_mut().zip(ONCE) {
                *seen += usize::from(is(known));
            }
            if is("from") {
                from = field.bytes;
            } else if is("mt-priority") {
                let end = message.len() - fields.rest.len();
                priority_fields.push(end - field.bytes.len()..end);
                priority = priority_of(field.bytes);
            }
        }
        for (seen, known) in count.once.iter().zip(ONCE) {
            if *seen > 1 {
                let text = format!("message has {seen} {known} headers; keep one (RFC 5322 3.6)");
                return Err(content(text));
            }
        }
        let [froms, dates, ids, _] = count.once;
        if froms == 0 {
            return Err(content(
                "message has no From header; add one (RFC 5322 3.6)",
            ));
        }
        if count.received > MAX_RECEIVED {
            let text = format!(
                "message has {} Received headers and runs in circles; break the loop",
                count.received
            );
            return Err(Refusal::new(RejectReason::Other, 554, (5, 4, 6), text));
        }
        Ok(Self {
            from: addresses(from)?,
            has_date: dates > 0,
            has_message_id: ids > 0,
            priority: priority.filter(|_| priority_fields.len() == 1),
            priority_fields,
        })
    }
}

struct Field<'a> {
    name: &'a str,
    /// With its folded lines and line ends.
    bytes: &'a [u8],
}

struct Fields<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Fields<'a> {
    /// The next field, `None` at the empty line or the end.
    fn next_field(&mut self) -> Result<Option<Field<'a>>, Refusal> {
        let first = line_length(self.rest);
        if first == 0 || self.rest.starts_with(b"\r\n") {
            return Ok(None);
        }
        self.line += 1;
        let number = self.line;
        let mut length = first;
        // RFC 5322 §2.2.3: a line that starts with white space continues the field.
        while let Some(more) = self.rest.get(length..).filter(|m| is_folded(m)) {
            length += line_length(more);
            self.line += 1;
        }
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        let name = bytes.split(|b| *b == b':').next().unwrap_or_default();
        // RFC 5322 §3.6.8: printable, no space, no colon.
        let is_name = !name.is_empty() && name.len() < bytes.len();
        match std::str::from_utf8(name) {
            Ok(name) if is_name && name.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Some(Field { name, bytes }))
            }
            _ => Err(content(format!(
                "header line {number} is no \"Name: value\"; correct it or put an empty line before the body"
            ))),
        }
    }
}

/// What an MT-Priority field says (RFC 6758 §3): a number with comments and white space around it.
fn priority_of(field: &[u8]) -> Option<Priority> {
    let (_, value) = std::str::from_utf8(field).ok()?.split_once(':')?;
    let (mut depth, mut escaped) = (0_usize, false);
    let said = |c: char| {
        let was_inside = depth > 0;
        match c {
            _ if escaped => escaped = false,
            '\\' if was_inside => escaped = true,
            '(' => depth += 1,
            ')' if was_inside => {
                depth -= 1;
                return Some(' ');
            }
            _ => return (!was_inside).then_some(c),
        }
        None
    };
    let said: String = value.chars().filter_map(said).collect();
    said.trim().parse().ok().filter(|_| depth == 0)
}

fn is_folded(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b' ' | b'\t'))
}

/// Octets up to and with the next line end.
fn line_length(bytes: &[u8]) -> usize {
    let end = memchr(b'\n', bytes);
    end.map_or(bytes.len(), |end| end + 1)
}

fn addresses(field: &[u8]) -> Result<Vec<Mailbox>, Refusal> {
    let section = [field, b"\r\n"].concat();
    let parser = MessageParser::new().header_address(HeaderName::From);
    let message = parser.parse_headers(&section);
    let list = match message.as_ref().and_then(|message| message.from()) {
        Some(Address::List(list)) if !list.is_empty() => list,
        Some(Address::Group(_)) => {
            return Err(content("From header holds a group; give addresses only"));
        }
        _ => {
            return Err(content(
                "From header holds no address; write \"Name <user@domain>\"",
            ));
        }
    };
    list.iter()
        .map(|address| {
            let text = address.address().unwrap_or_default();
            text.parse()
                .map_err(|error| content(format!("From header: {error}")))
        })
        .collect()
}

fn content(text: impl AsRef<str>) -> Refusal {
    Refusal::new(RejectReason::Syntax, 550, (5, 6, 0), text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from_of(message: &str) -> Vec<String> {
        let headers = Headers::read(message.as_bytes()).expect(message);
        headers.from.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_the_addresses_of_from() {
        for (message, expected) in [
            ("From: a@example.com\r\n\r\nbody", vec!["a@example.com"]),
            ("FROM: Ann <a@example.com>\r\n\r\n", vec!["a@example.com"]),
            (
                "From: \"x@evil.org\" <a@example.com>\r\n\r\n",
                vec!["a@example.com"],
            ),
            (
                "From: =?utf-8?q?J=C3=B6rg?=\r\n <a@example.com>\r\n\r\n",
                vec!["a@example.com"],
            ),
            (
                "Subject: x\r\nFrom: a@example.com, B <b@example.com>\r\nTo: c@example.net",
                vec!["a@example.com", "b@example.com"],
            ),
        ] {
            assert_eq!(from_of(message), expected, "{message}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for (message, part) in [
            ("Subject: x\r\n\r\nFrom: a@example.com", "no From"),
            ("", "no From"),
            (
                "From: a@example.com\r\nfrom: b@example.com\r\n\r\n",
                "2 from",
            ),
            (
                "From: a@example.com\r\nFrom : b@example.com\r\n\r\n",
                "line 2",
            ),
            (
                "From: a@example.com\r\n folded\r\nnonsense\r\n\r\n",
                "line 3",
            ),
            (
                "From a@example.com Mon\r\nFrom: a@example.com\r\n\r\n",
                "line 1",
            ),
            (" x\r\nFrom: a@example.com\r\n\r\n", "line 1"),
            ("From: nobody\r\n\r\n", "From header"),
            ("From: \r\n\r\n", "no address"),
            ("From: undisclosed:;\r\n\r\n", "From header"),
            (
                "From: a@example.com\r\nDate: x\r\nDate: y\r\n\r\n",
                "2 date",
            ),
        ] {
            let refusal = Headers::read(message.as_bytes()).expect_err(message);
            assert_eq!(refusal.reply.code, 550, "{message}");
            assert!(
                refusal.reply.text.contains(part),
                "{message}: {}",
                refusal.reply
            );
        }
    }

    #[test]
    fn one_good_priority_field_counts_and_all_are_found() {
        for (fields, priority) in [
            ("MT-Priority: 3\r\n", Some(3)),
            ("mt-priority:-4\r\n", Some(-4)),
            ("MT-Priority:\r\n 3 (flash (\\) it))\r\n", Some(3)),
            ("MT-Priority: (2) 3\r\n", Some(3)),
            ("MT-Priority: 3\r\nMT-Priority: 3\r\n", None),
            ("MT-Priority: 10\r\n", None),
            ("MT-Priority: 1 2\r\n", None),
            ("MT-Priority: 1 (\r\n", None),
            ("MT-Priority: -(x)3\r\n", None),
            ("MT-Priority: \\x3\r\n", None),
            ("MT-Priority:\r\n", None),
            ("X-MT-Priority: 3\r\n", None),
        ] {
            let message = format!(
                "From: a@example.com\r\n{fields}To: b@example.net\r\n\r\nMT-Priority: 9\r\n"
            );
            let headers = Headers::read(message.as_bytes()).unwrap();
            assert_eq!(headers.priority.map(Priority::number), priority, "{fields}");
            let mut text = crate::submission::Message::from(message.as_bytes());
            text.remove(&headers.priority_fields);
            let left = String::from_utf8(text.as_bytes().to_vec()).unwrap();
            let kept = if fields.starts_with("X-") { fields } else { "" };
            let expected =
                format!("From: a@example.com\r\n{kept}To: b@example.net\r\n\r\nMT-Priority: 9\r\n");
            assert_eq!(left, expected);
        }
    }

    #[test]
    fn a_loop_is_broken() {
        let from = "From: a@example.com\r\n\r\n";
        let hundred = "Received: by x\r\n".repeat(100);
        assert!(Headers::read(format!("{hundred}{from}").as_bytes()).is_ok());
        let more = format!("Received: by x\r\n{hundred}{from}");
        let refusal = Headers::read(more.as_bytes()).expect_err("101");
        assert_eq!(refusal.reply.code, 554);
    }

    proptest! {
        #[test]
        fn never_panics(message: Vec<u8>) {
            let _ = Headers::read(&message);
        }

        #[test]
        fn never_panics_on_priorities(value in "[()\\\\ \r\n0-9-]{0,20}") {
            let message = format!("From: a@example.com\r\nMT-Priority:{value}\r\n\r\n");
            let _ = Headers::read(message.as_bytes());
        }

        #[test]
        fn never_panics_on_from(value in "\\PC{0,40}") {
            let _ = Headers::read(format!("From: {value}\r\n\r\n").as_bytes());
        }
    }
}
