//! Documents and reports, well formed and not.

use super::*;

const CONFIG: &str = "\
version: 1
pool: {namespace: mail, name: default}
hostname: mail-{ordinal}.example.net
listeners: {submission: 587}
limits: {messageBytes: 26214400, recipients: 1000, sessions: 500}
delivery:
  retry: {initial: 1m, maximum: 4h}
  expireAfter: 5d
  delayWarningAfter: 4h
  tls: Opportunistic
  connectionsPerSite: 10
";

#[test]
fn a_document_survives_the_round_trip() {
    let config = RelayConfig::from_yaml(CONFIG).unwrap();
    assert_eq!(config.delivery.port, 25);
    assert_eq!(RelayConfig::from_yaml(&config.to_yaml()).unwrap(), config);
}

#[test]
fn an_unknown_key_a_bad_value_and_a_new_version_are_refused_by_name() {
    for (from, to, part) in [
        ("hostname:", "hostnam: x\nhostname:", "hostnam"),
        ("initial: 1m", "initial: 1x", "1x"),
        ("tls: Opportunistic", "tls: Maybe", "Maybe"),
        ("version: 1", "version: 2", "version 2"),
        ("version: 1", "version: 2\nnew: key", "version 2"),
        ("version: 1", "version: one", "version: invalid type"),
        ("version: 1", "new: key", "missing field `version`"),
        ("limits: {", "limits: [", "at line "),
        ("submission: 587", "submission: 99999", "99999"),
    ] {
        let error = RelayConfig::from_yaml(&CONFIG.replace(from, to)).expect_err(to);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn intake_is_open_unless_it_says_otherwise() {
    let open =
        "{domain: a.example, returnPath: b.a.example, admission: Send, keys: [], senders: []}";
    let entry: DomainEntry = serde_yaml::from_str(open).unwrap();
    assert_eq!(entry.intake, Intake::Open);
    assert!(!serde_yaml::to_string(&entry).unwrap().contains("intake"));
    let closed = DomainEntry {
        intake: Intake::Closed,
        ..entry
    };
    let text = serde_yaml::to_string(&closed).unwrap();
    assert!(text.contains("intake: Closed"), "{text}");
    assert_eq!(serde_yaml::from_str::<DomainEntry>(&text).unwrap(), closed);
}

#[test]
fn a_report_of_an_older_relay_counts_nothing() {
    let older = r#"{"pod": "p-0", "documents": {}, "refused": [], "notReady": null,
            "queue": {"due": 1, "deferred": 0, "held": 0, "oldestDueSeconds": 0}}"#;
    let mut report: Report = serde_json::from_str(older).unwrap();
    assert!(report.remaining.is_empty());
    report.remaining.insert("a.example".parse().unwrap(), 3);
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains(r#""remaining":{"a.example":3}"#), "{text}");
}

#[test]
fn keys_do_not_print() {
    let key = SigningKey {
        selector: "pr-1".parse().unwrap(),
        algorithm: KeyAlgorithm::Ed25519,
        state: SigningState::Active,
        private_key: "PRIVATE".into(),
    };
    assert!(!format!("{key:?}").contains("PRIVATE"));
}

#[test]
fn errors_repeat_no_long_value_wherever_it_stands() {
    const KEYRING: &str = "version: 1\ndomains: [{domain: a.example, returnPath: b.a.example, admission: Send, keys: [{selector: s, algorithm: RSA2048, state: Active, privateKey: k}], senders: []}]\n";
    Keyring::from_yaml(KEYRING).unwrap();
    let secret = "MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let pem = format!("\"-----BEGIN PRIVATE KEY-----\\n{secret}\\n-----END PRIVATE KEY-----\\n\"");
    for field in [
        "a.example",
        "Send",
        "RSA2048",
        "Active",
        "[]",
        "s,",
        "selector",
        "1\n",
    ] {
        let end = if field.ends_with(',') { "," } else { "\n" };
        let end = if field.ends_with(['\n', ',']) {
            end
        } else {
            ""
        };
        let text = KEYRING.replacen(field, &format!("{pem}{end}"), 1);
        let error = Keyring::from_yaml(&text).expect_err(field).to_string();
        assert!(!error.contains(secret), "{field}: {error}");
        assert!(error.starts_with("Keyring: "), "{error}");
    }
    let short = KEYRING.replace("Active", "Actve");
    let error = Keyring::from_yaml(&short)
        .expect_err("misspelt")
        .to_string();
    assert!(
        error.contains("`Actve`") && error.contains("`Standby`"),
        "{error}"
    );
}

#[test]
fn shards_are_stable_and_spread() {
    assert_eq!(
        shard_of(&"example.com".parse().unwrap()),
        fnv1a("example.com") % 64
    );
    let used: std::collections::BTreeSet<u32> = (0..2000)
        .map(|n| shard_of(&format!("d{n}.example.com").parse().unwrap()))
        .collect();
    assert_eq!(used.len(), 64);
}
