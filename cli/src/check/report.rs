//! What a check found: one [`Item`] a thing looked at, whether it passed or not.

use serde::Serialize;

/// How a thing looked at fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Outcome {
    /// It is as it must be.
    Passed,
    /// It is not.
    Failed,
    /// It is not as it should be, and decides nothing.
    Warning,
    /// It cannot be known here.
    NotChecked,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    /// The file, as it was named or found.
    pub(crate) file: String,
    /// Kind, namespace and name of the object; of a text that is none, its place in the file.
    pub(crate) object: String,
    /// What was looked at: Manifest, Reference, DKIM, SPF, DMARC, ReturnPath, MTASTS or TLSRPT; of a
    /// pool EHLO or PTR.
    pub(crate) check: &'static str,
    /// How it fares.
    pub(crate) outcome: Outcome,
    /// The field, or the type and name of the record.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) subject: String,
    /// What should be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<String>,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<String>,
    /// What to do, in one sentence; empty when nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

/// All that was looked at, in the order of files and objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Things as they must be.
    pub(crate) passed: usize,
    /// Things that are not.
    pub(crate) failed: usize,
    /// Things that are not as they should be.
    pub(crate) warnings: usize,
    /// Things that cannot be known here.
    pub(crate) not_checked: usize,
    /// Each of them.
    pub(crate) checks: Vec<Item>,
}

impl Report {
    /// A report of `checks`, those of an object next to each other.
    pub(crate) fn new(mut checks: Vec<Item>) -> Self {
        // Stable: within an object the order of the checks stays.
        checks.sort_by(|a, b| (&a.file, &a.object).cmp(&(&b.file, &b.object)));
        let count = |outcome| checks.iter().filter(|item| item.outcome == outcome).count();
        Self {
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            warnings: count(Outcome::Warning),
            not_checked: count(Outcome::NotChecked),
            checks,
        }
    }
}
