//! Objects that drifted, and such as the API server spells in its own way.

use super::*;

#[test]
fn what_covers_and_what_drifted() {
    let wanted = json!({
        "metadata": {"labels": {"a": "1"}, "ownerReferences": [{"uid": "u"}]},
        "spec": {"replicas": 2, "containers": [{"name": "relay", "args": ["--x"]}]},
    });
    let live = json!({
        "metadata": {
            "labels": {"a": "1", "b": "2"}, "resourceVersion": "7",
            "ownerReferences": [{"uid": "other"}, {"uid": "u", "controller": true}],
        },
        "spec": {"replicas": 2, "containers": [{"name": "relay", "args": ["--x"], "image": "i"}]},
        "status": {},
    });
    assert!(covers(&live, &wanted));
    for (path, value) in [
        ("/spec/replicas", json!(3)),
        ("/metadata/labels/a", json!("9")),
        ("/spec/containers/0/args", json!(["--x", "--y"])),
        ("/spec/containers", json!([])),
        ("/metadata/ownerReferences", json!([{"uid": "other"}])),
    ] {
        let mut drifted = live.clone();
        *drifted.pointer_mut(path).unwrap() = value;
        assert!(!covers(&drifted, &wanted), "{path}");
    }
}

#[test]
fn what_the_server_drops_is_no_difference() {
    let wanted = json!({"data": {}, "list": [], "nothing": null, "nested": {"empty": {}}});
    assert!(covers(&json!({}), &wanted));
    assert!(!covers(&json!({}), &json!({"no": false})));
}

#[test]
fn a_field_no_longer_wanted_changes_the_digest() {
    let with = with_digest(json!({"metadata": {}, "spec": {"a": 1, "b": 2}}));
    let without = with_digest(json!({"metadata": {}, "spec": {"a": 1}}));
    assert!(!covers(&with, &without));
    assert!(covers(&with, &with));
}
