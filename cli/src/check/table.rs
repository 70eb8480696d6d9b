//! A report for people: what has to be done, object by object, and the sum.

use std::fmt::Write as _;

use super::report::{Item, Outcome, Report};
use crate::text::{counted, printable};

/// The report.
pub(crate) fn table(report: &Report) -> String {
    let mut out = String::new();
    let mut heading = None;
    for item in &report.checks {
        let place = (&item.file, &item.object);
        if heading != Some(place) {
            if heading.is_some() {
                out.push('\n');
            }
            let _ = writeln!(
                out,
                "{}: {}",
                printable(&item.file),
                printable(&item.object)
            );
            heading = Some(place);
        }
        line(&mut out, item);
    }
    if !report.checks.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "{} passed, {} failed, {}, {} not checked",
        report.passed,
        report.failed,
        counted(report.warnings, "warning"),
        report.not_checked
    );
    out
}

fn line(out: &mut String, item: &Item) {
    let outcome = match item.outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Warning => "warning",
        Outcome::NotChecked => "not checked",
    };
    let text = format!(
        "  {outcome:<11}  {:<10}  {}",
        item.check,
        printable(&item.subject)
    );
    let _ = writeln!(out, "{}", text.trim_end());
    let told = matches!(item.outcome, Outcome::Failed | Outcome::Warning);
    if let Some(wanted) = item.wanted.as_ref().filter(|_| told) {
        let _ = writeln!(out, "    wanted  {}", printable(wanted));
    }
    if told && (item.seen.is_some() || item.wanted.is_some()) {
        let seen = item.seen.as_deref().unwrap_or("(nothing)");
        let _ = writeln!(out, "    seen    {}", printable(seen));
    }
    if !item.message.is_empty() {
        let _ = writeln!(out, "    to do   {}", printable(&item.message));
    }
}
