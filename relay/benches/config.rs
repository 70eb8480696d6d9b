//! What it costs a relay to follow the configuration of 10,000 domains, mounted as a kubelet mounts
//! it. `cargo bench -p postrider-relay --bench config`; `docs/benchmark.md` has figures.
//!
//! All of it runs on one thread, so what it takes is CPU time too.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops by panicking"
)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use postrider_crds::relay_config::{
    Admission, Credentials, DOCUMENT_VERSION, Document as _, DomainEntry, Intake, KEYRING_SHARDS,
    KeyAlgorithm, Keyring, Sender, SigningKey, SigningState, layout, shard_of,
};
use postrider_relay::{
    config::{Follower, Pod},
    ports::MountedDirectory,
};

const DOMAINS: usize = 10_000;
/// Key pairs the domains share; made ones take a tenth of a second each.
const PAIRS: usize = 16;

const RELAY: &str = "\
version: 1
pool: {namespace: mail, name: default}
hostname: mail.example.net
listeners: {submission: 587}
limits: {messageBytes: 1000000, recipients: 100, sessions: 10}
delivery: {retry: {initial: 1m, maximum: 4h}, expireAfter: 5d, delayWarningAfter: 4h, tls: Opportunistic, connectionsPerSite: 10}
";

/// A configuration directory whose keyring has two versions, which differ in one domain.
struct Mounted {
    root: tempfile::TempDir,
    versions: [&'static str; 3],
    current: usize,
}

impl Mounted {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["mail.example.net".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let credentials = Credentials {
            version: DOCUMENT_VERSION,
            credentials: Vec::new(),
        };
        for (path, text) in [
            (layout::RELAY_CONFIG, RELAY),
            (layout::CREDENTIALS, &credentials.to_yaml()),
            (layout::TLS_CERTIFICATE, &certificate),
            (layout::TLS_KEY, &key),
            (layout::ADMIN_CERTIFICATE, &certificate),
            (layout::ADMIN_KEY, &key),
            (layout::ADMIN_CA, &certificate),
        ] {
            write(&root.path().join(path), text);
        }
        let mut mounted = Self {
            root,
            // The second is the first again, as after a kubelet's update of nothing.
            versions: ["..1", "..2", "..3"],
            current: 0,
        };
        let mut shards = shards();
        for version in mounted.versions {
            if version == "..3" {
                shards.get_mut(&0).unwrap()[0].senders.clear();
            }
            for (shard, domains) in &shards {
                let keyring = Keyring {
                    version: DOCUMENT_VERSION,
                    domains: domains.clone(),
                };
                let name = format!("{shard:02}.yaml");
                write(
                    &mounted.keyring().join(version).join(name),
                    &keyring.to_yaml(),
                );
            }
        }
        for shard in 0..KEYRING_SHARDS {
            let name = format!("{shard:02}.yaml");
            symlink(format!("..data/{name}"), mounted.keyring().join(name)).unwrap();
        }
        mounted.swap(0);
        mounted
    }

    fn keyring(&self) -> PathBuf {
        self.root.path().join(layout::KEYRING)
    }

    /// Lets the links lead to a version.
    fn swap(&mut self, version: usize) {
        let new = self.keyring().join("..data_tmp");
        symlink(self.versions[version], &new).unwrap();
        fs::rename(new, self.keyring().join("..data")).unwrap();
        self.current = version;
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn shards() -> BTreeMap<u32, Vec<DomainEntry>> {
    let pairs: Vec<[String; 2]> = (0..PAIRS)
        .map(|_| {
            [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ED25519]
                .map(|kind| rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem())
        })
        .collect();
    let mut shards: BTreeMap<u32, Vec<DomainEntry>> = BTreeMap::new();
    for number in 0..DOMAINS {
        let entry = entry(&format!("d{number}.example.com"), &pairs[number % PAIRS]);
        shards
            .entry(shard_of(&entry.domain))
            .or_default()
            .push(entry);
    }
    shards
}

fn entry(name: &str, [rsa, ed25519]: &[String; 2]) -> DomainEntry {
    let key = |selector: &str, algorithm, pem: &String| SigningKey {
        selector: selector.parse().unwrap(),
        algorithm,
        state: SigningState::Active,
        private_key: pem.clone(),
    };
    DomainEntry {
        domain: name.parse().unwrap(),
        return_path: format!("bounce.{name}").parse().unwrap(),
        admission: Admission::Send,
        reason: String::new(),
        intake: Intake::Open,
        keys: vec![
            key("pr-1", KeyAlgorithm::RSA2048, rsa),
            key("pr-2", KeyAlgorithm::Ed25519, ed25519),
        ],
        senders: vec![Sender {
            username: "ann".into(),
            addresses: Vec::new(),
        }],
    }
}

fn following(c: &mut Criterion) {
    let mut mounted = Mounted::new();
    let directory = MountedDirectory::new(mounted.root.path().to_path_buf());
    let follower = || Follower::new(directory.clone(), Pod::named("relay-0"));
    let mut group = c.benchmark_group("config");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(20));
    group.bench_function("start", |b| {
        b.iter_batched(
            follower,
            |(mut follower, state)| {
                follower.poll();
                assert!(state.borrow().settings.is_some());
                (follower, state)
            },
            BatchSize::PerIteration,
        );
    });
    let (mut follower, state) = follower();
    follower.poll();
    group.sample_size(30);
    for (name, other) in [("one domain changed", 2), ("volume swapped", 1)] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || mounted.swap(if mounted.current == 0 { other } else { 0 }),
                |()| follower.poll(),
                BatchSize::PerIteration,
            );
        });
        mounted.swap(0);
        follower.poll();
    }
    group.bench_function("at rest", |b| b.iter(|| follower.poll()));
    assert!(state.borrow().refused.is_empty());
    group.finish();
}

criterion_group!(benches, following);
criterion_main!(benches);
