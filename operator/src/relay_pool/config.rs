//! Renders the documents that a pool's relays read. Pure.
//!
//! Promises: equal inputs give equal bytes. A SendingDomain that nobody has looked at yet is
//! rendered as unverified. Keys that the world cannot see are not rendered at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    sync::Arc,
};

use kube::ResourceExt as _;
use postrider_crds::{
    DomainName, Mailbox, RelayPool, SendingDomain, Unverified,
    condition::types,
    relay_config::{
        Admission, DOCUMENT_VERSION, Delivery, DomainEntry, Intake, Keyring, Limits, Listeners,
        PoolName, RelayConfig, Retry, Sender, SigningKey, SigningState, shard_of,
    },
};

use super::{credentials::Senders, loaded::RenderedDomain};
use crate::keys::{DkimKey, Life, signing_states};

/// Largest message: 25 MiB, which most receivers take.
const MESSAGE_BYTES: u64 = 25 * 1024 * 1024;
/// Most recipients of a message.
const RECIPIENTS: u32 = 1000;
/// Most submission sessions of a pod.
const SESSIONS: u32 = 500;
/// Most connections of a pod to a site.
const CONNECTIONS_PER_SITE: u32 = 10;
/// Longest reason given to a client in a reply (RFC 5321 section 4.5.3.1.5 allows 512 octets).
const MAX_REASON: usize = 200;

/// The RelayConfig of `pool`.
#[must_use]
pub fn relay_config(pool: &RelayPool, resolvers: &[SocketAddr]) -> RelayConfig {
    let spec = &pool.spec;
    RelayConfig {
        version: DOCUMENT_VERSION,
        pool: PoolName {
            namespace: pool.namespace().unwrap_or_default(),
            name: pool.name_any(),
        },
        hostname: spec.hostname.clone(),
        listeners: Listeners {
            submission: spec.listeners.submission.as_ref().map(|l| l.port),
            submissions: spec.listeners.submissions.as_ref().map(|l| l.port),
        },
        limits: Limits {
            message_bytes: MESSAGE_BYTES,
            recipients: RECIPIENTS,
            sessions: SESSIONS,
        },
        delivery: Delivery {
            retry: Retry {
                initial: spec.delivery.retry.initial,
                maximum: spec.delivery.retry.maximum,
            },
            expire_after: spec.delivery.expire_after,
            delay_warning_after: spec.delivery.delay_warning_after,
            tls: spec.delivery.tls,
            port: 25,
            connections_per_site: CONNECTIONS_PER_SITE,
        },
        resolvers: resolvers.to_vec(),
        trusted_clients: Vec::new(),
    }
}

/// A domain in a keyring: its SendingDomain, whether relays take new mail of it, and which of its keys
/// they get and what they do with each.
pub struct Part<'a> {
    domain: &'a SendingDomain,
    intake: Intake,
    keys: Vec<(&'a DkimKey, SigningState)>,
}

/// The parts of each shard of the keyring of the pool `pool` that holds one of `domains`, by domain;
/// shards without any are left out.
#[must_use]
pub fn parts<'a>(
    pool: &str,
    domains: &'a [Arc<SendingDomain>],
    keys: &'a [Arc<DkimKey>],
) -> BTreeMap<u32, Vec<Part<'a>>> {
    let mut keys_of: HashMap<&str, Vec<&DkimKey>> = HashMap::new();
    for key in keys {
        keys_of.entry(&key.sending_domain).or_default().push(key);
    }
    let mut shards: BTreeMap<u32, Vec<Part<'a>>> = BTreeMap::new();
    for domain in domains {
        let shard = shards.entry(shard_of(&domain.spec.domain)).or_default();
        let name = domain.name_any();
        let keys = keys_of.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        shard.push(Part {
            domain,
            intake: intake(pool, domain),
            keys: given(keys),
        });
    }
    for shard in shards.values_mut() {
        shard.sort_by(|a, b| a.domain.spec.domain.cmp(&b.domain.spec.domain));
    }
    shards
}

/// Those of a domain's keys that relays get.
fn given<'a>(keys: &[&'a DkimKey]) -> Vec<(&'a DkimKey, SigningState)> {
    let lives: Vec<&Life> = keys.iter().map(|key| &key.life).collect();
    let states = keys.iter().zip(signing_states(&lives));
    let mut given: Vec<_> = states
        .filter_map(|(key, state)| Some((*key, state?)))
        .collect();
    given.sort_by(|(a, _), (b, _)| (a.algorithm, &a.selector).cmp(&(b.algorithm, &b.selector)));
    given
}

