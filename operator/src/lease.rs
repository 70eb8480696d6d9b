//! Leader election by a Lease, with the semantics of client-go.
//!
//! Guarantees: the Lease is only ever replaced with the `resourceVersion` it was read with, so two
//! candidates cannot both win a round. A Lease counts as expired once *we* have seen it unchanged
//! for its duration by our monotonic clock, so clocks that disagree do no harm. A leader that could
//! not renew within [`RENEW_DEADLINE`] has lost, and the process must exit.
//!
//! Assumptions: the client makes no retries of its own, or a late one could outlive the deadline.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, settings::ElectionSettings};

/// How long others wait before they take over.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it gives up: less than [`LEASE_DURATION`].
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between attempts.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// What to do with the Lease now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There is none: create this one.
    Create(Lease),
    /// Ours, expired or released: replace it by this one.
    Replace(Lease),
    /// Somebody else holds it.
    Wait,
}

/// One candidate's view of the Lease. Pure: time comes in.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    name: String,
    /// The Lease as last seen, and since when (monotonic) it has been seen unchanged.
    seen: Option<(LeaseSpec, Duration)>,
}

impl Election {
    /// A candidate that has seen nothing.
    #[must_use]
    pub fn new(name: String, identity: String) -> Self {
        Self {
            identity,
            name,
            seen: None,
        }
    }

    /// Decides on `lease` as read just now, at `monotonic` and wall time `now`.
    pub fn step(&mut self, lease: Option<&Lease>, monotonic: Duration, now: Timestamp) -> Step {
        let Some(lease) = lease else {
            self.seen = None;
            return Step::Create(self.wanted(None, now));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == spec => *since,
            _ => monotonic,
        };
        self.seen = Some((spec.clone(), since));
        let holder = spec.holder_identity.as_deref().unwrap_or("");
        let seconds = spec.lease_duration_seconds.unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if holder == self.identity || holder.is_empty() || monotonic >= since + duration {
            return Step::Replace(self.wanted(Some(lease), now));
        }
        Step::Wait
    }

    /// The Lease given up: the next candidate need not wait.
    #[must_use]
    pub fn released(&self, lease: &Lease, now: Timestamp) -> Option<Lease> {
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return None;
        }
        let mut released = lease.clone();
        released.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(now)),
            ..spec
        });
        Some(released)
    }

    fn wanted(&self, lease: Option<&Lease>, now: Timestamp) -> Lease {
        let mut wanted = lease.cloned().unwrap_or_default();
        wanted.metadata.name = Some(self.name.clone());
        let before = wanted.spec.take().unwrap_or_default();
        let held = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        let seconds = i32::try_from(LEASE_DURATION.as_secs()).unwrap_or(i32::MAX);
        wanted.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: if held {
                before.acquire_time.clone()
            } else {
                Some(MicroTime(now))
            },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(match (lease, held) {
                (Some(_), false) => transitions.saturating_add(1),
                _ => transitions,
            }),
            ..before
        });
        wanted
    }
}

/// Stands for election and stays in office.
pub struct Candidate {
    api: Api<Lease>,
    election: Election,
    clock: Arc<dyn Clock>,
}

/// The Lease could not be renewed in time, or somebody else has it: stop at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease was lost: it could not be renewed within {} s", RENEW_DEADLINE.as_secs())]
pub struct Lost;

