//! Who can log in: the Secrets that SendingDomains name as senders, turned into verifiers.
//!
//! Promises: a username belongs to one Secret only; the older one wins, so a newcomer cannot take
//! over somebody's login. No password leaves this module. Deriving a verifier is slow on purpose,
//! so each is derived once for a version of its Secret.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt as _;
use postrider_crds::{
    SendingDomain,
    condition::reasons,
    relay_config::{Credential, Credentials, DOCUMENT_VERSION},
    scram::ScramVerifier,
};

/// Longest username a relay takes.
const MAX_USERNAME: usize = 128;
/// Longest password a relay takes.
const MAX_PASSWORD: usize = 1024;

/// Why a sender of a SendingDomain cannot log in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderProblem {
    /// There is no such Secret.
    #[error("Secret {secret:?} does not exist; create it with the keys username and password")]
    SecretMissing {
        /// The Secret.
        secret: String,
    },
    /// The Secret lacks a key.
    #[error("Secret {secret:?} has no key {key:?}; add it")]
    KeyMissing {
        /// The Secret.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// A value cannot be used.
    #[error("Secret {secret:?}: key {key:?} {problem}")]
    Invalid {
        /// The Secret.
        secret: String,
        /// The key.
        key: &'static str,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// An older Secret has the username.
    #[error(
        "Secret {secret:?}: username {username:?} is taken by the older Secret {owner:?}; choose another"
    )]
    UsernameTaken {
        /// The Secret.
        secret: String,
        /// The username.
        username: String,
        /// Whose it is.
        owner: String,
    },
}

impl SenderProblem {
    /// The condition reason for this problem.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SecretMissing { .. } | Self::KeyMissing { .. } => reasons::REFERENCE_NOT_FOUND,
            Self::Invalid { .. } => reasons::REFERENCE_INVALID,
            Self::UsernameTaken { .. } => reasons::USERNAME_CONFLICT,
        }
    }
}

/// What the sender Secrets of a pool come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// Username by name of the Secret, for those that may log in.
    pub usernames: BTreeMap<String, String>,
    /// Why the others may not, by name of the Secret.
    pub problems: BTreeMap<String, SenderProblem>,
}

/// The Secrets that `domains` name as senders.
#[must_use]
pub fn named(domains: &[Arc<SendingDomain>]) -> BTreeSet<&str> {
    let references = domains.iter().flat_map(|domain| &domain.spec.senders);
    references.map(|s| s.secret_ref.name.as_str()).collect()
}

/// Decides who of the Secrets `names` may log in to a pool; `secret` looks a Secret up by name.
///
/// Of Secrets with the same username the oldest decides, so the answer for a Secret depends on it
/// and on those alone that have its username. The RelayPool controller asks for all Secrets that
/// the domains it serves name, the SendingDomain controller for its own and their likes.
#[must_use]
pub fn senders(names: BTreeSet<&str>, secret: impl Fn(&str) -> Option<Arc<Secret>>) -> Senders {
    let mut found: Vec<(Option<Time>, &str, String)> = Vec::new();
    let mut senders = Senders::default();
    for name in names {
        let Some(secret) = secret(name) else {
            let secret = name.to_owned();
            senders
                .problems
                .insert(name.to_owned(), SenderProblem::SecretMissing { secret });
            continue;
        };
        match username_and_password(&secret) {
            Ok((username, _)) => found.push((secret.creation_timestamp(), name, username)),
            Err(problem) => {
                senders.problems.insert(name.to_owned(), problem);
            }
        }
    }
    found.sort();
    let mut owners: HashMap<String, &str> = HashMap::new();
    for (_, name, username) in found {
        if let Some(owner) = owners.get(&username) {
            let problem = SenderProblem::UsernameTaken {
                secret: name.to_owned(),
                username,
                owner: (*owner).to_owned(),
            };
            senders.problems.insert(name.to_owned(), problem);
        } else {
            owners.insert(username.clone(), name);
            senders.usernames.insert(name.to_owned(), username);
        }
    }
    senders
}

/// Verifiers derived before, by namespace and name of the Secret and its version.
#[derive(Debug, Default)]
pub struct VerifierCache {
    verifiers: Mutex<HashMap<(String, String), (String, ScramVerifier)>>,
}

impl VerifierCache {
    /// The document for `senders`; `secret` looks a Secret of `namespace` up by name.
    #[must_use]
    pub fn credentials(
        &self,
        namespace: &str,
        senders: &Senders,
        secret: impl Fn(&str) -> Option<Arc<Secret>>,
    ) -> Credentials {
        let mut credentials: Vec<Credential> = Vec::new();
        for (name, username) in &senders.usernames {
            if let Some(verifier) = secret(name).and_then(|s| self.verifier(namespace, &s)) {
                credentials.push(Credential {
                    username: username.clone(),
                    tenant: format!("{namespace}/{name}"),
                    verifier,
                });
            }
        }
        credentials.sort_by(|a, b| a.username.cmp(&b.username));
        Credentials {
            version: DOCUMENT_VERSION,
            credentials,
        }
    }

    fn verifier(&self, namespace: &str, secret: &Secret) -> Option<ScramVerifier> {
        let version = secret.resource_version().unwrap_or_default();
        let key = (namespace.to_owned(), secret.name_any());
        let mut verifiers = self
            .verifiers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((known, verifier)) = verifiers.get(&key)
            && *known == version
        {
            return Some(verifier.clone());
        }
        let (_, password) = username_and_password(secret).ok()?;
        let seed = format!("{}/{}", key.0, key.1);
        let verifier = ScramVerifier::derive(&password, seed.as_bytes());
        verifiers.insert(key, (version, verifier.clone()));
        Some(verifier)
    }
}