/// The keyring of these parts.
#[must_use]
pub fn keyring(parts: &[Part<'_>], senders: &Senders) -> Keyring {
    Keyring {
        version: DOCUMENT_VERSION,
        domains: parts.iter().map(|part| entry(part, senders)).collect(),
    }
}

/// The same for everything that gives the same [`keyring`] and [`rendered_domains`], and, but for a
/// chance of one in 2^64, for nothing else. Cheaper than either.
#[must_use]
pub fn outline(parts: &[Part<'_>], senders: &Senders) -> u64 {
    let mut outline = DefaultHasher::new();
    for Part {
        domain,
        intake,
        keys,
    } in parts
    {
        // A spec is known by its object and generation.
        domain.metadata.uid.hash(&mut outline);
        domain.metadata.generation.hash(&mut outline);
        let admission = admission(domain);
        (admission as u8, *intake as u8, reason(domain, admission)).hash(&mut outline);
        for (key, state) in keys {
            (&key.selector, key.algorithm, *state as u8, &key.private_key).hash(&mut outline);
        }
        for sender in &domain.spec.senders {
            let username = senders.usernames.get(&sender.secret_ref.name);
            username.hash(&mut outline);
        }
    }
    outline.finish()
}

/// What the keyring of `parts` says, by domain.
#[must_use]
pub fn rendered_domains(parts: &[Part<'_>]) -> BTreeMap<DomainName, RenderedDomain> {
    let rendered = |part: &Part<'_>| {
        let domain = part.domain;
        let rendered = RenderedDomain {
            uid: domain.metadata.uid.clone()?,
            generation: domain.metadata.generation.unwrap_or_default(),
            admission: admission(domain),
            intake: part.intake,
            selectors: part
                .keys
                .iter()
                .map(|(key, _)| key.selector.clone())
                .collect(),
        };
        Some((domain.spec.domain.clone(), rendered))
    };
    parts.iter().filter_map(rendered).collect()
}

fn entry(part: &Part<'_>, senders: &Senders) -> DomainEntry {
    let Part {
        domain,
        intake,
        keys,
    } = part;
    let signing = keys.iter().map(|(key, state)| SigningKey {
        selector: key.selector.clone(),
        algorithm: key.algorithm,
        state: *state,
        private_key: key.private_key.text().into_owned(),
    });
    let admission = admission(domain);
    DomainEntry {
        domain: domain.spec.domain.clone(),
        return_path: domain.spec.return_path_domain(),
        admission,
        reason: reason(domain, admission),
        intake: *intake,
        keys: signing.collect(),
        senders: allowed(domain, senders),
    }
}

/// Whether the relays of the pool `pool` take new mail of `domain`.
fn intake(pool: &str, domain: &SendingDomain) -> Intake {
    match domain.metadata.deletion_timestamp {
        None if domain.spec.pool_ref.name == pool => Intake::Open,
        None | Some(_) => Intake::Closed,
    }
}

/// What the SendingDomain controller decided, or what the spec asks for while it has not.
fn admission(domain: &SendingDomain) -> Admission {
    let decided = domain.status.as_ref().and_then(|status| status.admission);
    decided.unwrap_or(match domain.spec.unverified {
        Unverified::Hold => Admission::Hold,
        Unverified::Reject => Admission::Reject,
        Unverified::Send => Admission::Send,
    })
}

/// Why relays do not send; empty when they do.
fn reason(domain: &SendingDomain, admission: Admission) -> String {
    match admission {
        Admission::Send => return String::new(),
        Admission::Hold | Admission::Reject => {}
    }
    // `Ready` has counts then, of relays that have loaded this very keyring: it would never come to rest.
    if domain.metadata.deletion_timestamp.is_some() {
        return "it is not verified, and its SendingDomain is being deleted".into();
    }
    let conditions = domain.status.as_ref().map(|status| &status.conditions);
    let ready = conditions.and_then(|c| c.iter().find(|c| c.type_ == types::READY));
    let message = ready.map_or("", |ready| ready.message.as_str());
    if message.is_empty() {
        return "the domain is not verified yet".into();
    }
    let mut reason = message.replace(char::is_control, " ");
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    reason
}

/// Who may send as `domain`, each username once.
fn allowed(domain: &SendingDomain, senders: &Senders) -> Vec<Sender> {
    let mut allowed: BTreeMap<&String, Option<BTreeSet<Mailbox>>> = BTreeMap::new();
    for sender in &domain.spec.senders {
        let Some(username) = senders.usernames.get(&sender.secret_ref.name) else {
            continue;
        };
        // No addresses means all of them, and stays so whatever else is listed.
        let addresses = allowed
            .entry(username)
            .or_insert_with(|| Some(BTreeSet::new()));
        if sender.addresses.is_empty() {
            *addresses = None;
        }
        if let Some(addresses) = addresses {
            addresses.extend(sender.addresses.iter().cloned());
        }
    }
    allowed
        .into_iter()
        .map(|(username, addresses)| Sender {
            username: username.clone(),
            addresses: addresses.unwrap_or_default().into_iter().collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use postrider_crds::relay_config::Document as _;
    use serde_json::json;

    use super::*;
    use crate::keys::{KeyState, tests::key_of as key};

    fn domain(
        name: &str,
        spec: serde_json::Value,
        status: serde_json::Value,
    ) -> Arc<SendingDomain> {
        let object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name, "namespace": "mail"}, "spec": spec, "status": status,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn only(domain: Arc<SendingDomain>, keys: &[DkimKey], senders: &Senders) -> DomainEntry {
        let keys: Vec<Arc<DkimKey>> = keys.iter().cloned().map(Arc::new).collect();
        let domains = [domain];
        let parts = parts(&domains[0].spec.pool_ref.name, &domains, &keys);
        let keyring = keyring(parts.values().next().unwrap(), senders);
        Keyring::from_yaml(&keyring.to_yaml())
            .unwrap()
            .domains
            .remove(0)
    }

    #[test]
    fn keys_the_world_cannot_see_are_not_rendered() {
        let spec = json!({"domain": "example.com", "poolRef": {"name": "default"}});
        let keys = [
            key("d", "pr-1", KeyState::Published),
            key("d", "pr-2", KeyState::Visible),
            key("d", "pr-3", KeyState::Active),
            key("other", "pr-4", KeyState::Active),
        ];
        let entry = only(domain("d", spec, json!({})), &keys, &Senders::default());
        let states: Vec<(&str, SigningState)> = entry
            .keys
            .iter()
            .map(|k| (k.selector.as_str(), k.state))
            .collect();
        assert_eq!(
            states,
            [
                ("pr-2", SigningState::Standby),
                ("pr-3", SigningState::Active)
            ]
        );
    }

    #[test]
    fn an_outline_changes_with_what_is_rendered() {
        let one = json!({"domain": "example.com", "poolRef": {"name": "p"},
                         "senders": [{"secretRef": {"name": "a"}}]});
        let object = |generation: i64, status: serde_json::Value| {
            let mut object = domain("d", one.clone(), status);
            Arc::make_mut(&mut object).metadata.generation = Some(generation);
            object
        };
        let message = |text: &str| {
            json!({"conditions": [{"type": "Ready", "status": "False", "reason": "R",
                "message": text, "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let named = |username: &str| Senders {
            usernames: BTreeMap::from([("a".into(), username.into())]),
            problems: BTreeMap::new(),
        };
        let other = DkimKey {
            private_key: "another".into(),
            ..key("d", "pr-1", KeyState::Active)
        };
        let outline = |domain, keys: &[DkimKey], senders: &Senders| {
            let keys: Vec<Arc<DkimKey>> = keys.iter().cloned().map(Arc::new).collect();
            let domains = [domain];
            let parts = parts("p", &domains, &keys);
            outline(parts.values().next().unwrap(), senders)
        };
        let active = [key("d", "pr-1", KeyState::Active)];
        let plain = outline(object(1, json!({})), &active, &named("x"));
        let same = outline(
            object(1, json!({"observedGeneration": 1})),
            &[active[0].clone(), key("d", "pr-2", KeyState::Published)],
            &named("x"),
        );
        assert_eq!(plain, same, "nothing of this is rendered");
        let different = [
            outline(object(2, json!({})), &active, &named("x")),
            outline(
                object(1, json!({"admission": "Send"})),
                &active,
                &named("x"),
            ),
            outline(object(1, message("m")), &active, &named("x")),
            outline(object(1, json!({})), &[], &named("x")),
            outline(object(1, json!({})), &[other], &named("x")),
            outline(
                object(1, json!({})),
                &[key("d", "pr-1", KeyState::Visible)],
                &named("x"),
            ),
            outline(object(1, json!({})), &active, &named("y")),
            outline(object(1, json!({})), &active, &Senders::default()),
        ];
        let all: BTreeSet<u64> = different.into_iter().chain([plain]).collect();
        assert_eq!(all.len(), 9);
    }

    #[test]
    fn table_of_admissions() {
        for (unverified, decided, wanted) in [
            ("Hold", None, Admission::Hold),
            ("Reject", None, Admission::Reject),
            ("Send", None, Admission::Send),
            ("Hold", Some("Send"), Admission::Send),
            ("Send", Some("Hold"), Admission::Hold),
        ] {
            let spec = json!({"domain": "example.com", "poolRef": {"name": "p"}, "unverified": unverified});
            let status = json!({"admission": decided});
            let entry = only(domain("d", spec, status), &[], &Senders::default());
            assert_eq!(entry.admission, wanted);
            assert_eq!(entry.reason.is_empty(), wanted == Admission::Send);
            assert_eq!(entry.return_path.as_str(), "bounce.example.com");
        }
    }

    #[test]
    fn a_domain_that_is_being_deleted_is_closed_and_keeps_its_keys() {
        let spec = json!({"domain": "example.com", "poolRef": {"name": "p"}});
        let mut leaving = domain("d", spec, json!({"admission": "Send"}));
        let keys = [key("d", "pr-1", KeyState::Active)];
        let entry = only(leaving.clone(), &keys, &Senders::default());
        assert_eq!(entry.intake, Intake::Open);
        let deleted = jiff::Timestamp::UNIX_EPOCH.into();
        Arc::make_mut(&mut leaving).metadata.deletion_timestamp = Some(deleted);
        let entry = only(leaving, &keys, &Senders::default());
        assert_eq!(
            (entry.intake, entry.admission, entry.keys.len()),
            (Intake::Closed, Admission::Send, 1)
        );
    }

    #[test]
    fn what_is_left_of_a_deleted_domain_that_is_held_changes_no_keyring() {
        let spec = json!({"domain": "example.com", "poolRef": {"name": "p"}});
        let leaving = |message: &str| {
            let status = json!({"admission": "Hold", "conditions": [{"type": "Ready",
                "status": "False", "reason": "QueueNotEmpty", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            let mut domain = domain("d", spec.clone(), status);
            let deleted = jiff::Timestamp::UNIX_EPOCH.into();
            Arc::make_mut(&mut domain).metadata.deletion_timestamp = Some(deleted);
            only(domain, &[], &Senders::default())
        };
        let (counted, awaited) = (leaving("2 messages"), leaving("waiting for p-0"));
        assert_eq!(counted, awaited);
        assert!(counted.reason.contains("being deleted"));
    }

    #[test]
    fn a_pool_that_a_domain_has_left_is_closed_to_it_and_has_its_keys() {
        let spec = json!({"domain": "example.com", "poolRef": {"name": "new"}});
        let domains = [domain("d", spec, json!({"admission": "Send"}))];
        let keys = [Arc::new(key("d", "pr-1", KeyState::Active))];
        let entry = |pool: &str| {
            let parts = parts(pool, &domains, &keys);
            let parts = parts.values().next().unwrap();
            let said = rendered_domains(parts).into_values().next();
            let outline = outline(parts, &Senders::default());
            let entry = keyring(parts, &Senders::default()).domains.remove(0);
            assert!(said.is_none(), "it has no uid");
            (entry, outline)
        };
        let ((new, one), (old, other)) = (entry("new"), entry("old"));
        assert_ne!(one, other);
        assert_eq!((new.intake, old.intake), (Intake::Open, Intake::Closed));
        let closed = DomainEntry {
            intake: Intake::Closed,
            ..new
        };
        assert_eq!(old, closed, "all else is the same");
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let spec = json!({"domain": "example.com", "poolRef": {"name": "p"}});
        let message = format!("publish\r\nthis {}", "x".repeat(300));
        let status = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "R",
            "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let entry = only(domain("d", spec, status), &[], &Senders::default());
        assert!(
            entry.reason.starts_with("publish  this x"),
            "{}",
            entry.reason
        );
        assert_eq!(entry.reason.len(), MAX_REASON);
    }

    #[test]
    fn senders_without_a_login_are_left_out_and_all_addresses_win() {
        let spec = json!({"domain": "example.com", "poolRef": {"name": "p"}, "senders": [
            {"secretRef": {"name": "a"}, "addresses": ["x@example.com"]},
            {"secretRef": {"name": "a"}, "addresses": ["y@example.com"]},
            {"secretRef": {"name": "b"}, "addresses": ["x@example.com"]},
            {"secretRef": {"name": "b"}},
            {"secretRef": {"name": "broken"}},
        ]});
        let senders = Senders {
            usernames: BTreeMap::from([("a".into(), "app".into()), ("b".into(), "big".into())]),
            problems: BTreeMap::new(),
        };
        let entry = only(domain("d", spec, json!({})), &[], &senders);
        let who: Vec<(&str, usize)> = entry
            .senders
            .iter()
            .map(|s| (s.username.as_str(), s.addresses.len()))
            .collect();
        assert_eq!(who, [("app", 2), ("big", 0)]);
    }
}
