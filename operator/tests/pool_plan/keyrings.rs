//! The shards of the keyring: what each says, which are rendered anew, and which have to wait.

use kube::ResourceExt as _;
use postrider_crds::relay_config::{layout, shard_of};
use postrider_operator::relay_pool::{
    keyring::secrets,
    loaded::{Loaded, PoolKey},
};

use super::*;

#[test]
fn a_keyring_says_what_it_was_rendered_from_unless_it_does_not_fit() {
    let domain = json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
        "metadata": {"name": "d", "namespace": "mail", "uid": "d-uid", "generation": 4},
        "spec": {"domain": "example.com", "poolRef": {"name": "default"}},
        "status": {"conditions": [], "records": [], "dkim": {"active": [], "pending": []},
                   "admission": "Send"},
    });
    let mut seen = running(2);
    seen.domains = vec![Arc::new(serde_json::from_value(domain).unwrap())];
    let name = "example.com".parse().unwrap();
    let reach = |seen: &Observation| {
        let rendered = plan(seen).rendered;
        let state = PoolState {
            rendered,
            ..PoolState::default()
        };
        state.reach(&name, "d-uid", 4)
    };
    let fits = reach(&seen);
    assert_eq!(fits.admission, Some(Admission::Send));
    assert_eq!(fits.awaited, 2);
    seen.keys = vec![Arc::new(DkimKey {
        secret: "d-key".into(),
        sending_domain: "d".into(),
        selector: "pr-1".parse().unwrap(),
        algorithm: KeyAlgorithm::RSA2048,
        life: Life::new(jiff::Timestamp::UNIX_EPOCH, None)
            .at(KeyState::Active, jiff::Timestamp::UNIX_EPOCH),
        private_key: "x".repeat(MAX_DOCUMENT).into(),
    })];
    assert_eq!(reach(&seen).admission, None, "relays keep the old one");
}

/// A domain of the pool, whose keyring says `admission`.
fn served(name: &str, generation: i64, admission: &str) -> Arc<SendingDomain> {
    let domain = json!({
        "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
        "metadata": {"name": name, "namespace": "mail", "uid": name, "generation": generation},
        "spec": {"domain": format!("{name}.example"), "poolRef": {"name": "default"}},
        "status": {"admission": admission},
    });
    Arc::new(serde_json::from_value(domain).unwrap())
}

/// What is planned next, once what `plan` asks for is written and cached.
fn stored(seen: &mut Observation, plan: &Plan) {
    let written: Vec<_> = secrets(seen, &plan.children.keyrings).collect();
    for keyring in written {
        let mut keyring = kept(keyring);
        let before = seen.secrets.get(&keyring.name_any());
        if before.is_some_and(|before| before.data == keyring.data) {
            continue;
        }
        let version = before.and_then(|before| before.resource_version());
        let version: u32 = version.map_or(0, |version| version.parse().unwrap());
        keyring.metadata.resource_version = Some((version + 1).to_string());
        seen.secrets.insert(keyring.name_any(), Arc::new(keyring));
    }
    seen.state.rendered = plan.rendered.clone();
}

#[test]
fn a_changed_domain_renders_its_shard_and_no_other() {
    let mut seen = running(2);
    let all = ["ada", "bob", "cy", "dan"];
    seen.domains = all.iter().map(|name| served(name, 1, "Send")).collect();
    let first = plan(&seen);
    assert_eq!(
        first.children.keyrings.len(),
        4,
        "each has a shard to itself"
    );
    stored(&mut seen, &first);
    let compared = plan(&seen);
    assert_eq!(compared.rendered.documents, first.rendered.documents);
    stored(&mut seen, &compared);
    let rest = plan(&seen);
    assert!(rest.children.keyrings.is_empty());
    assert_eq!(rest.rendered.shards, compared.rendered.shards);

    seen.domains[1] = served("bob", 2, "Hold");
    let changed = plan(&seen);
    assert_eq!(changed.children.keyrings.len(), 1);
    let digests = |plan: &Plan| plan.rendered.documents.clone();
    let differing = digests(&changed)
        .into_iter()
        .filter(|(path, digest)| digests(&rest).get(path) != Some(digest));
    assert_eq!(differing.count(), 1);
    stored(&mut seen, &changed);

    // Somebody edits the Secret of another.
    let shard = first.children.keyrings[0];
    let name = secrets(&seen, &[shard]).next().unwrap().name_any();
    let edited = Arc::make_mut(seen.secrets.get_mut(&name).unwrap());
    edited.metadata.resource_version = Some("edited".into());
    let rendered = plan(&seen).children.keyrings;
    assert!(rendered.contains(&shard), "{rendered:?}");
    // Its last domain goes: it is emptied.
    seen.domains.clear();
    assert_eq!(plan(&seen).children.keyrings.len(), 4);
}

