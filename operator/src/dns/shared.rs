//! One asker for many domains: thousands of them share a pool's host, its addresses and the
//! policies they include.
//!
//! Promises: a question that is being asked is not asked a second time; at most [`MAX_ASKED`]
//! questions are under way; what was found is given again for as long as its TTL lets it be kept,
//! [`MAX_KEPT`] at most, as any resolver on the way does. "No record" and "no answer" are never
//! kept, so a record that was missing is seen as soon as it is there. Of more than [`ROOM`] answers
//! of a kind those are kept that have been given again, if they are not too many themselves: what one
//! domain alone asks for has to go.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use postrider_crds::RecordType;
use tokio::sync::Semaphore;

use super::{
    authority::Authorities,
    resolver::{Answer, MailExchange, Resolver},
};
use crate::clock::Clock;

/// Most questions under way.
const MAX_ASKED: usize = 64;
/// Longest time an answer is kept.
const MAX_KEPT: Duration = Duration::from_secs(60);
/// Answers of a kind after which those that are too old, or that nobody came back for, are taken out.
const ROOM: usize = 1_024;

/// Shares the answers of another resolver.
pub struct SharedResolver {
    inner: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    asked: Arc<Semaphore>,
    txt: Table<String, String>,
    mx: Table<String, MailExchange>,
    ipv4: Table<String, IpAddr>,
    ipv6: Table<String, IpAddr>,
    ptr: Table<IpAddr, String>,
}

type Table<K, T> = Arc<Mutex<HashMap<K, Entry<T>>>>;
type Asking<T> = BoxFuture<'static, Answer<T>>;

enum Entry<T> {
    /// Somebody waits for the answer; dead once nobody does.
    Asked(WeakShared<Asking<T>>),
    /// The answer.
    Kept(Kept<T>),
}

struct Kept<T> {
    answer: Answer<T>,
    /// Until when, in monotonic time, it may be given.
    until: Duration,
    /// Whether it has been given again.
    shared: bool,
}

impl<T> Entry<T> {
    /// Whether there is use in it yet.
    fn is_live(&self, now: Duration) -> bool {
        match self {
            Self::Asked(asked) => asked.upgrade().is_some(),
            Self::Kept(kept) => kept.shared && now < kept.until,
        }
    }
}

impl SharedResolver {
    /// Shares the answers of `inner`, by the time of `clock`.
    #[must_use]
    pub fn new(inner: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            asked: Arc::new(Semaphore::new(MAX_ASKED)),
            txt: Table::default(),
            mx: Table::default(),
            ipv4: Table::default(),
            ipv6: Table::default(),
            ptr: Table::default(),
        }
    }

    /// The kept answer, the one that is on its way, or that of `question`.
    fn answer<K, T>(
        &self,
        table: &Table<K, T>,
        key: K,
        question: impl FnOnce(Arc<dyn Resolver>) -> Asking<T>,
    ) -> BoxFuture<'static, Answer<T>>
    where
        K: Clone + Eq + Hash + Send + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let now = self.clock.monotonic();
        let mut entries = lock(table);
        match entries.get_mut(&key) {
            Some(Entry::Kept(kept)) if now < kept.until => {
                kept.shared = true;
                return futures::future::ready(kept.answer.clone()).boxed();
            }
            Some(Entry::Asked(asked)) => {
                if let Some(asked) = asked.upgrade() {
                    return asked.boxed();
                }
            }
            Some(Entry::Kept(_)) | None => {}
        }
        let asking = self.ask(table, key.clone(), question(self.inner.clone()));
        if entries.len() >= ROOM {
            entries.retain(|_, entry| entry.is_live(now));
            if entries.len() >= ROOM {
                entries.retain(|_, entry| matches!(entry, Entry::Asked(_)));
            }
        }
        if let Some(asked) = asking.downgrade() {
            entries.insert(key, Entry::Asked(asked));
        }
        asking.boxed()
    }

    /// Asks when it is its turn, and keeps what is found.
    fn ask<K, T>(&self, table: &Table<K, T>, key: K, question: Asking<T>) -> Shared<Asking<T>>
    where
        K: Eq + Hash + Send + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let (asked, clock, table) = (self.asked.clone(), self.clock.clone(), table.clone());
        let asking = async move {
            // The semaphore is never closed.
            let _turn = asked.acquire_owned().await.ok();
            let answer = question.await;
            let ttl = match &answer {
                Answer::Found { ttl, .. } => Duration::from_secs((*ttl).into()),
                Answer::NoData | Answer::NxDomain | Answer::Unavailable(_) => Duration::ZERO,
            };
            let mut entries = lock(&table);
            if ttl.is_zero() {
                entries.remove(&key);
            } else {
                let kept = Kept {
                    answer: answer.clone(),
                    until: clock.monotonic() + ttl.min(MAX_KEPT),
                    shared: false,
                };
                entries.insert(key, Entry::Kept(kept));
            }
            drop(entries);
            answer
        };
        asking.boxed().shared()
    }
}

impl Resolver for SharedResolver {
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<String>> {
        let asked = name.to_owned();
        self.answer(&self.txt, name.to_owned(), |inner| {
            async move { inner.txt(&asked).await }.boxed()
        })
    }

    fn mx<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<MailExchange>> {
        let asked = name.to_owned();
        self.answer(&self.mx, name.to_owned(), |inner| {
            async move { inner.mx(&asked).await }.boxed()
        })
    }

