//! Renders the documents that a pool's relays read. Pure.
//!
//! Promises: equal inputs give equal bytes. A SendingDomain that nobody has looked at yet is
//! rendered as unverified. Keys that the world cannot see are not rendered at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use kube::ResourceExt as _;
use postrider_crds::{
    DomainName, Mailbox, RelayPool, SendingDomain, Unverified,
    condition::types,
    relay_config::{
        Admission, DOCUMENT_VERSION, Delivery, DomainEntry, Intake, Keyring, Limits, Listeners,
        PoolName, RelayConfig, Retry, Sender, SigningKey, shard_of,
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

/// The keyring shards that hold `domains`; shards without a domain are left out.
#[must_use]
pub fn keyrings(
    domains: &[Arc<SendingDomain>],
    keys: &[DkimKey],
    senders: &Senders,
) -> BTreeMap<u32, Keyring> {
    let mut keys_of: HashMap<&str, Vec<&DkimKey>> = HashMap::new();
    for key in keys {
        keys_of.entry(&key.sending_domain).or_default().push(key);
    }
    let mut shards: BTreeMap<u32, Keyring> = BTreeMap::new();
    for domain in domains {
        let shard = shards
            .entry(shard_of(&domain.spec.domain))
            .or_insert_with(empty_keyring);
        let name = domain.name_any();
        let keys = keys_of.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        shard.domains.push(entry(domain, keys, senders));
    }
    for shard in shards.values_mut() {
        shard.domains.sort_by(|a, b| a.domain.cmp(&b.domain));
    }
    shards
}

/// A shard without a domain.
#[must_use]
pub fn empty_keyring() -> Keyring {
    Keyring {
        version: DOCUMENT_VERSION,
        domains: Vec::new(),
    }
}

/// What `keyrings` say, by domain; `domains` are those they were rendered from.
#[must_use]
pub fn rendered_domains(
    keyrings: &BTreeMap<u32, Keyring>,
    domains: &[Arc<SendingDomain>],
) -> BTreeMap<DomainName, RenderedDomain> {
    let sources: BTreeMap<&DomainName, &Arc<SendingDomain>> = domains
        .iter()
        .map(|domain| (&domain.spec.domain, domain))
        .collect();
    let rendered = |entry: &DomainEntry| {
        let source = &sources.get(&entry.domain)?.metadata;
        let selectors = entry.keys.iter().map(|key| key.selector.clone());
        let rendered = RenderedDomain {
            uid: source.uid.clone()?,
            generation: source.generation.unwrap_or_default(),
            admission: entry.admission,
            intake: entry.intake,
            selectors: selectors.collect(),
        };
        Some((entry.domain.clone(), rendered))
    };
    let entries = keyrings.values().flat_map(|keyring| &keyring.domains);
    entries.filter_map(rendered).collect()
}

fn entry(domain: &SendingDomain, keys: &[&DkimKey], senders: &Senders) -> DomainEntry {
    let lives: Vec<&Life> = keys.iter().map(|key| &key.life).collect();
    let mut signing: Vec<SigningKey> = keys
        .iter()
        .zip(signing_states(&lives))
        .filter_map(|(key, state)| {
            Some(SigningKey {
                selector: key.selector.clone(),
                algorithm: key.algorithm,
                state: state?,
                private_key: key.private_key.clone(),
            })
        })
        .collect();
    signing.sort_by(|a, b| (a.algorithm, &a.selector).cmp(&(b.algorithm, &b.selector)));
    let admission = admission(domain);
    DomainEntry {
        domain: domain.spec.domain.clone(),
        return_path: domain.spec.return_path_domain(),
        admission,
        reason: match admission {
            Admission::Send => String::new(),
            Admission::Hold | Admission::Reject => reason(domain),
        },
        intake: match domain.metadata.deletion_timestamp {
            None => Intake::Open,
            Some(_) => Intake::Closed,
        },
        keys: signing,
        senders: allowed(domain, senders),
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

fn reason(domain: &SendingDomain) -> String {
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
    use postrider_crds::relay_config::{Document as _, KeyAlgorithm, SigningState};
    use serde_json::json;

    use super::*;
    use crate::keys::KeyState;

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

    fn key(domain: &str, selector: &str, state: KeyState) -> DkimKey {
        DkimKey {
            secret: selector.into(),
            sending_domain: domain.into(),
            selector: selector.parse().unwrap(),
            algorithm: KeyAlgorithm::Ed25519,
            life: Life::new(jiff::Timestamp::UNIX_EPOCH, None)
                .at(state, jiff::Timestamp::UNIX_EPOCH),
            private_key: "PEM".into(),
        }
    }

    fn only(domain: Arc<SendingDomain>, keys: &[DkimKey], senders: &Senders) -> DomainEntry {
        let keyrings = keyrings(&[domain], keys, senders);
        let keyring = keyrings.values().next().unwrap();
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
