//! The text of a message as it comes in after DATA (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! Promises: only CRLF ends a line and only `<CRLF>.<CRLF>` ends the text, so that no server on the
//! way can be made to see two messages where another saw one (RFC 5321 §2.3.8). A text with a
//! fault is read on to its end and thrown away, so the session stays in step. How the octets are
//! cut into chunks changes nothing. Holds at most the limit it was given.

use super::refusal::Refusal;
use crate::telemetry::RejectReason;

/// Longest line without its CRLF (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1).
const MAX_TEXT_LINE: usize = 998;

/// Reads one text.
#[derive(Debug)]
pub(super) struct DataReader {
    position: Position,
    text: Vec<u8>,
    limit: u64,
    /// Number of the line being read, from 1.
    line: u64,
    /// Octets of it so far.
    line_length: usize,
    eight_bit: bool,
    fault: Option<DataFault>,
}

/// A whole text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// Unstuffed, CRLF line ends.
    pub(super) bytes: Vec<u8>,
    /// Whether an octet above 127 is in it.
    pub(super) eight_bit: bool,
}

/// Why a text is not taken. The first fault counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataFault {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// After CRLF, or at the start.
    LineStart,
    /// Inside a line.
    Inside,
    /// After a CR.
    Cr,
    /// After a dot at the start of a line.
    Dot,
    /// After such a dot and a CR.
    DotCr,
}

impl DataReader {
    /// A reader of at most `limit` octets.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            position: Position::LineStart,
            text: Vec::new(),
            limit,
            line: 1,
            line_length: 0,
            eight_bit: false,
            fault: None,
        }
    }

    /// Reads from `input`. Gives the octets used and, at the end of the text, `true`.
    pub(super) fn read(&mut self, input: &[u8]) -> (usize, bool) {
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            if self.position == Position::Inside {
                let run = rest
                    .iter()
                    .position(|b| matches!(b, b'\r' | b'\n'))
                    .unwrap_or(rest.len());
                let (plain, _) = rest.split_at(run);
                self.push(plain);
                used += run;
                if run == rest.len() {
                    break;
                }
            }
            let Some(byte) = input.get(used) else { break };
            used += 1;
            if self.step(*byte) {
                return (used, true);
            }
        }
        (used, false)
    }

    /// Octets held.
    pub(super) fn held(&self) -> usize {
        self.text.len()
    }

    /// Throws the text away; the rest is read and not kept.
    pub(super) fn shed(&mut self) {
        self.fail(DataFault::NoRoom);
    }

    /// The text, or what is wrong with it.
    pub(super) fn finish(self) -> Result<Text, DataFault> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(Text {
                bytes: self.text,
                eight_bit: self.eight_bit,
            }),
        }
    }

    /// Takes one octet; `true` at the end of the text.
    fn step(&mut self, byte: u8) -> bool {
        self.position = match (self.position, byte) {
            (Position::DotCr, b'\n') => return true,
            (Position::Cr, b'\n') => {
                self.end_line();
                Position::LineStart
            }
            (Position::Cr | Position::DotCr, _) => {
                self.fail(DataFault::BareCr { line: self.line });
                match byte {
                    b'\r' => Position::Cr,
                    _ => Position::Inside,
                }
            }
            (_, b'\n') => {
                self.fail(DataFault::BareLf { line: self.line });
                Position::Inside
            }
            (Position::LineStart, b'.') => Position::Dot,
            (Position::Dot, b'\r') => Position::DotCr,
            (_, b'\r') => Position::Cr,
            // RFC 5321 §4.5.2: the dot before other text is taken away.
            (Position::LineStart | Position::Dot | Position::Inside, byte) => {
                self.push(&[byte]);
                Position::Inside
            }
        };
        false
    }

    fn push(&mut self, bytes: &[u8]) {
        self.line_length += bytes.len();
        if self.line_length > MAX_TEXT_LINE {
            self.fail(DataFault::LongLine { line: self.line });
        }
        self.eight_bit |= !bytes.is_ascii();
        self.keep(bytes);
    }

    fn end_line(&mut self) {
        self.keep(b"\r\n");
        self.line += 1;
        self.line_length = 0;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if (self.text.len() + bytes.len()) as u64 > self.limit {
            self.fail(DataFault::TooBig);
            return;
        }
        self.text.extend_from_slice(bytes);
    }

    fn fail(&mut self, fault: DataFault) {
        if self.fault.is_none() {
            self.fault = Some(fault);
            self.text = Vec::new();
        }
    }
}

