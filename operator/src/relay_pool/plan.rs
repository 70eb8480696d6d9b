//! Decides what a pool's objects, documents and status should be. Pure.
//!
//! Promises: a document that does not fit its object leaves the one in force untouched. Keys of a
//! suppression list are taken out of the pool's Secrets only when the pool no longer names the list
//! or the list no longer exists; one that cannot be decoded exists.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::ByteString;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::ResourceExt as _;
use postrider_crds::{
    RelayPoolStatus, digest,
    relay_config::{Document as _, layout},
};

use super::{
    build, config, keyring,
    loaded::Rendered,
    observe::{Observation, suppression_shard},
    status,
};
use crate::{events::Notice, names, refusal::Refusal};

/// Largest document: an object may have 1 MiB in all, base64 and metadata not counted.
pub const MAX_DOCUMENT: usize = 900 * 1024;
/// Wait before shards of the keyring that may not be written yet are looked at again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// What should be.
#[derive(Clone)]
pub struct Plan {
    /// Objects to apply.
    pub children: Children,
    /// Lists' parts of Secrets to give up.
    pub withdrawals: Vec<Withdrawal>,
    /// What has been rendered.
    pub rendered: Rendered,
    /// Digest over all that has been rendered.
    pub config_digest: String,
    /// Documents that do not fit their objects.
    pub too_large: Vec<String>,
    /// The status.
    pub status: RelayPoolStatus,
    /// Transitions worth telling.
    pub notices: Vec<Notice>,
    /// Look again after this long, whatever happens.
    pub look_again: Duration,
}

/// Objects to apply.
#[derive(Clone)]
pub struct Children {
    /// The pods' identity.
    pub service_account: ServiceAccount,
    /// The RelayConfig.
    pub config_map: ConfigMap,
    /// Shards of the keyring that were rendered now; [`keyring::secrets`] makes their Secrets.
    pub keyrings: Vec<u32>,
    /// The credentials, if they fit.
    pub secrets: Vec<Secret>,
    /// For clients, and for members' names.
    pub services: [Service; 2],
    /// For node drains.
    pub budget: PodDisruptionBudget,
    /// The pods.
    pub stateful_set: StatefulSet,
}

/// A list's part of a Secret to give up.
#[derive(Clone, PartialEq)]
pub struct Withdrawal {
    /// The list's field manager.
    pub manager: String,
    /// What is left of the part: nothing but metadata.
    pub secret: Secret,
}

/// Documents, and those that do not fit.
#[derive(Default)]
pub(super) struct Documents {
    pub(super) secrets: Vec<Secret>,
    pub(super) digests: BTreeMap<String, String>,
    pub(super) too_large: Vec<String>,
}

/// The plan for what was observed.
#[must_use]
pub fn plan(seen: &Observation) -> Plan {
    let pool = &seen.pool;
    let replicas = pool.spec.replicas;
    let relay_config = config::relay_config(pool, &seen.resolvers).to_yaml();
    let keyrings = keyring::keyrings(seen);
    let mut documents = Documents::default();
    documents.digests.insert(
        layout::RELAY_CONFIG.into(),
        digest::of(relay_config.as_bytes()),
    );
    documents.digests.extend(keyrings.digests());
    documents.too_large.extend(keyrings.too_large());
    let secret = build::credentials(pool, seen.credentials.to_yaml());
    add(&mut documents, seen, layout::CREDENTIALS, secret);
    let withdrawals = suppression(seen, &mut documents);

    let waiting = keyrings.waiting.then_some(WRITE_AGAIN);
    let rendered = Rendered {
        documents: documents.digests.clone(),
        certificates: seen.certificates.digests.clone(),
        shards: keyrings.shards,
        members: members(seen, replicas),
    };
    let verdict = status::judge(seen, &documents.too_large, &rendered, None);
    Plan {
        children: Children {
            service_account: build::service_account(pool),
            config_map: build::config_map(pool, relay_config),
            keyrings: keyrings.rendered,
            secrets: documents.secrets,
            services: [build::members_service(pool), build::client_service(pool)],
            budget: build::budget(pool),
            stateful_set: build::stateful_set(pool, &seen.image, replicas),
        },
        withdrawals,
        config_digest: digest_over(&rendered),
        too_large: documents.too_large,
        rendered,
        look_again: look_again(seen, verdict.queue_in, waiting),
        status: verdict.status,
        notices: verdict.notices,
    }
}

