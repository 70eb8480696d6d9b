//! The chart renders what its golden files say, lints clean, and refuses values it does not know.
//!
//! Needs helm: `$HELM`, else the one in the cache of the cluster's binaries, which is built there
//! if it is missing. `UPDATE_GOLDEN=1` rewrites the golden files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use postrider_e2e::cluster::{Cache, Progress, Tools};

async fn helm() -> PathBuf {
    if let Some(path) = std::env::var_os("HELM") {
        return path.into();
    }
    let cache = Cache::of_user().expect("a cache");
    let tools = Tools::ready(&cache, &Progress::nowhere()).await;
    tools.expect("the tools can be made").helm()
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/postrider")
}

fn run(helm: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(helm);
    command.args(arguments).output().expect("helm runs")
}

fn render(helm: &Path, more: &[&str]) -> Output {
    let chart = chart();
    let chart = chart.to_str().expect("a path in UTF-8");
    let fixed = [
        "template",
        "postrider",
        chart,
        "-n",
        "postrider-system",
        "--kube-version=1.33.0",
    ];
    run(helm, &[&fixed[..], more].concat())
}

#[tokio::test]
async fn rendered_objects_are_the_golden_ones() {
    let helm = helm().await;
    for name in ["default", "one_namespace", "namespaces", "all_options"] {
        let values = chart().join(format!("tests/values/{name}.yaml"));
        let output = render(&helm, &["-f", values.to_str().expect("a path in UTF-8")]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let golden = chart().join(format!("tests/golden/{name}.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &text).expect("written");
        }
        let wanted = fs::read_to_string(&golden).expect("a golden file");
        assert!(
            text == wanted,
            "{name} differs; look at it with UPDATE_GOLDEN=1 and git diff"
        );
    }
}

#[tokio::test]
async fn wrong_values_are_refused_by_name() {
    let helm = helm().await;
    for (value, part) in [
        ("replica=3", "additional properties 'replica' not allowed"),
        (
            "image.operator.name=x",
            "additional properties 'name' not allowed",
        ),
        (
            "prometheusRule.enabled=true",
            "'prometheusRule' not allowed",
        ),
        ("logFormat=xml", "/logFormat"),
        ("replicas=-1", "/replicas"),
        ("watchNamespaces={Mail}", "/watchNamespaces/0"),
        ("resolvers={10.0.0.10}", "/resolvers/0"),
        ("crds.enabled=maybe", "/crds/enabled"),
        (
            "image.relay.pullSecrets={a/b}",
            "/image/relay/pullSecrets/0",
        ),
    ] {
        let output = render(&helm, &["--set", value]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{value} was accepted");
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[tokio::test]
async fn lint_is_clean() {
    let chart = chart();
    let chart = chart.to_str().expect("a path in UTF-8");
    let output = run(&helm().await, &["lint", "--strict", chart]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
