//! The import table of docs/ARCHITECTURE.md holds over the resolved dependencies.

use std::process::Command;

/// Names of all packages that `package` is built with, itself included.
fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges=normal",
            "--prefix=none",
            "--format={p}",
        ])
        .args(["--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

#[test]
fn no_room_imports_what_it_may_not() {
    for (package, never) in [
        (
            "postrider-crds",
            &[
                "tokio",
                "kube-client",
                "postrider-operator",
                "postrider-relay",
            ][..],
        ),
        (
            "postrider-process",
            &["kube-core", "k8s-openapi", "postrider-crds"],
        ),
        (
            "postrider-operator",
            &["postrider-relay", "postrider-cli", "postrider-e2e"],
        ),
        (
            "postrider-relay",
            &[
                "kube",
                "kube-core",
                "k8s-openapi",
                "postrider-operator",
                "postrider-cli",
            ],
        ),
        ("postrider-cli", &["postrider-e2e"]),
        (
            "postrider-bench",
            &[
                "tokio",
                "kube-core",
                "postrider-operator",
                "postrider-relay",
            ],
        ),
    ] {
        let names = tree(package);
        assert!(
            names.iter().any(|name| name == package),
            "{package} is in its own tree"
        );
        for name in never {
            assert!(!names.iter().any(|n| n == name), "{package} imports {name}");
        }
    }
}
