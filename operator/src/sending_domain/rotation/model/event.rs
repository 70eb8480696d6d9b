//! What may happen in the model, and how often.

use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Time passes.
    Tick(i64),
    /// An operator plans and gets so many writes through before it is interrupted.
    Plan { operator: usize, writes: usize },
    /// An operator's cache catches up.
    Sync { operator: usize },
    /// An operator renders the keyring from its cache.
    Render { operator: usize },
    /// An operator starts anew, on a machine whose clock is wrong by so many seconds.
    Restart { operator: usize, skew: i64 },
    /// A relay loads what is rendered.
    Load { relay: usize },
    /// A relay is replaced by a new one.
    Replace { relay: usize },
    /// A relay signs a message.
    Sign { relay: usize },
    /// The person publishes what the status lists.
    Publish,
    /// A name server takes over the primary's zone.
    Replicate { server: usize },
    /// The person changes the trigger.
    Trigger(u8),
    /// The person wants keys to age, in hours, or not to.
    Every(Option<u64>),
    /// The person lists other algorithms.
    Algorithms(u8),
    /// The person revokes a key that signs.
    Revoke,
    /// The person deletes the Secret of a key.
    Delete(usize),
}

pub(super) fn any_event() -> impl Strategy<Value = Event> {
    let operator = 0..2_usize;
    let three = || 0..3_usize;
    prop_oneof![
        3 => (1..120_i64).prop_map(Event::Tick),
        2 => (120..4_000_i64).prop_map(Event::Tick),
        1 => (4_000..300_000_i64).prop_map(Event::Tick),
        12 => (operator.clone(), 0..5_usize)
            .prop_map(|(operator, writes)| Event::Plan { operator, writes }),
        8 => operator.clone().prop_map(|operator| Event::Sync { operator }),
        5 => operator.clone().prop_map(|operator| Event::Render { operator }),
        1 => (operator, -100_000_000..100_000_000_i64)
            .prop_map(|(operator, skew)| Event::Restart { operator, skew }),
        8 => three().prop_map(|relay| Event::Load { relay }),
        1 => three().prop_map(|relay| Event::Replace { relay }),
        6 => three().prop_map(|relay| Event::Sign { relay }),
        5 => Just(Event::Publish),
        8 => three().prop_map(|server| Event::Replicate { server }),
        1 => any::<u8>().prop_map(Event::Trigger),
        1 => proptest::option::of(1..400_u64).prop_map(Event::Every),
        1 => any::<u8>().prop_map(Event::Algorithms),
        1 => Just(Event::Revoke),
    ]
}
