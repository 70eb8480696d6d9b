//! The definitions in the chart and the reference of their fields are what `crdgen` writes.

use std::{path::Path, process::Command};

#[test]
fn what_is_generated_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let checked = Command::new(env!("CARGO_BIN_EXE_crdgen"))
        .arg("--check")
        .args(["charts/postrider/files/crds", "docs/api.md"].map(|path| root.join(path)))
        .output()
        .expect("crdgen starts");
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "run `make crds`: {told}");
}
