//! The records to publish, as text: a zone file and a table.
//!
//! Promises: a zone file line parses back into the same record (RFC 1035 §5.1). TXT texts are cut
//! into strings of at most 255 octets, and everything but plain printable ASCII is escaped, so a
//! text cannot end its string, its line or its record.

use std::fmt::Write as _;

use postrider_crds::{RecordPurpose, RecordState, RecordStatus, RecordType};

/// Longest string of a TXT record, in octets (RFC 1035 §3.3).
const MAX_STRING: usize = 255;
/// Seconds in the zone file: long enough to be cached, short enough to correct a mistake.
const ZONE_TTL: u32 = 300;
/// Characters of a text shown in the table.
const TABLE_TEXT: usize = 60;

/// The records as lines of a zone file, with a comment on each that is not verified.
#[must_use]
pub fn zone_file(records: &[RecordStatus]) -> String {
    records.iter().fold(String::new(), |mut out, record| {
        if record.state != RecordState::Verified {
            let message = one_line(&record.message);
            let state = state_name(record.state);
            // Writing into a String cannot fail.
            let _ = writeln!(
                out,
                "; {}: {state}. {message}",
                purpose_name(record.purpose)
            );
        }
        let (type_, data) = match record.r#type {
            RecordType::TXT => ("TXT", txt_data(&record.wanted)),
            RecordType::MX => ("MX", one_line(&record.wanted)),
            RecordType::CNAME => ("CNAME", one_line(&record.wanted)),
            RecordType::A => ("A", one_line(&record.wanted)),
            RecordType::AAAA => ("AAAA", one_line(&record.wanted)),
            RecordType::PTR => ("PTR", one_line(&record.wanted)),
        };
        let name = one_line(&record.name);
        let _ = writeln!(out, "{name}. {ZONE_TTL} IN {type_} {data}");
        out
    })
}

/// The data of a TXT record in presentation form: quoted strings of at most 255 octets each.
#[must_use]
pub fn txt_data(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".into();
    }
    let strings: Vec<String> = text.as_bytes().chunks(MAX_STRING).map(quoted).collect();
    strings.join(" ")
}

/// A quoted character string (RFC 1035 §5.1): `\"` and `\\` for the two, `\DDD` for other octets.
fn quoted(octets: &[u8]) -> String {
    let mut out = String::from("\"");
    for octet in octets {
        match octet {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*octet));
            }
            b' '..=b'~' => out.push(char::from(*octet)),
            other => {
                let _ = write!(out, "\\{other:03}");
            }
        }
    }
    out.push('"');
    out
}

/// A record in one line: type, name and data, as one would read it out.
#[must_use]
pub fn record_line(record: &RecordStatus) -> String {
    let text = match record.r#type {
        RecordType::TXT => quoted(record.wanted.as_bytes()),
        RecordType::MX | RecordType::CNAME | RecordType::A | RecordType::AAAA | RecordType::PTR => {
            record.wanted.clone()
        }
    };
    format!("{:?} {} {text}", record.r#type, record.name)
}

/// The records as a table with a header, columns aligned, one record a line and what to do below
/// those that are not verified.
#[must_use]
pub fn table(records: &[RecordStatus]) -> String {
    let rows: Vec<[String; 5]> = std::iter::once(["STATE", "PURPOSE", "TYPE", "NAME", "WANTED"])
        .map(|header| header.map(str::to_owned))
        .chain(records.iter().map(row))
        .collect();
    let widths = [0, 1, 2, 3].map(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        let [state, purpose, kind, name, wanted] = row;
        let [w0, w1, w2, w3] = widths;
        let _ = writeln!(
            out,
            "{state:w0$}  {purpose:w1$}  {kind:w2$}  {name:w3$}  {wanted}"
        );
        let record = index.checked_sub(1).and_then(|index| records.get(index));
        if let Some(record) = record.filter(|record| !record.message.is_empty()) {
            let _ = writeln!(out, "{:w0$}  {}", "", one_line(&record.message));
        }
        let seen = record.filter(|record| record.state != RecordState::Verified);
        if let Some(seen) = seen.and_then(|record| record.seen.as_deref()) {
            let _ = writeln!(out, "{:w0$}  seen: {}", "", shortened(seen));
        }
    }
    out
}

