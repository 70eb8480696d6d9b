//! The certificates of a pool, kept in Secrets and renewed in time.
//!
//! Flow: a CA of the pool's own (`<pool>-ca`, never mounted) signs the operator's client
//! certificate, the admin listeners' certificate (`<pool>-admin`) and, unless the spec names
//! another, the submission certificate (`<pool>-tls`).
//!
//! Guarantees: a key is never overwritten blindly. A Secret is created only if there is none, and
//! replaced only in the version it was judged by; somebody else's write in between fails the
//! reconciliation, which is then tried again with what they wrote. A Secret that is not the pool's
//! own is neither used nor replaced: it fails the reconciliation too, and the status says whose it
//! is.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt as _;
use postrider_crds::{RelayPool, condition::reasons, digest, relay_config::layout};

use super::{
    build,
    pki::{self, Pair, Purpose, Usage, Verdict},
};
use crate::{Context, Error, apply::Foreign, names, stores};

/// Key of a certificate in a Secret of type kubernetes.io/tls.
const CERTIFICATE: &str = "tls.crt";
/// Key of its private key.
const KEY: &str = "tls.key";
/// Key of the CA that signed it.
const CA: &str = "ca.crt";
/// Keys of the operator's client certificate in the CA's Secret.
const CLIENT_CERTIFICATE: &str = "client.crt";
/// Its private key.
const CLIENT_KEY: &str = "client.key";
/// Name in the operator's client certificate.
const CLIENT_NAME: &str = "postrider-operator";

/// What a pool's certificates come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Digests by path below the relays' configuration directory.
    pub digests: BTreeMap<String, String>,
    /// When the first of them is to be renewed.
    pub renew_at: Timestamp,
    /// What clients are shown.
    pub submission: Submission,
}

/// The certificate that clients are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// One of the pool's own CA.
    Own,
    /// The one the spec names.
    Referenced,
    /// The one the spec names cannot be used.
    Unusable(TlsProblem),
}

/// Why the certificate that the spec names cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// There is no such Secret.
    #[error(
        "spec.tls.secretRef: Secret {secret:?} does not exist; create it with the keys tls.crt and tls.key"
    )]
    SecretMissing {
        /// The Secret.
        secret: String,
    },
    /// It lacks a key.
    #[error("spec.tls.secretRef: Secret {secret:?} has no key {key:?}; add it")]
    KeyMissing {
        /// The Secret.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// It holds something unusable.
    #[error(
        "spec.tls.secretRef: Secret {secret:?}: {problem}; relays keep the certificate they have"
    )]
    Invalid {
        /// The Secret.
        secret: String,
        /// What is wrong.
        problem: pki::ReadError,
    },
}

impl TlsProblem {
    /// The condition reason for this problem.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SecretMissing { .. } | Self::KeyMissing { .. } => reasons::REFERENCE_NOT_FOUND,
            Self::Invalid { .. } => reasons::REFERENCE_INVALID,
        }
    }
}

/// What the operator needs to speak to a pool's relays.
#[derive(Clone)]
pub struct ClientMaterial {
    /// The pool's CA, PEM.
    pub ca: String,
    /// The operator's certificate for this pool.
    pub client: Pair,
}

/// What `secret`, a pool's CA Secret, holds for the operator.
#[must_use]
pub fn client_material(secret: &Secret) -> Option<ClientMaterial> {
    Some(ClientMaterial {
        ca: text(secret, CERTIFICATE)?,
        client: pair(secret, CLIENT_CERTIFICATE, CLIENT_KEY)?,
    })
}

/// Makes every certificate of `pool` be there and valid for a while.
///
/// # Errors
///
/// When a Secret cannot be written or a certificate cannot be issued.
pub async fn ensure(
    ctx: &Context,
    pool: &RelayPool,
    now: Timestamp,
) -> Result<Certificates, Error> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let (ca, mut renew_at) = ensure_ca(ctx, pool, now).await?;
    let mut digests = BTreeMap::new();

    let admin_names = BTreeSet::from([names::admin_server_name(&namespace, &name)]);
    let admin = Leaf {
        pool,
        ca: &ca,
        secret: names::admin_secret(&name),
        names: admin_names,
    };
    let (secret, until) = admin.ensure(ctx, now).await?;
    renew_at = renew_at.min(until);
    let paths = [
        layout::ADMIN_CERTIFICATE,
        layout::ADMIN_KEY,
        layout::ADMIN_CA,
    ];
    note(
        &mut digests,
        &secret,
        paths.into_iter().zip([CERTIFICATE, KEY, CA]),
    );

    let submission = if let Some(tls) = &pool.spec.tls {
        let secret = &tls.secret_ref.name;
        match referenced(secret, stores::get(&ctx.stores.secrets, &namespace, secret)) {
            Ok(secret) => {
                note(&mut digests, &secret, submission_paths());
                Submission::Referenced
            }
            Err(problem) => Submission::Unusable(problem),
        }
    } else {
        let names = submission_names(&namespace, &name, &pool.spec.hostname);
        let tls = Leaf {
            pool,
            ca: &ca,
            secret: names::tls_secret(&name),
            names,
        };
        let (secret, until) = tls.ensure(ctx, now).await?;
        renew_at = renew_at.min(until);
        note(&mut digests, &secret, submission_paths());
        Submission::Own
    };
    Ok(Certificates {
        digests,
        renew_at,
        submission,
    })
}