impl DataFault {
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
                RejectReason::Storage,
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

    fn read(input: &[u8]) -> (usize, Option<Result<Text, DataFault>>) {
        let mut reader = DataReader::new(10_000);
        let (used, ended) = reader.read(input);
        (used, ended.then(|| reader.finish()))
    }

    fn text_of(input: &[u8]) -> Vec<u8> {
        read(input).1.expect("ends").expect("is good").bytes
    }

    #[test]
    fn ends_only_at_its_end_and_unstuffs() {
        assert_eq!(text_of(b".\r\n"), b"");
        assert_eq!(text_of(b"a\r\n.\r\n"), b"a\r\n");
        assert_eq!(text_of(b"..\r\n...b\r\n.c\r\n.\r\n"), b".\r\n..b\r\nc\r\n");
        assert_eq!(text_of(b"a.\r\n\r\n.\r\n"), b"a.\r\n\r\n");
        let (used, _) = read(b"a\r\n.\r\nRSET\r\n");
        assert_eq!(used, 6);
    }

    #[test]
    fn smuggled_ends_are_faults_not_ends() {
        for (input, fault) in [
            (&b"a\n.\n\r\n.\r\n"[..], DataFault::BareLf { line: 1 }),
            (b"a\r\n.\n\r\n.\r\n", DataFault::BareLf { line: 2 }),
            (b"a\n.\r\n\r\n.\r\n", DataFault::BareLf { line: 1 }),
            (b"a\r.\r\n\r\n.\r\n", DataFault::BareCr { line: 1 }),
            (b"a\r\r\n\r\n.\r\n", DataFault::BareCr { line: 1 }),
            (b"a\r\n.\r\r\n.\r\n", DataFault::BareCr { line: 2 }),
            (b"\n.\r\n\r\n.\r\n", DataFault::BareLf { line: 1 }),
        ] {
            let (used, result) = read(input);
            assert_eq!(result, Some(Err(fault)), "{input:?}");
            assert_eq!(used, input.len(), "{input:?}");
        }
        assert_eq!(read(b"a\n.\n").1, None);
        assert_eq!(read(b"a\n.\r\n").1, None);
        assert_eq!(read(b"a\r\n.\r").1, None);
    }

    #[test]
    fn limits_hold_to_the_octet() {
        let line = |n: usize| [&b"x".repeat(n)[..], b"\r\n.\r\n"].concat();
        assert!(read(&line(998)).1.unwrap().is_ok());
        let long = read(&line(999)).1.unwrap();
        assert_eq!(long, Err(DataFault::LongLine { line: 1 }));
        let mut reader = DataReader::new(5);
        reader.read(b"abc\r\n.\r\n");
        assert!(reader.finish().is_ok());
        let mut reader = DataReader::new(4);
        reader.read(b"abc\r\n.\r\n");
        assert_eq!(reader.finish(), Err(DataFault::TooBig));
    }

    proptest! {
        #[test]
        fn chunks_change_nothing(
            input in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), Just(0xe9)], 0..60),
            cuts in proptest::collection::vec(1_usize..7, 0..60),
        ) {
            let whole = read(&input);
            let mut reader = DataReader::new(10_000);
            let (mut used, mut ended) = (0, false);
            let mut rest = &input[..];
            for cut in cuts.iter().copied().chain(std::iter::repeat(usize::MAX)) {
                if ended || rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                let (n, end) = reader.read(chunk);
                used += n;
                ended = end;
                rest = tail;
            }
            prop_assert_eq!(whole, (used, ended.then(|| reader.finish())));
        }
    }
}
