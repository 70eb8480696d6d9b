//! The text of an MTA-STS policy (RFC 8461 §3.2).
//!
//! Promises: takes what the grammar allows and nothing else, but for empty lines at the end; of a
//! key that is there twice the first counts; keys nobody knows are ignored.

use std::str::FromStr;

use postrider_crds::DomainName;

use crate::dns::fields::is_name;

/// Longest `max_age`, in seconds: a year (RFC 8461 §3.2).
const MAX_AGE: u32 = 31_557_600;
/// Digits of a `max_age`.
const MAX_DIGITS: usize = 10;

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) mode: Mode,
    /// Hosts that may take the domain's mail.
    mx: Vec<Pattern>,
    /// Seconds for which senders keep it.
    pub(super) max_age: u32,
}

/// What senders do when a host does not fit (RFC 8461 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They do not deliver.
    Enforce,
    /// They report, and deliver.
    Testing,
    /// They look at nothing.
    None,
}

/// A host, or every host one label below a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Host(DomainName),
    Below(DomainName),
}

/// What is wrong with a policy: a sentence without its subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("has no line \"{0}\"")]
    Missing(&'static str),
    #[error("has a line {0} that is no key, colon and value")]
    Line(usize),
    #[error("has {key} {value:?}, which has to be {wanted}")]
    Value {
        key: &'static str,
        value: String,
        wanted: &'static str,
    },
}

impl Policy {
    /// Whether `host` may take the domain's mail (RFC 8461 §4.1).
    pub(super) fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.mx.iter().any(|pattern| match pattern {
            Pattern::Host(name) => name.as_str() == host,
            Pattern::Below(name) => Some(name.as_str()) == parent,
        })
    }
}

impl FromStr for Policy {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (mut version, mut mode, mut max_age) = (None, None, None);
        let mut mx = Vec::new();
        let text = text.trim_end_matches(['\r', '\n']);
        for (index, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let (key, value) = field(line).ok_or(Problem::Line(index + 1))?;
            match key {
                "version" if version.is_none() => version = Some(read_version(value)?),
                "mode" if mode.is_none() => mode = Some(read_mode(value)?),
                "max_age" if max_age.is_none() => max_age = Some(read_max_age(value)?),
                "mx" => mx.push(value.parse()?),
                _ => {}
            }
        }
        version.ok_or(Problem::Missing("version: STSv1"))?;
        let mode = mode.ok_or(Problem::Missing("mode: enforce"))?;
        let max_age = max_age.ok_or(Problem::Missing("max_age: 604800"))?;
        if mx.is_empty() && mode != Mode::None {
            return Err(Problem::Missing("mx: <host>"));
        }
        Ok(Self { mode, mx, max_age })
    }
}

/// Key and value of a line.
fn field(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let value = value.trim_matches([' ', '\t']);
    let good = is_name(key) && !value.is_empty() && !value.contains(char::is_control);
    good.then_some((key, value))
}

fn read_version(value: &str) -> Result<(), Problem> {
    match value {
        "STSv1" => Ok(()),
        _ => Err(wrong("version", value, "STSv1")),
    }
}

fn read_mode(value: &str) -> Result<Mode, Problem> {
    match value {
        "enforce" => Ok(Mode::Enforce),
        "testing" => Ok(Mode::Testing),
        "none" => Ok(Mode::None),
        _ => Err(wrong("mode", value, "enforce, testing or none")),
    }
}

fn read_max_age(value: &str) -> Result<u32, Problem> {
    let digits = value.len() <= MAX_DIGITS && value.bytes().all(|byte| byte.is_ascii_digit());
    let age = value.parse().ok().filter(|age| digits && *age <= MAX_AGE);
    age.ok_or_else(|| wrong("max_age", value, "seconds, at most 31557600"))
}

impl FromStr for Pattern {
    type Err = Problem;

    fn from_str(value: &str) -> Result<Self, Problem> {
        let error = || wrong("mx", value, "a host, or *. and a domain");
        // A name with a dot at its end is none here (RFC 5321 §4.1.2 Domain).
        if value.ends_with('.') || !value.is_ascii() {
            return Err(error());
        }
        match value.strip_prefix("*.") {
            Some(parent) => parent.parse().map(Self::Below).map_err(|_| error()),
            None => value.parse().map(Self::Host).map_err(|_| error()),
        }
    }
}