fn submission_paths() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        (layout::TLS_CERTIFICATE, CERTIFICATE),
        (layout::TLS_KEY, KEY),
    ]
    .into_iter()
}

/// Judges the Secret that the spec names.
fn referenced(name: &str, secret: Option<Arc<Secret>>) -> Result<Arc<Secret>, TlsProblem> {
    let secret_missing = || TlsProblem::SecretMissing {
        secret: name.to_owned(),
    };
    let secret = secret.ok_or_else(secret_missing)?;
    let value = |key| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value.ok_or_else(|| TlsProblem::KeyMissing {
            secret: name.to_owned(),
            key,
        })
    };
    let (certificate, key) = (value(CERTIFICATE)?, value(KEY)?);
    match pki::read(&certificate.0, &key.0) {
        Ok(_) => Ok(secret.clone()),
        Err(problem) => Err(TlsProblem::Invalid {
            secret: name.to_owned(),
            problem,
        }),
    }
}

/// Names by which clients reach the pool: its EHLO name, its Service, each member.
fn submission_names(namespace: &str, pool: &str, hostname: &str) -> BTreeSet<String> {
    let members = names::members_service(pool);
    // A certificate cannot say "{ordinal}"; a wildcard for that label can.
    let hostname = match hostname.split_once('.') {
        Some((label, rest)) if label.contains("{ordinal}") => format!("*.{rest}"),
        _ => hostname.to_owned(),
    };
    let mut names = BTreeSet::from([
        format!("{pool}.{namespace}.svc"),
        format!("{pool}.{namespace}.svc.cluster.local"),
        format!("*.{members}.{namespace}.svc"),
        format!("*.{members}.{namespace}.svc.cluster.local"),
    ]);
    if !hostname.contains('{') {
        names.insert(hostname);
    }
    names
}

async fn ensure_ca(
    ctx: &Context,
    pool: &RelayPool,
    now: Timestamp,
) -> Result<(Pair, Timestamp), Error> {
    let (namespace, pool_name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let name = names::ca_secret(&pool_name);
    let failed = |error: rcgen::Error| certificate_error(&name, &error);
    let live = own(ctx, pool, &name)?;
    let kept = live
        .as_deref()
        .and_then(|secret| pair(secret, CERTIFICATE, KEY));
    let kept_client = live
        .as_deref()
        .and_then(|secret| pair(secret, CLIENT_CERTIFICATE, CLIENT_KEY));
    let no_names = BTreeSet::new();
    let client_names = BTreeSet::from([CLIENT_NAME.to_owned()]);

    let (ca, ca_until) = match (kept, facts_of(live.as_deref(), CERTIFICATE, KEY)) {
        (Some(ca), facts) => match pki::judge(facts.as_ref(), Purpose::Ca, &no_names, now) {
            Verdict::Keep { renew_at } => (Some(ca), renew_at),
            Verdict::Issue => (None, now),
        },
        (None, _) => (None, now),
    };
    let client_facts = facts_of(live.as_deref(), CLIENT_CERTIFICATE, CLIENT_KEY);
    let client_verdict = pki::judge(client_facts.as_ref(), Purpose::Leaf, &client_names, now);
    if let (Some(ca), Verdict::Keep { renew_at }, Some(_)) = (&ca, &client_verdict, &kept_client) {
        return Ok((ca.clone(), ca_until.min(*renew_at)));
    }
    let ca = match ca {
        Some(ca) => ca,
        None => {
            let title = format!("Postrider relay pool {namespace}/{pool_name}");
            pki::issue_ca(&title, now).map_err(failed)?
        }
    };
    let client = pki::issue_leaf(&ca, &client_names, Usage::Client, now).map_err(failed)?;
    let data = [
        (CERTIFICATE, &ca.certificate),
        (KEY, &ca.key),
        (CLIENT_CERTIFICATE, &client.certificate),
        (CLIENT_KEY, &client.key),
    ];
    let issued = secret(pool, name, "Opaque", &data);
    write(ctx, issued, live.as_deref()).await?;
    // The write wakes this pool again, which then reads when to renew.
    Ok((ca, now + RECHECK))
}

/// After issuing, the written Secret is judged like any other.
const RECHECK: std::time::Duration = std::time::Duration::from_secs(3600);

/// A certificate signed by the pool's CA, in a Secret of its own.
struct Leaf<'a> {
    pool: &'a RelayPool,
    ca: &'a Pair,
    secret: String,
    names: BTreeSet<String>,
}

