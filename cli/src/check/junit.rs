//! A report as JUnit XML, which continuous integration shows beside a pull request.
//!
//! Promises: the text is well-formed whatever a manifest or DNS holds: characters that XML 1.0 does
//! not know are replaced. One test suite an object, one test case an item; a warning passes and
//! says so in `system-out`, what is not checked is skipped.

use std::fmt::Write as _;

use super::report::{Item, Outcome, Report};

/// The report.
pub(crate) fn junit(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"postrider check\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
        report.checks.len(),
        report.failed,
        report.not_checked
    );
    let same = |a: &Item, b: &Item| (&a.file, &a.object) == (&b.file, &b.object);
    for suite in report.checks.chunk_by(same) {
        let count = |outcome| suite.iter().filter(|item| item.outcome == outcome).count();
        let object = suite.first().map_or("", |item| item.object.as_str());
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">",
            escaped(object),
            suite.len(),
            count(Outcome::Failed),
            count(Outcome::NotChecked)
        );
        for item in suite {
            case(&mut out, item);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn case(out: &mut String, item: &Item) {
    let name = match item.subject.as_str() {
        "" => item.check.to_owned(),
        subject => format!("{} {subject}", item.check),
    };
    let _ = write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\"",
        escaped(&item.object),
        escaped(&name),
        escaped(&item.file)
    );
    let message = escaped(&item.message);
    let _ = match item.outcome {
        Outcome::Passed => writeln!(out, "/>"),
        Outcome::Failed => writeln!(
            out,
            "><failure message=\"{message}\">{}</failure></testcase>",
            escaped(&details(item))
        ),
        Outcome::Warning => writeln!(
            out,
            "><system-out>warning: {}</system-out></testcase>",
            escaped(&details(item))
        ),
        Outcome::NotChecked => writeln!(out, "><skipped message=\"{message}\"/></testcase>"),
    };
}

fn details(item: &Item) -> String {
    let mut text = item.message.clone();
    if let Some(wanted) = &item.wanted {
        let _ = write!(text, "\nwanted: {wanted}");
    }
    if item.wanted.is_some() || item.seen.is_some() {
        let seen = item.seen.as_deref().unwrap_or("(nothing)");
        let _ = write!(text, "\nseen: {seen}");
    }
    text
}

/// `text` for an attribute or a text node (XML 1.0 sections 2.2 and 2.4).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
