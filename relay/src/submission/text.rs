//! The text of a message as it grows, checked as it comes: only CRLF ends a line, and a line has a
//! limit (RFC 5321 §2.3.8, §4.5.3.1.6).
//!
//! Promises: how the octets are cut into pieces changes nothing; at most the limit is held, and
//! nothing once there is a fault. There is room in front of the text, so that trace fields can be
//! put there without copying it.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr2;

use super::refusal::Refusal;
use crate::telemetry::RejectReason;

/// Longest line without its CRLF (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1).
const MAX_TEXT_LINE: usize = 998;
/// Octets kept free in front of a text: what a trace field, Date and Message-ID take with names
/// and addresses of usual length.
const HEADROOM: usize = 768;
/// Octets a text has room for from the start when its size was not announced.
const USUAL: u64 = 15 << 10;
/// Most octets a text has room for from the start, whatever was announced.
const MOST: u64 = 1 << 20;

/// A message with room in front of it.
#[derive(Clone)]
pub struct Message {
    buffer: Vec<u8>,
    start: usize,
}

/// A text that is not whole yet.
#[derive(Debug)]
pub(super) struct TextReader {
    message: Message,
    limit: u64,
    /// Octets to make room for at first.
    expected: usize,
    octets: u64,
    /// Number of the line being read, from 1.
    line: u64,
    /// Octets of it so far.
    line_length: usize,
    after_cr: bool,
    eight_bit: bool,
    fault: Option<TextFault>,
}

/// A whole text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// Unstuffed, each line with its CRLF.
    pub(super) message: Message,
    /// Whether an octet above 127 is in it.
    pub(super) eight_bit: bool,
}

/// Why a text is not taken. The first fault of its lines counts, then its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFault {
    /// LF without CR before it.
    BareLf {
        line: u64,
    },
    /// CR without LF after it.
    BareCr {
        line: u64,
    },
    LongLine {
        line: u64,
    },
    /// More octets than the limit.
    TooBig,
    /// The relay holds too many texts.
    NoRoom,
}

impl Message {
    /// The message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Puts `head` in front.
    pub(super) fn prepend(&mut self, head: &[u8]) {
        match self.start.checked_sub(head.len()) {
            Some(start) => {
                let room = self.buffer.get_mut(start..self.start);
                room.unwrap_or_default().copy_from_slice(head);
                self.start = start;
            }
            None => {
                self.buffer.splice(..self.start, head.iter().copied());
                self.start = 0;
            }
        }
    }

    /// Takes out these parts, which are in their order and do not overlap. What stays moves once,
    /// however many they are.
    pub fn remove(&mut self, parts: &[Range<usize>]) {
        if parts.is_empty() {
            return;
        }
        let (mut end, mut from) = (self.start, self.start);
        let parts = parts.iter().map(|part| (part.start, part.end));
        for (part, next) in parts.chain([(self.len(), self.len())]) {
            let kept = from..self.start + part;
            let length = kept.len();
            self.buffer.copy_within(kept, end);
            end += length;
            from = self.start + next;
        }
        self.buffer.truncate(end);
    }

    /// The message, as it is stored: without the room it did not need, which would be held as long.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        self.buffer.shrink_to_fit();
        Bytes::from(self.buffer).slice(self.start..)
    }

    fn len(&self) -> usize {
        self.buffer.len() - self.start
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self {
            buffer: bytes.to_vec(),
            start: 0,
        }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Message {}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl TextReader {
    /// A text of at most `limit` octets, of which `announced` are expected.
    pub(super) fn new(limit: u64, announced: Option<u64>) -> Self {
        let expected = announced.unwrap_or(USUAL).min(limit).min(MOST);
        Self {
            message: Message {
                buffer: Vec::new(),
                start: 0,
            },
            limit,
            expected: usize::try_from(expected).unwrap_or(0),
            octets: 0,
            line: 1,
            line_length: 0,
            after_cr: false,
            eight_bit: false,
            fault: None,
        }
    }

    /// Takes octets.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        if self.fault.is_some() {
            return;
        }
        self.check(octets);
        self.eight_bit |= !octets.is_ascii();
        self.keep(octets);
    }

    /// Octets held.
    pub(super) fn held(&self) -> usize {
        self.message.len()
    }

    /// Throws the text away; the rest is read and not kept.
    pub(super) fn shed(&mut self) {
        self.fail(TextFault::NoRoom);
    }

    /// What is wrong so far.
    pub(super) fn fault(&self) -> Option<TextFault> {
        let too_big = (self.octets > self.limit).then_some(TextFault::TooBig);
        self.fault.or(too_big)
    }

    /// The text, or what is wrong with it. A last line without an end gets one.
    pub(super) fn finish(mut self) -> Result<Text, TextFault> {
        if self.after_cr {
            self.fail(TextFault::BareCr { line: self.line });
        }
        if self.line_length > 0 {
            self.push(b"\r\n");
        }
        match self.fault() {
            Some(fault) => Err(fault),
            None => Ok(Text {
                message: self.message,
                eight_bit: self.eight_bit,
            }),
        }
    }

    fn check(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while let Some(first) = rest.first() {
            if self.after_cr {
                if *first != b'\n' {
                    return self.fail(TextFault::BareCr { line: self.line });
                }
                self.after_cr = false;
                self.line += 1;
                self.line_length = 0;
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let run = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            self.line_length += run;
            if self.line_length > MAX_TEXT_LINE {
                return self.fail(TextFault::LongLine { line: self.line });
            }
            match rest.get(run) {
                None => return,
                Some(b'\r') => self.after_cr = true,
                Some(_) => return self.fail(TextFault::BareLf { line: self.line }),
            }
            rest = rest.get(run + 1..).unwrap_or_default();
        }
    }

    fn keep(&mut self, octets: &[u8]) {
        if self.fault().is_some() {
            self.message.buffer = Vec::new();
            self.message.start = 0;
            return;
        }
        if self.message.buffer.is_empty() {
            self.message.buffer.reserve(HEADROOM + self.expected);
            self.message.buffer.resize(HEADROOM, 0);
            self.message.start = HEADROOM;
        }
        self.message.buffer.extend_from_slice(octets);
    }

    fn fail(&mut self, fault: TextFault) {
        self.fault.get_or_insert(fault);
        self.message.buffer = Vec::new();
        self.message.start = 0;
    }
}

