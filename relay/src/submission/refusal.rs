//! A refusal at the door: what the client is told, and what it is counted as.

use crate::{
    mail::{EnhancedCode, Reply},
    telemetry::RejectReason,
};

/// Why a command or a message was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is counted as.
    pub reason: RejectReason,
    /// What the client is told: the field, its value and the remedy.
    pub reply: Reply,
}

/// Longest text of a reply: a reply line holds 512 octets (RFC 5321 §4.5.3.1.5), less the codes.
const MAX_TEXT: usize = 480;

impl Refusal {
    /// A refusal; `code` and `enhanced` as in RFC 5321 §4.2 and RFC 3463. Values of the client in
    /// `text` are cut and cleaned, so that they cannot make a second line.
    #[must_use]
    pub fn new(
        reason: RejectReason,
        code: u16,
        enhanced: (u8, u16, u16),
        text: impl AsRef<str>,
    ) -> Self {
        let (class, subject, detail) = enhanced;
        let text = clean(text.as_ref());
        Self {
            reason,
            reply: Reply::new(code, EnhancedCode(class, subject, detail), text),
        }
    }

    /// 500 to 504: what the client sent is no command (RFC 5321 §4.2.4).
    pub(super) fn syntax(code: u16, enhanced: (u8, u16, u16), text: impl AsRef<str>) -> Self {
        Self::new(RejectReason::Syntax, code, enhanced, text)
    }

    /// 552: more than `limit` octets (RFC 1870 §6.1, §6.3).
    pub(super) fn too_big(what: &str, limit: u64) -> Self {
        let text = format!("{what} is more than {limit} octets; send a smaller one");
        Self::new(RejectReason::Limit, 552, (5, 3, 4), text)
    }

    /// 503: a command out of its order.
    pub(super) fn sequence(text: impl AsRef<str>) -> Self {
        Self::syntax(503, (5, 5, 1), text)
    }
}

/// Printable ASCII of bounded length (RFC 5321 §4.2 `textstring`).
fn clean(text: &str) -> String {
    let printable = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    text.chars().take(MAX_TEXT).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_make_a_second_line() {
        let refusal = Refusal::syntax(501, (5, 5, 4), format!("a\r\n250 ok{}", "x".repeat(999)));
        assert!(refusal.reply.text.starts_with("a??250 ok"));
        assert_eq!(refusal.reply.text.len(), MAX_TEXT);
    }
}
