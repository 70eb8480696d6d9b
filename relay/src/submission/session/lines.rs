//! Command lines out of the octets that came in.

use bytes::Buf as _;
use memchr::memmem;

use super::{Phase, Session};
use crate::submission::command::{self, MAX_LINE};

/// What stands at the front of the input.
pub(super) enum Line {
    /// Without its CRLF.
    Whole(Vec<u8>),
    /// Not all there yet.
    Part,
    /// Beyond [`MAX_LINE`]; the session skips it.
    TooLong,
}

impl Session {
    /// Takes the next line; one that is too long is skipped from then on.
    pub(super) fn take_line(&mut self) -> Line {
        // Only CRLF ends a line (RFC 5321 §2.3.8).
        let end = memmem::find(&self.input, b"\r\n");
        match end {
            Some(end) if end + 2 <= MAX_LINE => {
                let line = self.input.get(..end).unwrap_or_default().to_vec();
                self.input.advance(end + 2);
                Line::Whole(line)
            }
            None if self.input.len() < MAX_LINE => Line::Part,
            _ => {
                self.phase = Phase::Overlong;
                Line::TooLong
            }
        }
    }

    /// Skips what is there of a line that is too long; `true` once its end was found.
    pub(super) fn skip_line(&mut self) -> bool {
        let end = memmem::find(&self.input, b"\r\n");
        if let Some(end) = end {
            self.input.advance(end + 2);
            self.phase = Phase::Ready;
            self.refuse(command::too_long(MAX_LINE));
            return true;
        }
        // A CR at the end may be half of the CRLF.
        let keep = usize::from(self.input.last() == Some(&b'\r'));
        self.input.advance(self.input.len() - keep);
        self.phase = Phase::Overlong;
        false
    }
}