impl Plan {
    /// The same, with a status that says that one of the objects is refused.
    #[must_use]
    pub fn refused(self, seen: &Observation, refusal: &Refusal) -> Self {
        let verdict = status::judge(seen, &self.too_large, &self.rendered, Some(refusal));
        Self {
            status: verdict.status,
            notices: verdict.notices,
            ..self
        }
    }
}

/// The pods the pool should have, with the UIDs of those that exist.
fn members(seen: &Observation, replicas: i32) -> BTreeMap<String, Option<String>> {
    let pool = seen.pool.name_any();
    let member = |ordinal| {
        let name = format!("{pool}-{ordinal}");
        let pod = seen.pods.iter().find(|pod| pod.name_any() == name);
        let uid = pod.and_then(|pod| pod.uid());
        (name, uid)
    };
    (0..replicas).map(member).collect()
}

/// Adds the one document of `secret`, or, if it is too large, keeps the one in force.
fn add(documents: &mut Documents, seen: &Observation, path: &str, secret: Secret) {
    let text = first_value(&secret).unwrap_or_default();
    if text.len() <= MAX_DOCUMENT {
        documents.digests.insert(path.to_owned(), digest::of(text));
        documents.secrets.push(secret);
        return;
    }
    documents.too_large.push(path.to_owned());
    let live = seen.secrets.get(&secret.name_any());
    if let Some(live) = live.and_then(|live| first_value(live)) {
        documents.digests.insert(path.to_owned(), digest::of(live));
    }
}

/// The first of a Secret's values: of most, the only one.
pub(super) fn first_value(secret: &Secret) -> Option<&[u8]> {
    let (_, ByteString(value)) = secret.data.as_ref()?.first_key_value()?;
    Some(value)
}

/// Notes the suppression documents in force and finds the parts to give up.
fn suppression(seen: &Observation, documents: &mut Documents) -> Vec<Withdrawal> {
    let mut withdrawals = Vec::new();
    for secret in seen.secrets.values() {
        let Some(shard) = suppression_shard(secret) else {
            continue;
        };
        for (key, bytes) in secret.data.iter().flatten() {
            let Some(list) = key.strip_suffix(&format!(".{shard}")) else {
                continue;
            };
            let named = seen
                .pool
                .spec
                .suppression_lists
                .iter()
                .any(|l| l.name == list);
            if named && seen.lists.contains(list) {
                let path = layout::suppression(list, shard);
                documents.digests.insert(path, digest::of(&bytes.0));
            } else {
                withdrawals.push(Withdrawal {
                    manager: names::suppression_manager(list),
                    secret: build::suppression(&seen.pool, shard, None),
                });
            }
        }
    }
    withdrawals
}

fn digest_over(rendered: &Rendered) -> String {
    let all = rendered.documents.iter().chain(&rendered.certificates);
    let text: String = all
        .map(|(path, digest)| format!("{path} {digest}\n"))
        .collect();
    digest::of(text.as_bytes())
}

fn look_again(
    seen: &Observation,
    queue_in: Option<Duration>,
    waiting: Option<Duration>,
) -> Duration {
    let renew_in = seen.certificates.renew_at.duration_since(seen.now);
    let renew_in = Duration::try_from(renew_in).unwrap_or_default();
    // A minute's slack keeps a certificate that is just due from being asked for in a loop.
    let renew_in = renew_in.max(Duration::from_secs(60));
    queue_in
        .into_iter()
        .chain(waiting)
        .fold(renew_in, Duration::min)
}
