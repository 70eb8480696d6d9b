//! Domain names and DKIM selectors in the one form Postrider keeps them: lower-case A-labels
//! without a trailing dot.
//!
//! Promises: a [`DomainName`] has at least two labels, each of 1 to 63 letters, digits, hyphens
//! (RFC 1035 §2.3.1, RFC 5890 §2.3.2.1), and 253 octets at most. A [`Selector`] is one such label
//! or several (RFC 6376 §3.1).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest domain name in presentation form without the root dot (RFC 1035 §2.3.4).
pub const MAX_DOMAIN_LENGTH: usize = 253;
/// Longest single label (RFC 1035 §2.3.4).
pub const MAX_LABEL_LENGTH: usize = 63;

/// A fully qualified domain name: lower case, A-labels, no trailing dot, two labels or more.
///
/// ```
/// # use postrider_crds::DomainName;
/// let name: DomainName = "B\u{fc}cher.Example.".parse()?;
/// assert_eq!(name.as_str(), "xn--bcher-kva.example");
/// # Ok::<(), postrider_crds::domain::DomainNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

/// Why a text is not a usable domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("domain name {value:?} {problem}; write a lower-case host name such as \"example.com\"")]
pub struct DomainNameError {
    value: String,
    problem: &'static str,
}

impl DomainName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name with `label` in front. Errors when the result is too long or `label` is no label.
    pub fn child(&self, label: &str) -> Result<Self, DomainNameError> {
        format!("{label}.{}", self.0).parse()
    }

    /// True when this name is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0
            .strip_suffix(other.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl FromStr for DomainName {
    type Err = DomainNameError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let error = |problem| DomainNameError {
            value: value.to_owned(),
            problem,
        };
        let trimmed = value.strip_suffix('.').unwrap_or(value);
        let ascii = if trimmed.is_ascii() {
            // Already A-labels. Whether each decodes is no matter here: DNS knows no difference,
            // and an API server, which cannot tell, would accept what this refused.
            trimmed.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(trimmed)
                .map_err(|_| error("is not a valid internationalized name"))?
        };
        if ascii.len() > MAX_DOMAIN_LENGTH {
            return Err(error("is longer than 253 octets"));
        }
        if !ascii.contains('.') {
            return Err(error("has only one label"));
        }
        if ascii.parse::<std::net::Ipv4Addr>().is_ok() {
            return Err(error("is an IP address"));
        }
        // An underscore is no host name, but names such as `_dmarc` are looked up by code, not
        // configured; they never come through here.
        match ascii.split('.').find_map(label_problem) {
            Some(problem) => Err(error(problem)),
            None => Ok(Self(ascii)),
        }
    }
}

impl TryFrom<String> for DomainName {
    type Error = DomainNameError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A DKIM selector (RFC 6376 §3.1): the part of a key's DNS name before `._domainkey`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(String);

/// Why a text is not a usable selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("selector {value:?} {problem}; use lower-case letters, digits and inner hyphens")]
pub struct SelectorError {
    value: String,
    problem: &'static str,
}

impl Selector {
    /// The selector as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The owner name of this selector's record in `domain`, without trailing dot.
    #[must_use]
    pub fn record_name(&self, domain: &DomainName) -> String {
        format!("{}._domainkey.{domain}", self.0)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let error = |problem| SelectorError {
            value: value.to_owned(),
            problem,
        };
        if value.len() > MAX_LABEL_LENGTH {
            return Err(error("is longer than 63 octets"));
        }
        if value.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(error("has upper-case letters"));
        }
        match value.split('.').find_map(label_problem) {
            Some(problem) => Err(error(problem)),
            None => Ok(Self(value.to_owned())),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.0
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a label, or `None` (RFC 1123 §2.1: letters, digits, inner hyphens).
fn label_problem(label: &str) -> Option<&'static str> {
    if label.is_empty() {
        return Some("has an empty label");
    }
    if label.len() > MAX_LABEL_LENGTH {
        return Some("has a label longer than 63 octets");
    }
    if !label
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return Some("has a character other than letters, digits, hyphens and dots");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Some("has a label that starts or ends with a hyphen");
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_no_domain_and_names_it() {
        for (text, part) in [
            ("", "one label"),
            ("com", "one label"),
            ("a..com", "empty label"),
            ("192.0.2.1", "IP address"),
            ("-a.com", "hyphen"),
            ("a_b.com", "character"),
            ("exa mple.com", "character"),
            (&format!("{}.com", "a".repeat(64)), "63"),
        ] {
            let error = text.parse::<DomainName>().expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(
                error.contains(part) || error.contains("empty label"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn within_is_by_label() {
        let zone: DomainName = "example.com".parse().unwrap();
        let is_within = |name: &str| name.parse::<DomainName>().unwrap().is_within(&zone);
        assert!(is_within("example.com"));
        assert!(is_within("a.example.com"));
        assert!(!is_within("anexample.com"));
        assert!(!is_within("example.org"));
    }

    #[test]
    fn selector_makes_its_record_name() {
        let selector: Selector = "pr-7f3a".parse().unwrap();
        let name = selector.record_name(&"example.com".parse().unwrap());
        assert_eq!(name, "pr-7f3a._domainkey.example.com");
        assert!("Pr".parse::<Selector>().is_err());
        assert!("".parse::<Selector>().is_err());
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text in "[a-zA-Z0-9.-]{1,80}") {
            if let Ok(name) = text.parse::<DomainName>() {
                prop_assert_eq!(name.as_str().parse::<DomainName>().unwrap(), name.clone());
                prop_assert_eq!(name.as_str(), name.as_str().to_ascii_lowercase());
            }
        }
    }
}
