//! The text a suppression list travels in, one entry a line:
//!
//! ```text
//! postrider-suppression 1
//! scope example.com example.org
//! a@example.net<TAB>-<TAB>hard bounce
//! @example.org<TAB>2027-01-01T00:00:00Z<TAB>asked us
//! ```
//!
//! `@domain` stands for every address of the domain, `-` for no expiry, an empty scope for every
//! domain. Promises: entries are sorted and folded, so equal lists give equal bytes; what is written
//! can be read.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    DomainName, Mailbox,
    relay_config::{SUPPRESSION_SHARDS, suppression_shard_of},
};

const MAGIC: &str = "postrider-suppression 1";

/// Whom an entry names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    /// One address, folded ([`Mailbox::folded`]).
    Address(String),
    /// Every address of a domain.
    Domain(DomainName),
}

impl FromStr for Target {
    type Err = crate::mailbox::MailboxError;

    /// Reads `user@example.com` or `@example.com`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(Ok(domain)) = text.strip_prefix('@').map(str::parse) {
            return Ok(Self::Domain(domain));
        }
        Ok(Self::Address(text.parse::<Mailbox>()?.folded()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => f.write_str(address),
            Self::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

/// Why and until when a target is not mailed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppression {
    /// For people; one line.
    pub reason: String,
    /// When the entry ends; `None`: never.
    pub expires: Option<Timestamp>,
}

impl Suppression {
    fn outlives(&self, other: &Self) -> bool {
        match (self.expires, other.expires) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(own), Some(others)) => own > others,
        }
    }
}

/// A list, or one shard of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuppressionFile {
    /// Sending domains the list holds for; empty: all.
    pub scope: Vec<DomainName>,
    /// The entries.
    pub entries: BTreeMap<Target, Suppression>,
}

/// Why a suppression file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("suppression file line {line}: {problem}")]
pub struct SuppressionFileError {
    line: usize,
    problem: String,
}

impl SuppressionFile {
    /// Adds an entry; of two for the same target the longer lived one counts.
    pub fn add(&mut self, target: Target, new: Suppression) {
        match self.entries.get(&target) {
            Some(old) if !new.outlives(old) => {}
            _ => {
                self.entries.insert(target, new);
            }
        }
    }

    /// The list cut into [`SUPPRESSION_SHARDS`] files, in order of shard.
    #[must_use]
    pub fn shards(&self) -> Vec<Self> {
        let mut shards: Vec<Self> = (0..SUPPRESSION_SHARDS)
            .map(|_| Self {
                scope: self.scope.clone(),
                entries: BTreeMap::new(),
            })
            .collect();
        for (target, suppression) in &self.entries {
            let index = suppression_shard_of(&target.to_string()) as usize;
            if let Some(shard) = shards.get_mut(index) {
                shard.entries.insert(target.clone(), suppression.clone());
            }
        }
        shards
    }

    /// Reads the text. Errors name the line.
    pub fn parse(text: &str) -> Result<Self, SuppressionFileError> {
        let mut lines = text.lines().enumerate();
        let error = |line: usize, problem: String| SuppressionFileError {
            line: line + 1,
            problem,
        };
        match lines.next() {
            Some((_, MAGIC)) => {}
            first => {
                let found = first.map_or("", |(_, line)| line);
                return Err(error(0, format!("{found:?} is not {MAGIC:?}")));
            }
        }
        let mut file = Self::default();
        for (number, line) in lines {
            if let Some(scope) = line.strip_prefix("scope ") {
                for name in scope.split(' ') {
                    let domain: DomainName = name
                        .parse()
                        .map_err(|e| error(number, format!("scope: {e}")))?;
                    file.scope.push(domain);
                }
                continue;
            }
            let (target, suppression) =
                parse_entry(line).map_err(|problem| error(number, problem))?;
            file.add(target, suppression);
        }
        Ok(file)
    }
}

impl fmt::Display for SuppressionFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}")?;
        if !self.scope.is_empty() {
            f.write_str("scope")?;
            for domain in &self.scope {
                write!(f, " {domain}")?;
            }
            writeln!(f)?;
        }
        for (target, suppression) in &self.entries {
            let expires = suppression
                .expires
                .map_or_else(|| "-".to_owned(), |at| at.to_string());
            let reason = suppression.reason.replace(['\t', '\n', '\r'], " ");
            writeln!(f, "{target}\t{expires}\t{reason}")?;
        }
        Ok(())
    }
}

