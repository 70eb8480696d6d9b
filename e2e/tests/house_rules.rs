//! House rules a compiler does not know, over every file of the checkout.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Longest file, its tests module excluded.
const MAX_LINES: usize = 600;
/// Directories in which only one machine has anything: people's homes, mounts, scratch.
const ROOTS_OF_ONE_MACHINE: [&str; 8] = [
    "Users",
    "Volumes",
    "home",
    "mnt",
    "root",
    "tmp",
    "work",
    "workspace",
];

/// Every text of the checkout, with its path.
fn texts() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        &mut files,
    );
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        Some((path, text))
    };
    files.into_iter().filter_map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != ".git" && name != "target" {
            collect(&path, files);
        } else if path.is_file() && name != ".git" {
            files.push(path);
        }
    }
}

#[test]
fn no_text_names_a_path_of_one_machine() {
    let texts = texts();
    assert!(texts.len() > 400, "{}", texts.len());
    let roots = ROOTS_OF_ONE_MACHINE.map(|root| format!("/{root}/"));
    for (path, text) in texts {
        let found = roots.iter().find(|root| text.contains(*root));
        assert_eq!(found, None, "{}", path.display());
    }
}

#[test]
fn every_source_keeps_the_rules() {
    let mut broken = Vec::new();
    // Spelt in two parts, so that this file does not break its own rules.
    let ignored = ["#[ign", "ore"].concat();
    let sources: Vec<_> = texts()
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "rs"))
        .map(|(path, text)| (path.display().to_string(), text))
        .collect();
    assert!(sources.len() > 30, "{}", sources.len());
    for (path, text) in sources {
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
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_live_suite_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("text");
    let makefile = read("Makefile").replace("\\\n", "");
    let is_suites = |line: &&str| line.starts_with("SUITES := ") || line.starts_with("BESIDE := ");
    let suites = makefile.lines().filter(is_suites);
    let named: Vec<&str> = suites.flat_map(str::split_whitespace).collect();
    let mut count = 0;
    for package in ["e2e", "operator", "cli", "relay", "crds", "process"] {
        for test in read(&format!("{package}/Cargo.toml"))
            .split("[[test]]")
            .skip(1)
        {
            let test = test.split("\n[").next().unwrap_or_default();
            if test.contains("test = false") {
                let name = test.split('"').nth(1).expect("a name");
                assert!(named.contains(&name), "make test leaves out {name}");
                count += 1;
            }
        }
    }
    assert_eq!(
        count,
        named.iter().filter(|word| **word == "--test").count()
    );
}
