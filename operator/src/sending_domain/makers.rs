//! Makes the private keys that SendingDomains want, beside their reconciliations: an RSA key takes a
//! tenth of a second and more of a core, and a thousand domains may want theirs at once.
//!
//! Flow: a reconciliation asks for the keys its plan wants and goes on without them; they are made in
//! turn, and the domain is woken when all of its are there, to fetch them.
//!
//! Guarantees: a domain that signs already, whose key is being replaced, comes before those that have
//! never had one; a key is made once however often it is asked for; what nobody wants any more, or
//! whose domain is gone, is not made, and forgotten if it was. Keys leave this module to whoever asks
//! for them, and come back when they cannot be stored, for the next attempt; they are in memory alone,
//! so a process that ends has made them in vain.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::ResourceExt as _;
use postrider_crds::SendingDomain;
use tokio::sync::Semaphore;

use super::{
    key::{self, KeyError},
    plan::NewKey,
};
use crate::{
    queues::{Queues, Trigger},
    stores::{self, Stores},
};

/// Who comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A key that signs is to be replaced.
    Replacement,
    /// There is none yet.
    First,
}

/// A private key, PKCS#8 PEM, or why there is none.
pub type Made = Result<String, KeyError>;

/// Makes keys for the domains of a scope.
#[derive(Clone)]
pub struct KeyMakers {
    /// Of the process, who makes one key at a time.
    makers: Arc<Semaphore>,
    /// How many there are.
    count: usize,
    stores: Stores,
    queues: Queues,
    book: Arc<Mutex<Book>>,
}

/// What is wanted. There is one wish a domain, of no more keys than it lists.
#[derive(Default)]
struct Book {
    /// By UID.
    wishes: HashMap<String, Wish>,
    /// UIDs, the next to be served first.
    waiting: BTreeMap<(Urgency, u64), String>,
    /// The number of the last that came.
    last: u64,
    /// Tasks that serve those who wait.
    working: usize,
}

struct Wish {
    namespace: String,
    name: String,
    wanted: Vec<NewKey>,
    made: Option<Vec<Made>>,
}

impl Wish {
    fn new(domain: &SendingDomain, wanted: &[NewKey], made: Option<Vec<Made>>) -> Self {
        Self {
            namespace: domain.namespace().unwrap_or_default(),
            name: domain.name_any(),
            wanted: wanted.to_vec(),
            made,
        }
    }
}

impl KeyMakers {
    /// Nothing is wanted yet. Keys are made by whichever of the `count` makers is free.
    #[must_use]
    pub fn new((makers, count): (Arc<Semaphore>, usize), stores: Stores, queues: Queues) -> Self {
        Self {
            makers,
            count,
            stores,
            queues,
            book: Arc::default(),
        }
    }

    /// The keys `wanted` by `domain`, in that order, once all are made; `None`: they are being made, and
    /// `domain` is woken after that.
    #[must_use]
    pub fn fetch(
        &self,
        domain: &SendingDomain,
        wanted: &[NewKey],
        urgency: Urgency,
    ) -> Option<Vec<Made>> {
        let mut book = self.book();
        let made = book.fetch(domain, wanted, urgency);
        // One that finds nobody waiting ends.
        if made.is_none() && book.working < self.count {
            book.working += 1;
            tokio::spawn(self.clone().work());
        }
        made
    }

    /// Takes back what `domain` fetched and cannot store for now: `wanted`, as they were `made`.
    pub fn give_back(&self, domain: &SendingDomain, wanted: &[NewKey], made: Vec<Made>) {
        self.book().give_back(domain, wanted, made);
    }

    /// Serves those who wait until there is nobody.
    async fn work(self) {
        while let Some((uid, wanted)) = self.next() {
            // The semaphore is never closed.
            let maker = self.makers.acquire().await.ok();
            let algorithms: Vec<_> = wanted.iter().map(|new| new.algorithm).collect();
            let count = algorithms.len();
            let made = tokio::task::spawn_blocking(move || {
                let algorithms = algorithms.into_iter();
                algorithms.map(key::generate).collect()
            });
            let made = made.await;
            drop(maker);
            let made = made.unwrap_or_else(|_| vec![Err(KeyError::Generation); count]);
            let whose = self.book().keep(&uid, &wanted, made);
            if let Some((namespace, name)) = whose {
                self.queues.send(Trigger::Domain(namespace, name)).await;
            }
        }
    }

    /// The next to be served and what it wants. `None`: there is nobody, and one task less works.
    fn next(&self) -> Option<(String, Vec<NewKey>)> {
        let exists = |uid: &str, wish: &Wish| {
            let kept = stores::get(&self.stores.domains, &wish.namespace, &wish.name);
            kept.is_some_and(|kept| kept.uid().as_deref() == Some(uid))
        };
        let mut book = self.book();
        let next = book.next(exists);
        if next.is_none() {
            book.working -= 1;
        }
        next
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyMakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMakers").finish_non_exhaustive()
    }
}

