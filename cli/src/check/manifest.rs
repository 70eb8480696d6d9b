//! Files of YAML documents, read into objects.
//!
//! Promises: every document of every file is either returned or told of; a key that stands twice in
//! a mapping is told of, not taken once. Directories are read whole, in the order of names; files
//! that do not end in `.yaml`, `.yml` or `.json` are looked at only when they are named themselves.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use serde_json::Value;

use super::report::{Item, Outcome};
use crate::error::Error;

/// The path that stands for standard input.
const STANDARD_INPUT: &str = "-";
/// Folders below folders that are followed: more is a loop of links.
const MAX_DEPTH: usize = 32;

/// A document of a file that says which kind of object it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// The file.
    pub(crate) file: String,
    /// Place in the file, from 1.
    pub(crate) number: usize,
    /// The document.
    pub(crate) value: Value,
}

/// All that was read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Documents that name a kind.
    pub(crate) documents: Vec<Document>,
    /// Texts that are no such document.
    pub(crate) problems: Vec<Item>,
}

/// Reads `paths`: files, folders, or `-` for standard input.
///
/// # Errors
///
/// When a path cannot be read.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Read, Error> {
    let mut read = Read::default();
    for path in paths {
        if path.as_os_str() == STANDARD_INPUT {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| unreadable(path, source))?;
            read.file("<standard input>", &text);
            continue;
        }
        for file in files(path, 0)? {
            let text = fs::read_to_string(&file).map_err(|source| unreadable(&file, source))?;
            read.file(&file.display().to_string(), &text);
        }
    }
    Ok(read)
}

/// The files at `path`, sorted.
fn files(path: &Path, depth: usize) -> Result<Vec<PathBuf>, Error> {
    let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    if depth == MAX_DEPTH {
        let source = std::io::Error::other("folders are nested too deeply");
        return Err(unreadable(path, source));
    }
    let entries = fs::read_dir(path).map_err(|source| unreadable(path, source))?;
    let mut children = Vec::new();
    for entry in entries {
        children.push(entry.map_err(|source| unreadable(path, source))?.path());
    }
    children.sort();
    let mut all = Vec::new();
    for child in children {
        if child.is_dir() || is_manifest(&child) {
            all.extend(files(&child, depth + 1)?);
        }
    }
    Ok(all)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| ["yaml", "yml", "json"].contains(&e))
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::Manifest {
        path: path.display().to_string(),
        source,
    }
}

impl Read {
    fn file(&mut self, file: &str, text: &str) {
        for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
            let number = index + 1;
            // By way of YAML's own value, which refuses a key that stands twice.
            let value = serde_yaml::Value::deserialize(document);
            let value = value.and_then(serde_json_value);
            match value {
                Ok(Value::Null) => {}
                Ok(value) => self.document(file, number, value),
                Err(error) => {
                    let message = format!("correct the YAML: {error}");
                    self.problem(file, number, Outcome::Failed, message);
                    // The rest of a text that is no YAML is not known to be documents.
                    return;
                }
            }
        }
    }

    fn document(&mut self, file: &str, number: usize, mut value: Value) {
        let group = value.get("apiVersion").and_then(Value::as_str);
        let kind = value.get("kind").and_then(Value::as_str);
        match (group, kind) {
            (Some("v1"), Some("List")) => {
                let items = value.get_mut("items").map(Value::take);
                if let Some(Value::Array(items)) = items {
                    for item in items {
                        self.document(file, number, item);
                    }
                }
            }
            (Some(_), Some(_)) => self.documents.push(Document {
                file: file.to_owned(),
                number,
                value,
            }),
            (Some(group), None) if group.starts_with(postrider_crds::GROUP) => {
                let message = "give the object a kind".to_owned();
                self.problem(file, number, Outcome::Failed, message);
            }
            _ => {
                let message = "no Kubernetes object: apiVersion or kind is missing".to_owned();
                self.problem(file, number, Outcome::NotChecked, message);
            }
        }
    }

    fn problem(&mut self, file: &str, number: usize, outcome: Outcome, message: String) {
        self.problems.push(Item {
            file: file.to_owned(),
            object: format!("document {number}"),
            check: "Manifest",
            outcome,
            subject: String::new(),
            wanted: None,
            seen: None,
            message,
        });
    }
}

/// JSON knows no tags and no keys but strings; neither does an API server.
fn serde_json_value(value: serde_yaml::Value) -> Result<Value, serde_yaml::Error> {
    use serde::ser::Error as _;
    serde_json::to_value(value).map_err(serde_yaml::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Read {
        let mut read = Read::default();
        read.file("a.yaml", text);
        read
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let read = of(
            "---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: A}\n- {apiVersion: v1, kind: B}\n---\napiVersion: v1\nkind: C\n",
        );
        let kinds: Vec<_> = read
            .documents
            .iter()
            .map(|d| d.value["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert!(read.problems.is_empty());
    }

    #[test]
    fn what_is_no_object_is_told_of() {
        for (text, outcome, part) in [
            ("a: 1\na: 2\n", Outcome::Failed, "duplicate"),
            ("{{ .Values.x }}\n", Outcome::Failed, "correct the YAML"),
            ("a: [\n", Outcome::Failed, "correct the YAML"),
            (
                "apiVersion: postrider.dev/v1alpha1\n",
                Outcome::Failed,
                "kind",
            ),
            ("replicas: 3\n", Outcome::NotChecked, "no Kubernetes object"),
        ] {
            let read = of(text);
            assert!(read.documents.is_empty(), "{text}");
            assert_eq!(read.problems[0].outcome, outcome, "{text}");
            let message = &read.problems[0].message;
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn folders_are_read_in_order_and_only_manifests_of_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["c.yml", "b/d.json", "a.yaml", "notes.md"] {
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        let found = files(dir.path(), 0).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a.yaml", "b/d.json", "c.yml"]);
        let missing = read(&[dir.path().join("none")]).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
