//! The import table of docs/ARCHITECTURE.md holds over the resolved dependencies. The table is all there
//! is to say: this file knows how it is written, and no room by name.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

/// What brings Kubernetes into anything that is built with it.
const KUBERNETES: &str = "kube-core";

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    room: String,
    may: May,
    /// Rooms and crates that it is never built with.
    never: BTreeSet<String>,
}

/// The rooms that a room may import.
#[derive(Debug, PartialEq, Eq)]
enum May {
    Everything,
    Only(BTreeSet<String>),
}

/// A room as it is.
#[derive(Debug, Default)]
struct Room {
    /// The rooms it imports itself.
    imports: BTreeSet<String>,
    /// All it is built with: rooms by their names, other crates by theirs.
    built_with: BTreeSet<String>,
}

/// The rows of the table, the first one in `document`.
fn rows(document: &str) -> Vec<Row> {
    let lines = document.lines().skip_while(|line| !line.starts_with('|'));
    let lines = lines.take_while(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [room, may, never] = cells[..] else {
                panic!("three cells in {line}");
            };
            let mut never = names(never);
            if may.contains("without its Kubernetes feature") {
                never.insert(KUBERNETES.to_owned());
            }
            Row {
                room: names(room).pop_first().expect(line),
                may: match may {
                    "everything" => May::Everything,
                    "none of the others" => May::Only(BTreeSet::new()),
                    some => May::Only(names(some)),
                },
                never,
            }
        })
        .collect()
}

/// The names in backticks.
fn names(cell: &str) -> BTreeSet<String> {
    let names = cell.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

/// What breaks the table.
fn violations(rows: &[Row], rooms: &BTreeMap<String, Room>) -> Vec<String> {
    let mut broken = Vec::new();
    for row in rows {
        let Some(room) = rooms.get(&row.room) else {
            broken.push(format!("there is no {}", row.room));
            continue;
        };
        for other in &room.imports {
            let may = match &row.may {
                May::Everything => true,
                May::Only(some) => some.contains(other),
            };
            if !may {
                broken.push(format!("{} imports {other}", row.room));
            }
        }
        for name in row.never.intersection(&room.built_with) {
            broken.push(format!("{} is built with {name}", row.room));
        }
    }
    let told: BTreeSet<_> = rows.iter().map(|row| &row.room).collect();
    let untold = rooms.keys().filter(|room| !told.contains(room));
    broken.extend(untold.map(|room| format!("{room} is not in the table")));
    broken
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The rooms of the workspace by their folders.
fn rooms() -> BTreeMap<String, Room> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let root = text(&metadata["workspace_root"]);
    let packages = metadata["packages"].as_array().expect("packages");
    let folder = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let folder = manifest.strip_prefix(&format!("{root}/"));
        let folder = folder.and_then(|rest| rest.strip_suffix("/Cargo.toml"));
        folder.expect("a member's folder").to_owned()
    };
    let by_package: BTreeMap<String, String> = packages
        .iter()
        .map(|package| (text(&package["name"]), folder(package)))
        .collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let imports = dependencies.iter().filter(|one| one["kind"] != "dev");
            let imports = imports.filter_map(|one| by_package.get(&text(&one["name"])));
            let room = Room {
                imports: imports.cloned().collect(),
                built_with: built_with(&text(&package["name"]), &by_package),
            };
            (folder(package), room)
        })
        .collect()
}

/// All that `package` is built with, rooms by their folders.
fn built_with(package: &str, by_package: &BTreeMap<String, String>) -> BTreeSet<String> {
    let tree = ["tree", "--edges=normal", "--prefix=none", "--format={p}"];
    let tree = cargo(&[&tree[..], &["--package", package]].concat());
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let mut names: BTreeSet<_> = names.map(str::to_owned).collect();
    assert!(names.remove(package), "{package} is in its own tree");
    let room = |name: String| by_package.get(&name).cloned().unwrap_or(name);
    names.into_iter().map(room).collect()
}

#[test]
fn no_room_imports_what_it_may_not() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the table");
    let rows = rows(&document);
    assert!(rows.len() > 5, "{rows:?}");
    let broken = violations(&rows, &rooms());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

const SMALL: &str = "# Rooms\n\n\
    | room | may import | never |\n|---|---|---|\n\
    | `core` | none of the others | `tokio`: it waits for nobody |\n\
    | `edge` | `core`, without its Kubernetes feature, and `wire` | |\n\
    | `wire` | `core` | `edge` |\n\
    | `tests` | everything | |\n\nMore text.\n";

/// Rooms that keep to the small table.
fn small() -> BTreeMap<String, Room> {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let room = |imports: &[&str], built_with: &[&str]| Room {
        imports: set(imports),
        built_with: set(built_with),
    };
    let rooms = [
        ("core", room(&[], &["serde"])),
        ("edge", room(&["core", "wire"], &["core", "wire", "tokio"])),
        ("wire", room(&["core"], &["core", KUBERNETES])),
        ("tests", room(&["core", "edge"], &["core", "edge", "wire"])),
    ];
    rooms.map(|(name, room)| (name.to_owned(), room)).into()
}

#[test]
fn the_table_is_read_as_it_is_written() {
    let rows = rows(SMALL);
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let expected = [
        ("core", May::Only(of(&[])), of(&["tokio"])),
        ("edge", May::Only(of(&["core", "wire"])), of(&[KUBERNETES])),
        ("wire", May::Only(of(&["core"])), of(&["edge"])),
        ("tests", May::Everything, of(&[])),
    ];
    let expected = expected.map(|(room, may, never)| Row {
        room: room.to_owned(),
        may,
        never,
    });
    assert_eq!(rows, expected);
}

#[test]
fn what_the_table_forbids_is_told() {
    let told = |change: fn(&mut BTreeMap<String, Room>)| {
        let mut rooms = small();
        change(&mut rooms);
        violations(&rows(SMALL), &rooms)
    };
    fn add(rooms: &mut BTreeMap<String, Room>, room: &str, import: &str) {
        let room = rooms.get_mut(room).expect("a room");
        room.imports.insert(import.to_owned());
    }
    fn build(rooms: &mut BTreeMap<String, Room>, room: &str, with: &str) {
        let room = rooms.get_mut(room).expect("a room");
        room.built_with.insert(with.to_owned());
    }
    assert_eq!(told(|_| {}), [""; 0]);
    assert_eq!(
        told(|rooms| add(rooms, "core", "wire")),
        ["core imports wire"]
    );
    assert_eq!(
        told(|rooms| add(rooms, "wire", "edge")),
        ["wire imports edge"]
    );
    assert_eq!(
        told(|rooms| build(rooms, "core", "tokio")),
        ["core is built with tokio"]
    );
    assert_eq!(
        told(|rooms| build(rooms, "wire", "edge")),
        ["wire is built with edge"]
    );
    assert_eq!(
        told(|rooms| build(rooms, "edge", KUBERNETES)),
        ["edge is built with kube-core"]
    );
    assert_eq!(
        told(|rooms| drop(rooms.remove("wire"))),
        ["there is no wire"]
    );
    let new = |rooms: &mut BTreeMap<String, Room>| {
        rooms.insert("attic".to_owned(), Room::default());
    };
    assert_eq!(told(new), ["attic is not in the table"]);
}
