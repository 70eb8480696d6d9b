//! The next step of each key.

use jiff::Timestamp;
use postrider_crds::{RecordState, condition::reasons, relay_config::SigningState};

use super::{
    FORGET_AFTER, LETTING_GO, after, current, is_listed, is_pending, is_revoked, of, pending, rank,
    retired_from, visible_from,
};
use crate::{
    dns::Sight,
    keys::{KeyState, Life, signing_states, whole},
    sending_domain::observe::{KeyFacts, Observation},
};

/// The life each key of `observation` has from `now` on, in the same order.
#[must_use]
pub fn advance(observation: &Observation, now: Timestamp) -> Vec<Life> {
    let keys = observation.keys.iter();
    keys.map(|key| next(observation, key, now)).collect()
}

/// The keys whose Secrets are no longer needed: their records are gone, or nobody cared.
#[must_use]
pub fn to_delete(observation: &Observation, now: Timestamp) -> Vec<&KeyFacts> {
    let over = |key: &&KeyFacts| {
        let gone = verified(key);
        // The record of a revoked key stays a danger for as long as it is there.
        let forgotten = !is_revoked(observation, key) && after(key.life.since, FORGET_AFTER) <= now;
        key.life.state == KeyState::Withdrawn && (gone || forgotten)
    };
    observation.keys.iter().filter(over).collect()
}

fn next(observation: &Observation, key: &KeyFacts, now: Timestamp) -> Life {
    let life = key.life.clone();
    match life.state {
        state if is_pending(state) && !is_needed(observation, key) => {
            life.at(KeyState::Withdrawn, now)
        }
        KeyState::Generated if is_shown(observation, key) => {
            restamped(observation, life).at(KeyState::Published, now)
        }
        KeyState::Generated => restamped(observation, life),
        KeyState::Published => published(observation, key, restamped(observation, life), now),
        KeyState::Visible | KeyState::Loaded => {
            loading(observation, key, restamped(observation, life), now)
        }
        KeyState::Active => active(observation, key, life, now),
        KeyState::Retiring => retiring(observation, key, life, now),
        KeyState::Withdrawn => life,
    }
}

/// True for the one key that is on its way to sign for a listed algorithm.
fn is_needed(observation: &Observation, key: &KeyFacts) -> bool {
    let chosen = pending(observation, key.algorithm);
    is_listed(observation, key.algorithm) && chosen.is_some_and(|c| c.secret == key.secret)
}

/// True when the stored status lists the key's record.
fn is_shown(observation: &Observation, key: &KeyFacts) -> bool {
    let name = key.selector.record_name(&observation.spec.domain);
    let mut records = observation.previous.records.iter();
    records.any(|record| record.name == name)
}

/// A key that has not signed yet stands for the trigger of today, whichever it was made for.
fn restamped(observation: &Observation, mut life: Life) -> Life {
    if let Some(trigger) = &observation.spec.dkim.rotation.trigger {
        life.trigger = Some(trigger.clone());
    }
    life
}

fn published(observation: &Observation, key: &KeyFacts, life: Life, now: Timestamp) -> Life {
    match key.sight {
        Sight::Everywhere { cached } => seen(observation, life, cached, now),
        Sight::Elsewise { cached, .. } => unseen(life, cached),
        Sight::Unreachable { cached, .. } => by_the_resolver(observation, key, life, cached, now),
        Sight::Unsure { .. } | Sight::NotLooked => life,
    }
}

/// What the resolver's word is worth where no name server can be reached: nothing, or, where that is
/// wanted, as much as theirs after it has been the same for the time that is wanted for that.
fn by_the_resolver(
    observation: &Observation,
    key: &KeyFacts,
    life: Life,
    cached: u32,
    now: Timestamp,
) -> Life {
    let Some(wanted) = observation.trust_resolver_after else {
        return life;
    };
    let refuted = |key: &KeyFacts| {
        let finding = key.finding.as_ref();
        finding.is_some_and(|finding| finding.reason == reasons::AUTHORITY_UNREACHABLE)
    };
    if refuted(key) {
        return unseen(life, cached);
    }
    if !verified(key) {
        return life;
    }
    seen(observation, life, cached.max(wanted), now)
}

/// A key whose record is there, while caches may have something else for `cached` seconds.
fn seen(observation: &Observation, mut life: Life, cached: u32, now: Timestamp) -> Life {
    life.cached = life.cached.max(cached);
    let since = whole(now);
    // A clock that was wrong and is right again: wait from now on.
    let seen = life.seen.filter(|seen| *seen <= since);
    life.seen = Some(seen.unwrap_or(since));
    match visible_from(observation, &life) {
        Some(from) if from <= now => life.at(KeyState::Visible, now),
        _ => life,
    }
}