fn parse_entry(line: &str) -> Result<(Target, Suppression), String> {
    let mut fields = line.splitn(3, '\t');
    let target = fields.next().unwrap_or_default();
    let expires = fields
        .next()
        .ok_or_else(|| format!("{line:?} has no expiry field"))?;
    let reason = fields.next().unwrap_or_default().to_owned();
    let target = target.parse::<Target>().map_err(|e| e.to_string())?;
    let expires = match expires {
        "-" => None,
        text => Some(
            text.parse()
                .map_err(|e| format!("expiry {text:?} is no RFC 3339 time: {e}"))?,
        ),
    };
    Ok((target, Suppression { reason, expires }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> SuppressionFile {
        let mut file = SuppressionFile {
            scope: vec!["example.com".parse().unwrap()],
            entries: BTreeMap::new(),
        };
        for text in ["A@Example.net", "@example.org", "b@example.net"] {
            let suppression = Suppression {
                reason: "hard\tbounce".into(),
                expires: text
                    .starts_with('b')
                    .then(|| "2027-01-01T00:00:00Z".parse().unwrap()),
            };
            file.entries.insert(text.parse().unwrap(), suppression);
        }
        file
    }

    #[test]
    fn prints_what_it_parses() {
        let text = sample().to_string();
        assert!(text.contains("a@example.net\t-\thard bounce\n"), "{text}");
        assert_eq!(SuppressionFile::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn of_several_spellings_the_one_that_lives_longest_counts() {
        let lines = [
            "\"a\"@x.net\t2027-01-01T00:00:00Z\tlater",
            "\"\\a\"@x.net\t2026-01-01T00:00:00Z\tsooner",
            "a@x.net\t-\tnever",
        ];
        for (lines, reason) in [
            (vec![lines[0], lines[1]], "later"),
            (vec![lines[1], lines[0]], "later"),
            (vec![lines[0], lines[2], lines[1]], "never"),
        ] {
            let file = SuppressionFile::parse(&format!("{MAGIC}\n{}\n", lines.join("\n")));
            let entries = file.unwrap().entries;
            let reasons: Vec<&str> = entries.values().map(|s| s.reason.as_str()).collect();
            assert_eq!(reasons, [reason]);
        }
    }

    #[test]
    fn shards_hold_every_entry_once() {
        let shards = sample().shards();
        assert_eq!(shards.len(), 8);
        assert_eq!(shards.iter().map(|s| s.entries.len()).sum::<usize>(), 3);
        assert!(shards.iter().all(|s| s.scope.len() == 1));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, part) in [
            ("", "line 1"),
            ("nonsense\n", "nonsense"),
            ("postrider-suppression 1\nnot an address\t-\t\n", "line 2"),
            ("postrider-suppression 1\na@example.com\n", "no expiry"),
            ("postrider-suppression 1\na@example.com\tsoon\t\n", "soon"),
            ("postrider-suppression 1\nscope a_b\n", "scope"),
        ] {
            let error = SuppressionFile::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
    proptest! {
        #[test]
        fn any_entry_is_read_back(
            targets in prop::collection::vec(
                prop_oneof!["[A\u{130}\u{23a}]{1,33}@([\u{e9}a]\\.){1,26}net", "\"\\PC{0,9}\"@x\\.net", "\\PC{0,20}"],
                0..8,
            ),
            reason: String,
            expires in prop::option::of(0..253_402_207_200_i64),
        ) {
            let mut file = SuppressionFile::default();
            let expires = expires.map(|at| Timestamp::from_second(at).unwrap());
            for target in targets.iter().filter_map(|text| text.parse().ok()) {
                let reason = reason.clone();
                file.entries.insert(target, Suppression { reason, expires });
            }
            let read = SuppressionFile::parse(&file.to_string());
            let read = read.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(read.entries.keys().eq(file.entries.keys()));
            prop_assert!(read.entries.values().all(|s| s.expires == expires));
            prop_assert_eq!(read.to_string(), file.to_string());
        }
    }
}
