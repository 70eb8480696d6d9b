//! What the relays of each pool have loaded, by their own reports.
//!
//! Guarantees: a document counts as loaded everywhere only when every pod the pool should have, and
//! at least one, has reported exactly the rendered bytes. A pod that is replaced counts as not
//! having reported. Nothing is persisted: after a restart of the operator all is unknown until the
//! pods have been asked again, which comes before anything else ([`crate::start`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use postrider_crds::{
    DomainName, Selector,
    relay_config::{Admission, Intake, Report, SUPPRESSION_SHARDS, layout, shard_of},
};

use super::keyring::Shard;

/// Pods named in a message; the rest will be named when these are done.
const MAX_LAGGING: usize = 3;

/// Namespace and name of a RelayPool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What has been rendered for a pool, and which pods should have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Path below the configuration directory to digest.
    pub documents: BTreeMap<String, String>,
    /// The same for certificates and their keys, which relays need not report.
    pub certificates: BTreeMap<String, String>,
    /// Shards of the keyring and what each says.
    pub shards: BTreeMap<u32, Arc<Shard>>,
    /// UIDs by name of the pods the pool should have; `None` for one that does not exist yet.
    pub members: BTreeMap<String, Option<String>>,
}

impl Rendered {
    /// What the keyring says of `domain`.
    pub(crate) fn domain(&self, domain: &DomainName) -> Option<&RenderedDomain> {
        self.shards.get(&shard_of(domain))?.domains.get(domain)
    }
}

/// What a keyring says of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedDomain {
    /// UID of the SendingDomain it was rendered from.
    pub uid: String,
    /// Generation of that SendingDomain.
    pub generation: i64,
    /// What relays do with its mail.
    pub admission: Admission,
    /// Whether they take new mail of it.
    pub intake: Intake,
    /// Its selectors, whatever their state.
    pub selectors: Box<[Selector]>,
}

/// How far a pool's relays are with the keyring that holds a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// What the keyring tells relays to do with the domain's mail; `None`: it was not rendered from
    /// the SendingDomain as it is now.
    pub admission: Option<Admission>,
    /// Pods the pool should have.
    pub members: usize,
    /// Those that have not reported the keyring as rendered, by name.
    pub awaited: Vec<String>,
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

/// What is new about a pool, for whom of its domains and lists to wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These documents have other digests: paths below the configuration directory.
    Documents(BTreeSet<String>),
    /// Anything may be new.
    Everything,
}

impl News {
    fn of(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Self {
        let differs = |path: &&String| before.get(*path) != now.get(*path);
        let paths = before.keys().chain(now.keys()).filter(differs);
        Self::Documents(paths.cloned().collect())
    }

    /// True when there is news of the keyring that holds `domain`.
    #[must_use]
    pub fn concerns_domain(&self, domain: &DomainName) -> bool {
        match self {
            Self::Documents(paths) => paths.contains(&layout::keyring(shard_of(domain))),
            Self::Everything => true,
        }
    }

    /// True when there is news of a shard of `list`.
    #[must_use]
    pub fn concerns_list(&self, list: &str) -> bool {
        match self {
            Self::Documents(paths) => (0..SUPPRESSION_SHARDS)
                .any(|shard| paths.contains(&layout::suppression(list, shard))),
            Self::Everything => true,
        }
    }
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
        !self.rendered.members.is_empty() && self.awaited(document, digest).next().is_none()
    }

    /// The pods the pool should have that do not report `digest` for `document`, by name.
    fn awaited(&self, document: &str, digest: &str) -> impl Iterator<Item = &String> {
        let lacks = move |(name, uid): &(&String, &Option<String>)| {
            let report = uid.as_ref().and_then(|uid| self.report(name, uid));
            let loaded = report.and_then(|report| report.documents.get(document));
            loaded.is_none_or(|loaded| loaded != digest)
        };
        let lacking = self.rendered.members.iter().filter(lacks);
        lacking.map(|(name, _)| name)
    }

