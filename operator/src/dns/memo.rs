//! A resolver that asks each question once, for the length of one check.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use futures::{FutureExt as _, future::BoxFuture};
use postrider_crds::RecordType;

use super::{
    authority::Authorities,
    resolver::{Answer, MailExchange, Resolver},
};

/// Keeps the answers of `inner`, troubles included: a check sees one state of the world.
pub(super) struct Memo<'r> {
    inner: &'r dyn Resolver,
    txt: Table<String, String>,
    mx: Table<String, MailExchange>,
    ipv4: Table<String, IpAddr>,
    ipv6: Table<String, IpAddr>,
    ptr: Table<IpAddr, String>,
}

type Table<K, T> = Mutex<HashMap<K, Answer<T>>>;

impl<'r> Memo<'r> {
    pub(super) fn new(inner: &'r dyn Resolver) -> Self {
        Self {
            inner,
            txt: Table::default(),
            mx: Table::default(),
            ipv4: Table::default(),
            ipv6: Table::default(),
            ptr: Table::default(),
        }
    }
}

impl Resolver for Memo<'_> {
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<String>> {
        once(&self.txt, name.to_owned(), || self.inner.txt(name)).boxed()
    }

    fn mx<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<MailExchange>> {
        once(&self.mx, name.to_owned(), || self.inner.mx(name)).boxed()
    }

    fn ipv4<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
        once(&self.ipv4, name.to_owned(), || self.inner.ipv4(name)).boxed()
    }

    fn ipv6<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Answer<IpAddr>> {
        once(&self.ipv6, name.to_owned(), || self.inner.ipv6(name)).boxed()
    }

    fn ptr(&self, address: IpAddr) -> BoxFuture<'_, Answer<String>> {
        once(&self.ptr, address, move || self.inner.ptr(address)).boxed()
    }

    fn authorities<'a>(&'a self, name: &'a str, kind: RecordType) -> BoxFuture<'a, Authorities> {
        self.inner.authorities(name, kind)
    }
}

/// The kept answer, or that of `ask`, which is kept.
async fn once<'a, K: Hash + Eq, T: Clone>(
    table: &Table<K, T>,
    key: K,
    ask: impl FnOnce() -> BoxFuture<'a, Answer<T>>,
) -> Answer<T> {
    let kept = table
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&key)
        .cloned();
    if let Some(answer) = kept {
        return answer;
    }
    let answer = ask().await;
    table
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key, answer.clone());
    answer
}
