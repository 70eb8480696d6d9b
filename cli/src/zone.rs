//! The records of a SendingDomain as lines of a master file (RFC 1035 section 5).
//!
//! Promises: the lines parse as they stand in any zone, whatever its origin and TTL: owner names
//! are complete, TTLs are written, text is quoted, escaped and cut into strings of at most 255
//! octets (RFC 1035 section 3.3.14). All else is a comment, and foreign text cannot leave it.

use std::fmt::Write as _;

use postrider_crds::{RecordState, RecordStatus, RecordType};

use crate::{
    domain_records::{DomainRecords, verified},
    text::{counted, printable},
};

/// Time to live of what is published, in seconds: an hour, so that a mistake is cured soon.
pub(crate) const TTL: u32 = 3_600;
/// Longest string in a TXT record, in octets (RFC 1035 section 3.3).
const MAX_STRING: usize = 255;
/// Preference of an MX that is wanted without one.
const PREFERENCE: u16 = 10;

/// All records, each under a comment with its purpose and state.
pub(crate) fn zone(domain: &DomainRecords) -> String {
    let mut out = String::new();
    let verified = verified(&domain.records);
    let total = counted(domain.records.len(), "record");
    comment(
        &mut out,
        &format!(
            "SendingDomain {}/{}: {}, {verified} of {total} verified",
            domain.namespace, domain.name, domain.domain,
        ),
    );
    if let Some(caveat) = domain.caveat() {
        comment(&mut out, &caveat);
    }
    for record in domain.by_hand() {
        block(&mut out, record);
        out.push_str(&line(record));
        out.push('\n');
    }
    if let Some(pool) = &domain.pool {
        out.push('\n');
        comment(&mut out, &pool.title());
        for record in &pool.records {
            block(&mut out, record);
            let line = line(record);
            if domain.holds(&record.name) {
                out.push_str(&line);
                out.push('\n');
            } else {
                // It would not load here: a server takes nothing from outside its zone.
                comment(&mut out, &format!("in the zone of that name: {line}"));
            }
        }
    }
    out
}

/// An empty line and what there is to say about `record`.
fn block(out: &mut String, record: &RecordStatus) {
    out.push('\n');
    comment(out, &format!("{:?}: {:?}", record.purpose, record.state));
    if !record.message.is_empty() {
        comment(out, &record.message);
    }
    if matches!(record.state, RecordState::Mismatch | RecordState::Conflict) {
        let seen = record.seen.as_deref().unwrap_or_default();
        comment(out, &format!("replaces what is published: {seen}"));
    }
}

fn comment(out: &mut String, text: &str) {
    let _ = writeln!(out, "; {}", printable(text));
}

fn line(record: &RecordStatus) -> String {
    let owner = absolute(&record.name);
    match record.r#type {
        RecordType::TXT => format!("{owner} {TTL} IN TXT {}", strings(&record.wanted)),
        RecordType::MX => format!("{owner} {TTL} IN MX {}", exchange(&record.wanted)),
        RecordType::CNAME => format!("{owner} {TTL} IN CNAME {}", absolute(&record.wanted)),
        RecordType::PTR => format!("{owner} {TTL} IN PTR {}", absolute(&record.wanted)),
        RecordType::A => format!("{owner} {TTL} IN A {}", printable(&record.wanted)),
        RecordType::AAAA => format!("{owner} {TTL} IN AAAA {}", printable(&record.wanted)),
    }
}

/// `name` with the root dot, its odd characters escaped (RFC 1035 section 5.1).
fn absolute(name: &str) -> String {
    let mut out = String::new();
    for byte in name.trim_end_matches('.').bytes() {
        match byte {
            b'.' | b'-' | b'_' | b'*' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => escape(&mut out, byte),
        }
    }
    out.push('.');
    out
}

fn exchange(wanted: &str) -> String {
    let (preference, host) = preference_and_host(wanted);
    format!("{preference} {}", absolute(host))
}

/// The parts of a wanted MX; one without preference gets [`PREFERENCE`].
pub(crate) fn preference_and_host(wanted: &str) -> (u16, &str) {
    let mut words = wanted.split_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    match (first.parse::<u16>(), second) {
        (Ok(preference), Some(host)) => (preference, host),
        _ => (PREFERENCE, first),
    }
}

/// `text` as quoted strings. An empty text is one empty string.
fn strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let chunks = bytes.chunks(MAX_STRING).map(quoted);
    let all: Vec<String> = if bytes.is_empty() {
        vec![quoted(&[])]
    } else {
        chunks.collect()
    };
    all.join(" ")
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => escape(&mut out, byte),
        }
    }
    out.push('"');
    out
}

/// `\DDD`: the octet with that decimal value (RFC 1035 section 5.1).
fn escape(out: &mut String, byte: u8) {
    let _ = write!(out, "\\{byte:03}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{self, check};

    #[test]
    fn zone_of_a_domain() {
        check("records_zone.txt", &zone(&golden::shop()));
    }

    #[test]
    fn a_fresh_domain_is_only_comments() {
        let text = zone(&golden::fresh_shop());
        assert!(text.lines().all(|line| line.starts_with(';')), "{text}");
    }

    #[test]
    fn text_is_cut_at_255_octets_and_escaped() {
        let text = strings(&"x".repeat(511));
        let lengths: Vec<usize> = text.split(' ').map(|s| s.len() - 2).collect();
        assert_eq!(lengths, [255, 255, 1]);
        assert_eq!(strings(""), "\"\"");
        assert_eq!(strings("a\"b\\c;\u{e9}\n"), r#""a\"b\\c;\195\169\010""#);
    }

    #[test]
    fn names_are_complete_and_safe() {
        assert_eq!(absolute("_dmarc.shop.example"), "_dmarc.shop.example.");
        assert_eq!(absolute("shop.example."), "shop.example.");
        assert_eq!(absolute("a b;c"), "a\\032b\\059c.");
        assert_eq!(exchange("20 mail.shop.example."), "20 mail.shop.example.");
        assert_eq!(exchange("mail.shop.example"), "10 mail.shop.example.");
    }

    #[test]
    fn aliases_are_complete() {
        let mut record = golden::shop().records.remove(0);
        record.r#type = RecordType::CNAME;
        record.wanted = "pr-7f3a._domainkey.shop.example.keys.example.".into();
        assert_eq!(
            line(&record),
            "pr-7f3a._domainkey.shop.example. 3600 IN CNAME pr-7f3a._domainkey.shop.example.keys.example."
        );
    }

    #[test]
    fn foreign_text_cannot_leave_its_comment() {
        let mut domain = golden::shop();
        domain.pool = None;
        for record in &mut domain.records {
            record.state = RecordState::Mismatch;
            record.seen = Some("v=spf1 -all\nshop.example. IN NS ns.evil.example.".into());
            record.message = "line\r\nevil.example. IN A 192.0.2.1".into();
        }
        let text = zone(&domain);
        let live: Vec<&str> = text
            .lines()
            .filter(|l| !l.starts_with(';') && !l.is_empty())
            .collect();
        assert_eq!(live.len(), domain.records.len(), "{text}");
        assert!(live.iter().all(|line| !line.contains("evil")), "{text}");
    }
}