    /// True when the rendered keyring has `selector` of `domain` and is loaded everywhere.
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
        let digest = digest.map_or("", String::as_str);
        Reach {
            admission: entry.map(|entry| entry.admission),
            members: self.rendered.members.len(),
            awaited: self.awaited(&document, digest).cloned().collect(),
        }
    }

    /// What is left of the mail of `domain`, whose SendingDomain `uid` is being deleted. `None`: the
    /// keyring does not say so yet.
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

    /// True when the rendered keyring has no `selector` of `domain` and is loaded by every pod there
    /// should be; without a pod nobody can sign.
    #[must_use]
    pub fn selector_released_everywhere(&self, domain: &DomainName, selector: &Selector) -> bool {
        let entry = self.rendered.domain(domain);
        entry.is_none_or(|entry| !entry.selectors.contains(selector))
            && !self.rendered.documents.is_empty()
            && self.lagging(domain).next().is_none()
    }

    /// Names of the pods that do not report the rendered keyring of `domain`, and of those that do
    /// not exist yet.
    pub fn lagging(&self, domain: &DomainName) -> impl Iterator<Item = &str> {
        let document = layout::keyring(shard_of(domain));
        let digest = self.rendered.documents.get(&document);
        let members = self.rendered.members.iter();
        let behind = members.filter(move |(name, uid)| {
            let report = uid.as_ref().and_then(|uid| self.report(name, uid));
            report.is_none_or(|report| report.documents.get(&document) != digest)
        });
        behind.map(|(name, _)| name.as_str())
    }
}

/// The keyrings that say something else of a domain, or say it of another state of its SendingDomain,
/// whether or not that makes other bytes.
fn restated(
    before: &BTreeMap<u32, Arc<Shard>>,
    now: &BTreeMap<u32, Arc<Shard>>,
) -> BTreeSet<String> {
    let differs = |shard: &&u32| match (before.get(*shard), now.get(*shard)) {
        (Some(before), Some(now)) => !Arc::ptr_eq(before, now) && before.domains != now.domains,
        (before, now) => before.is_some() != now.is_some(),
    };
    let shards = before.keys().chain(now.keys()).filter(differs);
    shards.map(|shard| layout::keyring(*shard)).collect()
}

/// The keyrings of domains of which something else is said now than before.
fn changed<T: PartialEq>(
    before: &BTreeMap<DomainName, T>,
    now: &BTreeMap<DomainName, T>,
) -> BTreeSet<String> {
    let differs = |domain: &&DomainName| before.get(*domain) != now.get(*domain);
    let domains = before.keys().chain(now.keys()).filter(differs);
    domains
        .map(|domain| layout::keyring(shard_of(domain)))
        .collect()
}

/// What the relays of each pool have loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    pools: RwLock<BTreeMap<PoolKey, PoolState>>,
}

impl Loaded {
    /// The digest of `document` as last rendered for `pool`.
    #[must_use]
    pub fn rendered_digest(&self, pool: &PoolKey, document: &str) -> Option<String> {
        self.with(pool, |state| {
            state.rendered.documents.get(document).cloned()
        })?
    }

    /// True when every pod of `pool`, and at least one, reports `digest` for `document`.
    #[must_use]
    pub fn all_loaded(&self, pool: &PoolKey, document: &str, digest: &str) -> bool {
        self.with(pool, |state| state.all_loaded(document, digest))
            .unwrap_or(false)
    }

    /// True when every pod of `pool`, and at least one, has loaded a keyring with `selector` of
    /// `domain`: what has to hold before that key may sign.
    #[must_use]
    pub fn selector_loaded_everywhere(
        &self,
        pool: &PoolKey,
        domain: &DomainName,
        selector: &Selector,
    ) -> bool {
        self.with(pool, |state| {
            state.selector_loaded_everywhere(domain, selector)
        })
        .unwrap_or(false)
    }

    /// How far the relays of `pool` are with `domain` as the SendingDomain `uid` has it at
    /// `generation`.
    #[must_use]
    pub fn reach(&self, pool: &PoolKey, domain: &DomainName, uid: &str, generation: i64) -> Reach {
        self.with(pool, |state| state.reach(domain, uid, generation))
            .unwrap_or_default()
    }

    /// What is left of the mail of `domain` in `pool`, once the SendingDomain `uid` is being deleted;
    /// `None` while the relays are not told so yet.
    #[must_use]
    pub fn remainder(&self, pool: &PoolKey, domain: &DomainName, uid: &str) -> Option<Remainder> {
        self.with(pool, |state| state.remainder(domain, uid))?
    }

    /// True when no pod of `pool` can sign with `selector` of `domain` any more: each has reported a
    /// keyring without it.
    #[must_use]
    pub fn selector_released_everywhere(
        &self,
        pool: &PoolKey,
        domain: &DomainName,
        selector: &Selector,
    ) -> bool {
        self.with(pool, |state| {
            state.selector_released_everywhere(domain, selector)
        })
        .unwrap_or(false)
    }

