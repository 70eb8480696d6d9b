//! Mailbox addresses (RFC 5321 §4.1.2), the only form in which an address enters Postrider.
//!
//! Promises: no control character, no space outside a quoted string, at most 64 octets of local
//! part and 254 in all, so that an address can be written into an SMTP command as it is. The
//! domain is kept as lower-case A-labels; the local part is kept as it came. What an address prints,
//! and what it is folded to, is an address again.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::DomainName;

/// Longest local part in octets (RFC 5321 §4.5.3.1.1).
pub const MAX_LOCAL_PART: usize = 64;
/// Longest address in octets (RFC 5321 §4.5.3.1.3 less the angle brackets).
pub const MAX_ADDRESS: usize = 254;

/// An address such as `a.user@example.com`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mailbox {
    local: String,
    domain: DomainName,
}

/// Why a text is not a mailbox address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {value:?} {problem}; write it like \"user@example.com\"")]
pub struct MailboxError {
    value: String,
    problem: String,
}

impl Mailbox {
    /// An address of `local` at `domain`. Errors when `local` is no local part.
    pub fn new(local: &str, domain: DomainName) -> Result<Self, MailboxError> {
        format!("{local}@{domain}").parse()
    }

    /// The part before the `@`, as it came.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain part.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        &self.domain
    }

    /// The form two spellings of the same person share: all lower case, and quoted only where it
    /// must be, since `"user"` and `"\u\s\er"` name the mailbox that `user` does (RFC 5321 §4.1.2).
    /// Used where one must match the other (suppression, sender lists), never for delivery
    /// (RFC 5321 §2.4).
    #[must_use]
    pub fn folded(&self) -> String {
        let said = unquoted(&self.local);
        let mut local: String = said.chars().map(lower_case).collect();
        if !is_dot_string(&local) {
            local = quoted(&local);
        }
        format!("{local}@{}", self.domain)
    }
}

impl FromStr for Mailbox {
    type Err = MailboxError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let error = |problem: &str| MailboxError {
            value: value.to_owned(),
            problem: problem.into(),
        };
        let (local, domain) = value.rsplit_once('@').ok_or_else(|| error("has no @"))?;
        if value.len() > MAX_ADDRESS {
            return Err(error("is longer than 254 octets"));
        }
        if local.len() > MAX_LOCAL_PART {
            return Err(error("has a local part longer than 64 octets"));
        }
        if !is_dot_string(local) && !is_quoted_string(local) {
            return Err(error("has a local part that is neither plain nor quoted"));
        }
        let domain: DomainName = domain
            .parse()
            .map_err(|e: crate::domain::DomainNameError| {
                error(&format!("has a bad domain: {e}"))
            })?;
        if local.len() + 1 + domain.as_str().len() > MAX_ADDRESS {
            return Err(error("is longer than 254 octets with its domain in ASCII"));
        }
        Ok(Self {
            local: local.to_owned(),
            domain,
        })
    }
}

impl TryFrom<String> for Mailbox {
    type Error = MailboxError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> Self {
        mailbox.to_string()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// The lower case of `c`; `c` itself where that takes another number of octets, so that what is
/// folded stays within the limits of what it was made of, and a letter of other scripts never turns
/// into one of ASCII.
fn lower_case(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) if lower.len_utf8() == c.len_utf8() => lower,
        _ => c,
    }
}

/// `Dot-string` of RFC 5321 §4.1.2, with the UTF-8 of RFC 6531 §3.3.
fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| {
        !atom.is_empty()
            && atom.chars().all(|c| {
                c.is_ascii_alphanumeric()
                    || "!#$%&'*+-/=?^_`{|}~".contains(c)
                    || (!c.is_ascii() && !c.is_control())
            })
    })
}

/// What a local part says, without what only says how it is written.
fn unquoted(local: &str) -> Cow<'_, str> {
    let Some(inner) = between_quotes(local) else {
        return local.into();
    };
    let mut escaped = false;
    let said = inner.chars().filter(|c| {
        escaped = !escaped && *c == '\\';
        !escaped
    });
    said.collect()
}

/// `text` as a `Quoted-string` that escapes no more than it must.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

fn between_quotes(local: &str) -> Option<&str> {
    local.strip_prefix('"')?.strip_suffix('"')
}

