//! The documents of the last set, as they were read, kept for as long as they stay the same.
//!
//! Promises: the large kinds of document (keyring, credentials, suppression) are parsed when their
//! digest changes and not again, and what they say is shared with the settings made of them, not
//! copied. Of a keyring shard that changed, keys are read of the domains whose keys are others than
//! before. What a set comes to, settings or refusals, does not depend on what was there before it.
//! Never keeps the octets of a document.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, mem,
    sync::Arc,
};

use postrider_crds::{
    DomainName, digest,
    relay_config::{
        Credential, Credentials, Document, KEYRING_SHARDS, Keyring, RefusedDocument, RelayConfig,
        layout,
    },
    suppression_file::SuppressionFile,
};

use super::{
    Pod,
    settings::{Domain, Settings, problem_of},
    tls,
};
use crate::{
    identity::Signer,
    suppression::{self, SuppressionIndex},
};

/// What stands for the pod's ordinal in a hostname.
const ORDINAL: &str = "{ordinal}";

/// A whole set of documents as it was found: the digest of each by path, and the octets of those
/// that no shelf holds.
#[derive(Default)]
pub(super) struct DocumentSet {
    pub(super) digests: BTreeMap<String, String>,
    pub(super) octets: BTreeMap<String, Vec<u8>>,
}

/// What was read of the last set.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    keyring: Row<Vec<Arc<Domain>>>,
    credentials: Row<HashMap<String, Credential>>,
    suppression: Row<suppression::Shard>,
}

/// The documents of a kind, by path.
type Row<T> = BTreeMap<String, Shelved<T>>;

/// A document that was read.
#[derive(Debug)]
struct Shelved<T> {
    digest: String,
    read: Read<T>,
}

/// What a document says, and what is wrong with it.
#[derive(Debug, Default)]
struct Read<T> {
    content: Arc<T>,
    problems: Vec<String>,
}

impl DocumentSet {
    /// Adds a document; its octets only when `shelf` needs them.
    pub(super) fn add(&mut self, path: &str, octets: &[u8], shelf: &Shelf) {
        let digest = digest::of(octets);
        if shelf.digest(path) != Some(&digest) {
            self.octets.insert(path.to_owned(), octets.to_vec());
        }
        self.digests.insert(path.to_owned(), digest);
    }

    fn paths_below(&self, directory: &str) -> Vec<&str> {
        let below = |path: &&str| {
            let rest = path.strip_prefix(directory);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        self.digests
            .keys()
            .map(String::as_str)
            .filter(below)
            .collect()
    }
}

impl Shelf {
    /// Puts a set together, of which octets were left out only as this shelf allows, or says which
    /// documents cannot be used and why.
    pub(super) fn build(
        &mut self,
        set: &DocumentSet,
        pod: &Pod,
    ) -> Result<Settings, Vec<RefusedDocument>> {
        let mut assembly = Assembly {
            set,
            refused: Vec::new(),
        };
        let relay = assembly.relay_config(pod);
        let domains = assembly.domains(&mut self.keyring);
        let credentials = assembly.credentials(&mut self.credentials);
        let suppression = assembly.suppression(&mut self.suppression);
        let submission_tls = assembly.submission_tls();
        // The admin listener has its own watch; here its files only have to be good.
        if let Err(problem) = tls::admin(&set.octets) {
            assembly.refuse(problem.path, &problem.error);
        }
        match (relay, submission_tls) {
            (Some(relay), Some(submission_tls)) if assembly.refused.is_empty() => Ok(Settings {
                relay,
                domains,
                credentials,
                suppression,
                submission_tls,
                documents: set.digests.clone(),
            }),
            _ => Err(assembly.refused),
        }
    }

    /// The digest of the document at `path`, if it is here.
    fn digest(&self, path: &str) -> Option<&String> {
        let keyring = || self.keyring.get(path).map(|shelved| &shelved.digest);
        let credentials = || self.credentials.get(path).map(|shelved| &shelved.digest);
        let suppression = || self.suppression.get(path).map(|shelved| &shelved.digest);
        keyring().or_else(credentials).or_else(suppression)
    }
}

/// A set on its way to settings.
struct Assembly<'a> {
    set: &'a DocumentSet,
    refused: Vec<RefusedDocument>,
}

