//! The queue against a model that is a plain list.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    queue::{Queue, Sweep},
    spool::{Place, record::Head},
    state::State,
    *,
};

#[derive(Clone, Debug)]
enum Step {
    Insert,
    Advance(i64),
    Claim,
    Settle {
        pick: usize,
        defer: Option<i64>,
    },
    PutBack {
        pick: usize,
    },
    Hold(bool),
    /// Look for what was accepted so many seconds ago.
    Overdue(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Insert),
        2 => (0..500_i64).prop_map(Step::Advance),
        4 => Just(Step::Claim),
        4 => (any::<usize>(), prop::option::of(0..800_i64))
            .prop_map(|(pick, defer)| Step::Settle { pick, defer }),
        1 => any::<usize>().prop_map(|pick| Step::PutBack { pick }),
        1 => any::<bool>().prop_map(Step::Hold),
        2 => (0..900_i64).prop_map(Step::Overdue),
    ];
    prop::collection::vec(step, 1..120)
}

/// Legs that are not done: when due, or claimed.
#[derive(Default)]
struct Model {
    legs: BTreeMap<(MessageId, u32), Option<Timestamp>>,
    accepted: BTreeMap<MessageId, Timestamp>,
    held: bool,
}

impl Model {
    /// Legs that may be given out.
    fn due(&self, now: Timestamp) -> Vec<(MessageId, u32)> {
        let due = self.legs.iter().filter(|_| !self.held);
        due.filter(|(_, due)| due.is_some_and(|due| due <= now))
            .map(|(key, _)| *key)
            .collect()
    }

    /// Legs that nobody has of messages accepted before `before`, held or not.
    fn overdue(&self, before: Timestamp) -> Vec<(MessageId, u32)> {
        let free = self.legs.iter().filter(|(_, due)| due.is_some());
        let keys = free.map(|(key, _)| *key);
        keys.filter(|(id, _)| self.accepted[id] < before).collect()
    }
}

fn overdue(queue: &mut Queue, before: Timestamp) -> Option<(MessageId, u32)> {
    let mut from = 0;
    loop {
        match queue.claim_overdue(before, &mut from) {
            Sweep::Found(taken) => return Some((taken.id, taken.leg)),
            Sweep::More => {}
            Sweep::End => return None,
        }
    }
}

fn admission(held: bool) -> AdmissionOf {
    Arc::new(move |_| {
        if held {
            Admission::Hold
        } else {
            Admission::Send
        }
    })
}

fn insert(queue: &mut Queue, model: &mut Model, number: u64, now: Timestamp) {
    let envelope = envelope(&["a@one.test", "b@two.test", "c@one.test"]);
    let state = State::new(&envelope, now, &[]);
    let head = Head {
        id: id(number),
        accepted: now,
        state,
        envelope: Arc::new(envelope),
    };
    let place = Place {
        segment: 1,
        offset: number,
        length: 1,
    };
    queue.insert(head, body(number), place, now);
    model.accepted.insert(id(number), now);
    for leg in 0..2 {
        model.legs.insert((id(number), leg), Some(now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_queue_does_what_the_model_does(steps in steps()) {
        let mut queue = Queue::new(admission(false), 3000);
        let site = Site::of_domain(&"mx.test".parse().unwrap());
        let mut model = Model::default();
        let mut claimed: Vec<(MessageId, u32)> = Vec::new();
        let (mut now, mut number) = (start(), 0);
        for step in steps {
            match step {
                Step::Insert => {
                    number += 1;
                    insert(&mut queue, &mut model, number, now);
                }
                Step::Advance(seconds) => now += SignedDuration::from_secs(seconds),
                Step::Claim => {
                    let expected = model.due(now);
                    let taken = queue.claim(now);
                    prop_assert_eq!(taken.is_some(), !expected.is_empty());
                    if let Some(taken) = taken {
                        prop_assert!(expected.contains(&(taken.id, taken.leg)));
                        let room = queue.bind(&taken.domain, &site, 1000, Trust::Proven);
                        prop_assert_eq!(room, Room::Granted);
                        let wanted: &[usize] = if taken.leg == 0 { &[0, 2] } else { &[1] };
                        prop_assert_eq!(&taken.recipients[..], wanted);
                        claimed.push((taken.id, taken.leg));
                        model.legs.insert((taken.id, taken.leg), None);
                    }
                }
                Step::Settle { pick, defer } if !claimed.is_empty() => {
                    let (id, leg) = claimed.swap_remove(pick % claimed.len());
                    let until = defer.map(|seconds| now + SignedDuration::from_secs(seconds));
                    let result = until.map_or(RecipientResult::Delivered, |until| {
                        RecipientResult::Deferred { until }
                    });
                    let of_leg: &[u32] = if leg == 0 { &[0, 2] } else { &[1] };
                    let results: Vec<_> = of_leg.iter().map(|r| (*r, result)).collect();
                    let done = queue.settle(id, leg, &results, false);
                    match until {
                        Some(until) => model.legs.insert((id, leg), Some(until)),
                        None => model.legs.remove(&(id, leg)),
                    };
                    let left = model.legs.keys().any(|(other, _)| *other == id);
                    prop_assert_eq!(done.is_some(), !left);
                }
                Step::PutBack { pick } if !claimed.is_empty() => {
                    let (id, leg) = claimed.swap_remove(pick % claimed.len());
                    queue.put_back(id, leg, Some(now));
                    model.legs.insert((id, leg), Some(now));
                }
                Step::Settle { .. } | Step::PutBack { .. } => {}
                Step::Overdue(age) => {
                    let before = now - SignedDuration::from_secs(age);
                    let expected = model.overdue(before);
                    let found = overdue(&mut queue, before);
                    prop_assert_eq!(found.is_some(), !expected.is_empty());
                    if let Some(key) = found {
                        prop_assert!(expected.contains(&key));
                        claimed.push(key);
                        model.legs.insert(key, None);
                    }
                }
                Step::Hold(held) => {
                    queue.apply_admission(admission(held), now);
                    model.held = held;
                }
            }
            let messages: std::collections::BTreeSet<_> = model.legs.keys().map(|(id, _)| *id).collect();
            let report = queue.figures(now).report;
            prop_assert_eq!(report.due + report.deferred + report.held, messages.len() as u64);
            let due = messages.iter().filter(|id| model.legs.iter().any(|((of, _), due)| {
                of == *id && due.is_none_or(|due| due <= now && !model.held)
            })).count() as u64;
            prop_assert_eq!(report.due, due);
            let domain: DomainName = "example.com".parse().unwrap();
            let mut counts = BTreeMap::from([(domain.clone(), 0)]);
            queue.count(&mut counts);
            prop_assert_eq!(counts[&domain], messages.len() as u64);
        }
    }
}
