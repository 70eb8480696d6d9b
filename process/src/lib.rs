//! What both programs of Postrider ask of the machine they run on: that memory stays private and
//! comes in small pages, that signals stop them, and TLS settings for a library that wants some and
//! has no use for them.
//!
//! Promises: knows nothing of mail and nothing of Kubernetes.

use std::{io, sync::Arc};

use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::disable_transparent_huge_pages,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Keeps what is in memory there, keys above all: no core of the process is ever written, and nobody
/// of its own user can attach to it or read its memory (`PR_SET_DUMPABLE`, prctl(2)).
///
/// # Errors
///
/// When the kernel refuses.
pub fn keep_memory_private() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Takes memory in small pages only: the allocator of both programs asks for transparent huge ones,
/// of which each thread that allocates would take one or two of 2 MiB (`PR_SET_THP_DISABLE`,
/// prctl(2)).
///
/// # Errors
///
/// When the kernel refuses: then threads may take some MiB of memory each.
pub fn refuse_huge_pages() -> io::Result<()> {
    Ok(disable_transparent_huge_pages(true)?)
}

/// SIGTERM and SIGINT cancel `stop`. Called within a tokio runtime.
///
/// # Errors
///
/// When signals cannot be listened for: then the process can only be killed.
pub fn stop_on_signal(stop: &CancellationToken) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}

/// TLS settings that trust nobody, for DNS servers that are asked over UDP and TCP only: without
/// settings of our own the library insists on the system's certificate authorities, and an image from
/// scratch has none.
#[must_use]
pub fn no_tls() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc speaks the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn huge_pages_are_refused() {
        refuse_huge_pages().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains("THP_enabled:\t0"), "{status}");
    }

    #[tokio::test]
    async fn a_signal_stops_what_listens() {
        for kind in [Signal::TERM, Signal::INT] {
            let stop = CancellationToken::new();
            stop_on_signal(&stop).unwrap();
            kill_process(getpid(), kind).unwrap();
            stop.cancelled().await;
        }
    }
}
