//! Following the configuration directory while the relay runs.
//!
//! Flow: every [`POLL_INTERVAL`] the files are looked at, and only if one of them is not the file
//! it was (or once in [`SIGNS_TRUSTED`] looks, whatever they look like) is the directory read; when
//! its digests differ from those last looked at, it is read again until two readings agree, so that
//! a volume caught in the middle of its update is not judged; then the documents that changed are
//! parsed, and the set is published, or refused.
//!
//! Guarantees: readers see whole settings only, in the order they were built. A refused set leaves
//! what was published before in force and shows in [`ConfigState::refused`] until a good set
//! comes. The admin listener's certificate is followed by itself, so that the report can be had
//! also while everything else is refused.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use postrider_crds::{digest, relay_config::RefusedDocument};
use tokio::sync::watch;

use super::{
    settings::{Pod, Settings},
    shelf::{DocumentSet, Shelf},
    tls,
};
use crate::ports::{Documents, Signs};

/// How often the directory is looked at. Asking for the state of the few dozen files of a pool takes
/// well under a millisecond, and the kubelet takes longer than this to bring a change.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Readings until two must agree; a directory that changes faster is taken up at the next poll.
const SETTLE_READINGS: usize = 4;
/// Looks in a row that may go without reading: a file that is written twice within the grain of the
/// file system's clock can look as it did before, and is then read a minute late.
const SIGNS_TRUSTED: u32 = 60;
/// The path of a refusal that concerns the directory as a whole.
const WHOLE_DIRECTORY: &str = ".";

/// What is known of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigState {
    /// The settings in force; `None` until a first set was good.
    pub settings: Option<Arc<Settings>>,
    /// What the admin listener presents; `None` until its files were good once.
    pub admin_tls: Option<Arc<rustls::ServerConfig>>,
    /// What was found last and cannot be used.
    pub refused: Vec<RefusedDocument>,
    /// Sets refused since the start.
    pub refusals: u64,
}

/// Reads the directory and publishes what it says.
#[derive(Debug)]
pub struct Follower<D> {
    documents: D,
    pod: Pod,
    /// What was read so far.
    shelf: Shelf,
    /// Digests of what was judged last.
    seen: Option<BTreeMap<String, String>>,
    /// What the files looked like before the reading that was judged last.
    signs: Option<Signs>,
    /// Looks since the last reading.
    unread: u32,
    state: watch::Sender<ConfigState>,
}

/// What reading the directory came to.
enum Reading {
    /// What was judged last.
    Known,
    /// A set not judged before that two readings agreed on.
    Settled(DocumentSet),
    /// Something else each time.
    Changing,
}

impl<D: Documents> Follower<D> {
    /// A follower that has read nothing yet, and where its findings appear.
    pub fn new(documents: D, pod: Pod) -> (Self, watch::Receiver<ConfigState>) {
        let (state, receiver) = watch::channel(ConfigState::default());
        let follower = Self {
            documents,
            pod,
            shelf: Shelf::default(),
            seen: None,
            signs: None,
            unread: 0,
            state,
        };
        (follower, receiver)
    }

    /// Looks once and publishes what has changed. Takes as long as the disk; call it where
    /// blocking is allowed.
    pub fn poll(&mut self) {
        // Taken before reading: whatever changes later shows at the next look.
        let signs = self.documents.signs();
        if signs.is_some() && signs == self.signs && self.unread < SIGNS_TRUSTED {
            self.unread += 1;
            return;
        }
        (self.signs, self.unread) = (None, 0);
        match self.settled() {
            Ok(Reading::Settled(set)) => {
                self.judge(set);
                self.signs = signs;
            }
            Ok(Reading::Known) => self.signs = signs,
            Ok(Reading::Changing) => {}
            Err(error) => self.unreadable(&error),
        }
    }