/// A key whose record some name server is known not to have.
fn unseen(life: Life, cached: u32) -> Life {
    Life {
        seen: None,
        cached: life.cached.max(cached),
        ..life
    }
}

fn loading(observation: &Observation, key: &KeyFacts, life: Life, now: Timestamp) -> Life {
    let still_there = match key.sight {
        Sight::Everywhere { .. } => true,
        Sight::Unreachable { .. } => observation.trust_resolver_after.is_some() && verified(key),
        Sight::Elsewise { .. } | Sight::Unsure { .. } | Sight::NotLooked => false,
    };
    match (&key.sight, life.state) {
        (Sight::Elsewise { cached, .. }, _) => unseen(life, *cached).at(KeyState::Published, now),
        (_, KeyState::Loaded) if key.loaded && still_there => Life {
            activated: Some(whole(now)),
            ..life.at(KeyState::Active, now)
        },
        (_, KeyState::Visible) if key.loaded => life.at(KeyState::Loaded, now),
        _ => life,
    }
}

fn active(observation: &Observation, key: &KeyFacts, life: Life, now: Timestamp) -> Life {
    if is_superseded(observation, key) || is_dismissed(observation, key) {
        return Life {
            released: None,
            failing: false,
            ..life.at(KeyState::Retiring, now)
        };
    }
    let failing = match &key.sight {
        Sight::Elsewise { .. } => true,
        Sight::Everywhere { .. } => false,
        Sight::Unsure { .. } | Sight::Unreachable { .. } | Sight::NotLooked => {
            life.failing && !verified(key)
        }
    };
    Life { failing, ..life }
}

/// True when another key of its algorithm signs and is to go on in place of `key`.
fn is_superseded(observation: &Observation, key: &KeyFacts) -> bool {
    current(observation, key.algorithm)
        .is_some_and(|current| current.secret != key.secret && is_sound(current))
}

/// True when the algorithm is no longer listed and each that is has a key that signs.
fn is_dismissed(observation: &Observation, key: &KeyFacts) -> bool {
    let signs = |algorithm| current(observation, algorithm).is_some_and(is_sound);
    let mut listed = observation.spec.dkim.keys.iter();
    !is_listed(observation, key.algorithm) && listed.all(|spec| signs(spec.algorithm))
}

fn retiring(observation: &Observation, key: &KeyFacts, life: Life, now: Timestamp) -> Life {
    if is_missed(observation, key) {
        return Life {
            released: None,
            ..life.at(KeyState::Active, now)
        };
    }
    let signs = signs_for_want_of_better(observation, key);
    let believed = life
        .released
        .filter(|released| *released <= whole(now) && !signs);
    let let_go = key.released && !signs;
    let released = believed.or_else(|| let_go.then(|| whole(now)));
    let life = Life { released, ..life };
    let over = if is_revoked(observation, key) {
        life.released.is_some() || after(life.since, LETTING_GO) <= now
    } else {
        retired_from(observation, &life).is_some_and(|from| from <= now)
    };
    if over {
        life.at(KeyState::Withdrawn, now)
    } else {
        life
    }
}

/// True when relays are given a retiring key to sign with, because no other is left: nothing is over.
fn signs_for_want_of_better(observation: &Observation, key: &KeyFacts) -> bool {
    let lives: Vec<&Life> = observation.keys.iter().map(|key| &key.life).collect();
    let states = signing_states(&lives);
    let mut keys = observation.keys.iter().zip(states);
    let state = keys.find(|(other, _)| other.secret == key.secret);
    state.is_some_and(|(_, state)| state == Some(SigningState::Active))
}

/// True when no key signs for the algorithm any more, somebody having deleted what did, and `key` is
/// the latest whose record is still there.
fn is_missed(observation: &Observation, key: &KeyFacts) -> bool {
    let usable = |key: &&KeyFacts| {
        key.life.state == KeyState::Retiring && !is_revoked(observation, key) && verified(key)
    };
    let latest = of(observation, key.algorithm)
        .filter(usable)
        .max_by_key(|key| rank(key));
    is_listed(observation, key.algorithm)
        && current(observation, key.algorithm).is_none()
        && latest.is_some_and(|latest| latest.secret == key.secret)
}

/// True when DNS was looked at and has what is wanted of the key.
fn verified(key: &KeyFacts) -> bool {
    let finding = key.finding.as_ref();
    finding.is_some_and(|finding| finding.state == RecordState::Verified)
}

/// True for a key that signs and whose record is seen to be right.
fn is_sound(key: &KeyFacts) -> bool {
    verified(key) && !key.life.failing
}
