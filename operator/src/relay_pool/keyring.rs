//! The shards of a pool's keyring: which have to be rendered anew, and what all of them say. Pure.
//!
//! Promises: a shard is rendered when what is in it has changed, or its Secret has, or it could not
//! be written, and not because another one did. One that holds a domain nobody here can decode
//! stays as it is. Shards that changed longest ago come first, and no more is rendered than may be
//! written now; what has to wait stays as it was, in all that is said about it. No more than one
//! document is in memory at a time: those of a large pool would be tens of MiB together.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use postrider_crds::{
    DomainName, digest,
    relay_config::{Document as _, KEYRING_SHARDS, layout},
};

use super::{
    build, config,
    config::Part,
    loaded::RenderedDomain,
    observe::Observation,
    plan::{MAX_DOCUMENT, first_value},
};
use crate::names;

/// A shard as it was last rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// Of all that it was rendered from.
    pub(super) outline: u64,
    /// `metadata.resourceVersion` of the Secret it was compared with.
    pub(super) version: Option<String>,
    /// Digest of the document that relays are to have.
    pub(super) digest: Option<String>,
    /// Whether what should be in it does not fit its object; then relays keep what they have.
    pub(super) too_large: bool,
    /// What it says, by domain.
    pub(super) domains: BTreeMap<DomainName, RenderedDomain>,
    /// When it was rendered.
    pub(super) at: Timestamp,
    /// Whether it could not be written.
    pub(super) unwritten: bool,
    /// Whether relays keep what they have of it, whatever should be in it.
    pub(super) kept: bool,
}

impl Shard {
    /// One that stays as it is in `live`. What was `known` of it is no less true for that.
    fn kept(known: Option<&Arc<Self>>, live: &Secret, now: Timestamp) -> Self {
        let known = known.map(|known| known.as_ref().clone());
        let unknown = || Self {
            digest: digest_in(live).map(str::to_owned),
            at: now,
            ..Self::default()
        };
        Self {
            kept: true,
            ..known.unwrap_or_else(unknown)
        }
    }

    /// Whether [`Self::domains`] are all that relays have of it.
    pub(super) fn tells_all(&self) -> bool {
        !self.too_large && !self.kept
    }

    /// Whether what it is rendered from has the same `outline`, and its Secret is in the same `version`,
    /// as when it was rendered.
    fn is_as_rendered(&self, outline: u64, version: Option<&str>) -> bool {
        !self.unwritten
            && !self.kept
            && self.outline == outline
            && self.version.as_deref() == version
    }
}

#[cfg(test)]
impl Shard {
    /// A shard that says `entry` of `domain`.
    pub(crate) fn saying(domain: DomainName, entry: RenderedDomain) -> Self {
        Self {
            domains: BTreeMap::from([(domain, entry)]),
            ..Self::default()
        }
    }
}

/// All shards of a pool, and which of them were rendered now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Keyrings {
    pub(super) shards: BTreeMap<u32, Arc<Shard>>,
    pub(super) rendered: Vec<u32>,
    /// Whether some have changed and have to wait.
    pub(super) waiting: bool,
}

/// A shard that is not as it was rendered.
struct Stale<'a> {
    shard: u32,
    parts: &'a [Part<'a>],
    outline: u64,
    live: Option<&'a Secret>,
    known: Option<&'a Arc<Shard>>,
}

/// The shards for what was observed, those that are as they were taken over from the last time.
pub(super) fn keyrings(seen: &Observation) -> Keyrings {
    let parts = config::parts(&seen.pool.name_any(), &seen.domains, &seen.keys);
    let before = &seen.state.rendered.shards;
    let (mut all, mut stale) = (Keyrings::default(), Vec::new());
    for shard in 0..KEYRING_SHARDS {
        let name = names::keyring_secret(&seen.pool.name_any(), shard);
        let live = seen.secrets.get(&name).map(AsRef::as_ref);
        let parts = parts.get(&shard).map_or(&[][..], Vec::as_slice);
        if parts.is_empty() && live.is_none() {
            // One that lost its last domain is emptied; one that never had any is not made.
            continue;
        }
        let outline = config::outline(parts, &seen.senders);
        let version = live.and_then(Secret::resource_version);
        if let Some(live) = live.filter(|_| seen.undecodable.shards.contains(&shard)) {
            let kept = Shard::kept(before.get(&shard), live, seen.now);
            all.shards.insert(shard, Arc::new(kept));
            continue;
        }
        match before.get(&shard) {
            Some(known) if known.is_as_rendered(outline, version.as_deref()) => {
                all.shards.insert(shard, known.clone());
            }
            known => stale.push(Stale {
                shard,
                parts,
                outline,
                live,
                known,
            }),
        }
    }
    stale.sort_by_key(|stale| stale.known.map(|known| known.at));
    let mut allowance = seen.allowance;
    for stale in stale {
        match stale.known {
            Some(known) if allowance == 0 => {
                all.shards.insert(stale.shard, known.clone());
                all.waiting = true;
            }
            _ => {
                let (shard, octets) = stale.render(seen);
                if shard.digest.as_deref() != stale.live_digest() {
                    allowance = allowance.saturating_sub(octets);
                }
                if !shard.too_large {
                    all.rendered.push(stale.shard);
                }
                all.shards.insert(stale.shard, Arc::new(shard));
            }
        }
    }
    all
}

/// The Secrets of `shards`, which were rendered from `seen`, each made when it comes to it.
pub fn secrets(seen: &Observation, shards: &[u32]) -> impl Iterator<Item = Secret> {
    let parts = match shards {
        [] => BTreeMap::new(),
        _ => config::parts(&seen.pool.name_any(), &seen.domains, &seen.keys),
    };
    shards.iter().map(move |shard| {
        let parts = parts.get(shard).map_or(&[][..], Vec::as_slice);
        let text = config::keyring(parts, &seen.senders).to_yaml();
        build::keyring(&seen.pool, *shard, text)
    })
}

impl Stale<'_> {
    /// The shard, and how many octets its document has.
    fn render(&self, seen: &Observation) -> (Shard, usize) {
        let text = config::keyring(self.parts, &seen.senders).to_yaml();
        let mut shard = Shard {
            outline: self.outline,
            version: self.live.and_then(Secret::resource_version),
            at: seen.now,
            ..Shard::default()
        };
        if text.len() > MAX_DOCUMENT {
            // Relays keep the keyring in force, which tells nothing of what was rendered now.
            shard.too_large = true;
            shard.digest = self.live_digest().map(str::to_owned);
            return (shard, text.len());
        }
        shard.digest = Some(digest::of(text.as_bytes()));
        shard.domains = config::rendered_domains(self.parts);
        (shard, text.len())
    }

    /// The digest of the document in force.
    fn live_digest(&self) -> Option<&str> {
        digest_in(self.live?)
    }
}

/// The digest of the document that `live` holds: what is cached of it.
fn digest_in(live: &Secret) -> Option<&str> {
    std::str::from_utf8(first_value(live)?).ok()
}

impl Keyrings {
    /// Digests of the documents, by path.
    pub(super) fn digests(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let shards = self.shards.iter();
        shards.filter_map(|(number, shard)| {
            let digest = shard.digest.clone()?;
            Some((layout::keyring(*number), digest))
        })
    }

    /// Paths of the documents that do not fit.
    pub(super) fn too_large(&self) -> impl Iterator<Item = String> + '_ {
        let shards = self.shards.iter().filter(|(_, shard)| shard.too_large);
        shards.map(|(number, _)| layout::keyring(*number))
    }
}
