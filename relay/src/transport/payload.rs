//! A message as it is sent: made once for all its transactions, and not copied for any.

use bytes::Bytes;

use super::stuffing::{needs_stuffing, stuff};

/// The end of a text (RFC 5321 §4.1.1.4).
const END: &[u8] = b".\r\n";
/// The same behind a line without an end.
const CRLF_END: &[u8] = b"\r\n.\r\n";

/// A message as it is sent.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Headers put before the message, each with its CRLF.
    head: Bytes,
    /// The message.
    body: Bytes,
    /// The message as DATA sends it, where that is something else.
    stuffed: Option<Bytes>,
    eight_bit: bool,
}

impl Payload {
    /// `headers`, each with its CRLF and none beginning with a dot, before `body`, a message with
    /// CRLF line ends.
    #[must_use]
    pub fn new(headers: Bytes, body: Bytes) -> Self {
        debug_assert!(!needs_stuffing(&headers));
        let stuffed = needs_stuffing(&body).then(|| stuff(&body));
        let eight_bit = !headers.is_ascii() || !body.is_ascii();
        Self {
            head: headers,
            body,
            stuffed,
            eight_bit,
        }
    }

    /// The same with one more header in front, without its CRLF, which begins with no dot.
    #[must_use]
    pub(super) fn with_header(mut self, header: &str) -> Self {
        debug_assert!(header.is_ascii() && !header.starts_with('.'));
        self.head = [header.as_bytes(), b"\r\n", &self.head].concat().into();
        self
    }

    /// Octets, as SIZE and BDAT count them.
    #[must_use]
    pub fn octets(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64
    }

    pub(super) fn is_eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// The pieces of the text after DATA, its end included.
    pub(super) fn text(&self) -> [Bytes; 3] {
        let body = self.stuffed.as_ref().unwrap_or(&self.body);
        let is_whole = body.ends_with(b"\r\n") || (body.is_empty() && self.head.ends_with(b"\r\n"));
        let end = match is_whole || self.octets() == 0 {
            true => END,
            false => CRLF_END,
        };
        [self.head.clone(), body.clone(), Bytes::from_static(end)]
    }

    /// The pieces of the chunk after BDAT (RFC 3030 §2), which is sent as it is.
    pub(super) fn chunk(&self) -> [Bytes; 2] {
        [self.head.clone(), self.body.clone()]
    }
}