/// The username in `secret`, whether it can be used or not.
#[must_use]
pub fn username(secret: &Secret) -> Option<String> {
    let text = secret.data.as_ref()?.get("username")?;
    String::from_utf8(text.0.clone()).ok()
}

/// Whether the username in `secret` is `wanted`.
pub(crate) fn has_username(secret: &Secret, wanted: &str) -> bool {
    let found = secret.data.as_ref().and_then(|data| data.get("username"));
    found.is_some_and(|text| text.0 == wanted.as_bytes())
}

fn username_and_password(secret: &Secret) -> Result<(String, Vec<u8>), SenderProblem> {
    let name = secret.name_any();
    let value = |key: &'static str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map(|value| value.0.as_slice())
            .ok_or_else(|| SenderProblem::KeyMissing {
                secret: name.clone(),
                key,
            })
    };
    let invalid = |key, problem| SenderProblem::Invalid {
        secret: name.clone(),
        key,
        problem,
    };
    let username = std::str::from_utf8(value("username")?)
        .map_err(|_| invalid("username", "is not UTF-8; write it as plain text"))?;
    if username.is_empty() || username.len() > MAX_USERNAME || username.contains(char::is_control) {
        let problem = "must be 1 to 128 octets without control characters; mind a trailing newline";
        return Err(invalid("username", problem));
    }
    let password = value("password")?;
    // NUL separates the fields of AUTH PLAIN (RFC 4616 section 2).
    if password.is_empty() || password.len() > MAX_PASSWORD || password.contains(&0) {
        return Err(invalid("password", "must be 1 to 1024 octets without NUL"));
    }
    Ok((username.to_owned(), password.to_vec()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn secret(name: &str, created: &str, data: &[(&str, &str)]) -> Arc<Secret> {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.into());
        secret.metadata.creation_timestamp = Some(Time(created.parse().unwrap()));
        secret.metadata.resource_version = Some("1".into());
        let data = data
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())));
        secret.data = Some(data.collect());
        Arc::new(secret)
    }

    fn domain(senders: &[&str]) -> Arc<SendingDomain> {
        let senders: Vec<_> = senders
            .iter()
            .map(|s| json!({"secretRef": {"name": s}}))
            .collect();
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
                "metadata": {"name": "d", "namespace": "mail"},
                "spec": {"domain": "example.com", "poolRef": {"name": "default"}, "senders": senders},
            }))
            .unwrap(),
        )
    }

    fn lookup(secrets: Vec<Arc<Secret>>) -> impl Fn(&str) -> Option<Arc<Secret>> {
        move |name| secrets.iter().find(|s| s.name_any() == name).cloned()
    }

    const OLD: &str = "2026-01-01T00:00:00Z";
    const NEW: &str = "2026-02-01T00:00:00Z";

    #[test]
    fn the_older_secret_keeps_the_username() {
        let good = [("username", "app"), ("password", "p")];
        let secrets = lookup(vec![secret("a", NEW, &good), secret("b", OLD, &good)]);
        let senders = senders(named(&[domain(&["a", "b"])]), &secrets);
        assert_eq!(
            senders.usernames,
            BTreeMap::from([("b".into(), "app".into())])
        );
        let problem = &senders.problems["a"];
        assert_eq!(problem.reason(), reasons::USERNAME_CONFLICT);
        assert!(problem.to_string().contains("\"b\""), "{problem}");
    }

    #[test]
    fn table_of_unusable_secrets() {
        for (data, reason, part) in [
            (
                &[("username", "a")][..],
                reasons::REFERENCE_NOT_FOUND,
                "password",
            ),
            (
                &[("password", "a")],
                reasons::REFERENCE_NOT_FOUND,
                "username",
            ),
            (
                &[("username", "a\n"), ("password", "a")],
                reasons::REFERENCE_INVALID,
                "newline",
            ),
            (
                &[("username", "a"), ("password", "")],
                reasons::REFERENCE_INVALID,
                "password",
            ),
        ] {
            let secrets = lookup(vec![secret("a", OLD, data)]);
            let senders = senders(named(&[domain(&["a"])]), &secrets);
            assert!(senders.usernames.is_empty());
            let problem = &senders.problems["a"];
            assert_eq!(problem.reason(), reason);
            assert!(problem.to_string().contains(part), "{problem}");
        }
        let missing = senders(named(&[domain(&["a"])]), lookup(Vec::new()));
        assert_eq!(missing.problems["a"].reason(), reasons::REFERENCE_NOT_FOUND);
    }

    #[test]
    fn verifiers_follow_the_secret_and_hold_no_password() {
        let cache = VerifierCache::default();
        let data = [("username", "app"), ("password", "hunter2")];
        let secrets = lookup(vec![secret("a", OLD, &data)]);
        let who = senders(named(&[domain(&["a"])]), &secrets);
        let document = cache.credentials("mail", &who, &secrets);
        assert!(document.credentials[0].verifier.matches(b"hunter2"));
        assert_eq!(document.credentials[0].tenant, "mail/a");
        let mut changed = secret("a", OLD, &[("username", "app"), ("password", "other")]);
        let same_version = cache.credentials("mail", &who, lookup(vec![changed.clone()]));
        assert_eq!(same_version, document, "derived once for a version");
        Arc::make_mut(&mut changed).metadata.resource_version = Some("2".into());
        let document = cache.credentials("mail", &who, lookup(vec![changed]));
        assert!(document.credentials[0].verifier.matches(b"other"));
    }
}
