//! The records of a SendingDomain for people: state and wanted beside seen.

use std::fmt::Write as _;

use postrider_crds::{RecordState, RecordStatus};

use crate::{
    domain_records::{DomainRecords, verified},
    text::{columns, counted, printable},
};

/// A block a record: its state, what is wanted, what is seen and what to do.
pub(crate) fn table(domain: &DomainRecords) -> String {
    let total = domain.records.len();
    let mut out = format!(
        "SendingDomain {}/{}: {}, {} of {} verified\n",
        domain.namespace,
        domain.name,
        domain.domain,
        verified(&domain.records),
        counted(total, "record"),
    );
    if let Some(caveat) = domain.caveat() {
        let _ = writeln!(out, "{caveat}");
    }
    blocks(&mut out, &domain.records);
    if let Some(pool) = &domain.pool {
        let _ = writeln!(out, "\n{}", pool.title());
        blocks(&mut out, &pool.records);
    }
    out
}

fn blocks(out: &mut String, records: &[RecordStatus]) {
    if records.is_empty() {
        return;
    }
    let rows: Vec<_> = records.iter().map(row).collect();
    let summary = columns(["STATE", "TYPE", "PURPOSE", "NAME"], &rows);
    let mut lines = summary.lines();
    let _ = writeln!(out, "\n{}", lines.next().unwrap_or_default());
    for (line, record) in lines.zip(records) {
        let _ = writeln!(out, "{line}");
        details(out, record);
    }
}

fn row(record: &RecordStatus) -> [String; 4] {
    [
        format!("{:?}", record.state),
        format!("{:?}", record.r#type),
        format!("{:?}", record.purpose),
        printable(&record.name),
    ]
}

fn details(out: &mut String, record: &RecordStatus) {
    let seen = match (&record.seen, record.state) {
        (Some(text), _) => printable(text),
        (None, RecordState::Unknown) => "(not known)".to_owned(),
        (None, _) => "(nothing)".to_owned(),
    };
    let _ = writeln!(out, "  wanted  {}", printable(&record.wanted));
    let _ = writeln!(out, "  seen    {seen}");
    if !record.message.is_empty() {
        let _ = writeln!(out, "  to do   {}", printable(&record.message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{self, check};

    #[test]
    fn wanted_stands_beside_seen() {
        check("records_table.txt", &table(&golden::shop()));
    }

    #[test]
    fn a_fresh_domain_says_that_nobody_looked() {
        check("records_fresh.txt", &table(&golden::fresh_shop()));
    }

    #[test]
    fn json_has_every_field() {
        let text = serde_json::to_string_pretty(&golden::shop()).unwrap();
        check("records.json", &(text + "\n"));
    }
}
