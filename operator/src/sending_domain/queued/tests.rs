//! Tables of what is waited for in a pool, and a model of the world in which it is: relays that load
//! keyrings, take mail, send it, crash and report when they like, an operator that forgets.

use std::{collections::BTreeMap, sync::Arc};

use postrider_crds::relay_config::{Admission, Intake, Report, layout, shard_of};
use proptest::prelude::*;

use super::*;
use crate::{
    relay_pool::{
        keyring::Shard,
        loaded::{
            Loaded, PodReport, Rendered, RenderedDomain,
            tests::{domain, pool},
        },
    },
    sending_domain::plan::tests::at,
};

pub(crate) fn counted(messages: u64, unheard: &[&str]) -> Queue {
    let unheard = unheard.iter().map(|pod| (*pod).to_owned()).collect();
    Queue::Counted(Remainder { messages, unheard })
}

fn facts(queue: Queue) -> Facts {
    Facts {
        pool: "default".into(),
        queue,
        abandoned: false,
        until: at(100),
        retained: Vec::new(),
    }
}

fn over(why: Why) -> Verdict {
    let pool = "default".into();
    Verdict::Over(End { pool, why })
}

#[test]
fn table_of_what_ends_the_wait() {
    let waits = [
        Queue::Untold,
        counted(1, &[]),
        counted(0, &["default-1"]),
        counted(3, &["default-0"]),
    ];
    for queue in waits {
        let wait = Wait {
            pool: "default".into(),
            queue: queue.clone(),
            until: at(100),
        };
        let mut facts = facts(queue.clone());
        assert_eq!(judge(facts.clone(), at(99)), Verdict::Waiting(wait));
        let left = over(Why::Left(queue));
        assert_eq!(judge(facts.clone(), at(100)), left, "all has expired");
        facts.abandoned = true;
        assert_eq!(judge(facts, at(0)), left);
    }
    let retained = vec!["spool-default-3".to_owned()];
    let empty = Why::Empty(retained.clone());
    for (queue, why) in [(Queue::None, Why::NoPool), (counted(0, &[]), empty)] {
        let mut facts = facts(queue);
        facts.retained.clone_from(&retained);
        assert_eq!(judge(facts.clone(), at(0)), over(why.clone()));
        facts.abandoned = true;
        assert_eq!(judge(facts, at(200)), over(why));
    }
}

#[test]
fn counts_change_seldom() {
    let texts: Vec<String> = [0, 1, 9, 10, 11, 20, 21, 999, 1000, 123_456, u64::MAX]
        .map(coarse)
        .to_vec();
    let expected = [
        "0 messages",
        "1 message",
        "9 messages",
        "at most 10 messages",
        "at most 20 messages",
        "at most 20 messages",
        "at most 30 messages",
        "at most 1000 messages",
        "at most 1000 messages",
        "at most 200000 messages",
        "at most 18446744073709551615 messages",
    ];
    assert_eq!(texts, expected);
    let all: std::collections::BTreeSet<String> = (1..100_000).map(coarse).collect();
    assert!(all.len() < 50, "{}", all.len());
}

/// What a relay has loaded of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loads {
    Nothing,
    Rendered(Intake),
}

struct Relay {
    loads: Loads,
    /// How often it was replaced.
    life: u32,
    restored: bool,
    queued: u64,
    /// Messages at the door that were looked up and are not stored yet.
    arriving: u64,
}

/// A pool of two relays that serves one domain.
struct World {
    now: i64,
    deleted: Option<i64>,
    operator: Loaded,
    relays: Vec<Relay>,
    over: Option<Why>,
}

#[derive(Clone, Debug)]
enum Event {
    Tick(i64),
    Delete,
    Render,
    Restart,
    Load(usize),
    Arrive(usize),
    Store(usize),
    Deliver(usize),
    Replace(usize),
    Restore(usize),
    Report(usize),
    Silence(usize),
    Judge,
}

/// Seconds after its deletion that a wait ends.
const BOUND: i64 = 5_000;

impl World {
    fn new() -> Self {
        let relay = || Relay {
            loads: Loads::Nothing,
            life: 0,
            restored: true,
            queued: 0,
            arriving: 0,
        };
        let mut world = Self {
            now: 0,
            deleted: None,
            operator: Loaded::default(),
            relays: vec![relay(), relay()],
            over: None,
        };
        world.render();
        world
    }

    fn rendered_intake(&self) -> Intake {
        let rendered = self.operator.state(&pool()).rendered;
        let entry = rendered.domain(&domain());
        entry.map_or(Intake::Open, |entry| entry.intake)
    }

    fn render(&mut self) {
        let intake = match self.deleted {
            None => Intake::Open,
            Some(_) => Intake::Closed,
        };
        let entry = RenderedDomain {
            uid: "u".into(),
            generation: 1,
            admission: Admission::Send,
            intake,
            selectors: Default::default(),
        };
        let members = self.relays.iter().enumerate();
        self.operator.set_rendered(
            &pool(),
            Rendered {
                documents: BTreeMap::from([(document(), format!("{intake:?}"))]),
                certificates: BTreeMap::new(),
                shards: BTreeMap::from([(
                    shard_of(&domain()),
                    Arc::new(Shard::saying(domain(), entry)),
                )]),
                members: members
                    .map(|(n, relay)| (format!("default-{n}"), Some(uid(n, relay))))
                    .collect(),
            },
        );
    }