fn wrong(key: &'static str, value: &str, wanted: &'static str) -> Problem {
    /// Characters of a stranger's text that are repeated.
    const SHOWN: usize = 80;
    Problem::Value {
        key,
        value: value.chars().take(SHOWN).collect(),
        wanted,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        "version: STSv1\nmode: enforce\nmx: mx.example.net\nmx: *.example.org\nmax_age: 604800\n";

    #[test]
    fn table_of_policies() {
        let policy: Policy = GOOD.parse().unwrap();
        assert_eq!((policy.mode, policy.max_age), (Mode::Enforce, 604_800));
        for text in [
            GOOD.replace('\n', "\r\n"),
            GOOD.trim_end().to_owned(),
            format!("{GOOD}\n\n"),
            GOOD.replace(": ", ":"),
            GOOD.replace(": ", ": \t").replace('\n', " \n"),
            format!("{GOOD}mode: none\nmax_age: x\n"),
            format!("x-note: a: b \u{e9}\n{GOOD}"),
        ] {
            assert_eq!(text.parse::<Policy>().unwrap(), policy, "{text:?}");
        }
        let none: Policy = "version: STSv1\nmode: none\nmax_age: 0".parse().unwrap();
        assert_eq!((none.mode, none.mx.len()), (Mode::None, 0));
        for (from, to, part) in [
            ("version: STSv1\n", "", "version: STSv1"),
            ("mode: enforce\n", "", "mode: enforce"),
            ("max_age: 604800\n", "", "max_age"),
            ("mx: mx.example.net\nmx: *.example.org\n", "", "mx: <host>"),
            ("STSv1", "STSv2", "\"STSv2\""),
            ("enforce", "Enforce", "\"Enforce\""),
            ("604800", "31557601", "31557600"),
            ("604800", "+5", "max_age"),
            ("604800", "00000000001", "max_age"),
            ("*.example.org", "mx.*.example.org", "mx"),
            ("*.example.org", "*", "mx"),
            ("*.example.org", "example.org.", "mx"),
            ("*.example.org", "a b.example.org", "mx"),
            ("mode: enforce\n", "mode: enforce\n\n", "line 3"),
            ("mode: enforce", "mode enforce", "line 2"),
            ("mode: enforce", "mode : enforce", "line 2"),
            (" enforce", "", "line 2"),
            ("enforce", "enforce\r\r", "line 2"),
        ] {
            let text = GOOD.replace(from, to);
            let problem = text.parse::<Policy>().expect_err(&text).to_string();
            assert!(problem.contains(part), "{text:?}: {problem}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let policy: Policy = GOOD.parse().unwrap();
        for (host, covered) in [
            ("mx.example.net", true),
            ("a.mx.example.net", false),
            ("a.example.org", true),
            ("a.b.example.org", false),
            ("example.org", false),
        ] {
            assert_eq!(policy.covers(host), covered, "{host}");
        }
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let mode = prop_oneof![Just(Mode::Enforce), Just(Mode::Testing)];
        let host = "[a-z]{1,8}(\\.[a-z]{1,8}){1,3}";
        let pattern = (host, any::<bool>()).prop_map(|(host, below)| {
            let name = host.parse().unwrap();
            match below {
                true => Pattern::Below(name),
                false => Pattern::Host(name),
            }
        });
        let mx = proptest::collection::vec(pattern, 1..5);
        (mode, mx, 0..=MAX_AGE).prop_map(|(mode, mx, max_age)| Policy { mode, mx, max_age })
    }

    fn lines(policy: &Policy) -> Vec<String> {
        let mode = match policy.mode {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        };
        let mx = policy.mx.iter().map(|pattern| match pattern {
            Pattern::Host(name) => format!("mx:{name}"),
            Pattern::Below(name) => format!("mx:*.{name}"),
        });
        let rest = [
            format!("mode:{mode}"),
            format!("max_age:{}", policy.max_age),
        ];
        let version = ["version:STSv1".to_owned()];
        version.into_iter().chain(rest).chain(mx).collect()
    }

    proptest! {
        #[test]
        fn a_policy_survives_its_text(
            policy in any_policy(), space in "[ \t]{0,3}", end in "\r?\n",
            turn in 0..8_usize, extra in "[a-z0-9][a-z0-9_.-]{0,31}: ?[!-~]{1,20}",
        ) {
            prop_assume!(!["version", "mode", "mx", "max_age"].contains(&extra.split(':').next().unwrap()));
            let mut lines = lines(&policy);
            lines.push(extra);
            let middle = turn % lines.len();
            lines.rotate_left(middle);
            let text: String = lines
                .iter()
                .map(|line| format!("{}{space}{end}", line.replacen(':', &format!(":{space}"), 1)))
                .collect();
            let mut read = text.parse::<Policy>().unwrap();
            let mut wanted = policy;
            let order = |pattern: &Pattern| format!("{pattern:?}");
            read.mx.sort_by_key(order);
            wanted.mx.sort_by_key(order);
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn no_text_is_too_odd_to_be_read(text in "(version: STSv1\n)?(mode: \\PC{0,9}\n)?(\\PC|[\r\n:]){0,80}") {
            let _ = text.parse::<Policy>();
        }
    }
}
