//! A message as DATA sends it (RFC 5321 §4.5.2).

use bytes::{BufMut, Bytes, BytesMut};

/// `message` with a dot before each line that starts with one, and the final dot. Line ends are
/// CRLF already; a missing last one is added.
pub(super) fn stuff(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + message.len() / 64 + 5);
    let mut rest = message;
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|b| *b == b'\n')
            .map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        if line.first() == Some(&b'.') {
            out.put_u8(b'.');
        }
        out.put_slice(line);
        rest = after;
    }
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        out.put_slice(b"\r\n");
    }
    out.put_slice(b".\r\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dots_are_doubled_and_the_end_is_marked() {
        for (message, sent) in [
            ("a\r\n", "a\r\n.\r\n"),
            (".\r\n..\r\na.b\r\n", "..\r\n...\r\na.b\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("", ".\r\n"),
        ] {
            assert_eq!(stuff(message.as_bytes()), sent.as_bytes(), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn the_end_appears_once_and_undoing_gives_the_message(
            lines in proptest::collection::vec("[.a]{0,4}", 0..8)
        ) {
            let message: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
            let sent = String::from_utf8(stuff(message.as_bytes()).to_vec()).unwrap();
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
