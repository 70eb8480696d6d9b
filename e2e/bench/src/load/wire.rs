//! What goes over the wire: message texts with a number in them, recipients that bear it, and the
//! replies of a server.

use jiff::{Timestamp, fmt::rfc2822};

/// Digits of a message's number.
const DIGITS: usize = 10;
/// What the local part of a numbered recipient begins with.
const MARK: u8 = b'm';
/// Length of a line of the body, CRLF included.
const LINE: usize = 78;

/// A message text of a given size in which the number can be changed without allocation.
#[derive(Debug, Clone)]
pub(super) struct Text {
    octets: Vec<u8>,
    numbers: Vec<usize>,
}

impl Text {
    /// A text of `size` octets, or as small as its header allows, from `sender`, closed by the
    /// final dot.
    pub(super) fn new(size: usize, sender: &str, now: Timestamp) -> Self {
        let date = rfc2822::to_string(&now.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default();
        let zeros = "0".repeat(DIGITS);
        let domain = sender.rsplit('@').next().unwrap_or_default();
        let head = format!(
            "Date: {date}\r\nFrom: Bench <{sender}>\r\nTo: Someone <someone@{domain}>\r\n\
             Subject: Message {zeros}\r\nMessage-ID: <{zeros}.bench@{domain}>\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        );
        let numbers = memchr::memmem::find_iter(head.as_bytes(), zeros.as_bytes()).collect();
        let mut octets = head.into_bytes();
        let line =
            b"The quick brown fox jumps over the lazy dog, and again and again and again..\r\n";
        debug_assert_eq!(line.len(), LINE);
        while octets.len() + 2 < size {
            let rest = (size - octets.len()).min(LINE).saturating_sub(2);
            octets.extend(line.iter().take(rest));
            octets.extend_from_slice(b"\r\n");
        }
        octets.extend_from_slice(b".\r\n");
        Self { octets, numbers }
    }

    /// The text, with `number` in it.
    pub(super) fn numbered(&mut self, number: u64) -> &[u8] {
        let digits = digits(number);
        for &at in &self.numbers {
            if let Some(place) = self.octets.get_mut(at..at + DIGITS) {
                place.copy_from_slice(&digits);
            }
        }
        &self.octets
    }

    /// Octets without the final dot.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.octets.len() - 3
    }
}

/// Appends `RCPT TO` for message `number` in `domain`.
pub(super) fn rcpt(output: &mut Vec<u8>, number: u64, domain: &str) {
    output.extend_from_slice(b"RCPT TO:<");
    output.push(MARK);
    output.extend_from_slice(&digits(number));
    output.push(b'@');
    output.extend_from_slice(domain.as_bytes());
    output.extend_from_slice(b">\r\n");
}

/// The number in the recipient of a `RCPT TO` line; `None` for any other recipient.
pub(super) fn number(line: &[u8]) -> Option<u64> {
    let start = memchr::memchr(b'<', line)? + 1;
    let (&mark, rest) = line.get(start..)?.split_first()?;
    let (digits, rest) = rest.split_at_checked(DIGITS)?;
    if mark.to_ascii_lowercase() != MARK || rest.first() != Some(&b'@') {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number * 10 + digit)
    })
}

fn digits(number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    digits
}

/// A line of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplyLine<'a> {
    /// The code.
    pub(super) code: u16,
    /// Whether more lines follow (RFC 5321 §4.2.1).
    pub(super) more: bool,
    /// What stands after the code.
    pub(super) text: &'a [u8],
}

/// Reads a reply line without its CRLF; `None` when it is none.
pub(super) fn reply_line(line: &[u8]) -> Option<ReplyLine<'_>> {
    let (code, rest) = line.split_at_checked(3)?;
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    let more = rest.first() == Some(&b'-');
    let text = rest.get(1..).unwrap_or_default();
    Some(ReplyLine { code, more, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_size_and_its_number() {
        for size in [400, 2048, 10_240, 102_400] {
            let mut text = Text::new(size, "sender@from.example", Timestamp::UNIX_EPOCH);
            assert!(text.size().abs_diff(size) <= 2, "{size}: {}", text.size());
            let octets = text.numbered(42).to_vec();
            assert_eq!(octets.windows(10).filter(|w| w == b"0000000042").count(), 2);
            assert!(octets.ends_with(b"\r\n.\r\n"));
            assert!(octets.split(|o| *o == b'\n').all(|line| line.len() <= LINE));
            assert_eq!(octets.windows(5).filter(|w| w == b"\r\n.\r\n").count(), 1);
        }
    }

    #[test]
    fn a_recipient_bears_the_number() {
        let mut line = Vec::new();
        rcpt(&mut line, 1_234_567, "a.example");
        assert_eq!(line, b"RCPT TO:<m0001234567@a.example>\r\n");
        assert_eq!(number(&line), Some(1_234_567));
        for other in [
            &b"RCPT TO:<sender@a.example>"[..],
            b"RCPT TO:<m00012345678@a.example>",
            b"RCPT TO:<m000123456x@a.example>",
            b"RCPT TO:m",
        ] {
            assert_eq!(number(other), None);
        }
    }

    #[test]
    fn reply_lines_are_read() {
        let line = reply_line(b"250-PIPELINING").unwrap();
        assert_eq!(
            (line.code, line.more, line.text),
            (250, true, &b"PIPELINING"[..])
        );
        assert!(!reply_line(b"354").unwrap().more);
        assert_eq!(reply_line(b"hi"), None);
    }
}
