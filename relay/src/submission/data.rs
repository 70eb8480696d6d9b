//! The text of a message as it comes in after DATA (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! Promises: only `<CRLF>.<CRLF>` ends the text, so that no server on the way can be made to see
//! two messages where another saw one (RFC 5321 §2.3.8). A text with a fault is read on to its end
//! and thrown away, so the session stays in step. How the octets are cut into chunks changes
//! nothing.

use memchr::memmem;

use super::text::{Text, TextFault, TextReader};

/// Reads one text.
#[derive(Debug)]
pub(super) struct DataReader {
    position: Position,
    text: TextReader,
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
    /// After the end.
    End,
}

impl DataReader {
    /// A reader into `text`.
    pub(super) fn new(text: TextReader) -> Self {
        Self {
            position: Position::LineStart,
            text,
        }
    }

    /// Reads from `input`, not beyond the end of the text. Gives the octets used.
    pub(super) fn read(&mut self, input: &[u8]) -> usize {
        let mut rest = input;
        while let Some(byte) = rest.first() {
            let (used, position) = match (self.position, byte) {
                (Position::End, _) => break,
                (Position::LineStart, b'.') => (1, Position::Dot),
                (Position::Dot, b'\r') => (1, Position::DotCr),
                (Position::DotCr, b'\n') => (1, Position::End),
                // RFC 5321 §4.5.2: the dot before other text is taken away.
                (Position::Dot, _) => (0, Position::Inside),
                (Position::DotCr, _) => {
                    self.text.push(b"\r");
                    (0, Position::Cr)
                }
                (Position::Cr, b'\n') => {
                    self.text.push(b"\n");
                    (1, Position::LineStart)
                }
                (Position::LineStart | Position::Inside | Position::Cr, _) => self.run(rest),
            };
            self.position = position;
            rest = rest.get(used..).unwrap_or_default();
        }
        input.len() - rest.len()
    }

    /// Whether the end was read.
    pub(super) fn has_ended(&self) -> bool {
        self.position == Position::End
    }

    /// Octets held.
    pub(super) fn held(&self) -> usize {
        self.text.held()
    }

    /// Throws the text away; the rest is read and not kept.
    pub(super) fn shed(&mut self) {
        self.text.shed();
    }

    /// The text, or what is wrong with it.
    pub(super) fn finish(self) -> Result<Text, TextFault> {
        self.text.finish()
    }

    /// Takes all up to the next line that begins with a dot.
    fn run(&mut self, rest: &[u8]) -> (usize, Position) {
        let used = memmem::find(rest, b"\r\n.").map_or(rest.len(), |at| at + 2);
        let (run, _) = rest.split_at(used);
        self.text.push(run);
        let position = match run {
            [.., b'\r', b'\n'] => Position::LineStart,
            [.., b'\r'] => Position::Cr,
            _ => Position::Inside,
        };
        (used, position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader() -> DataReader {
        DataReader::new(TextReader::new(10_000, None))
    }

    fn read(input: &[u8]) -> (usize, Option<Result<Text, TextFault>>) {
        let mut reader = reader();
        let used = reader.read(input);
        (used, reader.has_ended().then(|| reader.finish()))
    }

    fn text_of(input: &[u8]) -> Vec<u8> {
        let text = read(input).1.expect("ends").expect("is good");
        text.message.as_bytes().to_vec()
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
            (&b"a\n.\n\r\n.\r\n"[..], TextFault::BareLf { line: 1 }),
            (b"a\r\n.\n\r\n.\r\n", TextFault::BareLf { line: 2 }),
            (b"a\n.\r\n\r\n.\r\n", TextFault::BareLf { line: 1 }),
            (b"a\r.\r\n\r\n.\r\n", TextFault::BareCr { line: 1 }),
            (b"a\r\r\n\r\n.\r\n", TextFault::BareCr { line: 1 }),
            (b"a\r\n.\r\r\n.\r\n", TextFault::BareCr { line: 2 }),
            (b"\n.\r\n\r\n.\r\n", TextFault::BareLf { line: 1 }),
        ] {
            let (used, result) = read(input);
            assert_eq!(result, Some(Err(fault)), "{input:?}");
            assert_eq!(used, input.len(), "{input:?}");
        }
        assert_eq!(read(b"a\n.\n").1, None);
        assert_eq!(read(b"a\n.\r\n").1, None);
        assert_eq!(read(b"a\r\n.\r").1, None);
    }

    proptest! {
        #[test]
        fn chunks_change_nothing(
            input in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), Just(0xe9)], 0..60),
            cuts in proptest::collection::vec(1_usize..7, 0..60),
        ) {
            let whole = read(&input);
            let mut reader = reader();
            let mut used = 0;
            let mut rest = &input[..];
            for cut in cuts.iter().copied().chain(std::iter::repeat(usize::MAX)) {
                if reader.has_ended() || rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                used += reader.read(chunk);
                rest = tail;
            }
            prop_assert_eq!(whole, (used, reader.has_ended().then(|| reader.finish())));
        }

        /// What RFC 5321 §4.5.2 says, line by line.
        #[test]
        fn a_good_text_is_unstuffed_line_by_line(
            lines in proptest::collection::vec("[.a]{0,4}", 0..12)
        ) {
            let lines = lines.iter().filter(|line| *line != ".");
            let (mut sent, mut meant) = (String::new(), String::new());
            for line in lines {
                sent += &format!("{line}\r\n");
                meant += &format!("{}\r\n", line.strip_prefix('.').unwrap_or(line));
            }
            sent += ".\r\n";
            prop_assert_eq!(text_of(sent.as_bytes()), meant.as_bytes());
        }
    }
}