    fn ipv4<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
        let asked = name.to_owned();
        self.answer(&self.ipv4, name.to_owned(), |inner| {
            async move { inner.ipv4(&asked).await }.boxed()
        })
    }

    fn ipv6<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
        let asked = name.to_owned();
        self.answer(&self.ipv6, name.to_owned(), |inner| {
            async move { inner.ipv6(&asked).await }.boxed()
        })
    }

    fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Answer<String>> {
        self.answer(&self.ptr, address, |inner| {
            async move { inner.ptr(address).await }.boxed()
        })
    }

    /// Never shared: what each server says now is the question.
    fn authorities<'a>(&'a self, name: &'a str, kind: RecordType) -> BoxFuture<'a, Authorities> {
        async move {
            let _turn = self.asked.acquire().await.ok();
            self.inner.authorities(name, kind).await
        }
        .boxed()
    }
}

fn lock<K, T>(table: &Table<K, T>) -> MutexGuard<'_, HashMap<K, Entry<T>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use jiff::Timestamp;
    use tokio::sync::Notify;

    use super::*;
    use crate::dns::fake::FakeResolver;

    const NAME: &str = "example.com";

    #[derive(Default)]
    struct ManualClock(AtomicU64);

    impl ManualClock {
        fn advance(&self, seconds: u64) {
            self.0.fetch_add(seconds, Ordering::Relaxed);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    /// Answers TXT questions when it is told to.
    struct Slow {
        inner: FakeResolver,
        go: Notify,
    }

    impl Resolver for Slow {
        fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<String>> {
            async move {
                self.go.notified().await;
                self.inner.txt(name).await
            }
            .boxed()
        }

        fn mx<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<MailExchange>> {
            self.inner.mx(name)
        }

        fn ipv4<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
            self.inner.ipv4(name)
        }

        fn ipv6<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
            self.inner.ipv6(name)
        }

        fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Answer<String>> {
            self.inner.ptr(address)
        }

        fn authorities<'a>(
            &'a self,
            name: &'a str,
            kind: RecordType,
        ) -> BoxFuture<'a, Authorities> {
            self.inner.authorities(name, kind)
        }
    }

    fn shared(inner: FakeResolver) -> (Arc<FakeResolver>, Arc<ManualClock>, SharedResolver) {
        let (inner, clock) = (Arc::new(inner), Arc::new(ManualClock::default()));
        let resolver = SharedResolver::new(inner.clone(), clock.clone());
        (inner, clock, resolver)
    }

    #[tokio::test]
    async fn what_was_found_is_kept_for_its_time_and_nothing_else_is() {
        let (inner, clock, resolver) = shared(FakeResolver::default().with_txt(NAME, &["a"]));
        let asked = || inner.asked.load(Ordering::Relaxed);
        let first = resolver.txt(NAME).await;
        assert_eq!(resolver.txt(NAME).await, first);
        assert_eq!(asked(), 1);
        clock.advance(59);
        resolver.txt(NAME).await;
        assert_eq!(asked(), 1);
        clock.advance(1);
        assert_eq!(resolver.txt(NAME).await, first);
        assert_eq!(asked(), 2);
        for _ in 0..2 {
            assert_eq!(resolver.mx(NAME).await, Answer::NoData);
            assert_eq!(resolver.txt("none.example.com").await, Answer::NxDomain);
        }
        assert_eq!(asked(), 6);
    }

    #[tokio::test]
    async fn what_many_ask_for_outlives_what_one_asked_for() {
        let names: Vec<String> = (0..3 * ROOM).map(|n| format!("d{n}.example.com")).collect();
        let inner = names.iter().fold(
            FakeResolver::default().with_txt(NAME, &["a"]),
            |fake, name| fake.with_txt(name, &["b"]),
        );
        let (inner, _, resolver) = shared(inner);
        for name in &names {
            resolver.txt(NAME).await;
            resolver.txt(name).await;
        }
        assert_eq!(inner.asked.load(Ordering::Relaxed), 1 + names.len());
        assert!(lock(&resolver.txt).len() <= ROOM);
    }

    #[tokio::test]
    async fn however_much_is_shared_there_is_no_more_than_room() {
        let names: Vec<String> = (0..3 * ROOM).map(|n| format!("d{n}.example.com")).collect();
        let inner = names.iter().fold(FakeResolver::default(), |fake, name| {
            fake.with_txt(name, &["b"])
        });
        let (_, _, resolver) = shared(inner);
        for name in &names {
            resolver.txt(name).await;
            resolver.txt(name).await;
            assert!(lock(&resolver.txt).len() <= ROOM);
        }
    }

    #[tokio::test]
    async fn a_question_on_its_way_is_not_asked_again() {
        let slow = Arc::new(Slow {
            inner: FakeResolver::default().with_failing(NAME),
            go: Notify::new(),
        });
        let resolver = SharedResolver::new(slow.clone(), Arc::new(ManualClock::default()));
        let (mut one, mut two) = (resolver.txt(NAME), resolver.txt(NAME));
        assert!(futures::poll!(&mut one).is_pending());
        assert!(futures::poll!(&mut two).is_pending());
        slow.go.notify_one();
        assert_eq!(one.await, two.await);
        assert_eq!(slow.inner.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_question_nobody_waits_for_is_asked_anew() {
        let slow = Arc::new(Slow {
            inner: FakeResolver::default().with_txt(NAME, &["a"]),
            go: Notify::new(),
        });
        let resolver = SharedResolver::new(slow.clone(), Arc::new(ManualClock::default()));
        let mut given_up = resolver.txt(NAME);
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        slow.go.notify_one();
        assert!(matches!(resolver.txt(NAME).await, Answer::Found { .. }));
    }
}
