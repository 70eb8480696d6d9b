//! What the door writes on top of a message it takes: the trace field (RFC 5321 §4.4), and Date and
//! Message-ID where they are missing (RFC 6409 §8).

use std::net::IpAddr;

use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};
use postrider_crds::{DomainName, Mailbox};

use super::{headers::Headers, text::Message};
use crate::mail::{MessageId, Priority};

/// How a message came in.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// What the client called itself.
    pub helo: &'a str,
    /// Its address.
    pub client: Option<IpAddr>,
    /// What this relay calls itself.
    pub hostname: &'a str,
    /// How it came over.
    pub transmission: Transmission,
    /// The only recipient; `None` when there are several (RFC 5321 §7.2: they must not learn of
    /// each other).
    pub recipient: Option<&'a Mailbox>,
    /// The priority of the message, where something was said of it.
    pub priority: Option<Priority>,
}

/// What a trace field says after `with` (RFC 3848).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmission {
    /// In the clear, without a login.
    Esmtp,
    /// With TLS, without a login.
    Esmtps,
    /// With TLS and a login.
    Esmtpsa,
}

impl Transmission {
    /// The name in the trace field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Esmtp => "ESMTP",
            Self::Esmtps => "ESMTPS",
            Self::Esmtpsa => "ESMTPSA",
        }
    }
}

/// Puts what is added in front of `message`.
pub fn stamp(
    message: &mut Message,
    headers: &Headers,
    arrival: &Arrival<'_>,
    name: (MessageId, &DomainName, Timestamp),
) {
    let (id, domain, now) = name;
    let date = date(now);
    let mut added = received(arrival, id, &date);
    if !headers.has_date {
        added.push_str(&format!("Date: {date}\r\n"));
    }
    if !headers.has_message_id {
        added.push_str(&format!("Message-ID: <{id}@{domain}>\r\n"));
    }
    message.prepend(added.as_bytes());
}

/// RFC 5321 §4.4.
fn received(arrival: &Arrival<'_>, id: MessageId, date: &str) -> String {
    let client = match arrival.client {
        Some(IpAddr::V4(address)) => format!(" ([{address}])"),
        // RFC 5321 §4.1.3.
        Some(IpAddr::V6(address)) => format!(" ([IPv6:{address}])"),
        None => String::new(),
    };
    let recipient = arrival
        .recipient
        .map_or_else(String::new, |mailbox| format!(" for <{mailbox}>"));
    // RFC 6710 §4.1 (2), §7. Left out of most mail, of which nobody said anything: receivers that
    // know the clause take that for 0, and those that do not need not meet it.
    let priority = arrival
        .priority
        .map_or_else(String::new, |priority| format!(" PRIORITY {priority}"));
    format!(
        "Received: from {}{client}\r\n\tby {} (Postrider) with {} id {id}{recipient}{priority};\r\n\t{date}\r\n",
        arrival.helo,
        arrival.hostname,
        arrival.transmission.as_str(),
    )
}

/// RFC 5322 §3.3, in UTC.
fn date(now: Timestamp) -> String {
    let zoned = now.to_zoned(TimeZone::UTC);
    rfc2822::to_string(&zoned).unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(message: &str, recipient: Option<&str>) -> String {
        stamped_as(message, recipient, None)
    }

    fn stamped_as(message: &str, recipient: Option<&str>, priority: Option<Priority>) -> String {
        let mailbox: Option<Mailbox> = recipient.map(|r| r.parse().unwrap());
        let arrival = Arrival {
            helo: "app.local",
            client: Some("192.0.2.7".parse().unwrap()),
            hostname: "mail-0.example.net",
            transmission: Transmission::Esmtpsa,
            recipient: mailbox.as_ref(),
            priority,
        };
        let headers = Headers::read(message.as_bytes()).unwrap();
        let now = "2026-11-25T04:05:06Z".parse().unwrap();
        let id = MessageId::from_u128(1);
        let name = (id, &"example.com".parse().unwrap(), now);
        let mut message = Message::from(message.as_bytes());
        stamp(&mut message, &headers, &arrival, name);
        String::from_utf8(message.into_bytes().to_vec()).unwrap()
    }

    #[test]
    fn adds_the_trace_and_what_is_missing() {
        assert_eq!(
            stamped("From: a@example.com\r\n\r\nhi\r\n", Some("b@example.net")),
            "Received: from app.local ([192.0.2.7])\r\n\
             \tby mail-0.example.net (Postrider) with ESMTPSA id 00000000000000000000000001 for <b@example.net>;\r\n\
             \tWed, 25 Nov 2026 04:05:06 +0000\r\n\
             Date: Wed, 25 Nov 2026 04:05:06 +0000\r\n\
             Message-ID: <00000000000000000000000001@example.com>\r\n\
             From: a@example.com\r\n\r\nhi\r\n"
        );
    }

    #[test]
    fn the_trace_names_a_priority() {
        let message = "Date: x\r\nMessage-Id: <y@z>\r\nFrom: a@example.com\r\n\r\n";
        for number in [-4, 0, 9] {
            let text = stamped_as(message, Some("b@example.net"), Priority::new(number));
            let clauses = format!(" for <b@example.net> PRIORITY {number};\r\n");
            assert!(text.contains(&clauses), "{text}");
        }
        let text = stamped_as(message, None, None);
        assert!(!text.contains("PRIORITY"), "{text}");
    }

    #[test]
    fn leaves_what_is_there() {
        let message = "Date: x\r\nMessage-Id: <y@z>\r\nFrom: a@example.com\r\n\r\n";
        let text = stamped(message, None);
        assert!(
            text.ends_with(message) && text.matches("Date:").count() == 1,
            "{text}"
        );
        assert!(!text.contains(" for "), "{text}");
    }
}
