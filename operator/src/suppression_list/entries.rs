//! Reads the lines of a source: `target[,reason[,expiry]]`, one a line.
//!
//! Promises: a line that cannot be read is reported with its number and does not affect the others.
//! Blank lines and everything from a `#` at the start of a line or after white space are ignored. A
//! target is an address or `@domain`; a reason may be quoted as in CSV (RFC 4180 section 2).

use jiff::Timestamp;
use postrider_crds::suppression_file::{Suppression, Target};

/// Longest part of a bad line that is repeated to people.
const MAX_SHOWN: usize = 60;

/// What a source holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Readable entries, in order.
    pub entries: Vec<(Target, Suppression)>,
    /// Unreadable lines.
    pub problems: Vec<LineProblem>,
}

/// An unreadable line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {shown:?} {problem}")]
pub struct LineProblem {
    line: usize,
    shown: String,
    problem: &'static str,
}

/// Reads `text`.
#[must_use]
pub fn read(text: &str) -> Lines {
    let mut lines = Lines::default();
    // A byte order mark is what spreadsheets put in front.
    let text = text.trim_start_matches('\u{feff}');
    for (index, line) in text.lines().enumerate() {
        let content = without_comment(line).trim();
        if content.is_empty() {
            continue;
        }
        match entry(content) {
            Ok(entry) => lines.entries.push(entry),
            Err(problem) => {
                let shown = content.get(..content.floor_char_boundary(MAX_SHOWN));
                lines.problems.push(LineProblem {
                    line: index + 1,
                    shown: shown.unwrap_or_default().to_owned(),
                    problem,
                });
            }
        }
    }
    lines
}

/// `#` may be part of a local part (RFC 5322 section 3.2.3), so only one after white space counts.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return line.get(..at).unwrap_or_default();
        }
        before = c;
    }
    line
}

fn entry(content: &str) -> Result<(Target, Suppression), &'static str> {
    let fields = fields(content)?;
    let [target, rest @ ..] = fields.as_slice() else {
        return Err("is empty");
    };
    let target: Target = target
        .trim()
        .parse()
        .map_err(|_| "is neither an address nor @domain")?;
    let (reason, expires) = match rest {
        [] => (String::new(), None),
        [reason] => (reason.trim().to_owned(), None),
        [reason, expires] => (reason.trim().to_owned(), expiry(expires.trim())?),
        _ => return Err("has more than target, reason, expiry; quote a reason with commas"),
    };
    Ok((target, Suppression { reason, expires }))
}

fn expiry(text: &str) -> Result<Option<Timestamp>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| "has an expiry that is no RFC 3339 time such as 2027-01-01T00:00:00Z")
}

/// Fields between commas; a field may be quoted, a quote in it doubled. A quote elsewhere is a
/// character like any other: local parts may have them.
fn fields(content: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = content;
    loop {
        let start = rest.trim_start();
        // The first field is an address, whose quotes are its own.
        let quoted = (!fields.is_empty())
            .then(|| start.strip_prefix('"'))
            .flatten();
        let (field, after) = match quoted {
            Some(inner) => quoted_field(inner)?,
            None => {
                let end = plain_end(rest, fields.is_empty());
                let (field, after) = rest.split_at(end);
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.trim_start().strip_prefix(',') {
            Some(next) => rest = next,
            None if after.trim().is_empty() => return Ok(fields),
            None => return Err("has text after a quoted field"),
        }
    }
}

/// Where an unquoted field ends. In an address a comma may stand between quotes.
fn plain_end(text: &str, address: bool) -> usize {
    let mut inside = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            ',' if !inside => return at,
            '"' if address && !escaped => inside = !inside,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    // An unbalanced quote belongs to no address; the first comma is then the best guess.
    if inside {
        text.find(',').unwrap_or(text.len())
    } else {
        text.len()
    }
}

fn quoted_field(inner: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    let mut rest = inner;
    loop {
        let (before, after) = rest.split_once('"').ok_or("has an unclosed quote")?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_lines() {
        for (line, target, reason, expires) in [
            ("A@Example.net", "a@example.net", "", None),
            ("  @Example.org  ", "@example.org", "", None),
            ("a@x.net, hard bounce", "a@x.net", "hard bounce", None),
            (
                "a@x.net,asked,2027-01-01T00:00:00Z",
                "a@x.net",
                "asked",
                Some("2027-01-01T00:00:00Z"),
            ),
            (
                "a@x.net,,2027-01-01T00:00:00Z",
                "a@x.net",
                "",
                Some("2027-01-01T00:00:00Z"),
            ),
            (
                "a@x.net,\"said \"\"no\"\", twice\",",
                "a@x.net",
                "said \"no\", twice",
                None,
            ),
            ("a@x.net # by hand", "a@x.net", "", None),
            ("a#b@x.net", "a#b@x.net", "", None),
            ("\"a,b\"@x.net,why", "\"a,b\"@x.net", "why", None),
            ("\"\\u\\s\\er\"@x.net,why", "user@x.net", "why", None),
        ] {
            let lines = read(line);
            assert_eq!(lines.problems, [], "{line}");
            let (found, suppression) = &lines.entries[0];
            assert_eq!(found.to_string(), target, "{line}");
            assert_eq!(suppression.reason, reason, "{line}");
            let expires: Option<Timestamp> = expires.map(|at| at.parse().unwrap());
            assert_eq!(suppression.expires, expires, "{line}");
        }
    }

    #[test]
    fn bad_lines_are_named_and_good_ones_stay() {
        let text = "# list\n\na@x.net\nnobody\n@bad_domain\na@x.net,x,soon\na@x.net,\"x\nb@x.net,1,,4\nc@x.net\n";
        let lines = read(text);
        assert_eq!(lines.entries.len(), 2);
        let problems: Vec<String> = lines.problems.iter().map(ToString::to_string).collect();
        for (problem, part) in problems.iter().zip([
            "line 4: \"nobody\" is neither",
            "line 5: \"@bad_domain\" is neither",
            "line 6: \"a@x.net,x,soon\" has an expiry",
            "line 7: \"a@x.net,\\\"x\" has an unclosed quote",
            "line 8: \"b@x.net,1,,4\" has more",
        ]) {
            assert!(problem.starts_with(part), "{problem}");
        }
        assert_eq!(problems.len(), 5);
    }

    #[test]
    fn every_entry_can_be_read_back_and_a_line_that_grows_too_long_is_bad() {
        // 64 octets, which lower case would make 96.
        let dotted = format!("{}@x.example", "\u{130}".repeat(32));
        // 145 octets, 265 with the domain in A-labels.
        let long = format!("{}@{}example", "a".repeat(64), "\u{e9}.".repeat(24));
        let lines = read(&format!("{dotted}\n{long}\nc@x.example\n"));
        assert_eq!(lines.problems.len(), 1);
        let problem = lines.problems[0].to_string();
        assert!(problem.starts_with("line 2: \"aaa"), "{problem}");
        let targets: Vec<&Target> = lines.entries.iter().map(|(target, _)| target).collect();
        for target in &targets {
            assert_eq!(target.to_string().parse().as_ref(), Ok(*target));
        }
        assert_eq!(targets.len(), 2);
    }

    #[test]
    fn a_long_bad_line_is_shown_in_part() {
        let lines = read(&"\u{e9}".repeat(500));
        assert!(lines.problems[0].to_string().len() < 200);
    }
}