/// `Quoted-string` of RFC 5321 §4.1.2.
fn is_quoted_string(local: &str) -> bool {
    let Some(inner) = between_quotes(local) else {
        return false;
    };
    let mut escaped = false;
    for c in inner.chars() {
        if c.is_control() || (!escaped && c == '"') {
            return false;
        }
        escaped = !escaped && c == '\\';
    }
    !escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table_of_good_and_bad() {
        for good in [
            "a@example.com",
            "a.b+tag@Example.COM",
            "\"a b\"@example.com",
            "\"a\\\"b\"@x.org",
        ] {
            assert!(good.parse::<Mailbox>().is_ok(), "{good}");
        }
        for bad in [
            "a",
            "@example.com",
            "a@",
            "a b@example.com",
            "a..b@example.com",
            ".a@example.com",
            "a@example.com\r\nRCPT TO:<b@x.org>",
            "a\n@example.com",
            "\"a\"b\"@example.com",
            "\"a\\\"@example.com",
            "\"@example.com",
            "<a@example.com>",
            "a@[192.0.2.1]",
        ] {
            assert!(bad.parse::<Mailbox>().is_err(), "{bad}");
        }
    }

    #[test]
    fn folding_joins_spellings() {
        let one: Mailbox = "A.User@EXAMPLE.com".parse().unwrap();
        assert_eq!(one.folded(), "a.user@example.com");
        assert_eq!(one.to_string(), "A.User@example.com");
        for (spelling, folded) in [
            (r#""user"@example.net"#, "user@example.net"),
            (r#""\u\s\eR"@example.net"#, "user@example.net"),
            (r#""A.b"@example.net"#, "a.b@example.net"),
            (r#""A b"@example.net"#, r#""a b"@example.net"#),
            (r#""a\ b"@example.net"#, r#""a b"@example.net"#),
            (r#""a..b"@example.net"#, r#""a..b"@example.net"#),
            (r#""\a\"\\"@example.net"#, r#""a\"\\"@example.net"#),
            (r#""a@B"@example.net"#, r#""a@b"@example.net"#),
            (r#"""@example.net"#, r#"""@example.net"#),
        ] {
            let mailbox: Mailbox = spelling.parse().unwrap();
            assert_eq!(mailbox.folded(), folded, "{spelling}");
            assert_eq!(mailbox.to_string(), spelling);
        }
        let other: Mailbox = "J\u{d6}RG@B\u{dc}CHER.example".parse().unwrap();
        assert_eq!(other.folded(), "j\u{f6}rg@xn--bcher-kva.example");
    }

    #[test]
    fn limits_hold_for_what_is_kept_and_folded() {
        let dotted = "\u{130}".repeat(32);
        let folded = format!("{dotted}@x.example");
        assert_eq!(folded.parse::<Mailbox>().unwrap().folded(), folded);
        // 145 octets as they stand, 265 in A-labels.
        let long = format!("{}@{}example", "a".repeat(64), "\u{e9}.".repeat(24));
        let error = long.parse::<Mailbox>().unwrap_err().to_string();
        assert!(error.contains("in ASCII"), "{error}");
        for c in char::MIN..=char::MAX {
            let lower = lower_case(c);
            assert_eq!(lower.len_utf8(), c.len_utf8(), "{c:?}");
            assert_eq!(lower_case(lower), lower, "{c:?}");
        }
    }

    /// Texts near the grammar: plain, quoted, with letters whose lower case has another length, at
    /// domains that are longer in A-labels.
    fn texts() -> impl Strategy<Value = String> {
        let local = prop_oneof![
            "[a-zA-Z0-9.+\u{212a}\u{1e9e}\u{3a3}\u{c9}]{1,33}",
            "[A\u{130}\u{23a}]{1,33}",
            "\"([^\"\\\\]|\\\\\\PC){0,24}\"",
            "\\PC{1,33}",
        ];
        let domain = prop_oneof![
            "[a-zA-Z]{1,8}\\.example",
            "([\u{e9}\u{dc}]\\.){1,26}example"
        ];
        (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
    }

    proptest! {
        #[test]
        fn never_lets_a_control_character_through(text in "\\PC{0,20}[\\x00-\\x1f]\\PC{0,20}@example.com") {
            prop_assert!(text.parse::<Mailbox>().is_err());
        }

        #[test]
        fn prints_what_it_parses(text in texts()) {
            if let Ok(mailbox) = text.parse::<Mailbox>() {
                prop_assert_eq!(mailbox.to_string().parse::<Mailbox>().unwrap(), mailbox);
            }
        }

        #[test]
        fn quotes_and_escapes_make_no_other_mailbox_and_what_they_hold_does(
            said in "[aB.\"\\\\ @\u{e9}]{0,9}",
            other in "[aB.\"\\\\ @\u{e9}]{0,9}",
            escapes in prop::collection::vec(any::<bool>(), 9),
        ) {
            let folded = |local: &str| {
                let domain = "example.net".parse().unwrap();
                Mailbox::new(local, domain).unwrap().folded()
            };
            let mut spelling = String::from('"');
            for (c, escape) in said.chars().zip(escapes) {
                if escape || matches!(c, '"' | '\\') {
                    spelling.push('\\');
                }
                spelling.push(c);
            }
            spelling.push('"');
            prop_assert_eq!(folded(&spelling), folded(&quoted(&said)));
            if is_dot_string(&said) {
                prop_assert_eq!(folded(&spelling), folded(&said));
            }
            let same = said.eq_ignore_ascii_case(&other);
            prop_assert_eq!(folded(&spelling) == folded(&quoted(&other)), same);
        }

        #[test]
        fn what_is_folded_is_an_address_that_folds_to_itself(text in texts()) {
            if let Ok(mailbox) = text.parse::<Mailbox>() {
                let folded = mailbox.folded();
                let again = folded.parse::<Mailbox>();
                prop_assert_eq!(again.map(|again| again.folded()), Ok(folded));
            }
        }
    }
}
