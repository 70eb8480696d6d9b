//! The manifests that a real API server accepts and refuses in the end-to-end tests, judged here.

use std::{fs, path::Path};

use serde::Deserialize as _;

use super::*;

/// First words of rules that compare with the object in the cluster: only an API server can ask.
const CHANGES: [&str; 3] = [
    "domain is immutable",
    "size cannot be changed",
    "storageClassName is immutable",
];

fn cases(folder: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../e2e/tests/data/manifests")
        .join(folder);
    let mut cases: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    cases.sort();
    cases
}

fn documents(text: &str) -> Vec<Document> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .enumerate()
        .map(|(index, value)| Document {
            file: "m.yaml".into(),
            number: index + 1,
            value,
        })
        .collect()
}

fn told(problems: &[Item]) -> String {
    let texts = problems.iter().map(|item| {
        let empty = String::new();
        let wanted = item.wanted.as_ref().unwrap_or(&empty);
        format!("{}: {} ({wanted})", item.subject, item.message)
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_an_api_server_accepts_is_accepted() {
    let definitions = Definitions::new();
    let mut accepted = 0;
    for (path, text) in cases("accepted") {
        for document in documents(&text) {
            definitions
                .judge(document)
                .unwrap_or_else(|problems| panic!("{path}: {}", told(&problems)));
            accepted += 1;
        }
    }
    assert!(accepted >= 14, "{accepted}");
}

#[test]
fn what_an_api_server_refuses_is_refused_for_the_same_reason() {
    let definitions = Definitions::new();
    let mut refused = 0;
    for (path, text) in cases("refused") {
        let first = text.lines().next().unwrap();
        let wanted = first.strip_prefix("# refused: ").unwrap();
        let last = documents(&text).pop().unwrap();
        let result = definitions.judge(last);
        if CHANGES.iter().any(|rule| wanted.starts_with(rule)) {
            assert!(result.is_ok(), "{path} is judged without the cluster");
            continue;
        }
        let problems = result.expect_err(&path);
        let told = told(&problems);
        assert!(
            says(&told, wanted),
            "{path}: wanted {wanted:?}, told {told:?}"
        );
        assert!(problems.iter().all(|p| p.outcome == Outcome::Failed));
        refused += 1;
    }
    assert!(refused > 95, "{refused}");
}

/// Whether `told` says what the API server's words `wanted` say.
fn says(told: &str, wanted: &str) -> bool {
    let in_our_words = |text: &str| -> Option<String> {
        if let Some(rest) = text.strip_prefix("unknown field \"") {
            return Some(format!("{}: unknown field", rest.trim_end_matches('"')));
        }
        // Of an object that has no fields.
        if let Some(field) = text.strip_suffix(" in body is a forbidden property") {
            return Some(format!("{field}: unknown field"));
        }
        if let Some(field) = text.strip_suffix(": Required value") {
            return Some(format!("{field}: required"));
        }
        let (_, values) = text.split_once("supported values: ")?;
        Some(format!("({values})"))
    };
    let number = |text: &str| {
        text.split(' ')
            .find(|w| w.parse::<u32>().is_ok())
            .map(str::to_owned)
    };
    if told.contains(wanted) || in_our_words(wanted).is_some_and(|words| told.contains(&words)) {
        return true;
    }
    let limits = ["should be ", "should have ", "may not be more than "];
    limits.iter().any(|start| wanted.starts_with(start))
        && number(wanted).is_some_and(|n| told.contains("must ") && told.contains(&n))
}

#[test]
fn kinds_and_versions_are_named() {
    let definitions = Definitions::new();
    let judge = |text: &str| {
        definitions
            .judge(documents(text).remove(0))
            .unwrap_err()
            .remove(0)
    };
    let kind =
        judge("{apiVersion: postrider.dev/v1alpha1, kind: SendingDomian, metadata: {name: a}}");
    assert_eq!(
        (kind.outcome, kind.subject.as_str()),
        (Outcome::Failed, "kind")
    );
    assert_eq!(
        kind.wanted.as_deref(),
        Some("SendingDomain, RelayPool, SuppressionList")
    );
    let version = judge("{apiVersion: postrider.dev/v1, kind: RelayPool, metadata: {name: a}}");
    assert_eq!(version.subject, "apiVersion");
    let foreign = judge("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}");
    assert_eq!(foreign.outcome, Outcome::NotChecked);
    let unnamed = judge("{apiVersion: postrider.dev/v1alpha1, kind: SuppressionList, spec: {}}");
    assert_eq!(unnamed.subject, "metadata.name");
    let name = judge(
        "{apiVersion: postrider.dev/v1alpha1, kind: SuppressionList, metadata: {name: A_b}, spec: {}}",
    );
    assert_eq!(name.seen.as_deref(), Some("A_b"));
}

#[test]
fn every_rule_can_be_evaluated() {
    let definitions = Definitions::new();
    for definition in &definitions.kinds {
        assert!(
            !definition.rules.has_errors(),
            "{:?}",
            definition.rules.compilation_errors()
        );
    }
}