impl Assembly<'_> {
    fn refuse(&mut self, path: &str, error: &dyn fmt::Display) {
        let digest = self.set.digests.get(path).cloned();
        self.refused.push(RefusedDocument {
            path: path.to_owned(),
            digest: digest.unwrap_or_else(|| digest::of(&[])),
            error: error.to_string(),
        });
    }

    /// Puts the documents at `paths` on `row`, in place of what was there; what has the digest it
    /// had is not read again. `read` gets the text and what was read of the document before.
    fn shelve<T: Default>(
        &mut self,
        row: &mut Row<T>,
        paths: &[&str],
        read: impl Fn(&str, Option<&T>) -> Read<T>,
    ) {
        let mut before = mem::take(row);
        for path in paths {
            let Some(digest) = self.set.digests.get(*path) else {
                continue;
            };
            let shelved = match before.remove(*path) {
                Some(same) if same.digest == *digest => same,
                before => {
                    let octets = self.set.octets.get(*path);
                    let octets = octets.map_or(&[][..], Vec::as_slice);
                    let before = before.as_ref().map(|before| &*before.read.content);
                    Shelved {
                        digest: digest.clone(),
                        read: match text(octets) {
                            Ok(text) => read(text, before),
                            Err(problem) => Read::refused(problem),
                        },
                    }
                }
            };
            for problem in &shelved.read.problems {
                self.refuse(path, problem);
            }
            row.insert((*path).to_owned(), shelved);
        }
    }

    fn relay_config(&mut self, pod: &Pod) -> Option<RelayConfig> {
        let path = layout::RELAY_CONFIG;
        let Some(octets) = self.set.octets.get(path) else {
            self.refuse(path, &"is missing; the relay needs a RelayConfig");
            return None;
        };
        let read = text(octets).and_then(parsed::<RelayConfig>);
        let relay = read.and_then(|mut relay| {
            relay.hostname = relay.hostname.replace(ORDINAL, &pod.ordinal.to_string());
            problem_of(&relay).map_or(Ok(relay), Err)
        });
        relay.map_err(|problem| self.refuse(path, &problem)).ok()
    }

    fn domains(&mut self, row: &mut Row<Vec<Arc<Domain>>>) -> HashMap<DomainName, Arc<Domain>> {
        let (shards, others): (Vec<&str>, Vec<&str>) = self
            .set
            .paths_below(layout::KEYRING)
            .into_iter()
            .partition(|path| is_shard(path));
        for path in others {
            let last = layout::keyring(KEYRING_SHARDS - 1);
            let first = layout::keyring(0);
            self.refuse(path, &format!("is no keyring shard; use {first} to {last}"));
        }
        self.shelve(row, &shards, |text, before| {
            keyring(text, before.map_or(&[][..], Vec::as_slice))
        });
        let count = row.values().map(|shard| shard.read.content.len()).sum();
        let mut domains = HashMap::with_capacity(count);
        for (path, shard) in &*row {
            for domain in &*shard.read.content {
                let name = &domain.entry.domain;
                if domains.insert(name.clone(), Arc::clone(domain)).is_some() {
                    self.refuse(path, &format!("domain {name}: is there twice; keep one"));
                }
            }
        }
        domains
    }

    fn credentials(
        &mut self,
        row: &mut Row<HashMap<String, Credential>>,
    ) -> Arc<HashMap<String, Credential>> {
        let path = layout::CREDENTIALS;
        self.shelve(row, &[path], |text, _| credentials(text));
        let shelved = row.get(path);
        shelved.map_or_else(Arc::default, |shelved| Arc::clone(&shelved.read.content))
    }

    fn suppression(&mut self, row: &mut Row<suppression::Shard>) -> SuppressionIndex {
        let paths = self.set.paths_below(layout::SUPPRESSION);
        self.shelve(row, &paths, |text, _| match SuppressionFile::parse(text) {
            Ok(file) => Read::good(suppression::Shard::of(&file)),
            Err(error) => Read::refused(error.to_string()),
        });
        let mut index = SuppressionIndex::default();
        for (path, shard) in &*row {
            let name = path.rsplit_once('/').map_or("", |(_, name)| name);
            let list = name.rsplit_once('.').map_or(name, |(list, _)| list);
            index.add(list, Arc::clone(&shard.read.content));
        }
        index
    }

    fn submission_tls(&mut self) -> Option<Arc<rustls::ServerConfig>> {
        tls::submission(&self.set.octets)
            .map_err(|problem| self.refuse(problem.path, &problem.error))
            .ok()
    }
}

impl<T: Default> Read<T> {
    fn good(content: T) -> Self {
        Self {
            content: Arc::new(content),
            problems: Vec::new(),
        }
    }

    fn refused(problem: String) -> Self {
        Self {
            problems: vec![problem],
            ..Self::default()
        }
    }
}

fn text(octets: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(octets).map_err(|error| format!("is no UTF-8 text: {error}"))
}

