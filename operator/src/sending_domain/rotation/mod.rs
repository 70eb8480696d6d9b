//! The life cycle of a domain's DKIM keys: which key takes its next step, which key is to be made,
//! which is to be deleted. Pure: what was observed and the time in, steps out.
//!
//! ```text
//! Generated  its record is not listed yet
//!    | the stored status lists the record
//! Published  people or programs are to publish it
//!    | on every name server, then for as long as a cache may have something else
//! Visible    relays load it and do not sign with it            -- record gone --> Published
//!    | every relay reports it
//! Loaded                                                       -- record gone --> Published
//!    | every relay still reports it, and it is still on every name server
//! Active     relays sign with it; a failing record never takes it back, see [`crate::keys`]
//!    | a newer key of its algorithm is Active and verified, or the algorithm is not wanted
//! Retiring   signs nothing                                     -- no other left --> Active
//!    | every relay let go of it, then the longer of queue life and a day, and retireAfter
//! Withdrawn  the record is to be removed, or its p= emptied
//!    | that is seen; or nobody cared for 30 days
//! (deleted)
//! ```
//!
//! A key takes one step a plan, and a step that rests on another key's state rests on what is stored.
//! So it does not matter between which two writes an operator ends, and a step that a second operator
//! was faster with fails, because it names the version of the Secret it was planned on.
//!
//! A key in `spec.dkim.rotation.revoke` retires as soon as another of its algorithm is Active, and is
//! withdrawn once relays have let go of it, or after [`LETTING_GO`], whatever is on its way.

mod next;
mod progress;
mod successor;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use postrider_crds::relay_config::KeyAlgorithm;

pub use next::{advance, to_delete};
pub use progress::{next_rotation, progress, until};
pub use successor::to_generate;

use super::observe::{KeyFacts, Observation};
use crate::keys::{KeyState, Life};

/// A receiver verifies a message within this time of getting it, in seconds: greylisting, scanning
/// and forwarding included.
const VERIFICATION_SLACK: i64 = 86_400;
/// Seconds that relays have to let go of a revoked key before its record is withdrawn all the same.
const LETTING_GO: i64 = 300;
/// Seconds after which a withdrawn key is deleted although its record is still there.
const FORGET_AFTER: i64 = 30 * 86_400;
/// Keys of one algorithm that may be retiring before another rotation begins. All of three
/// algorithms fit the status.
const MAX_RETIRING: usize = 8;

/// True when `algorithm` is listed in `spec.dkim.keys`.
fn is_listed(observation: &Observation, algorithm: KeyAlgorithm) -> bool {
    let mut specs = observation.spec.dkim.keys.iter();
    specs.any(|spec| spec.algorithm == algorithm)
}

/// True when `spec.dkim.rotation.revoke` names `key`.
fn is_revoked(observation: &Observation, key: &KeyFacts) -> bool {
    observation
        .spec
        .dkim
        .rotation
        .revoke
        .contains(&key.selector)
}

/// The keys of `algorithm`.
fn of(observation: &Observation, algorithm: KeyAlgorithm) -> impl Iterator<Item = &KeyFacts> {
    let keys = observation.keys.iter();
    keys.filter(move |key| key.algorithm == algorithm)
}

/// What tells the later of two keys of an algorithm: the number its Secret's name ends in.
fn rank(key: &KeyFacts) -> (u32, &str) {
    (successor::number(&key.secret), key.secret.as_str())
}

/// True for a state on the way to signing.
const fn is_pending(state: KeyState) -> bool {
    match state {
        KeyState::Generated | KeyState::Published | KeyState::Visible | KeyState::Loaded => true,
        KeyState::Active | KeyState::Retiring | KeyState::Withdrawn => false,
    }
}

/// The key on its way to sign for `algorithm`: of several the one furthest, then the latest.
fn pending(observation: &Observation, algorithm: KeyAlgorithm) -> Option<&KeyFacts> {
    of(observation, algorithm)
        .filter(|key| is_pending(key.life.state) && !is_revoked(observation, key))
        .max_by_key(|key| (key.life.state, rank(key)))
}

/// The key that signs for `algorithm` and is to go on: the latest Active one that is not revoked,
/// else the latest Active one.
fn current(observation: &Observation, algorithm: KeyAlgorithm) -> Option<&KeyFacts> {
    of(observation, algorithm)
        .filter(|key| key.life.state == KeyState::Active)
        .max_by_key(|key| (!is_revoked(observation, key), rank(key)))
}

/// True when `key` is the one that counts for its algorithm: the one that signs, or while there is
/// none the one on its way.
#[must_use]
pub fn counts(observation: &Observation, key: &KeyFacts) -> bool {
    let counting = current(observation, key.algorithm)
        .or_else(|| pending(observation, key.algorithm))
        .filter(|_| is_listed(observation, key.algorithm));
    counting.is_some_and(|counting| counting.secret == key.secret)
}

/// `time` and `seconds` more.
fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// When the record of `life` has been on every name server for longer than any cache may have
/// anything else; `None` while it is not on all of them.
fn visible_from(observation: &Observation, life: &Life) -> Option<Timestamp> {
    let wait = life.cached.max(observation.floor);
    life.seen.map(|seen| after(seen, i64::from(wait)))
}

/// When nothing signed with `life`'s key can be on its way any more; `None` while relays may sign
/// with it, or nobody knows how long mail may wait.
fn retired_from(observation: &Observation, life: &Life) -> Option<Timestamp> {
    let queue_life = seconds(observation.pool.as_ref()?.expire_after);
    let asked = seconds(observation.spec.dkim.rotation.retire_after);
    let wait = queue_life.saturating_add(VERIFICATION_SLACK).max(asked);
    life.released.map(|released| after(released, wait))
}

fn seconds(duration: postrider_crds::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// When the wait that `key` with the life `life` is in ends, if only time is waited for.
#[must_use]
pub fn deadline(observation: &Observation, key: &KeyFacts, life: &Life) -> Option<Timestamp> {
    match life.state {
        KeyState::Published => visible_from(observation, life),
        KeyState::Active => next_of(observation, life),
        KeyState::Retiring if is_revoked(observation, key) => Some(after(life.since, LETTING_GO)),
        KeyState::Retiring => retired_from(observation, life),
        KeyState::Withdrawn => Some(after(life.since, FORGET_AFTER)),
        KeyState::Generated | KeyState::Visible | KeyState::Loaded => None,
    }
}

/// When a key with `life` is old enough to be replaced; `None` when keys do not age.
fn next_of(observation: &Observation, life: &Life) -> Option<Timestamp> {
    let every = observation.spec.dkim.rotation.every?;
    Some(after(life.activated?, seconds(every)))
}
