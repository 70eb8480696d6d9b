//! How long a changed domain takes: until its status speaks of the change, and until it is Ready
//! again, which is when the relay has loaded what changed.

use std::{ops::Range, time::Duration};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use postrider_crds::SendingDomain;
use postrider_e2e::cluster::Stopwatch;
use serde_json::json;

use crate::{
    estate::{PARENT, name, senders},
    ground::{Ground, NAMESPACE},
    statuses::Statuses,
};

/// How long one may take.
const BOUND: Duration = Duration::from_secs(60);
/// Coprime to any count of domains that is not its multiple: changes go all over the shards.
const STRIDE: usize = 7_919;

/// Milliseconds of each change.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Until the status speaks of it.
    pub(crate) observed: Vec<u32>,
    /// Until the domain is Ready with it.
    pub(crate) ready: Vec<u32>,
}

/// Makes the changes of these numbers to the senders of some of `domains` domains, one after the other.
pub(crate) async fn measure(
    ground: &Ground,
    statuses: &Statuses,
    domains: usize,
    changes: Range<usize>,
) -> Times {
    let api: Api<SendingDomain> = Api::namespaced(ground.client.clone(), NAMESPACE);
    let mut times = Times::default();
    for number in changes {
        let name = name(number * STRIDE % domains);
        let addresses = [format!("news{number}@{name}.{PARENT}")];
        let change = json!({"spec": {"senders": senders(&addresses)}});
        let watch = Stopwatch::start();
        let patch = Patch::Merge(&change);
        let changed = api.patch(&name, &PatchParams::default(), &patch).await;
        let generation = changed.expect("changed").metadata.generation;
        let generation = generation.expect("a stored object");
        let milliseconds = || u32::try_from(watch.elapsed().as_millis()).unwrap_or(u32::MAX);
        let observed = statuses.until(&name, BOUND, |seen| seen.observed >= generation);
        observed.await.expect("observed in time");
        times.observed.push(milliseconds());
        let ready = statuses.until(&name, BOUND, |seen| {
            seen.ready && seen.observed >= generation
        });
        ready.await.expect("Ready in time");
        times.ready.push(milliseconds());
    }
    times
}