impl Leaf<'_> {
    /// The Secret with a valid certificate, and when to renew it.
    async fn ensure(
        self,
        ctx: &Context,
        now: Timestamp,
    ) -> Result<(Arc<Secret>, Timestamp), Error> {
        let live = own(ctx, self.pool, &self.secret)?;
        let same_ca = live.as_deref().and_then(|secret| text(secret, CA)).as_ref()
            == Some(&self.ca.certificate);
        let facts = facts_of(live.as_deref(), CERTIFICATE, KEY).filter(|_| same_ca);
        let verdict = pki::judge(facts.as_ref(), Purpose::Leaf, &self.names, now);
        if let (Verdict::Keep { renew_at }, Some(live)) = (verdict, &live) {
            return Ok((live.clone(), renew_at));
        }
        let leaf = pki::issue_leaf(self.ca, &self.names, Usage::Server, now)
            .map_err(|error| certificate_error(&self.secret, &error))?;
        let data = [
            (CERTIFICATE, &leaf.certificate),
            (KEY, &leaf.key),
            (CA, &self.ca.certificate),
        ];
        let issued = secret(self.pool, self.secret, "kubernetes.io/tls", &data);
        let written = write(ctx, issued, live.as_deref()).await?;
        Ok((Arc::new(written), now + RECHECK))
    }
}

/// The Secret `name`, which is `pool`'s if there is one.
fn own(ctx: &Context, pool: &RelayPool, name: &str) -> Result<Option<Arc<Secret>>, Error> {
    let namespace = pool.namespace().unwrap_or_default();
    let live = stores::get(&ctx.stores.secrets, &namespace, name);
    let owners = build::metadata(pool, name.to_owned()).owner_references;
    let owners = owners.as_deref().unwrap_or_default();
    match live
        .as_deref()
        .and_then(|live| Foreign::of("write", live, owners))
    {
        Some(foreign) => Err(foreign.into()),
        None => Ok(live),
    }
}

async fn write(ctx: &Context, mut issued: Secret, live: Option<&Secret>) -> Result<Secret, Error> {
    let Some(live) = live else {
        return ctx.writer.create(&issued).await;
    };
    issued.metadata.resource_version = live.resource_version();
    issued.metadata.uid = live.uid();
    ctx.writer.replace(&issued).await
}

fn secret(pool: &RelayPool, name: String, type_: &str, data: &[(&str, &String)]) -> Secret {
    let bytes =
        |(key, text): &(&str, &String)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()));
    Secret {
        metadata: build::metadata(pool, name),
        type_: Some(type_.into()),
        data: Some(data.iter().map(bytes).collect()),
        ..Secret::default()
    }
}

fn pair(secret: &Secret, certificate: &str, key: &str) -> Option<Pair> {
    Some(Pair {
        certificate: text(secret, certificate)?,
        key: text(secret, key)?,
    })
}

fn facts_of(secret: Option<&Secret>, certificate: &str, key: &str) -> Option<pki::Facts> {
    let pair = pair(secret?, certificate, key)?;
    pki::read(pair.certificate.as_bytes(), pair.key.as_bytes()).ok()
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?;
    String::from_utf8(value.0.clone()).ok()
}

fn note(
    digests: &mut BTreeMap<String, String>,
    secret: &Secret,
    paths: impl Iterator<Item = (&'static str, &'static str)>,
) {
    for (path, key) in paths {
        if let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) {
            digests.insert(path.to_owned(), digest::of(&value.0));
        }
    }
}

fn certificate_error(name: &str, error: &rcgen::Error) -> Error {
    Error::Certificate {
        name: name.to_owned(),
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(data: &[(&str, &str)]) -> Option<Arc<Secret>> {
        let data = data
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())));
        Some(Arc::new(Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }))
    }

    #[test]
    fn table_of_referenced_certificates() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let one = pki::issue_ca("one", now).unwrap();
        let two = pki::issue_ca("two", now).unwrap();
        let good = tls(&[("tls.crt", &one.certificate), ("tls.key", &one.key)]);
        assert!(referenced("mail-tls", good).is_ok());
        for (secret, reason, part) in [
            (None, reasons::REFERENCE_NOT_FOUND, "does not exist"),
            (
                tls(&[("tls.crt", &one.certificate)]),
                reasons::REFERENCE_NOT_FOUND,
                "tls.key",
            ),
            (
                tls(&[("tls.crt", &one.certificate), ("tls.key", &two.key)]),
                reasons::REFERENCE_INVALID,
                "tls.key",
            ),
            (
                tls(&[("tls.crt", "x"), ("tls.key", &one.key)]),
                reasons::REFERENCE_INVALID,
                "tls.crt",
            ),
        ] {
            let problem = referenced("mail-tls", secret).expect_err(part);
            assert_eq!(problem.reason(), reason);
            let text = problem.to_string();
            assert!(text.contains(part) && text.contains("mail-tls"), "{text}");
        }
    }

    #[test]
    fn names_cover_hostname_service_and_members() {
        let names = submission_names("mail", "default", "mail-{ordinal}.example.net");
        for name in [
            "*.example.net",
            "default.mail.svc",
            "*.default-members.mail.svc",
        ] {
            assert!(names.contains(name), "{name}");
        }
        let names = submission_names("mail", "default", "mail.example.net");
        assert!(names.contains("mail.example.net"));
    }
}
