//! Dots before dots: a message as DATA sends it (RFC 5321 §4.5.2).

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;

/// Whether a line of `message` begins with a dot.
pub(super) fn needs_stuffing(message: &[u8]) -> bool {
    message.first() == Some(&b'.') || memmem::find(message, b"\n.").is_some()
}

/// `message` with a dot before each line that starts with one. Line ends are CRLF already.
pub(super) fn stuff(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + message.len() / 64 + 2);
    if message.first() == Some(&b'.') {
        out.put_u8(b'.');
    }
    let mut rest = message;
    while let Some(at) = memmem::find(rest, b"\n.") {
        let (line, after) = rest.split_at(at + 1);
        out.put_slice(line);
        out.put_u8(b'.');
        rest = after;
    }
    out.put_slice(rest);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::Payload;

    /// The text of a message after DATA.
    fn sent(message: &str) -> Vec<u8> {
        let message = Bytes::copy_from_slice(message.as_bytes());
        Payload::new(Bytes::new(), message).text().concat()
    }

    #[test]
    fn dots_are_doubled_and_the_end_is_marked() {
        for (message, expected) in [
            ("a\r\n", "a\r\n.\r\n"),
            (".\r\n..\r\na.b\r\n", "..\r\n...\r\na.b\r\n.\r\n"),
            ("a\r\n.", "a\r\n..\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("", ".\r\n"),
        ] {
            assert_eq!(sent(message), expected.as_bytes(), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn the_end_appears_once_and_undoing_gives_the_message(
            lines in proptest::collection::vec("[.a]{0,4}", 0..8)
        ) {
            let message: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
            let sent = String::from_utf8(sent(&message)).unwrap();
            let mut undone = String::new();
            let mut ends = 0;
            for line in sent.split_inclusive("\r\n") {
                if line == ".\r\n" {
                    ends += 1;
                } else {
                    undone.push_str(line.strip_prefix('.').unwrap_or(line));
                }
            }
            prop_assert_eq!(ends, 1);
            prop_assert!(sent.ends_with(".\r\n"));
            prop_assert_eq!(undone, message);
        }
    }
}
