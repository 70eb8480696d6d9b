//! What is known of a pool: what has been rendered for it, what its pods have reported, and what follows
//! from both.

use std::collections::BTreeMap;

use postrider_crds::{
    DomainName, Selector,
    relay_config::{Admission, Intake, Report, layout, shard_of},
};

use super::Rendered;

/// How far a pool's relays are with the keyring that holds a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// What the keyring tells relays to do with the domain's mail; `None`: it was not rendered from
    /// the SendingDomain as it is now.
    pub admission: Option<Admission>,
    /// Pods the pool should have.
    pub members: usize,
    /// How many of them have not reported the keyring as rendered.
    pub awaited: usize,
}

/// What is left of a domain's mail in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remainder {
    /// Messages that pods have counted.
    pub messages: u64,
    /// Pods that have not counted since they take no more of it, by name.
    pub unheard: Vec<String>,
}

/// A pod's last report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReport {
    /// UID of the pod that gave it.
    pub uid: String,
    /// What it said; `None`: it did not answer.
    pub report: Option<Report>,
}

/// A pool's part of [`Loaded`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolState {
    /// What has been rendered.
    pub rendered: Rendered,
    /// Last reports, by pod name.
    pub reports: BTreeMap<String, PodReport>,
}

impl PoolState {
    /// The report of the pod `name` with UID `uid`, if it is of that very pod and it answered.
    #[must_use]
    pub fn report(&self, name: &str, uid: &str) -> Option<&Report> {
        let entry = self.reports.get(name).filter(|entry| entry.uid == uid)?;
        entry.report.as_ref()
    }

    /// True when every pod the pool should have, and at least one, reports `digest` for `document`.
    #[must_use]
    pub fn all_loaded(&self, document: &str, digest: &str) -> bool {
        !self.rendered.members.is_empty() && self.without(document, Some(digest)).next().is_none()
    }

    /// True when every pod there should be, and at least one, has loaded a keyring with `selector` of
    /// `domain`: what has to hold before that key may sign.
    #[must_use]
    pub fn selector_loaded_everywhere(&self, domain: &DomainName, selector: &Selector) -> bool {
        let entry = self.rendered.domain(domain);
        let document = layout::keyring(shard_of(domain));
        let digest = self.rendered.documents.get(&document);
        entry.is_some_and(|entry| entry.selectors.contains(selector))
            && digest.is_some_and(|digest| self.all_loaded(&document, digest))
    }

    /// How far the relays are with `domain` as the SendingDomain `uid` has it at `generation`.
    #[must_use]
    pub fn reach(&self, domain: &DomainName, uid: &str, generation: i64) -> Reach {
        let entry = self.rendered.domain(domain);
        let entry = entry.filter(|entry| entry.uid == uid && entry.generation == generation);
        let document = layout::keyring(shard_of(domain));
        let digest = self.rendered.documents.get(&document);
        // What is not rendered nobody has loaded.
        let digest = digest.map_or("", String::as_str);
        Reach {
            admission: entry.map(|entry| entry.admission),
            members: self.rendered.members.len(),
            awaited: self.without(&document, Some(digest)).count(),
        }
    }

    /// What is left of the mail of `domain`, whose SendingDomain `uid` is being deleted or has left the
    /// pool. `None`: the keyring does not say so yet.
    #[must_use]
    pub fn remainder(&self, domain: &DomainName, uid: &str) -> Option<Remainder> {
        let entry = self.rendered.domain(domain)?;
        if entry.uid != uid || entry.intake != Intake::Closed {
            return None;
        }
        let document = layout::keyring(shard_of(domain));
        let digest = self.rendered.documents.get(&document)?;
        let mut remainder = Remainder::default();
        for (name, uid) in &self.rendered.members {
            let report = uid.as_ref().and_then(|uid| self.report(name, uid));
            let current = report.filter(|r| r.documents.get(&document) == Some(digest));
            match current.and_then(|report| report.remaining.get(domain)) {
                Some(messages) => remainder.messages += messages,
                None => remainder.unheard.push(name.clone()),
            }
        }
        Some(remainder)
    }

    /// True while relays are watched to the last message of a domain.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        let shards = self.rendered.shards.values();
        let mut domains = shards.flat_map(|shard| shard.domains.values());
        domains.any(|domain| domain.intake == Intake::Closed)
    }

    /// True when no pod can sign with `selector` of `domain` any more: the rendered keyring has none,
    /// and every pod there should be has loaded it; without a pod nobody can sign.
    #[must_use]
    pub fn selector_released_everywhere(&self, domain: &DomainName, selector: &Selector) -> bool {
        let entry = self.rendered.domain(domain);
        let shard = self.rendered.shards.get(&shard_of(domain));
        // Of a shard that could not be rendered relays may have any selector.
        shard.is_none_or(|shard| shard.tells_all())
            && entry.is_none_or(|entry| !entry.selectors.contains(selector))
            && !self.rendered.documents.is_empty()
            && self.lagging(domain).is_empty()
    }

    /// Names of the pods that do not report the rendered keyring of `domain`, and of those that do
    /// not exist yet.
    #[must_use]
    pub fn lagging(&self, domain: &DomainName) -> Vec<&str> {
        let document = layout::keyring(shard_of(domain));
        let digest = self.rendered.documents.get(&document);
        self.without(&document, digest.map(String::as_str))
            .collect()
    }

    /// The pods the pool should have that do not report `digest` for `document`, by name.
    fn without(&self, document: &str, digest: Option<&str>) -> impl Iterator<Item = &str> {
        let lacks = move |(name, uid): &(&String, &Option<String>)| {
            let report = uid.as_ref().and_then(|uid| self.report(name, uid));
            let has =
                |report: &Report| report.documents.get(document).map(String::as_str) == digest;
            !report.is_some_and(has)
        };
        let lacking = self.rendered.members.iter().filter(lacks);
        lacking.map(|(name, _)| name.as_str())
    }
}
