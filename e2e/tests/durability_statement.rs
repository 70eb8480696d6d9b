//! Every promise of `docs/durability.md` names tests, and each of them is there.

use std::{fs, path::Path};

/// Folders the statement abbreviates.
const FOLDERS: [(&str, &str); 2] = [
    ("custody/", "relay/src/custody/tests/"),
    ("claims/", "relay/tests/claims/"),
];

/// The names of tests in a promise: `file: function`, in backticks within the brackets at its end.
fn tests_of(promise: &str) -> Vec<(String, &str)> {
    let Some((_, named)) = promise.rsplit_once('[') else {
        return Vec::new();
    };
    let named = named.split('`').skip(1).step_by(2);
    let split = named.filter_map(|name| name.split_once(": "));
    split
        .filter_map(|(file, function)| {
            let (short, folder) = FOLDERS.iter().find(|(short, _)| file.starts_with(short))?;
            Some((file.replacen(short, folder, 1), function))
        })
        .collect()
}

/// Whether the source has a test of that name.
fn has_test(source: &str, function: &str) -> bool {
    let head = format!("fn {function}(");
    let Some((before, _)) = source.split_once(&head) else {
        return false;
    };
    let attributes = before.rsplit("\n\n").next().unwrap_or_default();
    attributes.contains("#[test]") || attributes.contains("#[tokio::test")
}

#[test]
fn names_a_test_that_exists_for_every_promise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let statement = fs::read_to_string(root.join("docs/durability.md")).expect("the statement");
    let mut broken = Vec::new();
    let mut promises = 0;
    for line in statement.lines() {
        let Some((number, promise)) = line.split_once(". ") else {
            continue;
        };
        let Ok(number) = number.parse::<usize>() else {
            continue;
        };
        promises += 1;
        if number != promises {
            broken.push(format!("promise {number} comes at place {promises}"));
        }
        let tests = tests_of(promise);
        if tests.is_empty() {
            broken.push(format!("promise {number} names no test"));
        }
        for (file, function) in tests {
            let source = fs::read_to_string(root.join(&file)).unwrap_or_default();
            if !has_test(&source, function) {
                broken.push(format!("promise {number}: no test {function} in {file}"));
            }
        }
    }
    assert!(promises > 20, "{promises} promises");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
