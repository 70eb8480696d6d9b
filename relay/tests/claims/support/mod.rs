//! A relay process with a world around it: configuration, name server, receiver, clients.

mod account;
mod client;
mod dns;
mod documents;
mod load;
mod process;
mod sink;
mod volume;

pub(crate) use account::{Account, Promise};
pub(crate) use client::{Client, message, tls as client_tls};
pub(crate) use dns::NameServer;
pub(crate) use documents::{PASSWORD, World, domain};
pub(crate) use load::Load;
pub(crate) use process::{Events, Relay, get, get_report};
pub(crate) use sink::{Received, Sink};
pub(crate) use volume::Volume;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// Longest wait for anything: generous, since a busy machine must not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A loopback address no other test uses, so that every port is free.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.0.x.x is left to others.
    IpAddr::V4(Ipv4Addr::new(127, high | 0x80, low, number))
}

/// Fails the test when `future` takes longer than [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Variable that has everything tried that the inner loop leaves out (`make durability`).
const THOROUGH: &str = "POSTRIDER_THOROUGH";

/// `quick` in the inner loop, else `thorough`.
pub(crate) fn effort<T>(quick: T, thorough: T) -> T {
    if std::env::var_os(THOROUGH).is_some() {
        thorough
    } else {
        quick
    }
}
