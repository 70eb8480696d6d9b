//! `postrider rotate`: asks for new DKIM keys and follows them until they sign.
//!
//! The wish is a field of the spec, `dkim.rotation.trigger`. It is written by server-side apply under
//! a field manager of its own and never by force: a trigger that is kept in Git stays Git's.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use postrider_crds::KeyStatus;
use tokio::time;

use crate::{cluster::Cluster, error::Error, rotation::Rotation};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Sets the trigger of `name` and follows the rotation, for `timeout` at most. What was reached by
/// then is the answer, done or not.
pub(crate) async fn rotate(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    trigger: &str,
    timeout: Duration,
) -> Result<Rotation, Error> {
    let before = cluster.sending_domain(namespace, name).await?;
    let old = before.status.unwrap_or_default().dkim.active;
    let domain = cluster.set_trigger(namespace, name, trigger).await?;
    eprintln!(
        "SendingDomain {namespace}/{name}: spec.dkim.rotation.trigger is {trigger:?} now, written as field manager {}",
        crate::cluster::ROTATE_MANAGER
    );
    let generation = domain.metadata.generation.unwrap_or_default();
    let follower = Follower::new(old, domain.spec.dkim.keys.len());
    let mut rotation = Rotation::of(&domain, trigger, generation);
    let follow = async {
        let mut looks = time::interval(LOOK_EVERY);
        while !rotation.done {
            looks.tick().await;
            let domain = cluster.sending_domain(namespace, name).await?;
            let next = Rotation::of(&domain, trigger, generation);
            follower.show(&rotation, &next);
            rotation = next;
        }
        Ok(())
    };
    // Out of time: what was reached is the answer.
    time::timeout(timeout, follow).await.unwrap_or(Ok(()))?;
    follower.bar.finish_and_clear();
    if !rotation.done {
        let message = crate::text::printable(&rotation.message);
        eprintln!("the new keys do not sign yet: {message}; the rotation goes on");
    }
    Ok(rotation)
}

/// Shows how far the keys are: a bar on a terminal, a line a change elsewhere.
struct Follower {
    bar: ProgressBar,
    old: Vec<KeyStatus>,
    keys: usize,
}

impl Follower {
    fn new(old: Vec<KeyStatus>, keys: usize) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {wide_msg}");
        bar.set_style(style.expect("the template is sound"));
        Self { bar, old, keys }
    }

    fn show(&self, before: &Rotation, now: &Rotation) {
        let (made, all) = now.steps(&self.old, self.keys);
        let count = |steps| u64::try_from(steps).unwrap_or(u64::MAX);
        self.bar.set_length(count(all));
        self.bar.set_position(count(made));
        self.bar.set_message(crate::text::printable(&now.message));
        if self.bar.is_hidden() && before != now {
            for line in changes(before, now) {
                eprintln!("{line}");
            }
        }
    }
}

/// What is new in `now`, a line each.
fn changes(before: &Rotation, now: &Rotation) -> Vec<String> {
    let all = |rotation: &Rotation| -> Vec<KeyStatus> {
        let keys = rotation.pending.iter().chain(&rotation.active);
        keys.chain(&rotation.retiring).cloned().collect()
    };
    let old = all(before);
    let known = |key: &KeyStatus| {
        old.iter()
            .any(|other| other.selector == key.selector && other.state == key.state)
    };
    let keys = all(now).into_iter().filter(|key| !known(key));
    let mut lines: Vec<String> = keys
        .map(|key| format!("{} ({:?}): {:?}", key.selector, key.algorithm, key.state))
        .collect();
    if before.message != now.message && !now.message.is_empty() {
        lines.push(crate::text::printable(&now.message));
    }
    lines
}
