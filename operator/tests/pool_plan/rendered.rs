//! The objects of a pool, as golden files.

use std::path::Path;

use k8s_openapi::api::apps::v1::StatefulSet;

use super::*;

/// Compares with the file, or writes it when UPDATE_GOLDEN is set.
fn golden(name: &str, object: &impl serde::Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let text = serde_yaml::to_string(object).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text, wanted,
        "{name}: run with UPDATE_GOLDEN=1 if the change is meant"
    );
}

#[test]
fn secrets_to_pull_the_image_with_are_all_that_they_change() {
    let mut seen = bare(json!({}));
    let mut without = plan(&seen).children.stateful_set;
    seen.image.pull_secrets = vec!["mirror".into(), "registry".into()];
    let with = plan(&seen).children.stateful_set;
    let template = |set: &mut StatefulSet| {
        set.spec
            .as_mut()?
            .template
            .spec
            .as_mut()?
            .image_pull_secrets
            .take()
    };
    assert_eq!(template(&mut without), None);
    let mut stripped = with;
    let secrets = template(&mut stripped).unwrap();
    let names: Vec<_> = secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, ["mirror", "registry"]);
    assert_eq!(stripped, without);
}

#[test]
fn rendered_objects_are_as_recorded() {
    let children = plan(&bare(json!({
        "listeners": {"submission": {"port": 2525}},
        "template": {
            "metadata": {"labels": {"team": "mail"}, "annotations": {"note": "x"}},
            "resources": {"requests": {"cpu": "100m"}},
        },
    })))
    .children;
    golden("stateful_set.yaml", &children.stateful_set);
    golden("members_service.yaml", &children.services[0]);
    golden("client_service.yaml", &children.services[1]);
    golden("budget.yaml", &children.budget);
    golden("service_account.yaml", &children.service_account);
    golden("config_map.yaml", &children.config_map);
    golden("credentials.yaml", &children.secrets[0]);
}
