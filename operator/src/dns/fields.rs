//! Lists of fields behind a version, the syntax that the records of MTA-STS (RFC 8461 §3.1) and
//! TLSRPT (RFC 8460 §3) share.
//!
//! Promises: reads what the grammar allows and nothing else, so that every sender can read what is
//! called good here. mail-auth's readers take more (an `id` of any characters, any order), which
//! suits a sender and not somebody who is to say what will be understood.

use super::Answer;

/// Longest name of a field (RFC 8461 §3.1, `sts-ext-name`).
const MAX_NAME: usize = 32;

/// The records of one kind among those of a name.
pub(super) struct Published {
    /// Those that begin with the version and a semicolon: all others are discarded (RFC 8461 §3.1,
    /// RFC 8460 §3).
    pub(super) ours: Vec<String>,
    /// All of them.
    pub(super) all: Vec<String>,
}

impl Published {
    /// What `answer` holds of `version`; `None` when it holds nothing because nobody answered.
    pub(super) fn of(answer: Answer<String>, version: &str) -> Result<Self, super::Failure> {
        let all = match answer {
            Answer::Found { records, .. } => records,
            Answer::NoData | Answer::NxDomain => Vec::new(),
            Answer::Unavailable(failure) => return Err(failure),
        };
        let begins = |record: &&String| {
            let rest = record.strip_prefix(version);
            rest.is_some_and(|rest| rest.starts_with(';'))
        };
        let ours = all.iter().filter(begins).cloned().collect();
        Ok(Self { ours, all })
    }
}

/// The fields of `record` behind `version`, in their order, or what is wrong with the record.
pub(super) fn parse<'a>(
    record: &'a str,
    version: &str,
) -> Result<Vec<(&'a str, &'a str)>, &'static str> {
    let rest = record.strip_prefix(version).unwrap_or_default();
    let rest = rest
        .strip_prefix(';')
        .ok_or("does not begin with its version")?;
    let mut parts: Vec<&str> = rest.split(';').map(trimmed).collect();
    // The last delimiter may be left out or not.
    if parts.last() == Some(&"") {
        parts.pop();
    }
    if rest.ends_with([' ', '\t']) {
        return Err("ends in white space");
    }
    parts.into_iter().map(field).collect()
}

fn field(part: &str) -> Result<(&str, &str), &'static str> {
    if part.is_empty() {
        return Err("has an empty field");
    }
    let (name, value) = part.split_once('=').ok_or("has a field without \"=\"")?;
    if !is_name(name) {
        return Err("has a field whose name is not made of letters and digits");
    }
    if value.is_empty() || value.starts_with([' ', '\t']) {
        return Err("has a field without a value");
    }
    Ok((name, value))
}

/// Whether `name` is a field's (RFC 8461 §3.1 and §3.2, RFC 8460 §3).
pub(super) fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(inner)
}

/// Whether `value` is one that a field nobody knows may have.
pub(super) fn is_extension(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'=' | b';'))
}

/// `text` without the white space that is allowed around a delimiter.
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_field_lists() {
        let good = |text| parse(text, "v=X1").unwrap();
        assert_eq!(good("v=X1;a=1"), [("a", "1")]);
        assert_eq!(
            good("v=X1; a=1 ;\tb.c-d_e=2=3;"),
            [("a", "1"), ("b.c-d_e", "2=3")]
        );
        assert_eq!(good("v=X1;"), []);
        for (text, part) in [
            ("v=X1", "version"),
            ("v=X1 ;a=1", "version"),
            ("v=x1;a=1", "version"),
            ("v=X1;;a=1", "empty"),
            ("v=X1;a", "\"=\""),
            ("v=X1;a=", "value"),
            ("v=X1;a= 1", "value"),
            ("v=X1;a =1", "name"),
            ("v=X1;_a=1", "name"),
            ("v=X1;a=1; ", "white space"),
        ] {
            let problem = parse(text, "v=X1").expect_err(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
        let long = format!("v=X1;{}=1", "a".repeat(33));
        assert!(parse(&long, "v=X1").is_err());
    }
}
