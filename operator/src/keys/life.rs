//! How far a DKIM key is on its way and since when: what its Secret's annotations say.
//!
//! ```text
//! Generated -- record listed --> Published -- on every name server, caches empty --> Visible
//!   -- every relay has it --> Loaded --> Active -- successor Active --> Retiring
//!   -- let go by every relay, nothing on its way --> Withdrawn -- record gone --> (deleted)
//! ```
//!
//! Promises: every time a wait depends on is kept here, so that an operator that starts knows as much
//! as the one before. What a person left unreadable is read as an earlier state, never a later one:
//! a key does not sign because somebody wrote a word.

use std::collections::BTreeMap;

use jiff::Timestamp;
pub use postrider_crds::KeyState;

/// Annotation: the key's [`KeyState`].
pub const STATE_ANNOTATION: &str = "postrider.dev/key-state";
/// Annotation: since when the key is in its state.
const SINCE_ANNOTATION: &str = "postrider.dev/state-since";
/// Annotation: since when every name server has the record.
const SEEN_ANNOTATION: &str = "postrider.dev/seen-since";
/// Annotation: seconds for which caches may have something else than the record.
const CACHED_ANNOTATION: &str = "postrider.dev/cached-seconds";
/// Annotation: when relays began to sign with the key.
const ACTIVATED_ANNOTATION: &str = "postrider.dev/activated";
/// Annotation: when the last relay had let go of a retiring key.
const RELEASED_ANNOTATION: &str = "postrider.dev/released";
/// Annotation: `true` while the record of an active key is known to be wrong.
const FAILING_ANNOTATION: &str = "postrider.dev/record-failing";
/// Annotation: the `spec.dkim.rotation.trigger` the key was made for.
const TRIGGER_ANNOTATION: &str = "postrider.dev/rotation-trigger";
/// What `record-failing` holds.
const YES: &str = "true";

/// How far a key is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The state.
    pub state: KeyState,
    /// Since when. Whole seconds, like every time here.
    pub since: Timestamp,
    /// Since when every name server has been giving the record.
    pub seen: Option<Timestamp>,
    /// Longest time, in seconds, that a cache may have kept anything else than the record.
    pub cached: u32,
    /// When relays began to sign with it.
    pub activated: Option<Timestamp>,
    /// When every relay had let go of it, once it was retiring.
    pub released: Option<Timestamp>,
    /// The record is known to be wrong, although relays sign with the key.
    pub failing: bool,
    /// The trigger it was made for, or has come to stand for before it signed.
    pub trigger: Option<String>,
}

impl Life {
    /// A key that was just made.
    #[must_use]
    pub fn new(now: Timestamp, trigger: Option<String>) -> Self {
        Self {
            state: KeyState::Generated,
            since: whole(now),
            seen: None,
            cached: 0,
            activated: None,
            released: None,
            failing: false,
            trigger,
        }
    }

    /// The same life in `state` from `now` on.
    #[must_use]
    pub fn at(mut self, state: KeyState, now: Timestamp) -> Self {
        if self.state != state {
            self.state = state;
            self.since = whole(now);
        }
        self
    }

    /// What `annotations` say; `created` is when the API server stored the key, and no time before
    /// it is believed.
    #[must_use]
    pub fn read(annotations: &BTreeMap<String, String>, created: Timestamp) -> Self {
        let text = |name: &str| annotations.get(name).map(String::as_str);
        let time = |name: &str| text(name).and_then(|text| text.parse::<Timestamp>().ok());
        let believed = |name: &str| time(name).map(|time| time.max(created));
        let state = text(STATE_ANNOTATION).and_then(state);
        let life = Self {
            state: state.unwrap_or(KeyState::Generated),
            since: believed(SINCE_ANNOTATION).unwrap_or(created),
            seen: believed(SEEN_ANNOTATION),
            cached: text(CACHED_ANNOTATION)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            activated: believed(ACTIVATED_ANNOTATION),
            released: believed(RELEASED_ANNOTATION),
            failing: text(FAILING_ANNOTATION) == Some(YES),
            trigger: text(TRIGGER_ANNOTATION).map(str::to_owned),
        };
        life.supported()
    }

