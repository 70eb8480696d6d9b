//! SMTP replies (RFC 5321 §4.2) with enhanced status codes (RFC 3463).

use std::fmt;

use serde::{Deserialize, Serialize};

/// `class.subject.detail` of RFC 3463 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A reply, ours or a remote's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// The enhanced status code, when there is one.
    pub enhanced: Option<EnhancedCode>,
    /// Text without the codes; lines joined by a space.
    pub text: String,
}

/// Why lines are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line:?} is no SMTP reply line (RFC 5321 section 4.2)")]
pub struct ReplyError {
    line: String,
}

impl Reply {
    /// A reply with an enhanced code.
    #[must_use]
    pub fn new(code: u16, enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced: Some(enhanced),
            text: text.into(),
        }
    }

    /// 2xx.
    #[must_use]
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4xx (RFC 5321 §4.2.1): may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx: will not succeed.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Reads a whole reply from its lines, without line ends. The enhanced code is taken from the
    /// first line where its class agrees with the code (RFC 2034 §4).
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, ReplyError> {
        let mut reply: Option<Self> = None;
        for line in lines {
            let error = || ReplyError {
                line: line.chars().take(128).collect(),
            };
            let code: u16 = line
                .get(..3)
                .and_then(|c| c.parse().ok())
                .ok_or_else(error)?;
            if !(200..600).contains(&code) {
                return Err(error());
            }
            let rest = match line.get(3..) {
                None | Some("") => "",
                Some(rest) => rest.strip_prefix([' ', '-']).ok_or_else(error)?,
            };
            let (enhanced, text) = split_enhanced(code, rest);
            match &mut reply {
                None => {
                    reply = Some(Self {
                        code,
                        enhanced,
                        text: text.to_owned(),
                    })
                }
                Some(reply) if reply.code == code => {
                    reply.text.push(' ');
                    reply.text.push_str(text);
                }
                Some(_) => return Err(error()),
            }
        }
        reply.ok_or_else(|| ReplyError {
            line: String::new(),
        })
    }
}

impl fmt::Display for Reply {
    /// One line, as it would stand on the wire.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text)
    }
}

fn split_enhanced(code: u16, text: &str) -> (Option<EnhancedCode>, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = word.splitn(3, '.').map(str::parse::<u16>);
    if let (Some(Ok(class)), Some(Ok(subject)), Some(Ok(detail))) =
        (parts.next(), parts.next(), parts.next())
        && class == code / 100
        && let Ok(class) = u8::try_from(class)
    {
        return (Some(EnhancedCode(class, subject, detail)), rest);
    }
    (None, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_codes_and_joins_lines() {
        let reply = Reply::parse(["550-5.1.1 no such user", "550 5.1.1 ask postmaster"]).unwrap();
        assert_eq!(reply.enhanced, Some(EnhancedCode(5, 1, 1)));
        assert_eq!(reply.to_string(), "550 5.1.1 no such user ask postmaster");
        let bare = Reply::parse(["250"]).unwrap();
        assert_eq!(
            (bare.code, bare.enhanced, bare.text.as_str()),
            (250, None, "")
        );
        // A class that contradicts the code is text.
        assert_eq!(Reply::parse(["250 5.1.1 odd"]).unwrap().enhanced, None);
    }

    #[test]
    fn other_lines_are_refused() {
        for lines in [
            &[][..],
            &["hello"],
            &["99 x"],
            &["250-a", "251 b"],
            &["250x"],
            &["700 x"],
        ] {
            assert!(Reply::parse(lines.iter().copied()).is_err(), "{lines:?}");
        }
    }
}
