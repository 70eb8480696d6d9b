//! `check` finds in manifests and DNS what is wrong there, says so for people and machines, and
//! answers pull requests by its exit code.

use std::{fs, net::SocketAddr, path::Path};

use postrider_e2e::{
    cluster::Cache,
    peers::{
        StopOnDrop,
        dns::{Nameserver, Zone},
        loopback,
    },
};
use serde_json::Value;

use crate::support::{postrider, text};

const POOL: &str = "
apiVersion: postrider.dev/v1alpha1
kind: RelayPool
metadata: {name: default, namespace: mail}
spec:
  hostname: mail.relays.test
  egress: {addresses: [192.0.2.10, 192.0.2.11]}
";

fn domain(name: &str, domain: &str) -> String {
    format!(
        "---\napiVersion: postrider.dev/v1alpha1\nkind: SendingDomain\n\
         metadata: {{name: {name}, namespace: mail}}\n\
         spec: {{domain: {domain}, poolRef: {{name: default}}}}\n"
    )
}

fn good() -> Zone {
    Zone::new("good.test")
        .txt("bounce", "v=spf1 ip4:192.0.2.10 ip4:192.0.2.11 -all")
        .mx("bounce", 10, "mail.relays.test")
        .txt("_dmarc", "v=DMARC1; p=reject")
}

/// SPF knows one address of two, DMARC stands twice, the return path has a null MX.
fn broken() -> Zone {
    Zone::new("broken.test")
        .txt("bounce", "v=spf1 ip4:192.0.2.10 -all")
        .mx("bounce", 0, "")
        .txt("_dmarc", "v=DMARC1; p=none")
        .txt("_dmarc", "v=DMARC1; p=reject")
}

async fn serve(dir: &Path, host: u8) -> Nameserver {
    let listen = SocketAddr::from((loopback(host), 5300));
    let relays = Zone::new("relays.test").address("mail", "192.0.2.10".parse().unwrap());
    let zones = [good(), broken(), Zone::new("empty.test"), relays];
    let cache = Cache::of_user().unwrap();
    Nameserver::start(dir, &cache, listen, &zones)
        .await
        .unwrap()
}

fn find<'a>(report: &'a Value, object: &str, check: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let found = checks
        .iter()
        .find(|item| item["object"] == object && item["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} of {object} in {report:#}"))
}

/// What `check` says of the manifests in `path` as JSON, with its exit code.
async fn check(path: &str, resolver: &str) -> (Option<i32>, Value) {
    let output = postrider(&["check", "-f", path, "--resolver", resolver, "-o", "json"]).await;
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), report)
}

#[tokio::test]
async fn good_zones_pass_and_broken_ones_are_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let _stop = StopOnDrop(dir.path().join("dns"));
    let nameserver = serve(&dir.path().join("dns"), 21).await;
    let resolver = nameserver.address().to_string();
    let manifests = dir.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("pool.yaml"), POOL).unwrap();
    fs::write(manifests.join("good.yaml"), domain("good", "good.test")).unwrap();
    let path = manifests.display().to_string();
    good_zones_pass(&path, &resolver).await;

    let more = [
        domain("broken", "broken.test"),
        domain("empty", "empty.test"),
    ]
    .concat();
    fs::write(manifests.join("more.yaml"), more).unwrap();
    broken_zones_are_named(&path, &resolver).await;
    people_get_a_table(&path, &resolver).await;
    junit_is_read_by_others(&path, &resolver).await;
    nameserver.stop().await.unwrap();
}

async fn good_zones_pass(path: &str, resolver: &str) {
    let (code, report) = check(path, resolver).await;
    assert_eq!(code, Some(0), "{report:#}");
    for check in ["Manifest", "SPF", "DMARC", "ReturnPath"] {
        assert_eq!(
            find(&report, "SendingDomain mail/good", check)["outcome"],
            "Passed",
            "{report:#}"
        );
    }
    // A key that is made in the cluster is never taken for published.
    assert_eq!(
        find(&report, "SendingDomain mail/good", "DKIM")["outcome"],
        "NotChecked"
    );
    assert_eq!(report["notChecked"], 2);
}