    /// What the relay says, by the rules of its own.
    fn report(&self, n: usize) -> Report {
        let relay = &self.relays[n];
        let count = relay.queued + relay.arriving;
        let closed = relay.loads == Loads::Rendered(Intake::Closed) && relay.restored;
        Report {
            pod: format!("default-{n}"),
            documents: match relay.loads {
                Loads::Nothing => BTreeMap::new(),
                Loads::Rendered(intake) => BTreeMap::from([(document(), format!("{intake:?}"))]),
            },
            refused: Vec::new(),
            queue: Default::default(),
            remaining: closed.then(|| (domain(), count)).into_iter().collect(),
            not_ready: None,
        }
    }

    fn happen(&mut self, event: &Event) {
        let open = |relay: &Relay| relay.loads == Loads::Rendered(Intake::Open);
        match *event {
            Event::Tick(seconds) => self.now += seconds,
            Event::Delete => {
                self.deleted.get_or_insert(self.now);
            }
            Event::Render => self.render(),
            Event::Restart => self.operator = Loaded::default(),
            Event::Load(n) => self.relays[n].loads = Loads::Rendered(self.rendered_intake()),
            Event::Arrive(n) if open(&self.relays[n]) => self.relays[n].arriving += 1,
            Event::Store(n) if self.relays[n].arriving > 0 => {
                self.relays[n].arriving -= 1;
                self.relays[n].queued += 1;
            }
            Event::Deliver(n) if self.relays[n].queued > 0 && self.relays[n].restored => {
                self.relays[n].queued -= 1;
            }
            Event::Replace(n) => {
                let relay = &mut self.relays[n];
                (relay.loads, relay.arriving) = (Loads::Nothing, 0);
                relay.life += 1;
                relay.restored = false;
                self.render();
            }
            Event::Restore(n) => self.relays[n].restored = true,
            Event::Report(n) => self.hear(n, Some(self.report(n))),
            Event::Silence(n) => self.hear(n, None),
            Event::Judge => self.judge(),
            Event::Arrive(_) | Event::Store(_) | Event::Deliver(_) => {}
        }
    }

    fn hear(&mut self, n: usize, report: Option<Report>) {
        let uid = uid(n, &self.relays[n]);
        let name = format!("default-{n}");
        self.operator
            .set_report(&pool(), &name, PodReport { uid, report });
    }

    fn judge(&mut self) {
        let Some(deleted) = self.deleted else {
            return;
        };
        let remainder = self.operator.state(&pool()).remainder(&domain(), "u");
        let facts = Facts {
            until: at(deleted + BOUND),
            ..facts(remainder.map_or(Queue::Untold, Queue::Counted))
        };
        let Verdict::Over(End { why, .. }) = judge(facts, at(self.now)) else {
            assert!(self.now < deleted + BOUND, "it does not hang");
            return;
        };
        match &why {
            Why::Empty(_) => {
                for relay in &self.relays {
                    assert_eq!(relay.queued + relay.arriving, 0, "mail is left behind");
                    assert_ne!(relay.loads, Loads::Rendered(Intake::Open), "takes more");
                }
            }
            Why::Left(_) => assert!(self.now >= deleted + BOUND, "too early"),
            Why::NoPool => unreachable!("there is one"),
        }
        self.over = Some(why);
    }
}

fn document() -> String {
    layout::keyring(shard_of(&domain()))
}

fn uid(n: usize, relay: &Relay) -> String {
    format!("{n}-{}", relay.life)
}

fn any_event() -> impl Strategy<Value = Event> {
    let relay = || 0..2_usize;
    prop_oneof![
        1 => (1..400_i64).prop_map(Event::Tick),
        1 => Just(Event::Delete),
        2 => Just(Event::Render),
        1 => Just(Event::Restart),
        4 => relay().prop_map(Event::Load),
        4 => relay().prop_map(Event::Arrive),
        4 => relay().prop_map(Event::Store),
        4 => relay().prop_map(Event::Deliver),
        1 => relay().prop_map(Event::Replace),
        2 => relay().prop_map(Event::Restore),
        8 => relay().prop_map(Event::Report),
        1 => relay().prop_map(Event::Silence),
        6 => Just(Event::Judge),
    ]
}

proptest! {
    #[test]
    fn no_mail_is_left_behind_and_no_wait_hangs(
        events in proptest::collection::vec(any_event(), 0..200), helpful in any::<bool>(),
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
            if world.over.is_some() {
                return Ok(());
            }
        }
        world.happen(&Event::Delete);
        if !helpful {
            world.happen(&Event::Tick(BOUND));
            world.happen(&Event::Judge);
            prop_assert!(world.over.is_some());
            return Ok(());
        }
        world.happen(&Event::Render);
        for n in 0..2 {
            world.happen(&Event::Load(n));
            world.happen(&Event::Restore(n));
            let left = world.relays[n].queued + world.relays[n].arriving;
            for _ in 0..left {
                world.happen(&Event::Store(n));
                world.happen(&Event::Deliver(n));
            }
            world.happen(&Event::Report(n));
        }
        world.happen(&Event::Judge);
        prop_assert_eq!(world.over, Some(Why::Empty(Vec::new())));
    }
}
