//! Bytes to whole replies (RFC 5321 §4.2), within bounds.

use memchr::memchr;

use crate::mail::Reply;

/// Longest line accepted; RFC 5321 §4.5.3.1.5 allows 512, servers are known to exceed it.
const MAX_LINE: usize = 2048;
/// Most lines of one reply; EHLO replies have some twenty.
const MAX_LINES: usize = 100;
/// Most octets of one reply kept as text.
const MAX_TEXT: usize = 8192;

/// A reply with its lines apart, as EHLO needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplyLines {
    /// The whole.
    pub(super) reply: Reply,
    /// The text of each line, without the code.
    pub(super) lines: Vec<String>,
}

/// Gathers bytes and gives replies.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    line: Vec<u8>,
    lines: Vec<String>,
    octets: usize,
}

impl ReplyReader {
    /// Takes bytes from the front of `input` up to the end of one reply. `None`: all were taken
    /// and the reply is not complete. Errors say what is wrong; the reader is of no use then.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<ReplyLines>, String> {
        while !input.is_empty() {
            let end = memchr(b'\n', input);
            let (part, rest) = input.split_at(end.unwrap_or(input.len()));
            if self.line.len() + part.len() > MAX_LINE {
                return Err(format!("reply line longer than {MAX_LINE} octets"));
            }
            self.line.extend_from_slice(part);
            *input = rest.get(1..).unwrap_or_default();
            if end.is_some()
                && let Some(reply) = self.end_line()?
            {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    fn end_line(&mut self) -> Result<Option<ReplyLines>, String> {
        let line = clean(&std::mem::take(&mut self.line));
        let last = line.as_bytes().get(3) != Some(&b'-');
        self.octets += line.len();
        // What is beyond the bound is read and dropped, except that the last line must agree.
        if self.octets <= MAX_TEXT || last {
            self.lines.push(line);
        }
        if self.lines.len() > MAX_LINES || self.octets > MAX_LINES * MAX_LINE {
            return Err(format!("reply longer than {MAX_LINES} lines"));
        }
        if !last {
            return Ok(None);
        }
        let lines = std::mem::take(&mut self.lines);
        self.octets = 0;
        let reply =
            Reply::parse(lines.iter().map(String::as_str)).map_err(|error| error.to_string())?;
        let lines = lines
            .iter()
            .map(|l| l.get(4..).unwrap_or_default().to_owned());
        Ok(Some(ReplyLines {
            reply,
            lines: lines.collect(),
        }))
    }
}

/// Text that is safe in logs and notifications: valid UTF-8 without control characters.
fn clean(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<ReplyLines>, String> {
        let mut reader = ReplyReader::default();
        let mut input = text;
        let mut found = Vec::new();
        while let Some(reply) = reader.next(&mut input)? {
            found.push(reply);
        }
        Ok(found)
    }

    #[test]
    fn replies_come_apart_wherever_the_bytes_are_cut() {
        let text = b"250-mx.example.org\r\n250 SIZE 10\r\n354 go\n";
        let whole = read(text).unwrap();
        assert_eq!(whole.len(), 2);
        assert_eq!(whole[0].lines, ["mx.example.org", "SIZE 10"]);
        for cut in 0..text.len() {
            let mut reader = ReplyReader::default();
            let mut found = Vec::new();
            for mut part in [&text[..cut], &text[cut..]] {
                while let Some(reply) = reader.next(&mut part).unwrap() {
                    found.push(reply);
                }
            }
            assert_eq!(found, whole, "cut at {cut}");
        }
    }

    #[test]
    fn text_is_cleaned() {
        let found = read(b"550 bad\x1b[31m \xff\x00name\r\n").unwrap();
        assert_eq!(found[0].reply.text, "bad [31m \u{fffd} name");
    }

    #[test]
    fn what_is_too_long_or_no_reply_is_an_error() {
        assert!(read(&vec![b'2'; MAX_LINE + 1]).is_err());
        assert!(read(&b"250-x\r\n".repeat(MAX_LINES + 1)).is_err());
        assert!(read(b"hello\r\n").is_err());
        assert!(read(b"250-a\r\n251 b\r\n").is_err());
        let long = format!("250-{}\r\n", "x".repeat(2000)).repeat(20) + "250 end\r\n";
        let found = read(long.as_bytes()).unwrap();
        assert!(found[0].reply.text.len() < 2 * MAX_TEXT);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_reply_or_an_error(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