fn parsed<D: Document>(text: &str) -> Result<D, String> {
    D::from_yaml(text).map_err(|error| error.to_string())
}

/// Whether `path` is that of a keyring shard.
fn is_shard(path: &str) -> bool {
    let name = path.strip_prefix(layout::KEYRING);
    let number = name.and_then(|name| name.strip_prefix('/')?.strip_suffix(".yaml"));
    let shard = number.and_then(|number| number.parse().ok());
    shard.is_some_and(|shard| shard < KEYRING_SHARDS && layout::keyring(shard) == path)
}

/// The domains of a shard, with the signers of `before` where they still hold.
fn keyring(text: &str, before: &[Arc<Domain>]) -> Read<Vec<Arc<Domain>>> {
    let keyring: Keyring = match parsed(text) {
        Ok(keyring) => keyring,
        Err(problem) => return Read::refused(problem),
    };
    let signers = before
        .iter()
        .map(|domain| (&domain.entry.domain, &domain.signer));
    let signers: HashMap<&DomainName, &Arc<Signer>> = signers.collect();
    let mut domains = Vec::with_capacity(keyring.domains.len());
    let mut problems = Vec::new();
    for mut entry in keyring.domains {
        let known = signers.get(&entry.domain);
        let signer = match known.filter(|signer| signer.is_of(&entry)) {
            Some(same) => Ok(Arc::clone(same)),
            None => Signer::from_entry(&entry).map(Arc::new),
        };
        match signer {
            Err(error) => problems.push(format!("domain {}: {error}", entry.domain)),
            Ok(signer) => {
                entry.keys = Vec::new();
                domains.push(Arc::new(Domain { entry, signer }));
            }
        }
    }
    Read {
        content: Arc::new(domains),
        problems,
    }
}

fn credentials(text: &str) -> Read<HashMap<String, Credential>> {
    let document: Credentials = match parsed(text) {
        Ok(document) => document,
        Err(problem) => return Read::refused(problem),
    };
    let mut by_name = HashMap::with_capacity(document.credentials.len());
    let mut problems = Vec::new();
    for credential in document.credentials {
        let name = credential.username.clone();
        if by_name.insert(name.clone(), credential).is_some() {
            problems.push(format!("username {name:?} is there twice; keep one"));
        }
    }
    Read {
        content: Arc::new(by_name),
        problems,
    }
}

#[cfg(test)]
mod tests {
    use postrider_crds::relay_config::{KeyAlgorithm, SigningKey, SigningState};
    use proptest::prelude::*;

    use super::*;
    use crate::config::sample;

    type Documents = BTreeMap<String, Vec<u8>>;

    fn build(shelf: &mut Shelf, documents: &Documents) -> Result<Settings, Vec<RefusedDocument>> {
        let mut set = DocumentSet::default();
        for (path, octets) in documents {
            set.add(path, octets, shelf);
        }
        shelf.build(&set, &Pod::named("default-2"))
    }

    /// A shard with these domains, each with a key of its own.
    fn shard(names: &[&str]) -> Keyring {
        let text = String::from_utf8(sample::documents()[&layout::keyring(0)].clone()).unwrap();
        let mut keyring = Keyring::from_yaml(&text).unwrap();
        keyring.domains.truncate(1);
        let pattern = keyring.domains.remove(0);
        keyring.domains.extend(names.iter().map(|name| {
            let mut entry = pattern.clone();
            entry.domain = name.parse().unwrap();
            entry.keys = vec![key()];
            entry
        }));
        keyring
    }

    fn key() -> SigningKey {
        SigningKey {
            selector: "pr-1".parse().unwrap(),
            algorithm: KeyAlgorithm::Ed25519,
            state: SigningState::Active,
            private_key: rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
                .unwrap()
                .serialize_pem(),
        }
    }

    fn put(documents: &mut Documents, path: String, document: &impl Document) {
        documents.insert(path, document.to_yaml().into_bytes());
    }

    fn name(name: &str) -> DomainName {
        name.parse().unwrap()
    }