#[test]
fn what_could_not_be_written_is_rendered_again() {
    let mut seen = running(2);
    seen.domains = ["ada", "bob"].map(|name| served(name, 1, "Send")).to_vec();
    let first = plan(&seen);
    let pool = PoolKey {
        namespace: "mail".into(),
        name: "default".into(),
    };
    let loaded = Loaded::default();
    loaded.set_rendered(&pool, first.rendered);
    seen.state = loaded.state(&pool);
    assert!(plan(&seen).children.keyrings.is_empty(), "being written");
    let failed = first.children.keyrings[0];
    loaded.set_unwritten(&pool, failed);
    seen.state = loaded.state(&pool);
    let again = plan(&seen);
    assert_eq!(again.children.keyrings, [failed]);
    loaded.set_rendered(&pool, again.rendered);
    seen.state = loaded.state(&pool);
    assert!(
        plan(&seen).children.keyrings.is_empty(),
        "once for a failure"
    );
}

#[test]
fn the_shard_of_a_domain_that_nobody_can_decode_stays_as_it_is_and_ready_says_so() {
    let mut seen = running(2);
    seen.domains = ["ada", "bob"].map(|name| served(name, 1, "Send")).to_vec();
    let first = plan(&seen);
    stored(&mut seen, &first);
    let ada = shard_of(&"ada.example".parse().unwrap());
    let path = layout::keyring(ada);
    let both = seen.domains.clone();
    seen.domains.remove(0);
    let emptied = plan(&seen);
    assert!(
        emptied.children.keyrings.contains(&ada),
        "it counts as deleted"
    );

    seen.undecodable.shards = [ada].into();
    let error = "unknown field `later`".to_owned();
    let object = ("SendingDomain", "ada".to_owned(), error);
    seen.undecodable.objects = vec![object];
    let selector = "pr-1".parse().unwrap();
    // Also after a restart, when nothing is known but the Secret.
    for state in [seen.state.clone(), PoolState::default()] {
        seen.state = state;
        let mut seen = answering(seen.clone());
        let kept = plan(&seen);
        assert!(!kept.children.keyrings.contains(&ada));
        let digest = |plan: &Plan| plan.rendered.documents.get(&path).cloned();
        assert_eq!(digest(&kept), digest(&first));
        let name = "ada.example".parse().unwrap();
        seen.state.rendered = kept.rendered.clone();
        assert!(
            !seen.state.selector_released_everywhere(&name, &selector),
            "who knows what relays have"
        );
        has(
            &seen,
            &[
                "Ready=False/ObjectUnreadable",
                "Stalled=True/ObjectUnreadable",
            ],
        );
        let message = &kept.status.conditions[0].message;
        assert!(
            message.starts_with("SendingDomain ada is of a form"),
            "{message}"
        );
        assert!(
            message.contains("unknown field `later`; what relays"),
            "{message}"
        );

        seen.undecodable = Unread::default();
        seen.domains = both.clone();
        let again = plan(&seen);
        assert_eq!(digest(&again), digest(&first));
        assert_eq!(again.children.keyrings, [ada], "looked at again");
    }
}

#[test]
fn what_may_not_be_written_yet_stays_as_it_was_and_the_longest_waiting_comes_first() {
    let mut seen = running(2);
    let all = ["ada", "bob", "cy", "dan"];
    seen.domains = all.map(|name| served(name, 1, "Send")).to_vec();
    let first = plan(&seen);
    stored(&mut seen, &first);
    let before = plan(&seen).rendered;
    seen.state.rendered = before.clone();

    let hold = all.map(|name| served(name, 2, "Hold")).to_vec();
    seen.domains = hold;
    seen.allowance = 0;
    let none = plan(&seen);
    assert!(none.children.keyrings.is_empty());
    assert_eq!(
        none.rendered, before,
        "nothing is said of what is not rendered"
    );
    assert_eq!(none.look_again.as_secs(), 1);
    let mut rendered = Vec::new();
    for second in 1..=4 {
        seen.allowance = 1;
        seen.now =
            NOW.parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_secs(second);
        let one = plan(&seen);
        assert_eq!(one.children.keyrings.len(), 1);
        rendered.push(one.children.keyrings[0]);
        stored(&mut seen, &one);
        // The cache shows another version of what was written, which is looked at when it may be.
        seen.state.rendered = settled(&seen);
    }
    rendered.sort();
    rendered.dedup();
    assert_eq!(rendered.len(), 4, "each had its turn");
}

/// What is rendered, compared with what is stored now; what has changed since waits.
fn settled(seen: &Observation) -> Rendered {
    let mut seen = seen.clone();
    seen.allowance = 0;
    plan(&seen).rendered
}