    /// Polls until every reader of the state is gone.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            if self.state.is_closed() {
                return;
            }
            let polled = tokio::task::spawn_blocking(move || {
                self.poll();
                self
            });
            match polled.await {
                Ok(follower) => self = follower,
                Err(error) => {
                    tracing::error!(%error, "configuration is no longer followed");
                    return;
                }
            }
        }
    }

    /// Reads until two readings agree.
    fn settled(&self) -> io::Result<Reading> {
        let mut before = BTreeMap::new();
        self.documents.each(&mut |path, octets| {
            before.insert(path.to_owned(), digest::of(octets));
        })?;
        if self.seen.as_ref() == Some(&before) {
            return Ok(Reading::Known);
        }
        for _ in 0..SETTLE_READINGS {
            let mut now = DocumentSet::default();
            self.documents
                .each(&mut |path, octets| now.add(path, octets, &self.shelf))?;
            if now.digests == before {
                return Ok(Reading::Settled(now));
            }
            before = now.digests;
        }
        Ok(Reading::Changing)
    }

    fn judge(&mut self, set: DocumentSet) {
        let built = self.shelf.build(&set, &self.pod);
        let admin = tls::admin(&set.octets).ok();
        self.seen = Some(set.digests);
        self.state.send_modify(|state| {
            if let Some(admin) = admin {
                state.admin_tls = Some(admin);
            }
            match built {
                Ok(settings) => {
                    state.settings = Some(Arc::new(settings));
                    state.refused.clear();
                }
                Err(refused) => {
                    state.refused = refused;
                    state.refusals += 1;
                }
            }
        });
    }

    fn unreadable(&mut self, error: &io::Error) {
        // The same trouble is told once, until a reading succeeds.
        self.seen = None;
        let refused = vec![RefusedDocument {
            path: WHOLE_DIRECTORY.into(),
            digest: String::new(),
            error: format!("cannot be read: {error}"),
        }];
        self.state.send_if_modified(|state| {
            let new = state.refused != refused;
            if new {
                state.refused = refused;
                state.refusals += 1;
            }
            new
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicU32, Ordering},
        },
    };

    use postrider_crds::relay_config::layout;

    use super::*;
    use crate::{config::sample, ports::MountedDirectory};

    type Read = io::Result<BTreeMap<String, Vec<u8>>>;

    type Script = Box<dyn Fn() -> Read + Send>;

    /// Gives one reading after the other, the last one for ever.
    #[derive(Clone, Default)]
    struct Scripted(Arc<Mutex<Vec<Script>>>);

    impl Scripted {
        fn then(&self, reading: impl Fn() -> Read + Send + 'static) {
            self.0.lock().unwrap().push(Box::new(reading));
        }

        fn now(&self, reading: impl Fn() -> Read + Send + 'static) {
            self.0.lock().unwrap().clear();
            self.then(reading);
        }
    }

    impl Documents for Scripted {
        fn each(&self, take: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
            let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let documents = match readings.len() {
                1 => readings[0]()?,
                _ => readings.remove(0)()?,
            };
            for (path, octets) in &documents {
                take(path, octets);
            }
            Ok(())
        }
    }

    fn changed(path: &'static str, text: &'static str) -> impl Fn() -> Read {
        move || {
            let mut documents = sample::documents();
            documents.insert(path.into(), text.into());
            Ok(documents)
        }
    }

    #[test]
    fn a_bad_set_leaves_the_good_one_in_force() {
        let script = Scripted::default();
        script.then(|| Ok(sample::documents()));
        let (mut follower, state) = Follower::new(script.clone(), Pod::named("default-2"));
        follower.poll();
        let good = state.borrow().settings.clone().expect("good");

        script.now(changed(layout::CREDENTIALS, "nonsense"));
        follower.poll();
        follower.poll();
        let now = state.borrow().clone();
        assert!(Arc::ptr_eq(&good, &now.settings.expect("kept")));
        assert_eq!(now.refused[0].path, layout::CREDENTIALS);
        assert_eq!(now.refusals, 1, "the same set is judged once");

        script.now(|| Ok(sample::documents()));
        follower.poll();
        assert!(state.borrow().refused.is_empty());
    }

    #[test]
    fn a_set_caught_in_the_middle_is_not_judged() {
        let script = Scripted::default();
        script.then(changed(layout::TLS_KEY, "half"));
        script.then(|| Ok(sample::documents()));
        let (mut follower, state) = Follower::new(script, Pod::named("default-2"));
        follower.poll();
        let state = state.borrow();
        assert!(state.settings.is_some() && state.refusals == 0);
    }

    #[test]
    fn an_unreadable_directory_is_told_once_and_the_report_has_its_certificate() {
        let script = Scripted::default();
        script.then(|| Err(io::Error::other("disk on fire")));
        let (mut follower, state) = Follower::new(script.clone(), Pod::named("default-2"));
        follower.poll();
        follower.poll();
        assert_eq!(state.borrow().refusals, 1);
        assert!(state.borrow().refused[0].error.contains("disk on fire"));
        script.now(changed(layout::RELAY_CONFIG, "nonsense"));
        follower.poll();
        let state = state.borrow();
        assert!(state.settings.is_none() && state.admin_tls.is_some());
    }

    /// A mounted directory that counts how often it is read.
    #[derive(Clone)]
    struct Counting(MountedDirectory, Arc<AtomicU32>);

    impl Documents for Counting {
        fn each(&self, take: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.each(take)
        }

        fn signs(&self) -> Option<Signs> {
            self.0.signs()
        }
    }

    #[test]
    fn what_looks_the_same_is_read_once_a_minute_and_a_change_at_once() {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in sample::documents() {
            let full = root.path().join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, bytes).unwrap();
        }
        let reads = Arc::new(AtomicU32::new(0));
        let mounted = MountedDirectory::new(root.path().into());
        let documents = Counting(mounted, reads.clone());
        let (mut follower, state) = Follower::new(documents, Pod::named("default-2"));
        follower.poll();
        assert_eq!(reads.load(Ordering::Relaxed), 2, "two readings agree");
        for _ in 0..SIGNS_TRUSTED {
            follower.poll();
        }
        assert_eq!(reads.load(Ordering::Relaxed), 2, "nothing is read at rest");
        follower.poll();
        assert_eq!(
            reads.load(Ordering::Relaxed),
            3,
            "signs are not trusted for ever"
        );
        fs::write(root.path().join(layout::CREDENTIALS), "nonsense").unwrap();
        follower.poll();
        assert_eq!(state.borrow().refused[0].path, layout::CREDENTIALS);
        fs::write(
            root.path().join(layout::CREDENTIALS),
            &sample::documents()[layout::CREDENTIALS],
        )
        .unwrap();
        follower.poll();
        assert!(state.borrow().refused.is_empty());
    }
}