    #[test]
    fn what_stays_the_same_is_shared_and_keys_are_read_once() {
        let mut documents = sample::documents();
        let mut first = shard(&["a.example", "b.example", "c.example"]);
        put(&mut documents, layout::keyring(1), &first);
        put(&mut documents, layout::keyring(2), &shard(&["d.example"]));
        let mut shelf = Shelf::default();
        let before = build(&mut shelf, &documents).unwrap();
        assert!(
            before
                .domains
                .values()
                .all(|domain| domain.entry.keys.is_empty())
        );

        first.domains[0].senders.clear();
        first.domains[1].keys = vec![key()];
        first.domains[2].keys[0].state = SigningState::Standby;
        put(&mut documents, layout::keyring(1), &first);
        let after = build(&mut shelf, &documents).unwrap();
        let same_signer = |domain: &str| {
            let of = |settings: &Settings| Arc::clone(&settings.domains[&name(domain)].signer);
            Arc::ptr_eq(&of(&before), &of(&after))
        };
        assert!(same_signer("a.example") && !same_signer("b.example"));
        assert!(!same_signer("c.example"));
        assert!(!after.domains[&name("c.example")].signer.is_active());
        assert!(after.domains[&name("a.example")].entry.senders.is_empty());
        let same = |domain: &str| {
            let domain = name(domain);
            Arc::ptr_eq(&before.domains[&domain], &after.domains[&domain])
        };
        assert!(same("d.example") && same("example.com") && !same("a.example"));
        assert!(Arc::ptr_eq(&before.credentials, &after.credentials));
    }

    #[test]
    fn only_what_changed_has_to_be_given() {
        let mut documents = sample::documents();
        let mut shelf = Shelf::default();
        build(&mut shelf, &documents).unwrap();
        put(&mut documents, layout::keyring(1), &shard(&["a.example"]));
        let mut set = DocumentSet::default();
        for (path, octets) in &documents {
            set.add(path, octets, &shelf);
        }
        assert_eq!(set.digests.len(), documents.len());
        assert!(set.octets.contains_key(&layout::keyring(1)));
        assert!(!set.octets.contains_key(&layout::keyring(0)));
        assert!(!set.octets.contains_key(layout::CREDENTIALS));
        // Keys of TLS are not kept for later.
        assert!(set.octets.contains_key(layout::TLS_KEY));
    }

    /// What may stand at some paths; the first is nothing.
    fn variants() -> Vec<(String, Vec<Option<Vec<u8>>>)> {
        let sample = sample::documents();
        let one = shard(&["a.example", "b.example"]);
        let mut other = one.clone();
        other.domains[0].keys = vec![key()];
        let mut broken = one.clone();
        broken.domains[1].keys[0].private_key = "none".into();
        let yaml = |keyring: &Keyring| Some(keyring.to_yaml().into_bytes());
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let good = |path: &str| sample.get(path).cloned();
        let (two, bad) = (yaml(&other), yaml(&broken));
        let list = "postrider-suppression 1\na@example.net\t-\tbounce\n";
        vec![
            (
                layout::keyring(1),
                vec![None, yaml(&one), two, bad, text("version: 1")],
            ),
            // Twice the same domains in two shards.
            (layout::keyring(2), vec![None, yaml(&one), Some(vec![0xff])]),
            (
                layout::CREDENTIALS.to_owned(),
                vec![None, good(layout::CREDENTIALS), text("nonsense")],
            ),
            (
                layout::suppression("global", 0),
                vec![None, text(list), text("nonsense")],
            ),
            (
                layout::RELAY_CONFIG.to_owned(),
                vec![None, good(layout::RELAY_CONFIG), text("version: 9")],
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_was_there_before_makes_no_difference(
            sets in prop::collection::vec(prop::array::uniform5(any::<prop::sample::Index>()), 2..8)
        ) {
            let variants = variants();
            let mut shelf = Shelf::default();
            for set in sets {
                let mut documents = sample::documents();
                for ((path, variants), index) in variants.iter().zip(set) {
                    match index.get(variants) {
                        None => drop(documents.remove(path)),
                        Some(octets) => drop(documents.insert(path.clone(), octets.clone())),
                    }
                }
                let anew = build(&mut Shelf::default(), &documents);
                match (build(&mut shelf, &documents), anew) {
                    (Err(refused), Err(anew)) => prop_assert_eq!(refused, anew),
                    (Ok(settings), Ok(anew)) => {
                        prop_assert_eq!(&settings.documents, &anew.documents);
                        prop_assert_eq!(&settings.credentials, &anew.credentials);
                        prop_assert_eq!(settings.suppression.len(), anew.suppression.len());
                        prop_assert_eq!(settings.domains.len(), anew.domains.len());
                        for (name, domain) in &anew.domains {
                            let known = settings.domain(name).unwrap();
                            prop_assert_eq!(&known.entry, &domain.entry);
                            prop_assert!(known.signer.is_like(&domain.signer));
                        }
                    }
                    (shelved, anew) => {
                        prop_assert!(false, "{:?} but {:?}", shelved.is_ok(), anew.is_ok());
                    }
                }
            }
        }
    }
}
