//! Which of a domain's keys relays get, and which of them sign.
//!
//! Promises: decided from one snapshot of all the domain's keys, so that steps of two operators that
//! each look right and together are not cannot leave a domain without a signature: a key that once
//! signed goes on when there is nothing better.

use postrider_crds::relay_config::SigningState;

use super::{KeyState, Life};

/// What relays do with each of a domain's keys, in the same order; `None`: they do not get it.
///
/// Active keys sign, those whose records fail only when all do. Without an active key the one that
/// retired last signs on: its record is still wanted.
#[must_use]
pub fn signing_states(lives: &[&Life]) -> Vec<Option<SigningState>> {
    let active = |life: &&&Life| life.state == KeyState::Active;
    let any_active = lives.iter().any(|life| active(&life));
    let any_sound = lives.iter().filter(active).any(|life| !life.failing);
    let retiring = lives
        .iter()
        .filter(|life| life.state == KeyState::Retiring)
        .map(|life| life.since);
    let last_retired = retiring.max().filter(|_| !any_active);
    let states = lives.iter().map(|life| match life.state {
        KeyState::Generated | KeyState::Published | KeyState::Withdrawn => None,
        KeyState::Visible | KeyState::Loaded => Some(SigningState::Standby),
        KeyState::Active if life.failing && any_sound => Some(SigningState::Standby),
        KeyState::Active => Some(SigningState::Active),
        KeyState::Retiring if Some(life.since) == last_retired => Some(SigningState::Active),
        KeyState::Retiring => None,
    });
    states.collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn life(state: KeyState, second: i64) -> Life {
        Life::new(Timestamp::UNIX_EPOCH, None)
            .at(state, Timestamp::from_second(second).expect("in range"))
    }

    fn failing(second: i64) -> Life {
        Life {
            failing: true,
            ..life(KeyState::Active, second)
        }
    }

    #[test]
    fn table_of_what_signs() {
        use KeyState::{Active, Generated, Loaded, Published, Retiring, Visible, Withdrawn};
        const SIGNS: Option<SigningState> = Some(SigningState::Active);
        const WAITS: Option<SigningState> = Some(SigningState::Standby);
        let cases: [(Vec<Life>, Vec<Option<SigningState>>); 6] = [
            (
                [
                    Generated, Published, Visible, Loaded, Active, Retiring, Withdrawn,
                ]
                .map(|state| life(state, 1))
                .to_vec(),
                vec![None, None, WAITS, WAITS, SIGNS, None, None],
            ),
            (vec![failing(1), life(Active, 2)], vec![WAITS, SIGNS]),
            (vec![failing(1), failing(2)], vec![SIGNS, SIGNS]),
            (
                vec![life(Retiring, 1), life(Retiring, 2)],
                vec![None, SIGNS],
            ),
            (vec![life(Retiring, 1), failing(2)], vec![None, SIGNS]),
            (vec![life(Withdrawn, 1)], vec![None]),
        ];
        for (lives, wanted) in cases {
            let lives: Vec<&Life> = lives.iter().collect();
            assert_eq!(signing_states(&lives), wanted, "{lives:?}");
        }
    }
}
