//! The hash of a body in DKIM's relaxed form (RFC 6376 §3.4.4).
//!
//! Promises: pure; one pass, nothing is copied. What needs no change is hashed in one piece from
//! one place that does to the next. mail-auth's own hasher is not used: it looks at each word, and
//! keeps lines of nothing but spaces at the end of a body, which verifiers leave out.

use aws_lc_rs::digest::{Context, Digest, SHA256};

/// Octets looked at together.
const BLOCK: usize = 64;

/// SHA-256 of `body`, which has CRLF line ends, in relaxed form.
pub(super) fn relaxed_body_hash(body: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    relaxed(body, |piece| hash.update(piece));
    hash.finish()
}

/// Gives the relaxed form of `body` piece by piece.
fn relaxed<'b>(body: &'b [u8], mut give: impl FnMut(&'b [u8])) {
    let mut rest = without_end(body);
    if rest.is_empty() {
        return;
    }
    while let Some(at) = next_change(rest) {
        let (same, changed) = rest.split_at(at);
        give(same);
        let spaces = changed.iter().take_while(|octet| is_space(**octet)).count();
        rest = changed.get(spaces..).unwrap_or_default();
        // White space within a line is one space, at its end nothing.
        if !rest.starts_with(b"\r") {
            give(b" ");
        }
    }
    give(rest);
    give(b"\r\n");
}

/// The body up to the last octet of its last line that is not empty.
fn without_end(body: &[u8]) -> &[u8] {
    let is_kept = |octet: &u8| !is_space(*octet) && !matches!(octet, b'\r' | b'\n');
    let end = body.iter().rposition(is_kept).map_or(0, |last| last + 1);
    body.get(..end).unwrap_or_default()
}

/// Where white space begins that is not one space between two words. `text` ends with none.
fn next_change(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    // The comparisons of a block are a few vector instructions each.
    while let (Some(octets), Some(nexts)) = (block(text, at), block(text, at + 1)) {
        let pairs = octets.iter().zip(nexts);
        if pairs.fold(0, |found, (octet, next)| found | changes(*octet, *next)) != 0 {
            break;
        }
        at += BLOCK;
    }
    let (octets, nexts) = (text.get(at..)?, text.get(at + 1..)?);
    let mut pairs = octets.iter().zip(nexts);
    let found = pairs.position(|(octet, next)| changes(*octet, *next) != 0);
    found.map(|found| at + found)
}

fn block(text: &[u8], at: usize) -> Option<&[u8; BLOCK]> {
    text.get(at..)?.first_chunk()
}

/// Not 0 where `octet` begins white space that is changed. Without a branch.
fn changes(octet: u8, next: u8) -> u8 {
    let more = u8::from(next == b' ') | u8::from(next == b'\t') | u8::from(next == b'\r');
    u8::from(octet == b'\t') | (u8::from(octet == b' ') & more)
}

fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relaxed_of(body: &str) -> String {
        let mut out = Vec::new();
        relaxed(body.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    /// RFC 6376 §3.4.4 as it is written, line by line.
    fn by_the_letter(body: &str) -> String {
        let mut lines: Vec<String> = body
            .split("\r\n")
            .map(|line| {
                let words = line.split([' ', '\t']).filter(|word| !word.is_empty());
                let indent = if line.starts_with([' ', '\t']) {
                    " "
                } else {
                    ""
                };
                let text = words.collect::<Vec<_>>().join(" ");
                format!("{indent}{text}").trim_end().to_owned()
            })
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.into_iter().map(|line| line + "\r\n").collect()
    }

    #[test]
    fn bodies_are_as_the_rfc_has_them() {
        for (body, expected) in [
            // RFC 6376 §3.4.5.
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("", ""),
            ("\r\n", ""),
            ("\r\n\r\n", ""),
            (" \r\n\t\r\n", ""),
            ("a", "a\r\n"),
            ("a\r\n \r\n\t \r\n", "a\r\n"),
            ("\r\n \r\na", "\r\n\r\na\r\n"),
            ("a b\tc  d \r\n", "a b c d\r\n"),
        ] {
            assert_eq!(relaxed_of(body), expected, "{body:?}");
            assert_eq!(by_the_letter(body), expected, "{body:?}");
        }
    }

    #[test]
    fn the_hash_is_that_of_the_relaxed_form() {
        // RFC 6376 §3.4.4: the hash of an empty body.
        let empty = relaxed_body_hash(b"\r\n");
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hex: String = empty.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected);
        let direct = aws_lc_rs::digest::digest(&SHA256, b"a b\r\n");
        assert_eq!(
            relaxed_body_hash(b"a \t b \r\n\r\n").as_ref(),
            direct.as_ref()
        );
    }

    proptest! {
        #[test]
        fn any_body_is_as_the_rfc_has_it(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("\r\n"), Just(" "), Just("\t"), Just("a"),
                    Just("some words of a line that goes on for longer than a block has octets to look at"),
                ],
                0..24,
            )
        ) {
            let body = parts.concat();
            prop_assert_eq!(relaxed_of(&body), by_the_letter(&body));
        }
    }
}