impl Book {
    fn fetch(
        &mut self,
        domain: &SendingDomain,
        wanted: &[NewKey],
        urgency: Urgency,
    ) -> Option<Vec<Made>> {
        let uid = domain.uid().unwrap_or_default();
        if wanted.is_empty() {
            self.wishes.remove(&uid);
            return Some(Vec::new());
        }
        match self.wishes.get_mut(&uid) {
            Some(wish) if wish.wanted == wanted => {
                let made = wish.made.take()?;
                self.wishes.remove(&uid);
                Some(made)
            }
            known => {
                // Whoever waits for something else already keeps the place and gets this.
                if known.is_none_or(|wish| wish.made.is_some()) {
                    self.last += 1;
                    self.waiting.insert((urgency, self.last), uid.clone());
                }
                self.wishes.insert(uid, Wish::new(domain, wanted, None));
                None
            }
        }
    }

    /// Keys wait for the next attempt to store them, unless something else is wanted meanwhile.
    fn give_back(&mut self, domain: &SendingDomain, wanted: &[NewKey], made: Vec<Made>) {
        let uid = domain.uid().unwrap_or_default();
        let wish = Wish::new(domain, wanted, Some(made));
        self.wishes.entry(uid).or_insert(wish);
    }

    /// The next who waits and whose domain `exists`; when there is nobody, wishes that were met for
    /// domains that are gone are forgotten.
    fn next(&mut self, exists: impl Fn(&str, &Wish) -> bool) -> Option<(String, Vec<NewKey>)> {
        while let Some((_, uid)) = self.waiting.pop_first() {
            match self.wishes.get(&uid) {
                // One that was given up and came back stands in line twice.
                Some(wish) if wish.made.is_some() => {}
                Some(wish) if exists(&uid, wish) => return Some((uid, wish.wanted.clone())),
                Some(_) => drop(self.wishes.remove(&uid)),
                None => {}
            }
        }
        self.wishes.retain(|uid, wish| exists(uid, wish));
        None
    }

    /// Keeps what was `made` for the domain `uid` and tells its namespace and name, so that it is woken.
    /// If it wants something else by now it is woken to say so again.
    fn keep(&mut self, uid: &str, wanted: &[NewKey], made: Vec<Made>) -> Option<(String, String)> {
        let wish = self.wishes.get_mut(uid)?;
        let whose = (wish.namespace.clone(), wish.name.clone());
        if wish.wanted == wanted {
            wish.made = Some(made);
        } else {
            self.wishes.remove(uid);
        }
        Some(whose)
    }
}

#[cfg(test)]
mod tests {
    use postrider_crds::relay_config::KeyAlgorithm::{Ed25519, RSA2048};
    use serde_json::json;

    use super::*;
    use crate::queues::{Inboxes, Request};

