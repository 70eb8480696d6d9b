//! The other side of the wire: receivers that are not ours, judges that are not ours, and an
//! ordinary client.
//!
//! [`Postfix`] is a real receiver with [OpenDKIM](opendkim) as its verifier; [`sink`] is a
//! receiver that does what a script says, the unfriendly things included; [`Judge`] decides DKIM,
//! SPF and DMARC of what they stored with dkimpy, pyspf and checkdmarc, and what domains say of mail
//! to them; [`HttpsServer`] serves MTA-STS policies; [`Client`] sends as an application would; [`dns`] writes test zones and serves them where no cluster does, [`Nsd`]
//! serves them as another program would, [`bind`] takes updates of them; [`ZoneChecker`] tells
//! whether a name server would load one, [`MetricsJudge`] what Prometheus thinks of metrics, [`pod_monitor`] how its operator is told of pods.
//!
//! Guarantees: everything runs from the cache and from a state directory of its own; nothing is
//! installed, no account is made, no file of the machine is changed, no port is opened but on the
//! address given; each process has a pid file and [`stop`] ends them all.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use crate::cluster::{StateDir, daemon::Daemon};

pub mod bind;
mod certificate;
mod check_zone;
mod client;
mod clock;
pub mod dns;
mod error;
mod https;
mod inbound;
mod judge;
mod message;
mod metrics;
mod nsd;
mod opendkim;
mod pod_monitor;
mod postfix;
mod programs;
mod python;
mod signing;
pub mod sink;

pub use certificate::Certificate;
pub use check_zone::ZoneChecker;
pub use client::{Client, Reply, Submission, Tls};
pub use error::Error;
pub use https::{HttpsServer, Response};
pub use inbound::{Matter, Ruling};
pub use judge::{
    Case, DkimVerdict, DmarcVerdict, Judge, Outcome, SignOrder, Signature, SpfVerdict, Verdict,
};
pub use metrics::MetricsJudge;
pub use nsd::Nsd;
pub use pod_monitor::pod_monitor;
pub use postfix::{Postfix, PostfixConfig, Received};
pub use programs::Programs;
pub use signing::SigningKey;

/// Stops every process that was started in the state directory `dir`, by this run or another; to
/// do so twice is no error.
///
/// # Errors
/// When a process does not end.
pub async fn stop(dir: &Path) -> Result<(), Error> {
    let all = Daemon::all(&StateDir::new(dir)?);
    let living = || all.iter().filter_map(|(_, process)| *process);
    // All at once, then each awaited: they end side by side.
    for process in living() {
        process.signal(Signal::TERM);
    }
    for process in living() {
        process.stop().await?;
    }
    Ok(())
}

/// Ends every process of a state directory when it is dropped: for tests, which may fail before
/// they come to stop what they started. Waits for nothing; [`stop`] does.
#[derive(Debug)]
pub struct StopOnDrop(pub PathBuf);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let Ok(state) = StateDir::new(&self.0) else {
            return;
        };
        for (_, process) in Daemon::all(&state) {
            if let Some(process) = process {
                process.signal(Signal::TERM);
            }
        }
    }
}

/// A loopback address of this process's own, so that tests may run side by side on fixed ports:
/// `127.x.y.host`, with `x` and `y` from the process id.
pub fn loopback(host: u8) -> Ipv4Addr {
    // 1 to 250 each: the ends of a range mean a network and a broadcast to some programs.
    let part = |value: u32| u8::try_from(value % 250 + 1).unwrap_or(1);
    let pid = std::process::id();
    Ipv4Addr::new(127, part(pid / 250), part(pid), host)
}