impl Candidate {
    /// A candidate for the Lease of `settings` in `namespace`. `client` must not retry.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        settings: &ElectionSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            election: Election::new(settings.lease_name.clone(), settings.identity.clone()),
            clock,
        }
    }

    /// Returns once the Lease is ours.
    pub async fn acquire(&mut self) {
        while !self.round().await {
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews until the Lease is lost, or gives it up when `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// [`Lost`] when it could not be renewed in time.
    pub async fn hold(&mut self, stop: CancellationToken) -> Result<(), Lost> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RETRY_PERIOD) => {}
                () = stop.cancelled() => {
                    self.release().await;
                    return Ok(());
                }
            }
            tokio::time::timeout(RENEW_DEADLINE, self.acquire())
                .await
                .map_err(|_| Lost)?;
        }
    }

    /// One attempt; true when the Lease is ours after it.
    async fn round(&mut self) -> bool {
        // Half the deadline, so that a leader gets a second attempt.
        match tokio::time::timeout(RENEW_DEADLINE / 2, self.attempt()).await {
            Ok(Ok(ours)) => ours,
            Ok(Err(error)) => {
                tracing::warn!(%error, "lease attempt failed");
                false
            }
            Err(_) => {
                tracing::warn!("lease attempt got no answer");
                false
            }
        }
    }

    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(&self.election.name).await?;
        let (monotonic, now) = (self.clock.monotonic(), self.clock.now());
        let parameters = PostParams::default();
        let written = match self.election.step(lease.as_ref(), monotonic, now) {
            Step::Create(lease) => self.api.create(&parameters, &lease).await,
            Step::Replace(lease) => {
                self.api
                    .replace(&self.election.name, &parameters, &lease)
                    .await
            }
            Step::Wait => return Ok(false),
        };
        match written {
            Ok(_) => Ok(true),
            // Another candidate was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn release(&self) {
        let now = self.clock.now();
        let give_up = async {
            let lease = self.api.get(&self.election.name).await?;
            if let Some(released) = self.election.released(&lease, now) {
                let parameters = PostParams::default();
                self.api
                    .replace(&self.election.name, &parameters, &released)
                    .await?;
            }
            Ok::<(), kube::Error>(())
        };
        // Should this fail, the next leader waits for the Lease to expire.
        match tokio::time::timeout(RETRY_PERIOD, give_up).await {
            Ok(Ok(())) => tracing::info!("lease released"),
            Ok(Err(error)) => tracing::warn!(%error, "lease not released"),
            Err(_) => tracing::warn!("lease not released in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn step(election: &mut Election, lease: Option<&Lease>, second: u64) -> Step {
        election.step(lease, Duration::from_secs(second), NOW.parse().unwrap())
    }

    fn candidate(identity: &str) -> Election {
        Election::new("operator".into(), identity.into())
    }

    fn created(by: &mut Election) -> Lease {
        match step(by, None, 0) {
            Step::Create(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    fn holder(step: &Step) -> (&str, i32) {
        match step {
            Step::Create(lease) | Step::Replace(lease) => {
                let spec = lease.spec.as_ref().unwrap();
                (
                    spec.holder_identity.as_deref().unwrap(),
                    spec.lease_transitions.unwrap(),
                )
            }
            Step::Wait => ("nobody", -1),
        }
    }

    #[test]
    fn the_first_creates_and_renews() {
        let mut a = candidate("a");
        let lease = created(&mut a);
        assert_eq!(holder(&step(&mut a, Some(&lease), 2)), ("a", 0));
        assert_eq!(holder(&step(&mut a, Some(&lease), 100)), ("a", 0));
    }

    #[test]
    fn another_waits_until_it_has_seen_no_change_for_the_duration() {
        let lease = created(&mut candidate("a"));
        let mut b = candidate("b");
        // Whatever the wall clocks say, b first saw the Lease at 1000 s of its own clock.
        assert_eq!(step(&mut b, Some(&lease), 1000), Step::Wait);
        assert_eq!(step(&mut b, Some(&lease), 1014), Step::Wait);
        let mut renewed = lease.clone();
        renewed.spec.as_mut().unwrap().renew_time =
            Some(MicroTime("2020-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(step(&mut b, Some(&renewed), 1014), Step::Wait);
        assert_eq!(step(&mut b, Some(&renewed), 1028), Step::Wait);
        assert_eq!(holder(&step(&mut b, Some(&renewed), 1029)), ("b", 1));
    }

    #[test]
    fn a_released_lease_is_taken_at_once_and_only_its_holder_releases() {
        let mut a = candidate("a");
        let lease = created(&mut a);
        let mut b = candidate("b");
        assert_eq!(b.released(&lease, NOW.parse().unwrap()), None);
        let released = a.released(&lease, NOW.parse().unwrap()).unwrap();
        assert_eq!(holder(&step(&mut b, Some(&released), 0)), ("b", 1));
    }

    #[test]
    fn a_replacement_carries_the_version_it_was_read_with() {
        let mut a = candidate("a");
        let mut lease = created(&mut a);
        lease.metadata.resource_version = Some("41".into());
        match step(&mut a, Some(&lease), 2) {
            Step::Replace(lease) => {
                assert_eq!(lease.metadata.resource_version.as_deref(), Some("41"));
            }
            other => panic!("{other:?}"),
        }
    }
}