    fn domain(name: &str) -> SendingDomain {
        let object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name, "namespace": "mail", "uid": name},
            "spec": {"domain": format!("{name}.example"), "poolRef": {"name": "p"}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn new(secret: &str) -> NewKey {
        NewKey {
            secret: secret.into(),
            algorithm: Ed25519,
        }
    }

    fn makers(domains: &[SendingDomain]) -> (KeyMakers, Inboxes) {
        let (queues, inboxes) = Queues::new();
        let stores = Stores::holding(domains, &[]);
        let makers = (Arc::new(Semaphore::new(1)), 1);
        let makers = KeyMakers::new(makers, stores, queues);
        (makers, inboxes)
    }

    #[tokio::test]
    async fn a_domain_is_woken_when_all_its_keys_are_made_and_fetches_them_once() {
        let domain = domain("a");
        let (makers, mut inboxes) = makers(std::slice::from_ref(&domain));
        let wanted = [new("a-1"), new("a-2")];
        for _ in 0..2 {
            let made = makers.fetch(&domain, &wanted, Urgency::First);
            assert!(made.is_none(), "nobody waits for a key");
        }
        let woken = inboxes.domains.0.recv().await;
        assert!(matches!(woken, Some(Request::One(of)) if of.name == "a"));
        let made = makers.fetch(&domain, &wanted, Urgency::First).unwrap();
        let keys: Vec<String> = made.into_iter().map(Result::unwrap).collect();
        assert!(keys.iter().all(|key| key::public_key(Ed25519, key).is_ok()));
        assert_ne!(keys[0], keys[1]);
        assert!(makers.book().wishes.is_empty(), "no key is kept");
    }

    #[tokio::test]
    async fn keys_of_who_is_gone_are_not_made() {
        let (makers, mut inboxes) = makers(&[domain("b")]);
        let wanted = [new("x")];
        assert!(
            makers
                .fetch(&domain("a"), &wanted, Urgency::First)
                .is_none()
        );
        assert!(
            makers
                .fetch(&domain("b"), &wanted, Urgency::First)
                .is_none()
        );
        let woken = inboxes.domains.0.recv().await;
        assert!(matches!(woken, Some(Request::One(of)) if of.name == "b"));
        assert!(!makers.book().wishes.contains_key("a"));
    }

    fn order(book: &mut Book) -> Vec<String> {
        std::iter::from_fn(|| book.next(|_, _| true).map(|(uid, _)| uid)).collect()
    }

    #[test]
    fn replacements_come_first_and_each_in_its_turn() {
        let mut book = Book::default();
        for (name, urgency) in [
            ("a", Urgency::First),
            ("b", Urgency::First),
            ("c", Urgency::Replacement),
            ("d", Urgency::Replacement),
            ("a", Urgency::First),
        ] {
            assert!(book.fetch(&domain(name), &[new("x")], urgency).is_none());
        }
        assert_eq!(order(&mut book), ["c", "d", "a", "b"]);
    }

    #[test]
    fn what_is_wanted_now_is_what_is_given() {
        let mut book = Book::default();
        let (a, other) = (domain("a"), [new("a-2")]);
        let fetch = |book: &mut Book, wanted: &[NewKey]| book.fetch(&a, wanted, Urgency::First);
        assert!(fetch(&mut book, &[new("a-1")]).is_none());
        let (uid, wanted) = book.next(|_, _| true).unwrap();
        assert!(fetch(&mut book, &other).is_none(), "it wants another");
        let whose = book.keep(&uid, &wanted, vec![Ok("PEM".into())]);
        assert_eq!(whose, Some(("mail".into(), "a".into())), "woken to ask");
        assert!(fetch(&mut book, &other).is_none());
        assert_eq!(book.next(|_, _| true), Some((uid.clone(), other.to_vec())));
        let failed = vec![Err(KeyError::Generation)];
        book.keep(&uid, &other, failed.clone());
        assert_eq!(fetch(&mut book, &other), Some(failed));
        assert!(fetch(&mut book, &other).is_none(), "and is made anew");
        assert_eq!(fetch(&mut book, &[]), Some(Vec::new()));
        assert!(book.wishes.is_empty() && order(&mut book).is_empty());
    }

    #[test]
    fn a_wish_given_up_and_come_back_is_met_once() {
        let mut book = Book::default();
        let (a, keys) = (domain("a"), [new("a-1")]);
        assert!(book.fetch(&a, &keys, Urgency::First).is_none());
        assert_eq!(book.fetch(&a, &[], Urgency::First), Some(Vec::new()));
        assert!(book.fetch(&a, &keys, Urgency::First).is_none());
        let (uid, wanted) = book.next(|_, _| true).unwrap();
        let made = vec![Ok("PEM".to_owned())];
        book.keep(&uid, &wanted, made.clone());
        assert_eq!(book.next(|_, _| true), None, "it is made");
        assert_eq!(book.fetch(&a, &keys, Urgency::First), Some(made));
    }

    #[test]
    fn what_cannot_be_stored_is_fetched_again_and_not_made_again() {
        let mut book = Book::default();
        let (a, keys, made) = (domain("a"), [new("a-1")], vec![Ok("PEM".to_owned())]);
        book.give_back(&a, &keys, made.clone());
        assert_eq!(book.fetch(&a, &keys, Urgency::First), Some(made.clone()));
        assert!(book.fetch(&a, &[new("a-2")], Urgency::First).is_none());
        book.give_back(&a, &keys, made);
        assert_eq!(order(&mut book), ["a"], "another is wanted and made");
        assert!(book.fetch(&a, &keys, Urgency::First).is_none());
    }

    #[test]
    fn a_key_that_nobody_fetches_goes_with_its_domain() {
        let mut book = Book::default();
        let rsa = NewKey {
            secret: "a-1".into(),
            algorithm: RSA2048,
        };
        let _ = book.fetch(&domain("a"), std::slice::from_ref(&rsa), Urgency::First);
        let (uid, wanted) = book.next(|_, _| true).unwrap();
        assert_eq!(wanted, [rsa]);
        book.keep(&uid, &wanted, vec![Ok("PEM".into())]);
        assert_eq!(book.next(|_, _| true), None);
        assert!(book.wishes.contains_key("a"));
        assert_eq!(book.next(|_, _| false), None);
        assert!(book.wishes.is_empty());
    }
}
