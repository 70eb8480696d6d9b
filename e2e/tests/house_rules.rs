//! House rules a compiler does not know, over every Rust file of the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Longest file, its tests module excluded.
const MAX_LINES: usize = 600;

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for room in ["crds", "operator", "relay", "cli", "e2e"] {
        for folder in ["src", "tests"] {
            collect(&root.join(room).join(folder), &mut files);
        }
    }
    assert!(files.len() > 30, "{}", files.len());
    let read = |path: PathBuf| {
        (
            path.display().to_string(),
            fs::read_to_string(&path).expect("text"),
        )
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_file_keeps_the_rules() {
    let mut broken = Vec::new();
    // Spelt in two parts, so that this file does not break its own rules.
    let ignored = ["#[ign", "ore"].concat();
    let machine_paths = ["/wo", "rk/"].concat();
    for (path, text) in sources() {
        let code = text
            .split("\n#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let lines = code.lines().count();
        if lines > MAX_LINES {
            broken.push(format!("{path}: {lines} lines, at most {MAX_LINES}"));
        }
        if !text.starts_with("//!") {
            broken.push(format!("{path}: does not open with //!"));
        }
        // The one exception is the section sign of RFC citations.
        if !text.chars().all(|c| c.is_ascii() || c == '\u{a7}') {
            broken.push(format!("{path}: is not ASCII"));
        }
        if text.contains(&ignored) {
            broken.push(format!("{path}: ignores a test"));
        }
        if text.contains(&machine_paths) {
            broken.push(format!("{path}: names a path of one machine"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
