//! The queues of several pods as one.

use std::collections::BTreeMap;

use postrider_crds::{
    queue::{Breakdown, Depth, QueueOverview},
    relay_config::QueueReport,
};
use serde::Serialize;

/// All pods together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Total {
    /// Messages by state; the oldest of any pod.
    pub(crate) queue: QueueReport,
    /// By site.
    pub(crate) sites: Breakdown,
    /// By recipient domain.
    pub(crate) domains: Breakdown,
    /// By tenant.
    pub(crate) tenants: Breakdown,
}

impl Total {
    /// Adds up what the pods said.
    pub(crate) fn of(pods: &[QueueOverview]) -> Self {
        let mut queue = QueueReport::default();
        for pod in pods.iter().map(|pod| &pod.queue) {
            queue.due += pod.due;
            queue.deferred += pod.deferred;
            queue.suspended += pod.suspended;
            queue.held += pod.held;
            queue.oldest_due_seconds = queue.oldest_due_seconds.max(pod.oldest_due_seconds);
        }
        Self {
            queue,
            sites: sum(pods.iter().map(|pod| &pod.sites)),
            domains: sum(pods.iter().map(|pod| &pod.domains)),
            tenants: sum(pods.iter().map(|pod| &pod.tenants)),
        }
    }
}

/// Depths of the same name added, deepest first. A name that one pod leaves out is short of what
/// waits there.
fn sum<'a>(pods: impl Iterator<Item = &'a Breakdown>) -> Breakdown {
    let mut names: BTreeMap<&str, Depth> = BTreeMap::new();
    let mut left_out = 0;
    for pod in pods {
        left_out = left_out.max(pod.left_out);
        for depth in &pod.top {
            let sum = names.entry(&depth.name).or_insert_with(|| Depth {
                name: depth.name.clone(),
                ..Depth::default()
            });
            sum.due += depth.due;
            sum.deferred += depth.deferred;
            sum.suspended += depth.suspended;
            sum.held += depth.held;
            sum.oldest_seconds = sum.oldest_seconds.max(depth.oldest_seconds);
        }
    }
    let mut top: Vec<Depth> = names.into_values().collect();
    // Stable, so equal ones stay in the order of their names.
    top.sort_by_key(|depth| std::cmp::Reverse(total(depth)));
    Breakdown { top, left_out }
}

/// All that waits under a name.
pub(crate) const fn total(depth: &Depth) -> u64 {
    depth.due + depth.deferred + depth.suspended + depth.held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(name: &str, due: u64, held: u64, oldest_seconds: u64) -> Depth {
        Depth {
            name: name.into(),
            due,
            held,
            oldest_seconds,
            ..Depth::default()
        }
    }

    fn pod(due: u64, oldest: u64, top: Vec<Depth>, left_out: u64) -> QueueOverview {
        QueueOverview {
            queue: QueueReport {
                due,
                oldest_due_seconds: oldest,
                ..QueueReport::default()
            },
            sites: Breakdown { top, left_out },
            ..QueueOverview::default()
        }
    }

    #[test]
    fn pods_are_added_up_by_name() {
        let pods = [
            pod(2, 5, vec![depth("b", 1, 0, 9), depth("a", 1, 0, 1)], 3),
            pod(3, 4, vec![depth("a", 0, 4, 7)], 0),
        ];
        let total = Total::of(&pods);
        assert_eq!((total.queue.due, total.queue.oldest_due_seconds), (5, 5));
        let wanted = [depth("a", 1, 4, 7), depth("b", 1, 0, 9)];
        assert_eq!(total.sites.top, wanted);
        assert_eq!(total.sites.left_out, 3);
        assert_eq!(Total::of(&[]), Total::default());
    }
}
