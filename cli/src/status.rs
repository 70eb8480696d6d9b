//! The overview for people: a table a kind, then what to fix next.

use std::fmt::Write as _;

use crate::{
    overview::{DomainLine, Health, ListLine, Overview, PoolLine},
    text::{columns, printable},
};

/// The whole page; `namespace` is the one looked at, or all of them.
pub(crate) fn page(overview: &Overview, namespace: Option<&str>) -> String {
    let mut sections = Vec::new();
    if !overview.pools.is_empty() {
        sections.push(pools(&overview.pools));
    }
    if !overview.domains.is_empty() {
        sections.push(domains(&overview.domains));
    }
    if !overview.lists.is_empty() {
        sections.push(lists(&overview.lists));
    }
    if sections.is_empty() {
        return match namespace {
            Some(name) => format!(
                "No RelayPool, SendingDomain or SuppressionList in namespace {name}; -A looks at all namespaces.\n"
            ),
            None => "No RelayPool, SendingDomain or SuppressionList in any namespace.\n".into(),
        };
    }
    sections.push(to_fix(overview));
    sections.join("\n")
}

fn pools(pools: &[PoolLine]) -> String {
    let rows = pools.iter().map(|pool| {
        let [namespace, name, ready, reason] = health(&pool.health);
        [
            namespace,
            name,
            ready,
            reason,
            format!("{}/{}", pool.ready_replicas, pool.desired),
            pool.queued
                .map_or_else(|| "-".into(), |count| count.to_string()),
            pool.oldest_due.clone().unwrap_or_else(|| "-".into()),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let heading = [
        "NAMESPACE",
        "RELAY POOL",
        "READY",
        "REASON",
        "PODS",
        "QUEUED",
        "OLDEST DUE",
    ];
    columns(heading, &rows)
}

fn domains(domains: &[DomainLine]) -> String {
    let rows = domains.iter().map(|domain| {
        let [namespace, name, ready, reason] = health(&domain.health);
        [
            namespace,
            name,
            ready,
            reason,
            domain.domain.clone(),
            domain.pool.clone(),
            format!("{}/{}", domain.records_verified, domain.records),
            domain
                .admission
                .map_or_else(|| "-".into(), |what| format!("{what:?}")),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let heading = [
        "NAMESPACE",
        "SENDING DOMAIN",
        "READY",
        "REASON",
        "DOMAIN",
        "POOL",
        "RECORDS",
        "MAIL",
    ];
    columns(heading, &rows)
}

fn lists(lists: &[ListLine]) -> String {
    let rows = lists.iter().map(|list| {
        let [namespace, name, ready, reason] = health(&list.health);
        [
            namespace,
            name,
            ready,
            reason,
            list.entries.to_string(),
            format!("{}/{}", list.pools_loaded, list.pools),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let heading = [
        "NAMESPACE",
        "SUPPRESSION LIST",
        "READY",
        "REASON",
        "ENTRIES",
        "POOLS",
    ];
    columns(heading, &rows)
}

fn health(health: &Health) -> [String; 4] {
    let Health {
        namespace,
        name,
        ready,
        reason,
        ..
    } = health;
    [namespace, name, ready, reason].map(|text| printable(text))
}

fn to_fix(overview: &Overview) -> String {
    if overview.fixes.is_empty() {
        return "Nothing to fix.\n".into();
    }
    let mut out = String::from("To fix next:\n");
    for (index, fix) in overview.fixes.iter().enumerate() {
        let number = index + 1;
        let _ = writeln!(
            out,
            "{number}. {} {}/{}: {}\n   {}",
            fix.kind,
            fix.namespace,
            fix.name,
            printable(&fix.message),
            fix.command,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::Everything,
        golden::{self, check},
    };

    #[test]
    fn a_page_with_something_of_each() {
        let overview = Overview::of(&golden::everything());
        check("status.txt", &page(&overview, Some("mail")));
        let text = serde_json::to_string_pretty(&overview).unwrap();
        check("status.json", &(text + "\n"));
    }

    #[test]
    fn all_ready_says_so() {
        let mut everything = golden::everything();
        everything.domains.clear();
        everything.lists.clear();
        let text = page(&Overview::of(&everything), None);
        assert!(text.ends_with("\nNothing to fix.\n"), "{text}");
    }

    #[test]
    fn nothing_there_says_where_it_looked() {
        let empty = Overview::of(&Everything::default());
        assert!(page(&empty, Some("mail")).contains("namespace mail; -A"));
        assert!(page(&empty, None).contains("any namespace"));
    }

    #[test]
    fn records_are_shown_only_where_they_help() {
        for (reason, command) in [
            ("RecordsMissing", "kubectl postrider records shop -n mail"),
            (
                "ReferenceNotFound",
                "kubectl describe sendingdomain shop -n mail",
            ),
        ] {
            let mut everything = golden::everything();
            everything.pools.clear();
            everything.lists.clear();
            everything
                .domains
                .retain(|d| d.spec.domain.as_str() == "shop.example");
            let status = everything.domains[0].status.as_mut().unwrap();
            for condition in &mut status.conditions {
                condition.reason = reason.into();
            }
            let fixes = Overview::of(&everything).fixes;
            assert_eq!(fixes[0].command, command);
        }
    }

    #[test]
    fn a_changed_manifest_is_not_ready() {
        let mut everything = golden::everything();
        for pool in &mut everything.pools {
            pool.metadata.generation = Some(99);
        }
        let overview = Overview::of(&everything);
        assert_eq!(overview.pools[0].health.ready, "Unknown");
        assert_eq!(overview.pools[0].health.reason, "NotObserved");
    }
}