async fn broken_zones_are_named(path: &str, resolver: &str) {
    let (code, report) = check(path, resolver).await;
    assert_eq!(code, Some(1), "{report:#}");
    for (object, check, subject, message) in [
        ("broken", "SPF", "TXT bounce.broken.test", "192.0.2.11"),
        ("broken", "DMARC", "TXT _dmarc.broken.test", "only one"),
        ("broken", "ReturnPath", "MX bounce.broken.test", "MX"),
        ("empty", "SPF", "TXT bounce.empty.test", "publish"),
        ("empty", "DMARC", "TXT _dmarc.empty.test", "publish"),
        ("empty", "ReturnPath", "MX bounce.empty.test", "publish"),
    ] {
        let item = find(&report, &format!("SendingDomain mail/{object}"), check);
        assert_eq!(item["outcome"], "Failed", "{item}");
        assert_eq!(item["subject"], subject, "{item}");
        assert!(
            item["message"].as_str().unwrap().contains(message),
            "{item}"
        );
        assert!(
            item["file"].as_str().unwrap().ends_with("more.yaml"),
            "{item}"
        );
        assert!(item["wanted"].is_string(), "{item}");
    }
    assert_eq!(report["failed"], 6, "{report:#}");
}

async fn people_get_a_table(path: &str, resolver: &str) {
    let output = postrider(&["check", "-f", path, "--resolver", resolver]).await;
    let table = text(&output);
    assert!(
        table.contains("more.yaml: SendingDomain mail/broken"),
        "{table}"
    );
    assert!(
        table.contains("seen    v=spf1 ip4:192.0.2.10 -all"),
        "{table}"
    );
    assert!(
        output.stderr.is_empty(),
        "no progress is drawn where no terminal is"
    );
}

/// The XML reader of Python counts what the report says.
async fn junit_is_read_by_others(path: &str, resolver: &str) {
    let output = postrider(&["check", "-f", path, "--resolver", resolver, "-o", "junit"]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &output.stdout).unwrap();
    let script = "import sys, xml.etree.ElementTree as t\n\
                  r = t.parse(sys.argv[1]).getroot()\n\
                  print(r.tag, r.get('failures'), len(r.findall('.//failure')), \
                  len(r.findall('.//skipped')), len(r.findall('.//testcase')) == int(r.get('tests')))";
    let judged = tokio::process::Command::new("python3")
        .args(["-c", script])
        .arg(file.path())
        .output()
        .await
        .unwrap();
    assert_eq!(
        text(&judged),
        "testsuites 6 6 6 True\n",
        "{}",
        text(&output)
    );
}

#[tokio::test]
async fn dns_that_does_not_answer_is_never_taken_for_a_missing_record_nor_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("all.yaml");
    fs::write(&manifest, [POOL, &domain("good", "good.test")].concat()).unwrap();
    // Nobody listens there.
    let resolver = format!("{}:5301", loopback(22));
    let path = manifest.display().to_string();
    let (code, report) = check(&path, &resolver).await;
    assert_eq!(code, Some(1), "{report:#}");
    let spf = find(&report, "SendingDomain mail/good", "SPF");
    assert!(
        spf["message"]
            .as_str()
            .unwrap()
            .contains("lookup of bounce.good.test failed"),
        "{spf}"
    );
}

#[tokio::test]
async fn manifests_that_do_not_fit_are_refused_without_a_question() {
    let dir = tempfile::tempdir().unwrap();
    let resolver = format!("{}:5301", loopback(23));
    let cases = [
        (
            "unknown.yaml",
            "apiVersion: postrider.dev/v1alpha1\nkind: RelayPool\nmetadata: {name: a}\nspec: {hostname: mail.a.test, repliacs: 3}\n",
            "spec.repliacs",
        ),
        (
            "kind.yaml",
            "apiVersion: postrider.dev/v1alpha1\nkind: RelayPol\nmetadata: {name: a}\n",
            "RelayPol",
        ),
        (
            "rule.yaml",
            "apiVersion: postrider.dev/v1alpha1\nkind: RelayPool\nmetadata: {name: a}\nspec: {hostname: Mail.a.test}\n",
            "spec.hostname",
        ),
        (
            "pool.yaml",
            "apiVersion: postrider.dev/v1alpha1\nkind: SendingDomain\nmetadata: {name: a}\nspec: {domain: a.test, poolRef: {name: nowhere}}\n",
            "spec.poolRef.name",
        ),
        ("yaml.yaml", "a: [\n", "correct the YAML"),
    ];
    for (name, manifest, part) in cases {
        let path = dir.path().join(name).display().to_string();
        fs::write(&path, manifest).unwrap();
        let output = postrider(&["check", "-f", &path, "--resolver", &resolver]).await;
        let table = text(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {table}");
        assert!(
            table.contains(part) && table.contains("FAILED"),
            "{name}: {table}"
        );
    }
}

#[tokio::test]
async fn a_check_that_cannot_be_made_exits_2() {
    for arguments in [
        &["check"][..],
        &["check", "-f", "/nonexistent"],
        &["check", "-f", ".", "--resolver", "dns.example.net"],
        &["check", "-f", ".", "-o", "yaml"],
    ] {
        let output = postrider(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}