impl TextFault {
    /// What the client is told; `limit` is the largest message.
    pub(super) fn refusal(self, limit: u64) -> Refusal {
        let syntax = |enhanced, text: String| Refusal::syntax(550, enhanced, text);
        match self {
            Self::BareLf { line } => syntax(
                (5, 6, 11),
                format!(
                    "message line {line} holds a bare LF; end every line in CRLF (RFC 5321 2.3.8)"
                ),
            ),
            Self::BareCr { line } => syntax(
                (5, 6, 11),
                format!(
                    "message line {line} holds a bare CR; end every line in CRLF (RFC 5321 2.3.8)"
                ),
            ),
            Self::LongLine { line } => syntax(
                (5, 6, 0),
                format!(
                    "message line {line} is longer than 998 octets; fold or encode it (RFC 5322 2.1.1)"
                ),
            ),
            Self::TooBig => Refusal::too_big("message", limit),
            Self::NoRoom => Refusal::new(
                RejectReason::Memory,
                452,
                (4, 3, 1),
                "message: no memory for more texts at a time; try again",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limit: u64) -> Result<Text, TextFault> {
        let mut reader = TextReader::new(limit, None);
        for piece in pieces {
            reader.push(piece);
        }
        reader.finish()
    }

    #[test]
    fn only_crlf_ends_a_line() {
        for (input, fault) in [
            (&b"a\nb\r\n"[..], TextFault::BareLf { line: 1 }),
            (b"a\r\n\n", TextFault::BareLf { line: 2 }),
            (b"a\rb\r\n", TextFault::BareCr { line: 1 }),
            (b"a\r\r\n", TextFault::BareCr { line: 1 }),
            (b"a\r\nb\r", TextFault::BareCr { line: 2 }),
        ] {
            assert_eq!(read([input], 100), Err(fault), "{input:?}");
        }
        assert_eq!(
            read([&b"a\r\nb"[..]], 100).unwrap().message.as_bytes(),
            b"a\r\nb\r\n"
        );
        assert!(!read([&b""[..]], 100).unwrap().eight_bit);
    }

    #[test]
    fn limits_hold_to_the_octet() {
        let line = |n: usize| [&b"x".repeat(n)[..], b"\r\n"].concat();
        assert!(read([&line(998)[..]], 2000).is_ok());
        let long = Err(TextFault::LongLine { line: 1 });
        assert_eq!(read([&line(999)[..]], 2000), long);
        assert!(read([&b"abc\r\n"[..]], 5).is_ok());
        assert_eq!(read([&b"abc\r\n"[..]], 4), Err(TextFault::TooBig));
        let mut reader = TextReader::new(4, None);
        reader.push(&[b'x'; 500]);
        assert_eq!(
            (reader.held(), reader.fault()),
            (0, Some(TextFault::TooBig))
        );
    }

    #[test]
    fn what_is_put_in_front_needs_no_room() {
        for length in [0, 1, HEADROOM, HEADROOM + 1, 3 * HEADROOM] {
            let mut message = read([&b"body\r\n"[..]], 100).unwrap().message;
            let head = vec![b'h'; length];
            message.prepend(b"second ");
            message.prepend(&head);
            let whole = [&head[..], b"second body\r\n"].concat();
            assert_eq!(message.as_bytes(), whole, "{length}");
            assert_eq!(message.into_bytes(), whole, "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_out_leaves_the_rest_in_its_order(
            pieces in prop::collection::vec(("[a-z]{0,4}", any::<bool>()), 0..20), head in 0..9_usize,
        ) {
            let (mut whole, mut left, mut parts) = (String::new(), String::new(), Vec::new());
            for (piece, goes) in &pieces {
                let from = whole.len();
                whole.push_str(piece);
                if *goes {
                    parts.push(from..whole.len());
                } else {
                    left.push_str(piece);
                }
            }
            let mut message = Message { buffer: [&[b'-'; 9], whole.as_bytes()].concat(), start: 9 };
            message.remove(&parts);
            let head = vec![b'h'; head];
            message.prepend(&head);
            prop_assert_eq!(message.as_bytes(), [&head, left.as_bytes()].concat());
        }

        #[test]
        fn pieces_change_nothing(
            input in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), Just(0xe9)], 0..60),
            cuts in proptest::collection::vec(1_usize..7, 0..60),
            limit in 0_u64..60,
        ) {
            let mut pieces = Vec::new();
            let mut rest = &input[..];
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(read([&input[..]], limit), read(pieces, limit));
        }
    }
}