    /// The state, taken back to what the times beside it bear out.
    fn supported(mut self) -> Self {
        let was_seen = self.seen.is_some();
        self.state = match self.state {
            KeyState::Visible | KeyState::Loaded if !was_seen => KeyState::Published,
            KeyState::Active if !was_seen || self.activated.is_none() => KeyState::Published,
            other => other,
        };
        self
    }

    /// The annotations that say all this; `None` where one is not to be there.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<&'static str, Option<String>> {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        BTreeMap::from([
            (STATE_ANNOTATION, Some(format!("{:?}", self.state))),
            (SINCE_ANNOTATION, Some(self.since.to_string())),
            (SEEN_ANNOTATION, time(self.seen)),
            (
                CACHED_ANNOTATION,
                (self.cached > 0).then(|| self.cached.to_string()),
            ),
            (ACTIVATED_ANNOTATION, time(self.activated)),
            (RELEASED_ANNOTATION, time(self.released)),
            (FAILING_ANNOTATION, self.failing.then(|| YES.to_owned())),
            (TRIGGER_ANNOTATION, self.trigger.clone()),
        ])
    }
}

/// `time` in whole seconds, as the API keeps it.
#[must_use]
pub fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn state(text: &str) -> Option<KeyState> {
    [
        KeyState::Generated,
        KeyState::Published,
        KeyState::Visible,
        KeyState::Loaded,
        KeyState::Active,
        KeyState::Retiring,
        KeyState::Withdrawn,
    ]
    .into_iter()
    .find(|state| format!("{state:?}") == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn written(life: &Life) -> BTreeMap<String, String> {
        let all = life.annotations().into_iter();
        all.filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }

    fn active() -> Life {
        Life {
            seen: Some(at(10)),
            cached: 3_600,
            activated: Some(at(4_000)),
            trigger: Some("2026-12-01".into()),
            failing: true,
            ..Life::new(at(0), None).at(KeyState::Active, at(4_000))
        }
    }

    #[test]
    fn a_life_survives_its_annotations() {
        let retiring = Life {
            released: Some(at(9_000)),
            failing: false,
            ..active().at(KeyState::Retiring, at(8_000))
        };
        for life in [Life::new(at(0), None), active(), retiring] {
            assert_eq!(Life::read(&written(&life), at(0)), life);
        }
    }

    #[test]
    fn table_of_what_people_write_by_hand() {
        let cases: [(&str, Option<&str>, KeyState); 6] = [
            (STATE_ANNOTATION, Some("Sleeping"), KeyState::Generated),
            (STATE_ANNOTATION, None, KeyState::Generated),
            (STATE_ANNOTATION, Some("Withdrawn"), KeyState::Withdrawn),
            (SEEN_ANNOTATION, None, KeyState::Published),
            (ACTIVATED_ANNOTATION, Some("yesterday"), KeyState::Published),
            (CACHED_ANNOTATION, Some("-1"), KeyState::Active),
        ];
        for (name, value, state) in cases {
            let mut annotations = written(&active());
            match value {
                Some(value) => annotations.insert(name.into(), value.into()),
                None => annotations.remove(name),
            };
            let life = Life::read(&annotations, at(0));
            assert_eq!(life.state, state, "{name} {value:?}");
        }
    }

    #[test]
    fn no_time_before_the_secret_was_stored_is_believed() {
        let early = Life {
            released: Some(at(-1_000_000)),
            ..active().at(KeyState::Retiring, at(-1_000_000))
        };
        let life = Life::read(&written(&early), at(100));
        assert_eq!((life.since, life.released), (at(100), Some(at(100))));
    }
}