fn row(record: &RecordStatus) -> [String; 5] {
    [
        state_name(record.state).to_owned(),
        purpose_name(record.purpose).to_owned(),
        format!("{:?}", record.r#type),
        one_line(&record.name),
        shortened(&record.wanted),
    ]
}

fn shortened(text: &str) -> String {
    let line = one_line(text);
    if line.chars().count() <= TABLE_TEXT {
        return line;
    }
    let head: String = line.chars().take(TABLE_TEXT - 3).collect();
    format!("{head}...")
}

/// `text` without what could break out of a line or move a terminal's cursor.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The name of a state, as in the status.
#[must_use]
pub const fn state_name(state: RecordState) -> &'static str {
    match state {
        RecordState::Verified => "Verified",
        RecordState::Missing => "Missing",
        RecordState::Mismatch => "Mismatch",
        RecordState::Conflict => "Conflict",
        RecordState::Unknown => "Unknown",
    }
}

/// The name of a purpose, as in the status.
#[must_use]
pub const fn purpose_name(purpose: RecordPurpose) -> &'static str {
    match purpose {
        RecordPurpose::DKIM => "DKIM",
        RecordPurpose::SPF => "SPF",
        RecordPurpose::DMARC => "DMARC",
        RecordPurpose::ReturnPath => "ReturnPath",
        RecordPurpose::EHLO => "EHLO",
        RecordPurpose::PTR => "PTR",
        RecordPurpose::MTASTS => "MTASTS",
        RecordPurpose::TLSRPT => "TLSRPT",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> Vec<RecordStatus> {
        let long = format!("v=DKIM1; k=rsa; p={}", "A".repeat(392));
        let record = |type_, name: &str, wanted: &str, state, purpose| RecordStatus {
            r#type: type_,
            name: name.into(),
            wanted: wanted.into(),
            seen: None,
            state,
            purpose,
            message: String::new(),
        };
        let mut records = vec![
            record(
                RecordType::TXT,
                "pr-1._domainkey.example.com",
                &long,
                RecordState::Missing,
                RecordPurpose::DKIM,
            ),
            record(
                RecordType::TXT,
                "bounce.example.com",
                "v=spf1 ip4:203.0.113.10 -all",
                RecordState::Mismatch,
                RecordPurpose::SPF,
            ),
            record(
                RecordType::TXT,
                "_dmarc.example.com",
                "v=DMARC1; p=none",
                RecordState::Verified,
                RecordPurpose::DMARC,
            ),
            record(
                RecordType::MX,
                "bounce.example.com",
                "10 mail.example.net.",
                RecordState::Verified,
                RecordPurpose::ReturnPath,
            ),
        ];
        records[0].message = "publish this record".into();
        records[1].message = "add the pool's addresses".into();
        records[1].seen = Some("v=spf1 -all".into());
        records
    }

    #[test]
    fn golden_zone_file() {
        let expected = include_str!("testdata/records.zone");
        assert_eq!(zone_file(&records()), expected);
    }

    #[test]
    fn golden_table() {
        let expected = include_str!("testdata/records.txt");
        assert_eq!(table(&records()), expected);
    }

    /// Reads presentation form back (RFC 1035 §5.1).
    fn read_back(data: &str) -> Vec<Vec<u8>> {
        let (mut strings, mut current): (Vec<Vec<u8>>, Option<Vec<u8>>) = (Vec::new(), None);
        let mut octets = data.bytes();
        while let Some(octet) = octets.next() {
            match (octet, current.as_mut()) {
                (b'"', None) => current = Some(Vec::new()),
                (b'"', Some(_)) => strings.extend(current.take()),
                (b'\\', Some(string)) => match octets.next().unwrap() {
                    digit @ b'0'..=b'9' => {
                        let digits = [digit, octets.next().unwrap(), octets.next().unwrap()];
                        let text = std::str::from_utf8(&digits).unwrap();
                        string.push(text.parse().unwrap());
                    }
                    other => string.push(other),
                },
                (other, Some(string)) => string.push(other),
                (b' ', None) => {}
                (other, None) => panic!("{other} outside of quotes"),
            }
        }
        assert!(current.is_none());
        strings
    }

    proptest! {
        #[test]
        fn a_text_survives_its_zone_file(text in "\\PC{0,40}[\\x00-\\x7f]{0,600}") {
            let data = txt_data(&text);
            prop_assert!(data.bytes().all(|b| (b' '..=b'~').contains(&b)));
            let strings = read_back(&data);
            prop_assert!(strings.iter().all(|s| s.len() <= MAX_STRING));
            prop_assert_eq!(strings.concat(), text.into_bytes());
        }

        #[test]
        fn no_text_breaks_out_of_its_line(text in "\\PC{0,10}[\\x00-\\x1f;\"\\\\]{1,5}\\PC{0,10}") {
            let mut record = records().remove(0);
            record.wanted = text.clone();
            record.message = text;
            prop_assert_eq!(zone_file(std::slice::from_ref(&record)).lines().count(), 2);
        }
    }
}