    /// Up to [`MAX_LAGGING`] pods of `pool` that do not report the rendered keyring of `domain`.
    #[must_use]
    pub fn lagging(&self, pool: &PoolKey, domain: &DomainName) -> Vec<String> {
        self.with(pool, |state| {
            let pods = state.lagging(domain).take(MAX_LAGGING);
            pods.map(str::to_owned).collect()
        })
        .unwrap_or_default()
    }

    /// All that is known of `pool`.
    #[must_use]
    pub fn state(&self, pool: &PoolKey) -> PoolState {
        self.with(pool, Clone::clone).unwrap_or_default()
    }

    /// What `read` makes of all that is known of `pool`; `None`: nothing is.
    pub fn with<T>(&self, pool: &PoolKey, read: impl FnOnce(&PoolState) -> T) -> Option<T> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.get(pool).map(read)
    }

    /// Takes note of what has been rendered and tells what is new about it.
    pub fn set_rendered(&self, pool: &PoolKey, rendered: Rendered) -> News {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let state = pools.entry(pool.clone()).or_default();
        let before = std::mem::replace(&mut state.rendered, rendered);
        let now = &state.rendered;
        for entry in state.reports.values_mut() {
            // What was counted for another SendingDomain of the name tells nothing of this one.
            let counts = entry.report.as_mut().map(|report| &mut report.remaining);
            let same = |domain: &DomainName| before.domain(domain) == now.domain(domain);
            counts
                .into_iter()
                .for_each(|c| c.retain(|domain, _| same(domain)));
        }
        state
            .reports
            .retain(|name, _| now.members.contains_key(name));
        if before.members != now.members {
            return News::Everything;
        }
        let mut news = News::of(&before.documents, &now.documents);
        if let News::Documents(paths) = &mut news {
            paths.extend(restated(&before.shards, &now.shards));
        }
        news
    }

    /// Takes note of a report; `None` when it is the same as the one before. A pod that is no
    /// member is ignored; before anything is rendered, nobody knows who is one.
    pub fn set_report(&self, pool: &PoolKey, pod: &str, report: PodReport) -> Option<News> {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let state = pools.entry(pool.clone()).or_default();
        let rendered = &state.rendered;
        if !rendered.documents.is_empty() && !rendered.members.contains_key(pod) {
            return None;
        }
        let before = state.reports.insert(pod.to_owned(), report.clone());
        if before.as_ref() == Some(&report) {
            return None;
        }
        let same_pod = before.as_ref().is_some_and(|b| b.uid == report.uid);
        match (before.and_then(|entry| entry.report), &report.report) {
            (Some(old), Some(new)) if same_pod && old.refused == new.refused => {
                let mut news = News::of(&old.documents, &new.documents);
                if let News::Documents(paths) = &mut news {
                    paths.extend(changed(&old.remaining, &new.remaining));
                }
                Some(news)
            }
            _ => Some(News::Everything),
        }
    }

    /// Forgets every pool that is not among `existing`.
    pub fn retain(&self, existing: &[PoolKey]) {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool, _| existing.contains(pool));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> PoolKey {
        PoolKey {
            namespace: "mail".into(),
            name: "default".into(),
        }
    }

    fn domain() -> DomainName {
        "example.com".parse().unwrap()
    }

    fn rendered(members: &[(&str, Option<&str>)]) -> Rendered {
        let document = layout::keyring(shard_of(&domain()));
        let entry = RenderedDomain {
            uid: "d".into(),
            generation: 3,
            admission: Admission::Send,
            intake: Intake::Open,
            selectors: Box::from(["pr-1".parse().unwrap()]),
        };
        let shard = Shard::saying(domain(), entry);
        Rendered {
            documents: BTreeMap::from([(document, "d1".to_owned())]),
            certificates: BTreeMap::new(),
            shards: BTreeMap::from([(shard_of(&domain()), Arc::new(shard))]),
            members: members
                .iter()
                .map(|(name, uid)| ((*name).to_owned(), uid.map(str::to_owned)))
                .collect(),
        }
    }

    fn reports(loaded: &Loaded, pod: &str, uid: &str, digest: &str) -> Option<News> {
        let document = layout::keyring(shard_of(&domain()));
        let report = PodReport {
            uid: uid.into(),
            report: Some(Report {
                pod: pod.into(),
                documents: BTreeMap::from([(document, digest.to_owned())]),
                refused: Vec::new(),
                queue: Default::default(),
                remaining: BTreeMap::new(),
                not_ready: None,
            }),
        };
        loaded.set_report(&pool(), pod, report)
    }

    fn everywhere(loaded: &Loaded) -> bool {
        loaded.selector_loaded_everywhere(&pool(), &domain(), &"pr-1".parse().unwrap())
    }

    #[test]
    fn every_member_must_have_reported_the_rendered_bytes() {
        let loaded = Loaded::default();
        assert!(!everywhere(&loaded));
        loaded.set_rendered(
            &pool(),
            rendered(&[("p-0", Some("u0")), ("p-1", Some("u1"))]),
        );
        assert_eq!(reports(&loaded, "p-0", "u0", "d1"), Some(News::Everything));
        assert!(!everywhere(&loaded));
        assert!(reports(&loaded, "p-1", "u1", "d0").is_some());
        assert!(!everywhere(&loaded));
        let news = reports(&loaded, "p-1", "u1", "d1").unwrap();
        assert!(news.concerns_domain(&domain()));
        assert!(!news.concerns_domain(&"elsewhere.example".parse().unwrap()));
        assert!(!news.concerns_list("global"));
        assert!(everywhere(&loaded));
        let again = reports(&loaded, "p-1", "u1", "d1");
        assert_eq!(again, None, "the same report is no change");
        let other = "pr-2".parse().unwrap();
        assert!(!loaded.selector_loaded_everywhere(&pool(), &domain(), &other));
    }

    #[test]
    fn a_key_is_released_once_every_member_reports_a_keyring_without_it() {
        let loaded = Loaded::default();
        let released = |selector: &str| {
            loaded.selector_released_everywhere(&pool(), &domain(), &selector.parse().unwrap())
        };
        assert!(!released("pr-2"), "nothing is rendered yet");
        let members = [("p-0", Some("u0")), ("p-1", None)];
        loaded.set_rendered(&pool(), rendered(&members));
        reports(&loaded, "p-0", "u0", "d1");
        assert!(!released("pr-2"));
        assert_eq!(loaded.lagging(&pool(), &domain()), ["p-1"]);
        loaded.set_rendered(&pool(), rendered(&members[..1]));
        assert!(released("pr-2") && !released("pr-1"));
        assert!(loaded.lagging(&pool(), &domain()).is_empty());
        loaded.set_rendered(&pool(), rendered(&[]));
        assert!(released("pr-2"), "no pod, no signature");
    }

    #[test]
    fn what_was_reported_before_anything_was_rendered_counts() {
        let loaded = Loaded::default();
        for (pod, uid) in [("p-0", "u0"), ("p-1", "u1")] {
            assert_eq!(reports(&loaded, pod, uid, "d1"), Some(News::Everything));
        }
        assert!(!everywhere(&loaded), "nothing is rendered");
        loaded.set_rendered(&pool(), rendered(&[("p-0", Some("u0"))]));
        assert!(everywhere(&loaded));
        assert_eq!(loaded.state(&pool()).reports.len(), 1, "p-1 is no member");
        assert_eq!(reports(&loaded, "p-1", "u1", "d0"), None);
    }

    #[test]
    fn a_new_missing_or_replaced_member_undoes_it() {
        for members in [
            &[("p-0", Some("u0")), ("p-1", Some("u1"))][..],
            &[("p-0", Some("u0")), ("p-1", None)],
            &[("p-0", Some("u9"))],
            &[],
        ] {
            let loaded = Loaded::default();
            loaded.set_rendered(&pool(), rendered(&[("p-0", Some("u0"))]));
            reports(&loaded, "p-0", "u0", "d1");
            assert!(everywhere(&loaded));
            loaded.set_rendered(&pool(), rendered(members));
            assert!(!everywhere(&loaded), "{members:?}");
        }
    }

    #[test]
    fn reach_tells_what_is_rendered_and_which_pods_are_awaited() {
        let loaded = Loaded::default();
        let reach = |uid, generation| loaded.reach(&pool(), &domain(), uid, generation);
        assert_eq!(reach("d", 3), Reach::default(), "nothing is known");
        let members = [("p-0", Some("u0")), ("p-1", Some("u1")), ("p-2", None)];
        loaded.set_rendered(&pool(), rendered(&members));
        reports(&loaded, "p-0", "u0", "d1");
        reports(&loaded, "p-1", "u1", "d0");
        let expected = Reach {
            admission: Some(Admission::Send),
            members: 3,
            awaited: vec!["p-1".into(), "p-2".into()],
        };
        assert_eq!(reach("d", 3), expected);
        assert_eq!(reach("d", 4).admission, None, "the spec has changed since");
        assert_eq!(reach("e", 3).admission, None, "another object of the name");
        reports(&loaded, "p-1", "u1", "d1");
        assert_eq!(reach("d", 3).awaited, ["p-2"]);
        loaded.set_rendered(&pool(), rendered(&[]));
        assert_eq!(reach("d", 3).members, 0);
    }

    #[test]
    fn what_remains_is_known_once_every_member_has_counted_by_the_rendered_keyring() {
        let loaded = Loaded::default();
        let document = layout::keyring(shard_of(&domain()));
        let closing = |uid: &str| {
            let mut rendered = rendered(&[("p-0", Some("u0")), ("p-1", Some("u1"))]);
            let shard = rendered.shards.get_mut(&shard_of(&domain())).unwrap();
            let entry = Arc::make_mut(shard).domains.get_mut(&domain()).unwrap();
            (entry.uid, entry.intake) = (uid.into(), Intake::Closed);
            rendered
        };
        let counts = |pod: &str, digest: &str, count: Option<u64>| {
            let report = Report {
                pod: pod.into(),
                documents: BTreeMap::from([(document.clone(), digest.to_owned())]),
                refused: Vec::new(),
                queue: Default::default(),
                remaining: count.map(|count| (domain(), count)).into_iter().collect(),
                not_ready: None,
            };
            let uid = pod.replace("p-", "u");
            let report = Some(report);
            loaded.set_report(&pool(), pod, PodReport { uid, report })
        };
        let remainder = |uid: &str| loaded.remainder(&pool(), &domain(), uid);
        let known = |messages, unheard: &[&str]| {
            let unheard = unheard.iter().map(|pod| (*pod).to_owned()).collect();
            Some(Remainder { messages, unheard })
        };
        loaded.set_rendered(&pool(), rendered(&[("p-0", Some("u0"))]));
        assert_eq!(remainder("d"), None, "not told yet");
        loaded.set_rendered(&pool(), closing("d"));
        assert_eq!(remainder("d"), known(0, &["p-0", "p-1"]));
        assert_eq!(remainder("e"), None, "another SendingDomain");
        counts("p-0", "d1", Some(3));
        counts("p-1", "d0", Some(0));
        assert_eq!(remainder("d"), known(3, &["p-1"]), "by an older keyring");
        counts("p-1", "d1", None);
        assert_eq!(remainder("d"), known(3, &["p-1"]), "not counted");
        let news = counts("p-1", "d1", Some(1)).unwrap();
        assert!(news.concerns_domain(&domain()));
        assert_eq!(remainder("d"), known(4, &[]));
        assert_eq!(counts("p-1", "d1", Some(1)), None);
        // Created anew and deleted again before anybody was asked: nothing is known.
        loaded.set_rendered(&pool(), closing("e"));
        assert_eq!(remainder("e"), known(0, &["p-0", "p-1"]));
        loaded.set_report(
            &pool(),
            "p-0",
            PodReport {
                uid: "u0".into(),
                report: None,
            },
        );
        counts("p-1", "d1", Some(0));
        assert_eq!(remainder("e"), known(0, &["p-0"]), "out of reach");
    }

    #[test]
    fn only_what_changed_is_news() {
        let loaded = Loaded::default();
        let members = [("p-0", Some("u0"))];
        let first = rendered(&members);
        let news = |rendered: &Rendered| loaded.set_rendered(&pool(), rendered.clone());
        assert_eq!(news(&first), News::Everything, "there are members now");
        assert_eq!(news(&first), News::Documents(BTreeSet::new()));
        let mut second = first.clone();
        let list = layout::suppression("global", 3);
        second.documents.insert(list, "d2".into());
        assert!(news(&second).concerns_list("global"));
        let back = news(&first);
        assert!(back.concerns_list("global") && !back.concerns_list("other"));
        assert!(!back.concerns_domain(&domain()));
        let mut edited = first;
        let shard = edited.shards.get_mut(&shard_of(&domain())).unwrap();
        let shard = Arc::make_mut(shard);
        shard.domains.get_mut(&domain()).unwrap().generation += 1;
        assert!(news(&edited).concerns_domain(&domain()), "the same bytes");
    }
}
